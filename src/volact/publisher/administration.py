# SPDX-License-Identifier: Apache-2.0
"""What a publisher's administrator does: products, organisations, keys.  The command line calls this and decides
nothing; rules are in ``catalogue`` and ``issuing``, SQL in ``store``.  Spec: docs/guide/publisher.md.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from volact.core.definition import ProductDefinition
from volact.core.errors import InputError
from volact.core.licence import Checkpoint
from volact.core.phone import INSTALLATION_BYTES
from volact.core.phone_site import SiteInstallationId, name_of_host
from volact.core.product_key import SECRET_BYTES, Channel, ProductKey, publisher_tag
from volact.core.returning import Receipt
from volact.publisher import catalogue, issuing
from volact.publisher.descriptor import describe
from volact.publisher.errors import (
    AgreementDatesError,
    AgreementGroupError,
    HostAmbiguousError,
    HostMissingError,
    KeyCountError,
    KeyNotRaisedError,
    KeySupersededError,
    LimitUnfitError,
    NoCheckpointError,
    NoSuchGroupError,
    ReasonUnfitError,
    ThumbprintError,
)
from volact.publisher.folder import PublisherFolder, PublisherKeys, check_name
from volact.publisher.issuing import IssuedKey
from volact.publisher.records import Agreement, Signed
from volact.publisher.store import PublisherStore
from volact.sealing import certificates, jws
from volact.sealing.verify import LICENCE, RECEIPT, verify, verify_definition, verify_licence

MAX_REASON = 400
MOST_LIMIT = 1_000_000
MOST_KEYS = 10_000  # of one batch: each takes 8 ms for its ID
LEAST_PREFIX = 8  # digits of a machine ID that name a host


@dataclass(frozen=True, slots=True)
class Revoked:
    """Keys that were revoked, from when, and the epoch that says so."""

    signers: tuple[str, ...]
    since: int
    epoch: int


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


class Publisher:
    """A publisher's folder and database, opened.  ``keys`` are handed to the acts that sign."""

    def __init__(self, folder: PublisherFolder, store: PublisherStore) -> None:
        self.folder = folder
        self.store = store

    @classmethod
    def open(cls, path: Path) -> Self:
        folder = PublisherFolder.open(path)
        return cls(folder, folder.store())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def add_product(self, toml: bytes, keys: PublisherKeys, now: int, actor: str) -> ProductDefinition:
        """A new product, or a new version of one."""
        file = catalogue.read_product(toml)
        newest = {signed.product: signed for signed in self.store.newest_of_all()}
        last = newest.get(file.product)
        catalogue.check_newer(file, last.version if last else None)
        catalogue.check_groups(file, (self.definition(signed) for signed in newest.values()))
        catalogue.check_suite(file, self.folder.suite)
        kept = self.store.generic_keys(file.product)
        generic = catalogue.complete_keys(file, kept, self.folder.fingerprint, secrets.token_bytes)
        definition = catalogue.define(file, generic, self._facts(keys, now), now)
        token = keys.definition.definition(definition)
        for root in self.folder.roots:  # whatever is stored and shipped, readers accept, whichever root they know
            verify_definition(token, certificates.fingerprint(root))
        self.store.add_definition(Signed(file.product, file.version, now, token), generic, actor)
        return definition

    def definition(self, signed: Signed) -> ProductDefinition:
        return verify_definition(signed.token, self.folder.fingerprint).definition

    def newest(self, product: str) -> ProductDefinition:
        return self.definition(self.store.version(product, None))

    def add_organisation(self, name: str, now: int, actor: str) -> None:
        check_name("the organisation's name", name)
        self.store.add_organisation(name, now, actor)

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
        most_hosts = _limit("hosts", hosts, limits[0])
        most_activations = _limit("activations", activations, limits[1])
        tag = publisher_tag(self.folder.fingerprint)
        key = ProductKey.new(channel, tag, number, secrets.token_bytes(SECRET_BYTES))
        self._check_covers(agreement, number)
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
        self._check_covers(agreement, number)
        pool = _limit("activations", activations, self._default_pool(channel, agreement, number))
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
            larger = _limit("activations", activations, held.activations)
            places = _limit("hosts", hosts, held.hosts) if hosts is not None else held.hosts
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

    # ---- agreements

    def add_agreement(
        self, name: str, organisation: str, starts_at: int, ends_at: int | None, quantities: Mapping[int, int],
        now: int, actor: str,
    ) -> Agreement:  # fmt: skip
        check_name("the agreement's name", name)
        _check_dates(starts_at, ends_at)
        for quantity in quantities.values():
            _limit("quantities", quantity, 1)
        agreement = Agreement(name, organisation, starts_at, ends_at, now, quantities)
        self.store.add_agreement(agreement, actor)
        return agreement

    def change_agreement(
        self,
        name: str,
        ends_at: int | None,
        now: int,
        actor: str,
        check: Callable[[Agreement], None] = lambda _: None,
    ) -> Agreement:
        """Extend an agreement, or end it; ``check`` is shown the agreement as it is at that moment, and may raise."""

        def all_checks(agreement: Agreement) -> None:
            check(agreement)
            _check_dates(agreement.starts_at, ends_at)

        return self.store.change_agreement(name, ends_at, all_checks, now, actor)

    def find_group(self, text: str) -> int:
        """The number of a product group, by number or by its name in any of the products."""
        for signed in self.store.newest_of_all():
            definition = self.definition(signed)
            for group in definition.groups:
                if text in (str(group.number), group.name):
                    return group.number
        raise NoSuchGroupError(group=text)

    def group_names(self) -> dict[int, str]:
        """Of all products: numbers are unique to a publisher."""
        products = map(self.definition, self.store.newest_of_all())
        return {group.number: group.name for product in products for group in product.groups}

    def _check_covers(self, agreement: str | None, group: int) -> None:
        if agreement is not None and group not in self.store.agreement(agreement).quantities:
            raise AgreementGroupError(agreement=agreement, group=group)

    def _default_pool(self, channel: Channel, agreement: str | None, group: int) -> int:
        if channel is Channel.RETAIL:
            return 1
        return self.store.agreement(agreement).quantities[group] if agreement else 0

    # ---- revocation

    def revoke_host(self, wanted: str, since: int, reason: str, now: int, actor: str) -> Revoked:
        """Every certificate of a host, by its name or the beginning of its machine ID."""
        found = self.store.certificates_of(name=wanted)
        if not found and len(wanted) >= LEAST_PREFIX:
            found = self.store.certificates_of(machine=wanted.lower())
        hosts = {one for one, _ in map(_host_and_signer, found)}
        if not hosts:
            raise HostMissingError(host=wanted)
        if len(hosts) > 1:
            raise HostAmbiguousError(number=len(hosts), host=wanted)
        _check_reason(reason)
        signers = _signers(self.store.certificates_of(machine=hosts.pop().hex()))
        why = {"host": found[-1][1] or wanted, "reason": reason}
        epoch = self.store.revoke_issuers(dict.fromkeys(signers, since), why, now, actor)
        return Revoked(tuple(sorted(signers)), since, epoch)

    def revoke_issuer(self, thumbprint: str, since: int, reason: str, now: int, actor: str) -> Revoked:
        """Any key by its thumbprint: the publisher's own issuer, say, after it was stolen."""
        signer = thumbprint.lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{64}", signer):
            raise ThumbprintError(thumbprint=thumbprint[:80])
        _check_reason(reason)
        return Revoked((signer,), since, self.store.revoke_issuers({signer: since}, {"reason": reason}, now, actor))

    def revoke_organisation(self, name: str, since: int, reason: str, now: int, actor: str) -> Revoked:
        """All hosts of an organisation, and all of its keys are blocked."""
        _check_reason(reason)
        signers = _signers(self.store.certificates_of(organisation=name))
        epoch = self.store.revoke_organisation(name, dict.fromkeys(signers, since), reason, now, actor)
        return Revoked(tuple(sorted(signers)), since, epoch)

    def find_key(self, text: str) -> IssuedKey:
        """An issued key by the key itself, its last five symbols, or its key ID."""
        wanted = text.strip()
        try:
            key = ProductKey.parse(wanted)
        except InputError:
            return self.store.find_key(wanted.lower(), wanted.upper(), wanted)
        return self.store.find_key(key.key_id, "", f"ending in {key.partial}")

    def block_key(self, key: IssuedKey, reason: str, now: int, actor: str) -> bool:
        _check_reason(reason)
        return self.store.set_blocked(key.key_id, reason, now, actor, blocked=True)

    def unblock_key(self, key: IssuedKey, now: int, actor: str) -> bool:
        """One that was superseded stays blocked: what was left of its pool is another key's."""

        def check(key: IssuedKey) -> None:
            if key.superseded_by is not None:
                raise KeySupersededError(partial=key.partial)

        return self.store.set_blocked(key.key_id, "", now, actor, blocked=False, check=check)

    def read_checkpoint(self, data: bytes) -> Checkpoint:
        """The checkpoint in a licence or a receipt that this publisher signed: ``TrustError``, ``MalformedError``."""
        token, trust = data.decode("ascii", "replace").strip(), self.folder.trust()
        if jws.parse(token, LICENCE, RECEIPT).typ == LICENCE:
            found = verify_licence(token, trust).licence.ledger
        else:
            found = Receipt.from_claim(verify(token, trust, RECEIPT).claims).ledger
        if found is None:
            raise NoCheckpointError()
        return found

    def _facts(self, keys: PublisherKeys, now: int) -> catalogue.PublisherFacts:
        """The descriptor in a definition has no nonce and lasts as long as the publisher's certificate."""
        descriptor = describe(self.folder, keys, keys.revocation.status(self.store.revocations(now)), now)
        phone = keys.phone()
        return catalogue.PublisherFacts(
            self.folder.name,
            self.folder.fingerprint,
            self.folder.url,
            keys.issuer.descriptor(descriptor),
            phone.public if phone else None,
            tuple(map(certificates.der, self.folder.roots)) if self.folder.links else (),
            tuple(map(certificates.der, self.folder.links)),
        )


