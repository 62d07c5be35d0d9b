# SPDX-License-Identifier: Apache-2.0
"""Products as their publisher writes them: a TOML file becomes a product definition.  Pure: bytes, rows and random
bytes come in as arguments; signing is in ``administration.publisher``.  Spec: docs/spec/product-definition.md §2.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from volact.core.definition import (
    GENERIC,
    DefinitionError,
    Edition,
    EditionKind,
    ProductDefinition,
    ProductGroup,
    default_policy,
    read_groups,
)
from volact.core.errors import ConfigError, VolactError
from volact.core.policy import Policy, PolicyFigureError
from volact.core.product_key import SECRET_BYTES, Channel, ProductKey, publisher_tag
from volact.sealing.envelope import HYBRID, X25519

MAX_FILE = 1024 * 1024
MAX_NAME = 200  # what readers of definitions accept
MAX_VERSION = 2**31 - 1
SUITES = (X25519, HYBRID)

GenericKeys = Mapping[tuple[str, Channel], ProductKey]

_PRODUCT = frozenset({"product", "name", "version", "policy", "groups", "editions"})
_EDITION = frozenset({"name", "group", "kind", "policy"})
# What a definition of nobody says where the file has to be checked before there is a publisher's signature to put in.
_UNSIGNED = {"publisher": "-", "root": "-", "url": None, "issuer": "-", "issued_at": 0}


class GroupConflictError(ConfigError):
    code = "product-group-conflict"
    fmt = "product group {group} is {now} in this file and {before} in product {product}"
    remedy = "numbers of product groups are unique to a publisher: take another number, or repeat the group unchanged"


class VersionNotNewerError(ConfigError):
    code = "product-version-not-newer"
    fmt = "version {version} of {product} is not newer than version {last}, which was added before"
    remedy = "raise `version` in the TOML file to {next} or more"


class SuiteNotAllowedError(ConfigError):
    code = "publisher-suite-not-allowed"
    fmt = "edition {edition} allows only {allowed}, but requests to this publisher are sealed with {suite}"
    remedy = "add {suite} to the edition's `suites`; a publisher's suite is chosen once, by `volact publisher init`"


class EditionMovedError(ConfigError):
    code = "edition-group-changed"
    fmt = "edition {edition} moves from product group {before} to {now}, but its generic keys name {before}"
    remedy = "leave the edition in its group, or give it a new name"


@dataclass(frozen=True, slots=True)
class PublisherFacts:
    """What a definition says of its publisher; ``issuer`` is the publisher's signed descriptor."""

    name: str
    root: str
    url: str | None
    issuer: str
    phone_key: bytes | None = None
    roots: tuple[bytes, ...] = ()
    links: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ProductFile:
    """A publisher's TOML file, read and checked; generic keys and signature are still to come."""

    product: str
    name: str
    version: int
    groups: tuple[ProductGroup, ...]
    editions: tuple[Edition, ...]


def read_product(data: bytes) -> ProductFile:
    """Read a TOML file, or raise :class:`DefinitionError` or :class:`PolicyFigureError` that names what is wrong."""
    table = _toml(data)
    _known(table, _PRODUCT, "the file")
    groups = _groups(table)
    shared = _table(table, "policy", "the file")
    labels = dict(zip(_table(table, "groups"), (group.number for group in groups), strict=True))
    editions = tuple(_edition(name, entry, labels, shared) for name, entry in _table(table, "editions").items())
    file = ProductFile(
        product=_text(table, "product", "the file"),
        name=_text(table, "name", "the file"),
        version=_version(table),
        groups=groups,
        editions=editions,
    )
    _consistent(file)
    return file


def check_newer(file: ProductFile, last: int | None) -> None:
    if last is not None and file.version <= last:
        raise VersionNotNewerError(product=file.product, version=file.version, last=last, next=last + 1)


def check_groups(file: ProductFile, others: Iterable[ProductDefinition]) -> None:
    """The same number means the same group in all of a publisher's products."""
    for definition in others:
        if definition.product == file.product:
            continue
        for group in file.groups:
            before = definition.group(group.number)
            if before is not None and before != group:
                raise GroupConflictError(
                    group=group.number, now=_describe(group), before=_describe(before), product=definition.product
                )


def check_suite(file: ProductFile, suite: str) -> None:
    """No host could activate with a definition that refuses its own publisher's descriptor."""
    for edition in file.editions:
        if suite not in edition.policy.suites:
            raise SuiteNotAllowedError(edition=edition.id, allowed=", ".join(edition.policy.suites), suite=suite)


def complete_keys(file: ProductFile, kept: GenericKeys, root: str, random: Callable[[int], bytes]) -> GenericKeys:
    """The generic keys of every edition: those that were made before, and new ones for new editions."""
    tag = publisher_tag(root)
    keys: dict[tuple[str, Channel], ProductKey] = {}
    for edition in file.editions:
        for channel in GENERIC:
            key = kept.get((edition.id, channel)) or ProductKey.new(channel, tag, edition.group, random(SECRET_BYTES))
            if key.group != edition.group:
                raise EditionMovedError(edition=edition.id, before=key.group, now=edition.group)
            keys[edition.id, channel] = key
    return keys


