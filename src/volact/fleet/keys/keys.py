# SPDX-License-Identifier: Apache-2.0
"""The organisation's product keys: added by hand or file, listed, described, asked about, and chosen for machines.

Rows hold what may be seen of a key; the key itself is only ever opened by the vault, where it is needed.  Which key
fits a product best is decided here, from rows.  Guide: docs/guide/fleet-keys.md.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from volact.core.errors import InputError, VolactError
from volact.core.policy import DAY
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.returning import Receipt
from volact.fleet.keys import publisher
from volact.fleet.keys.vault import Vault
from volact.fleet.schema import KEYS, SAMPLES
from volact.fleet.store import FleetStore, note

MOST_DESCRIPTION = 200
MOST_LINES = 10_000
REMAINING = "remaining"  # the samples' kind: activations left of a key, by its ID
COMMENT = "#"


class KeyUnknownHereError(InputError):
    code = "fleet-key-unknown"
    fmt = "no key of the vault is named {key}"
    remedy = "name one by its last five symbols or its key ID: `volact fleet keys list`"


class KeyAmbiguousError(InputError):
    code = "fleet-key-ambiguous"
    fmt = "{count} keys of the vault end in {partial}"
    remedy = "name it by its key ID: `volact fleet keys list --json`"


class KeyFileEmptyError(InputError):
    code = "fleet-key-file-empty"
    fmt = "there is no product key in {what}"
    remedy = "give one key a line, with a description behind a comma if you like"


class KeyFileTooLongError(InputError):
    code = "fleet-key-file-long"
    fmt = "{what} has more than {most} lines"
    remedy = "give it in parts"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What may be seen of a key.  ``remaining`` and ``activations``: as the publisher said at ``refreshed_at``."""

    id: int
    key_id: str
    partial: str
    channel: str
    publisher_tag: int
    root: str | None
    product: str | None
    group: int
    description: str
    activations: int | None
    remaining: int | None
    blocked_at: int | None
    added_at: int
    added_by: str
    refreshed_at: int | None

    def to_json(self) -> dict[str, Any]:
        names = ("key_id", "partial", "channel", "root", "product", "group", "description", "activations", "remaining")
        shown = {name: getattr(self, name) for name in names}
        return {
            **shown,
            "blocked": self.blocked_at is not None,
            "blocked_at": self.blocked_at,
            "added_at": self.added_at,
            "added_by": self.added_by,
            "refreshed_at": self.refreshed_at,
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that is no key: where, and why, without what stands there."""

    line: int
    error: VolactError


@dataclass(frozen=True, slots=True)
class Parsed:
    keys: tuple[tuple[ProductKey, str], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of asking about one key."""

    key: KeyRow
    receipt: Receipt | None = None
    error: VolactError | None = None


def parse_lines(lines: Sequence[str], what: str) -> Parsed:
    """One key a line, with a description behind the first comma; blank lines and ``#`` lines are skipped."""
    if len(lines) > MOST_LINES:
        raise KeyFileTooLongError(what=what, most=MOST_LINES)
    found: list[tuple[ProductKey, str]] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        text, _, description = line.strip().lstrip("\ufeff").partition(",")
        if not text or text.startswith(COMMENT):
            continue
        try:
            found.append((ProductKey.parse(text), _clean(description)))
        except InputError as exc:
            problems.append(Problem(number, exc))
    if not found and not problems:
        raise KeyFileEmptyError(what=what)
    return Parsed(tuple(found), tuple(problems))


def add(
    conn: Connection, vault: Vault, found: Iterable[tuple[ProductKey, str]], now: int, who: str
) -> tuple[list[KeyRow], list[KeyRow]]:
    """The keys that are new, and those that were there already, whose description is replaced where one is given."""
    added, known = [], []
    for key, description in found:
        there = conn.execute(select(KEYS.c.id).where(KEYS.c.key_id == key.key_id)).scalar()
        if there is None:
            conn.execute(insert(KEYS).values(**_row(conn, vault, key, description, now, who)))
            note(conn, now, who, "key-added", key.key_id, {"partial": key.partial, "channel": str(key.channel)})
            added.append(by_id(conn, key.key_id))
            continue
        if description:
            conn.execute(update(KEYS).where(KEYS.c.id == there).values(description=description))
        known.append(by_id(conn, key.key_id))
    return added, known


def listed(conn: Connection, product: str | None = None, channel: str | None = None) -> list[KeyRow]:
    query = select(*_COLUMNS).order_by(KEYS.c.product, KEYS.c.channel, KEYS.c.added_at, KEYS.c.id)
    query = query if product is None else query.where(KEYS.c.product == product)
    query = query if channel is None else query.where(KEYS.c.channel == channel)
    return [_read(row) for row in conn.execute(query)]


def by_id(conn: Connection, key_id: str) -> KeyRow:
    row = conn.execute(select(*_COLUMNS).where(KEYS.c.key_id == key_id)).first()
    if row is None:
        raise KeyUnknownHereError(key=key_id)
    return _read(row)


def find(conn: Connection, text: str) -> KeyRow:
    """By key ID, by the last five symbols, or by the whole key as somebody typed it (which is not repeated then)."""
    name = text.strip()
    rows = [_read(row) for row in conn.execute(select(*_COLUMNS).where(KEYS.c.key_id == name.lower()))]
    rows = rows or [_read(row) for row in conn.execute(select(*_COLUMNS).where(KEYS.c.partial == name.upper()))]
    if len(rows) > 1:
        raise KeyAmbiguousError(count=len(rows), partial=rows[0].partial)
    if rows:
        return rows[0]
    try:
        key = ProductKey.parse(name)
    except InputError:
        raise KeyUnknownHereError(key=name[:5] if len(name) > 8 else name) from None
    return _by_key(conn, key)


def remove(conn: Connection, row: KeyRow, now: int, who: str) -> None:
    """From the vault; no machine loses anything."""
    conn.execute(delete(KEYS).where(KEYS.c.id == row.id))
    note(conn, now, who, "key-removed", row.key_id, {"partial": row.partial})


def describe(conn: Connection, row: KeyRow, description: str, now: int, who: str) -> KeyRow:
    text = _clean(description)
    conn.execute(update(KEYS).where(KEYS.c.id == row.id).values(description=text))
    note(conn, now, who, "key-described", row.key_id, {"description": text})
    return by_id(conn, row.key_id)


def open_key(conn: Connection, vault: Vault, row: KeyRow) -> ProductKey:
    sealed = conn.execute(select(KEYS.c.sealed).where(KEYS.c.id == row.id)).scalar_one()
    return vault.open(row.key_id, bytes(sealed))


def refresh(
    store: FleetStore,
    vault: Vault,
    rows: Iterable[KeyRow],
    clock: Callable[[], int],
    who: str,
    url: str | None = None,
    service: Callable[[publisher.KnownDefinition, str | None], publisher.Service] = publisher.service_of,
) -> list[Asked]:
    """Ask the publisher what is left of each key with a pool; one that cannot be asked does not keep the others."""
    return [_refresh(store, vault, row, clock, who, url, service) for row in rows if row.channel in publisher.POOLED]


def recommended(
    rows: Iterable[KeyRow], root: str, group: int, channel: Channel | None = None, least: int = 1
) -> KeyRow | None:
    """The vault's best key for an edition's product group: not blocked, of that very group, MAK before retail, with
    the most activations left; where the publisher was not asked yet, the key counts after those that have some."""
    tag = publisher_tag(root)
    fitting = [
        row
        for row in rows
        if row.publisher_tag == tag
        and row.group == group
        and row.blocked_at is None
        and row.channel in (publisher.POOLED if channel is None else (str(channel),))
        and (row.remaining is None or row.remaining >= least)
    ]
    return max(fitting, key=_merit, default=None)


def _merit(row: KeyRow) -> tuple[bool, bool, int, int]:
    left = row.remaining
    return row.channel == Channel.MAK, left is not None, left or 0, -row.id


def _refresh(
    store: FleetStore,
    vault: Vault,
    row: KeyRow,
    clock: Callable[[], int],
    who: str,
    url: str | None,
    service: Callable[[publisher.KnownDefinition, str | None], publisher.Service],
) -> Asked:
    try:
        with store.read() as conn:
            key = open_key(conn, vault, row)
            known = publisher.definition_of(conn, key)
        receipt = publisher.ask_remaining(key, known.verified(), service(known, url), clock())
    except VolactError as exc:
        return Asked(row, error=exc)
    with store.write() as conn:
        keep_receipt(conn, row, receipt, known, clock())
        note(conn, clock(), who, "key-refreshed", row.key_id, {"remaining": receipt.remaining})
        return Asked(by_id(conn, row.key_id), receipt)


def keep_receipt(conn: Connection, row: KeyRow, receipt: Receipt, known: publisher.KnownDefinition, now: int) -> None:
    """What the publisher said of a key, and the day's sample for the forecast."""
    values: dict[str, Any] = {
        "activations": receipt.activations,
        "remaining": receipt.remaining,
        "blocked_at": (row.blocked_at or receipt.issued_at) if receipt.blocked else None,
        "root": known.root,
        "product": known.product,
        "refreshed_at": now,
    }
    conn.execute(update(KEYS).where(KEYS.c.id == row.id).values(**values))
    sample = {"kind": REMAINING, "key": row.key_id, "at": now // DAY * DAY}
    where = [SAMPLES.c[name] == value for name, value in sample.items()]
    if conn.execute(update(SAMPLES).where(*where).values(value=receipt.remaining)).rowcount == 0:
        conn.execute(insert(SAMPLES).values(**sample, value=receipt.remaining))


def _by_key(conn: Connection, key: ProductKey) -> KeyRow:
    row = conn.execute(select(*_COLUMNS).where(KEYS.c.key_id == key.key_id)).first()
    if row is None:
        raise KeyUnknownHereError(key=key.partial)
    return _read(row)


def _row(conn: Connection, vault: Vault, key: ProductKey, description: str, now: int, who: str) -> dict[str, Any]:
    try:
        known: publisher.KnownDefinition | None = publisher.definition_of(conn, key)
    except publisher.DefinitionNeededError:
        known = None
    return {
        "key_id": key.key_id,
        "partial": key.partial,
        "channel": str(key.channel),
        "publisher_tag": f"{key.publisher_tag:03x}",
        "root": known.root if known else None,
        "product": known.product if known else None,
        "product_group": key.group,
        "description": description,
        "sealed": vault.seal(key),
        "added_at": now,
        "added_by": who,
    }


_NAMES = (
    "id", "key_id", "partial", "channel", "publisher_tag", "root", "product", "product_group", "description",
    "activations", "remaining", "blocked_at", "added_at", "added_by", "refreshed_at",
)  # fmt: skip
_COLUMNS = tuple(KEYS.c[name] for name in _NAMES)


def _read(row: Any) -> KeyRow:
    values = dict(row._mapping)
    values["group"], values["publisher_tag"] = values.pop("product_group"), int(values["publisher_tag"], 16)
    return KeyRow(**values)


def _clean(text: str) -> str:
    return "".join(char for char in text.strip().strip('"') if char.isprintable())[:MOST_DESCRIPTION]
