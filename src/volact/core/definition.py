# SPDX-License-Identifier: Apache-2.0
"""Product definitions: what ships with a product and says how it is licensed.  Spec: docs/spec/product-definition.md.

A definition never introduces trust by itself: whoever reads one gives the root fingerprint that the product embeds
(DESIGN §4), and :mod:`volact.sealing.verify` holds the file against it.  This module only knows the contents.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from volact.core.encoding import Fields, b64decode, b64encode
from volact.core.errors import ConfigError, InputError, MalformedError
from volact.core.issuer import MAX_DESCRIPTOR
from volact.core.policy import CLIENT_THRESHOLD, SERVER_THRESHOLD, Policy
from volact.core.product_key import Channel, ProductKey

FORMAT = 1
PHONE_KEY_BYTES = 96
MOST_ROOTS = 8  # seven roll-overs, of 25 years each
MOST_LINKS = 2 * (MOST_ROOTS - 1)  # each with the one after it, in both directions
MOST_CERTIFICATE = 8192
GENERIC = (Channel.VOLUME, Channel.VM)  # channels whose keys are public and live in the definition

_ROOT = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")


class DefinitionError(ConfigError):
    code = "definition-invalid"
    fmt = "the product definition is not consistent: {why}"
    remedy = "correct the product's TOML file; docs/spec/product-definition.md shows a whole one"


class RootMalformedError(InputError):
    code = "root-malformed"
    fmt = "{text!r} is not a root's fingerprint: sha256: and 64 hexadecimal digits"
    remedy = "take it from the publisher, whose `volact publisher certificate` prints it; the product embeds the same"


class EditionKind(StrEnum):
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class ProductGroup:
    """What a count and a key cover.  A KMS host key of ``parent`` serves this group too (functional facts A1)."""

    number: int
    name: str
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Edition:
    """A product as sold; ``keys`` are its generic keys by channel."""

    id: str
    name: str
    group: int
    kind: EditionKind
    policy: Policy
    keys: Mapping[Channel, ProductKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProductDefinition:
    """``issuer`` is the publisher's signed descriptor, so that a request can be sealed to it behind an air gap.

    ``phone_key``: the public key of its confirmation IDs, where it activates by telephone.  ``root`` names the
    publisher, whichever of its roots signs; ``roots`` (DER) are all of them and ``links`` their cross certificates,
    where there is more than one.
    """

    product: str
    name: str
    version: int
    publisher: str
    root: str
    url: str | None
    issuer: str
    groups: tuple[ProductGroup, ...]
    editions: tuple[Edition, ...]
    issued_at: int
    phone_key: bytes | None = None
    roots: tuple[bytes, ...] = ()
    links: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        for what, name in (("product", self.product), *(("edition", e.id) for e in self.editions)):
            if not _NAME.match(name):
                raise DefinitionError(why=f"{what} {name!r} is not made of a-z, 0-9 and inner hyphens (63 at most)")
        _check_unique("product group", [group.number for group in self.groups])
        _check_unique("edition", [edition.id for edition in self.editions])
        _check_groups(self.groups, self.editions)
        if not self.editions:
            raise DefinitionError(why="it has no edition")

    def edition(self, edition_id: str) -> Edition | None:
        return next((edition for edition in self.editions if edition.id == edition_id), None)

    def edition_of(self, key: ProductKey) -> Edition | None:
        """The edition whose generic key this is; ``None`` for every other key."""
        for edition in self.editions:
            if edition.keys.get(key.channel) == key:
                return edition
        return None

    def group(self, number: int) -> ProductGroup | None:
        return next((group for group in self.groups if group.number == number), None)

    def covered_by(self, number: int) -> frozenset[int]:
        """The groups that a host key of group ``number`` serves: its own and every one below it."""
        covered = {number} if self.group(number) else set()
        while True:
            more = {g.number for g in self.groups if g.parent in covered} - covered
            if not more:
                return frozenset(covered)
            covered |= more

    def to_claim(self) -> dict[str, Any]:
        return {
            "v": FORMAT,
            "product": self.product,
            "name": self.name,
            "version": self.version,
            "publisher": self.publisher,
            "root": self.root,
            **({"url": self.url} if self.url else {}),
            "issuer": self.issuer,
            **({"phone_key": b64encode(self.phone_key)} if self.phone_key else {}),
            **({"roots": [b64encode(der) for der in self.roots]} if self.roots else {}),
            **({"links": [b64encode(der) for der in self.links]} if self.links else {}),
            "groups": [_group_claim(group) for group in self.groups],
            "editions": [_edition_claim(edition) for edition in self.editions],
        }

    @classmethod
    def from_claim(cls, claim: Fields, issued_at: int) -> "ProductDefinition":
        claim.integer("v", least=FORMAT, most=FORMAT)
        try:
            return cls(
                product=claim.text("product", most=63),
                name=claim.text("name"),
                version=claim.integer("version", least=1),
                publisher=claim.text("publisher"),
                root=claim.text("root", most=80),
                url=claim.optional_text("url", most=400),
                issuer=claim.text("issuer", most=MAX_DESCRIPTOR),
                groups=tuple(_group(Fields(item, "product group")) for item in claim.items("groups", most=200)),
                editions=tuple(_edition(Fields(item, "edition")) for item in claim.items("editions", most=200)),
                issued_at=issued_at,
                phone_key=claim.octets("phone_key", size=PHONE_KEY_BYTES) if "phone_key" in claim else None,
                roots=roots_in(claim),
                links=links_in(claim),
            )
        except ConfigError as exc:
            raise MalformedError(what="product definition", why=str(exc)) from None


def parse_root(text: str) -> str:
    """A root's fingerprint as people write it: colons and capitals, as OpenSSL prints one, are accepted.

    Raises :class:`RootMalformedError`, nothing else.
    """
    kind, _, digits = text.strip().lower().partition(":")
    root = f"{kind}:{digits.replace(':', '')}"
    if not _ROOT.match(root):
        raise RootMalformedError(text=text[:200])
    return root


def roots_in(claim: Fields) -> tuple[bytes, ...]:
    """The publisher's roots in a definition's claims, which the verifier needs before the rest."""
    return _certificates(claim, "roots", MOST_ROOTS)


def links_in(claim: Fields) -> tuple[bytes, ...]:
    return _certificates(claim, "links", MOST_LINKS)


def read_groups(table: Mapping[str, Any]) -> tuple[ProductGroup, ...]:
    """Product groups from a publisher's TOML: ``[groups.NAME] number = 101, parent = 102``."""
    groups = table.get("groups", {})
    if type(groups) is not dict:
        raise DefinitionError(why="groups is not a table")
    return tuple(_toml_group(name, entry) for name, entry in groups.items())