def define(file: ProductFile, keys: GenericKeys, publisher: PublisherFacts, issued_at: int) -> ProductDefinition:
    return ProductDefinition(
        product=file.product,
        name=file.name,
        version=file.version,
        publisher=publisher.name,
        root=publisher.root,
        url=publisher.url,
        issuer=publisher.issuer,
        groups=file.groups,
        editions=tuple(_with_keys(edition, keys) for edition in file.editions),
        issued_at=issued_at,
        phone_key=publisher.phone_key,
        roots=publisher.roots,
        links=publisher.links,
    )


def find_group(definition: ProductDefinition, text: str) -> ProductGroup:
    """A product group by its name or its number."""
    for group in definition.groups:
        if text in (group.name, str(group.number)):
            return group
    known = ", ".join(f"{group.name} ({group.number})" for group in definition.groups)
    raise GroupMissingError(product=definition.product, group=text, known=known)


class GroupMissingError(ConfigError):
    code = "product-group-missing"
    fmt = "product {product} has no product group {group}"
    remedy = "its product groups are: {known}"


def _toml(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_FILE:
        raise DefinitionError(why=f"the file is larger than {MAX_FILE} bytes")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise DefinitionError(why=f"it is not TOML: {_one_line(exc)}") from None


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or "nested too deeply"


def _known(table: Mapping[str, Any], names: frozenset[str], where: str) -> None:
    for name in table:
        if name not in names:
            raise DefinitionError(why=f"{where} has an unknown entry {name!r}; known are {', '.join(sorted(names))}")


def _table(table: Mapping[str, Any], name: str, where: str = "the file") -> dict[str, Any]:
    value = table.get(name, {})
    if type(value) is not dict:
        raise DefinitionError(why=f"{name} of {where} is not a table")
    return value


def _text(table: Mapping[str, Any], name: str, where: str) -> str:
    value = table.get(name)
    if type(value) is not str or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise DefinitionError(why=f"{name} of {where} is not a text of 1 to {MAX_NAME} characters")
    return value


def _version(table: Mapping[str, Any]) -> int:
    value = table.get("version")
    if type(value) is not int or not 0 < value <= MAX_VERSION:
        raise DefinitionError(why=f"version is not a whole number from 1 to {MAX_VERSION}")
    return value


def _groups(table: Mapping[str, Any]) -> tuple[ProductGroup, ...]:
    for name, entry in _table(table, "groups").items():
        if type(entry) is dict and "parent" in entry and type(entry["parent"]) is not int:
            raise DefinitionError(why=f"parent of product group {name!r} is not the number of a group")
        if type(entry) is dict and "name" in entry:
            _text(entry, "name", f"product group {name!r}")
    groups = read_groups(table)
    for group in groups:
        if not 0 < len(group.name) <= MAX_NAME or not group.name.isprintable():
            raise DefinitionError(why=f"the name of product group {group.number} is not 1 to {MAX_NAME} characters")
    return groups


def _edition(name: str, entry: Any, labels: Mapping[str, int], shared: Mapping[str, Any]) -> Edition:
    where = f"edition {name!r}"
    if type(entry) is not dict:
        raise DefinitionError(why=f"{where} is not a table")
    _known(entry, _EDITION, where)
    kind = entry.get("kind")
    if kind not in list(EditionKind):
        raise DefinitionError(why=f"kind of {where} is not one of {', '.join(EditionKind)}")
    policy = _policy(_policy(default_policy(EditionKind(kind)), shared), _table(entry, "policy", where))
    return Edition(name, _text(entry, "name", where), _group_of(entry, labels, where), EditionKind(kind), policy)


def _policy(policy: Policy, changes: Mapping[str, Any]) -> Policy:
    suites = changes.get("suites", [])
    if type(suites) is not list or any(suite not in SUITES for suite in suites):
        raise PolicyFigureError(name="suites", value=suites, expected=f"a list of any of {', '.join(SUITES)}")
    try:
        return policy.with_changes(changes)
    except ConfigError:
        raise
    except VolactError as exc:  # the tolerance is read by the parser of untrusted input
        raise DefinitionError(why=str(exc)) from None


def _group_of(entry: Mapping[str, Any], labels: Mapping[str, int], where: str) -> int:
    """``group`` is a number, or the NAME of ``[groups.NAME]``."""
    wanted = entry.get("group")
    if type(wanted) is str and wanted in labels:
        return labels[wanted]
    if type(wanted) is int and wanted in labels.values():
        return wanted
    raise DefinitionError(why=f"group of {where} is {wanted!r}, which is neither name nor number of a product group")


def _consistent(file: ProductFile) -> None:
    """Everything that the definition itself checks, before anything is signed."""
    names = [group.name for group in file.groups]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(why=f"product group {name} occurs twice")
    ProductDefinition(file.product, file.name, file.version, groups=file.groups, editions=file.editions, **_UNSIGNED)  # type: ignore[arg-type]


def _describe(group: ProductGroup) -> str:
    return f"{group.name!r} under {group.parent}" if group.parent is not None else f"{group.name!r}"


def _with_keys(edition: Edition, keys: GenericKeys) -> Edition:
    own = {channel: keys[edition.id, channel] for channel in GENERIC}
    return Edition(edition.id, edition.name, edition.group, edition.kind, edition.policy, own)
