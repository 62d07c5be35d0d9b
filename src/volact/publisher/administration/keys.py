# SPDX-License-Identifier: Apache-2.0
"""Product keys as their publisher deals with them.  What they are worth is said in ``issuing`` and ``pools``."""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from volact.core.errors import InputError
from volact.core.product_key import SECRET_BYTES, Channel, ProductKey, publisher_tag
from volact.publisher.administration.agreements import Agreements
from volact.publisher.administration.errors import (
    KeyCountError,
    KeyNotRaisedError,
    KeySupersededError,
)
from volact.publisher.administration.opened import check_reason, checked_limit
from volact.publisher.folder.opening import PublisherKeys
from volact.publisher.rules import catalogue, issuing
from volact.publisher.rules.issuing import IssuedKey

MOST_KEYS = 10_000  # of one batch: each takes 8 ms for its ID


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was issued just now: the only moment at which it is known here."""

    key: ProductKey
    issued: IssuedKey


@dataclass(frozen=True, slots=True)
class DraftKey:
    """A key that was made and is not issued yet; ``lookup``: by which the service will find it quickly."""

    new: NewKey
    lookup: bytes | None


class Keys(Agreements):
    """Product keys: issued, raised, superseded, found and blocked."""

    def issue_host_key(
        self,
        organisation: str,
        product: str,
        group: str,
        now: int,
        actor: str,
        *,
        channel: Channel = Channel.KMS_HOST,
        hosts: int | None = None,
        activations: int | None = None,
        agreement: str | None = None,
    ) -> NewKey:
        """A host key, of a KMS host or a VM host, of a product group (by name or number); limits default to the
        product's policy."""
        draft = self.draft_host_key(
            organisation, product, group, now, channel=channel, hosts=hosts, activations=activations,
            agreement=agreement,
        )  # fmt: skip
        return self.issue([draft], actor)[0]

    def draft_host_key(
        self,
        organisation: str,
        product: str,
        group: str,
        now: int,
        *,
        channel: Channel,
        keys: PublisherKeys | None = None,
        hosts: int | None = None,
        activations: int | None = None,
        agreement: str | None = None,
    ) -> DraftKey:
        """Such a key, to be issued; indexed where ``keys`` are at hand, else found by its slow ID."""
        definition = self.newest(product)
        number = catalogue.find_group(definition, group).number
        limits = issuing.default_limits(number, definition)
        most_hosts = checked_limit("hosts", hosts, limits[0])
        most_activations = checked_limit("activations", activations, limits[1])
        tag = publisher_tag(self.folder.fingerprint)
        key = ProductKey.new(channel, tag, number, secrets.token_bytes(SECRET_BYTES))
        self.check_covers(agreement, number)
        issued = IssuedKey(
            key.key_id, key.partial, key.channel, product, number, organisation, most_hosts, most_activations, now,
            agreement=agreement,
        )  # fmt: skip
        return DraftKey(NewKey(key, issued), keys.index(key) if keys else None)

    def issue_pool_keys(
        self,
        organisation: str,
        product: str,
        group: str,
        now: int,
        actor: str,
        *,
        channel: Channel,
        keys: PublisherKeys,
        activations: int | None = None,
        count: int = 1,
        agreement: str | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> list[NewKey]:
        """MAK or retail keys, all of them or none; ``done`` is told how many were made.

        A retail key is for one copy and has 1 activation unless more are given; a MAK takes the agreement's quantity.
        """
        drafts = self.draft_pool_keys(
            organisation, product, group, now, channel=channel, keys=keys, activations=activations, count=count,
            agreement=agreement, done=done,
        )  # fmt: skip
        return self.issue(drafts, actor)

    def draft_pool_keys(
        self,
        organisation: str,
        product: str,
        group: str,
        now: int,
        *,
        channel: Channel,
        keys: PublisherKeys,
        activations: int | None = None,
        count: int = 1,
        agreement: str | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> list[DraftKey]:
        """Such keys, to be issued.  Their IDs take 8 ms each, which no transaction should last."""
        number = catalogue.find_group(self.newest(product), group).number
        self.check_covers(agreement, number)
        pool = checked_limit("activations", activations, self.default_pool(channel, agreement, number))
        if not 1 <= count <= MOST_KEYS:
            raise KeyCountError(most=MOST_KEYS, value=count)
        tag = publisher_tag(self.folder.fingerprint)
        made = [ProductKey.new(channel, tag, number, secrets.token_bytes(SECRET_BYTES)) for _ in range(count)]
        drafts = []
        for key, key_id in zip(made, _key_ids(made, done), strict=True):
            issued = IssuedKey(
                key_id, key.partial, channel, product, number, organisation, 0, pool, now, agreement=agreement
            )
            drafts.append(DraftKey(NewKey(key, issued), keys.index(key)))
        return drafts

    def issue(self, drafts: Sequence[DraftKey], actor: str) -> list[NewKey]:
        """All of them or none."""
        self.store.issue_keys([(draft.new.issued, draft.lookup) for draft in drafts], actor)
        return [draft.new for draft in drafts]

    def raise_key(
        self, key: IssuedKey, now: int, actor: str, *, activations: int | None = None, hosts: int | None = None
    ) -> IssuedKey:
        """Give a key more activations, or more hosts: the new figures, not what is added."""

        def more(held: IssuedKey) -> tuple[int, int]:
            larger = checked_limit("activations", activations, held.activations)
            places = checked_limit("hosts", hosts, held.hosts) if hosts is not None else held.hosts
            if larger < held.activations or places < held.hosts or (larger, places) == (held.activations, held.hosts):
                raise KeyNotRaisedError(activations=held.activations, hosts=held.hosts)
            return larger, places

        return self.store.raise_key(key.key_id, more, now, actor)

    def supersede_key(self, old: IssuedKey, keys: PublisherKeys, now: int, actor: str) -> NewKey:
        """A new key in the place of one that was lost or published: the old one is blocked, and what is left of its
        pool is the new one's."""
        key = ProductKey.new(
            old.channel, publisher_tag(self.folder.fingerprint), old.group, secrets.token_bytes(SECRET_BYTES)
        )
        key_id, lookup = key.key_id, keys.index(key)

        def succeed(before: IssuedKey) -> IssuedKey:
            if before.superseded_by is not None:
                raise KeySupersededError(partial=before.partial)
            left = before.remaining if before.channel in issuing.POOLED else before.activations
            return IssuedKey(
                key_id, key.partial, before.channel, before.product, before.group, before.organisation, before.hosts,
                left, now, agreement=before.agreement,
            )  # fmt: skip

        return NewKey(key, self.store.supersede_key(old.key_id, succeed, lookup, actor))

    def find_key(self, text: str) -> IssuedKey:
        """An issued key by the key itself, its last five symbols, or its key ID."""
        wanted = text.strip()
        try:
            key = ProductKey.parse(wanted)
        except InputError:
            return self.store.find_key(wanted.lower(), wanted.upper(), wanted)
        return self.store.find_key(key.key_id, "", f"ending in {key.partial}")

    def block_key(self, key: IssuedKey, reason: str, now: int, actor: str) -> bool:
        check_reason(reason)
        return self.store.set_blocked(key.key_id, reason, now, actor, blocked=True)

    def unblock_key(self, key: IssuedKey, now: int, actor: str) -> bool:
        """One that was superseded stays blocked: what was left of its pool is another key's."""

        def check(key: IssuedKey) -> None:
            if key.superseded_by is not None:
                raise KeySupersededError(partial=key.partial)

        return self.store.set_blocked(key.key_id, "", now, actor, blocked=False, check=check)


def _key_ids(keys: Sequence[ProductKey], done: Callable[[int], None]) -> Iterator[str]:
    """On all cores: scrypt leaves the interpreter to the others while it works."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, key_id in enumerate(pool.map(lambda key: key.key_id, keys), 1):
            done(number)
            yield key_id