def default_policy(kind: EditionKind) -> Policy:
    """The field's figures: 25 for client editions, 5 for server editions."""
    return Policy(threshold=CLIENT_THRESHOLD if kind is EditionKind.CLIENT else SERVER_THRESHOLD)


def _toml_group(name: str, entry: Any) -> ProductGroup:
    if type(entry) is not dict or type(entry.get("number")) is not int:
        raise DefinitionError(why=f"product group {name!r} needs a number")
    unknown = set(entry) - {"number", "parent", "name"}
    if unknown:
        raise DefinitionError(why=f"product group {name!r} has an unknown entry {sorted(unknown)[0]!r}")
    if type(entry.get("name", name)) is not str or type(entry.get("parent", 0)) is not int:
        raise DefinitionError(why=f"product group {name!r} has a name that is no text or a parent that is no number")
    return ProductGroup(entry["number"], entry.get("name", name), entry.get("parent"))


def _certificates(claim: Fields, name: str, most: int) -> tuple[bytes, ...]:
    if name not in claim:
        return ()
    texts = claim.texts(name, most=most)
    if any(len(text) > 4 * MOST_CERTIFICATE // 3 for text in texts):
        claim.fail(name, f"certificates of up to {MOST_CERTIFICATE} bytes")
    return tuple(b64decode(text, name) for text in texts)


def _check_unique(what: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise DefinitionError(why=f"{what} {value} occurs twice")


def _check_groups(groups: tuple[ProductGroup, ...], editions: tuple[Edition, ...]) -> None:
    numbers = {group.number: group for group in groups}
    for group in groups:
        if not 0 < group.number < 2**16:
            raise DefinitionError(why=f"product group {group.number} is not a number from 1 to 65535")
        if group.parent is not None and group.parent not in numbers:
            raise DefinitionError(why=f"product group {group.number} stands under {group.parent}, which is not defined")
        _check_no_cycle(group, numbers)
    for edition in editions:
        if edition.group not in numbers:
            raise DefinitionError(
                why=f"edition {edition.id} belongs to product group {edition.group}, which is not defined"
            )


def _check_no_cycle(group: ProductGroup, numbers: dict[int, ProductGroup]) -> None:
    seen = {group.number}
    while group.parent is not None and group.parent in numbers:
        if group.parent in seen:
            raise DefinitionError(why=f"product group {group.number} stands under itself")
        seen.add(group.parent)
        group = numbers[group.parent]


def _group_claim(group: ProductGroup) -> dict[str, Any]:
    claim: dict[str, Any] = {"number": group.number, "name": group.name}
    return claim if group.parent is None else {**claim, "parent": group.parent}


def _group(claim: Fields) -> ProductGroup:
    parent = claim.integer("parent", least=1, most=65535) if "parent" in claim else None
    return ProductGroup(claim.integer("number", least=1, most=65535), claim.text("name"), parent)


def _edition_claim(edition: Edition) -> dict[str, Any]:
    return {
        "id": edition.id,
        "name": edition.name,
        "group": edition.group,
        "kind": str(edition.kind),
        "keys": {str(channel): str(key) for channel, key in edition.keys.items()},
        "policy": edition.policy.to_claim(),
    }


def _edition(claim: Fields) -> Edition:
    kind = claim.text("kind")
    if kind not in list(EditionKind):
        claim.fail("kind", "client or server")
    return Edition(
        id=claim.text("id", most=63),
        name=claim.text("name"),
        group=claim.integer("group", least=1, most=65535),
        kind=EditionKind(kind),
        policy=Policy.from_claim(claim.fields("policy")),
        keys=_generic_keys(claim),
    )


def _generic_keys(claim: Fields) -> dict[Channel, ProductKey]:
    keys: dict[Channel, ProductKey] = {}
    for channel, text in claim.mapping("keys").items():
        if channel not in GENERIC or type(text) is not str:
            claim.fail("keys", "product keys of the generic channels, volume and vm")
        try:
            key = ProductKey.strict(text)
        except InputError as exc:
            raise MalformedError(what="generic product key", why=str(exc)) from None
        if key.channel != channel:
            claim.fail("keys", "each of the channel that it is listed under")
        keys[key.channel] = key
    return keys
