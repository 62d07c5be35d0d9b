# SPDX-License-Identifier: Apache-2.0
"""What a publisher's administrator does: products, organisations, keys.  The command line calls this and decides
nothing; rules are in ``catalogue`` and ``issuing``, SQL in ``store``.  Spec: docs/guide/publisher.md.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from volact.core.definition import ProductDefinition
from volact.core.errors import ConfigError, InputError
from volact.core.issuer import IssuerDescriptor
from volact.core.product_key import SECRET_BYTES, Channel, ProductKey, publisher_tag
from volact.publisher import catalogue, issuing
from volact.publisher.folder import PublisherFolder, PublisherKeys, check_name
from volact.publisher.issuing import IssuedKey
from volact.publisher.store import PublisherStore, Signed
from volact.sealing.verify import verify_definition

MAX_REASON = 400
MOST_LIMIT = 1_000_000


class LimitUnfitError(InputError):
    code = "key-limit-unfit"
    fmt = "{what} of a key are a whole number from 1 to {most}, not {value}"
    remedy = "leave the option out to take the figure of the product's policy"


class ReasonUnfitError(ConfigError):
    code = "reason-unfit"
    fmt = "the reason is not a text of at most {most} printable characters"
    remedy = "shorten it to one line"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was issued just now: the only moment at which it is known here."""

    key: ProductKey
    issued: IssuedKey


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
        verify_definition(token, self.folder.fingerprint)  # whatever is stored and shipped, readers accept
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
    ) -> NewKey:
        """A host key, of a KMS host or a VM host, of a product group (by name or number); limits default to the
        product's policy."""
        definition = self.newest(product)
        number = catalogue.find_group(definition, group).number
        limits = issuing.default_limits(number, definition)
        most_hosts = _limit("hosts", hosts, limits[0])
        most_activations = _limit("activations", activations, limits[1])
        tag = publisher_tag(self.folder.fingerprint)
        key = ProductKey.new(channel, tag, number, secrets.token_bytes(SECRET_BYTES))
        issued = IssuedKey(
            key.key_id, key.partial, key.channel, product, number, organisation, most_hosts, most_activations, now
        )
        self.store.issue_key(issued, actor)
        return NewKey(key, issued)

    def find_key(self, text: str) -> IssuedKey:
        """An issued key by the key itself, its last five symbols, or its key ID."""
        wanted = text.strip()
        try:
            key = ProductKey.parse(wanted)
        except InputError:
            return self.store.find_key(wanted.lower(), wanted.upper(), wanted)
        return self.store.find_key(key.key_id, "", f"ending in {key.partial}")

    def block_key(self, key: IssuedKey, reason: str, now: int, actor: str) -> bool:
        if len(reason) > MAX_REASON or not reason.isprintable():
            raise ReasonUnfitError(most=MAX_REASON)
        return self.store.set_blocked(key.key_id, reason, now, actor, blocked=True)

    def unblock_key(self, key: IssuedKey, now: int, actor: str) -> bool:
        return self.store.set_blocked(key.key_id, "", now, actor, blocked=False)

    def _facts(self, keys: PublisherKeys, now: int) -> catalogue.PublisherFacts:
        """The descriptor in a definition has no nonce and lasts as long as the publisher's certificate."""
        descriptor = describe(self.folder, keys, keys.revocation.status(self.store.revocations(now)), now)
        return catalogue.PublisherFacts(
            self.folder.name, self.folder.fingerprint, self.folder.url, keys.issuer.descriptor(descriptor)
        )


def describe(
    folder: PublisherFolder,
    keys: PublisherKeys,
    status: str,
    now: int,
    *,
    nonce: bytes = b"",
    lifetime: int | None = None,
) -> IssuerDescriptor:
    """The publisher as an issuer: to which key requests are sealed.  Never outlives its certificate."""
    ends_at = keys.issuer.ends_at
    return IssuerDescriptor(
        id=keys.sealing.id,
        name=folder.name,
        suite=keys.sealing.suite,
        public_key=keys.sealing.public,
        issued_at=now,
        expires_at=ends_at if lifetime is None else min(ends_at, now + lifetime),
        nonce=nonce,
        status=status,
    )


def _limit(what: str, given: int | None, default: int) -> int:
    value = default if given is None else given
    if not 1 <= value <= MOST_LIMIT:
        raise LimitUnfitError(what=what, most=MOST_LIMIT, value=value)
    return value