def _key_ids(keys: Sequence[ProductKey], done: Callable[[int], None]) -> Iterator[str]:
    """On all cores: scrypt leaves the interpreter to the others while it works."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, key_id in enumerate(pool.map(lambda key: key.key_id, keys), 1):
            done(number)
            yield key_id


def _signers(found: Iterable[tuple[bytes, str]]) -> set[str]:
    return {signer for _, signer in map(_host_and_signer, found)}


def _host_and_signer(found: tuple[bytes, str]) -> tuple[bytes, str]:
    """Which host a row is about, and under which name a status revokes what it was given: its certificate's key, or
    the confirmation by telephone."""
    der, _ = found
    if len(der) == INSTALLATION_BYTES:
        installation = SiteInstallationId.from_bytes(der)
        return installation.name, installation.revocation_id
    key = certificates.public_key_of(certificates.load_der(der))
    return name_of_host(jws.thumbprint(jws.jwk_of(key))), certificates.key_thumbprint(key).hex()


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise ReasonUnfitError(most=MAX_REASON)


def _check_dates(starts_at: int, ends_at: int | None) -> None:
    if ends_at is not None and ends_at <= starts_at:
        raise AgreementDatesError()


def _limit(what: str, given: int | None, default: int) -> int:
    value = default if given is None else given
    if not 1 <= value <= MOST_LIMIT:
        raise LimitUnfitError(what=what, most=MOST_LIMIT, value=value)
    return value
