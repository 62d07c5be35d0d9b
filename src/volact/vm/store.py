# SPDX-License-Identifier: Apache-2.0
"""The VM host's store: guests, counters, events, settings.

``record`` is one durable transaction for a batch of requests, and says of each whether the limits of the host and
of its channel leave room for it; everything else is decided before.  Time comes from the caller.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Cursor
from typing import Any, NamedTuple

from sqlalchemy import Engine, delete, func, select

from volact.core.count import SECONDS_PER_DAY, day_of
from volact.sql.engine import checkpoint, open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import read, write, write_cursor
from volact.vm.schema import COUNTER, DAILY_GUESTS, EVENT, GUEST, GUEST_PLACE, SETTING

MIGRATIONS = "volact.vm.migrations"

GUEST_DAYS = 30  # a guest takes a place of the host's limit for so long after its last licence
KEEP_GUESTS_DAYS = 400
KEEP_EVENTS = 500_000

INFO, WARNING, ERROR = "info", "warning", "error"
# A socket's guests may be thrown away and made anew every quarter of an hour, but one that invents machine IDs must
# neither take the places of others nor fill the table.
MOST_IDENTITIES, IDENTITY_HOURS = 100, 24
LICENSED, MOVED = "guest-licensed", "guest-channel-changed"
LIMIT, IDENTITIES = "guest-limit-reached", "guest-identities-limit"  # also the codes of the refusals
TOTAL, FAILED = "total", "failed"
STATE, REFUSED = "state:", "refused:"

KNOWN = "SELECT channel, last_licensed FROM guest WHERE root = ? AND product = ? AND machine_id = ?"

OTHERS = """
SELECT COUNT(*) FROM guest_place
WHERE root = ? AND product = ? AND edition = ? AND last_licensed > ? AND machine_id <> ?
"""

IDENTITIES_OF_CHANNEL = "SELECT COUNT(DISTINCT machine_id) FROM guest WHERE channel = ? AND first_seen > ?"

SEE_GUEST = """
INSERT INTO guest (root, product, machine_id, edition, channel, state, name, os, first_seen, last_seen, last_licensed,
                   licensed_until, refused, requests)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
ON CONFLICT (root, product, machine_id) DO UPDATE SET
    edition = excluded.edition, channel = excluded.channel, state = excluded.state, name = excluded.name,
    os = excluded.os, last_seen = excluded.last_seen, refused = excluded.refused, requests = guest.requests + 1,
    last_licensed = COALESCE(excluded.last_licensed, guest.last_licensed),
    licensed_until = COALESCE(excluded.licensed_until, guest.licensed_until)
"""

TAKE_PLACE = """
INSERT INTO guest_place (root, product, edition, machine_id, last_licensed) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (root, product, edition, machine_id) DO UPDATE SET last_licensed = excluded.last_licensed
"""

NOTE_GUESTS = """
INSERT INTO daily_guests (root, product, edition, day, guests) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (root, product, edition, day) DO UPDATE SET guests = MAX(guests, excluded.guests)
"""

ADD_TO_COUNTER = """
INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value
"""

APPEND_EVENT = "INSERT INTO event (at, level, code, channel, machine_id, data) VALUES (?, ?, ?, ?, ?, ?)"

SET_SETTING = """
INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""

PRUNE_EVENTS = "DELETE FROM event WHERE id <= (SELECT MAX(id) FROM event) - ?"


@dataclass(frozen=True, slots=True)
class Asked:
    """One proven request.  ``refused`` is the code it will be refused with, else ``until`` is the licence's end and
    ``limit`` the edition's most guests of one host (0: any number)."""

    root: str
    product: str
    edition: str
    machine_id: bytes
    channel: str
    state: str
    name: str
    os: str
    until: int | None = None
    limit: int = 0
    refused: str = ""
    data: Mapping[str, Any] | None = None


class Unread(NamedTuple):
    """What came over a channel and proved nobody: its error's code, and a sentence."""

    code: str
    channel: str
    message: str


@dataclass(frozen=True, slots=True)
class Guest:
    """A row of the guest table."""

    root: str
    product: str
    machine_id: bytes
    edition: str
    channel: str
    state: str
    name: str
    os: str
    first_seen: int
    last_seen: int
    last_licensed: int | None
    licensed_until: int | None
    refused: str
    requests: int


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: int
    level: str
    code: str
    channel: str
    machine_id: bytes | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DailyGuests:
    root: str
    product: str
    edition: str
    day: int
    guests: int


class VmStore:
    """Open it once in each process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, database: str | os.PathLike[str]) -> "VmStore":
        """Opens or creates the database and brings its tables to this version."""
        engine = open_engine(database)
        upgrade(engine, MIGRATIONS)
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def record(self, batch: Sequence[Asked], now: int, unread: Sequence[Unread] = ()) -> list[str]:
        """Makes a batch durable; the code of each one's refusal, empty for a licence.  When this returns, the answers
        may leave."""
        with write_cursor(self._engine) as cursor:
            refused = [_record(cursor, one, now) for one in batch]
            for bad in unread:
                _note_unread(cursor, bad, now)
        return refused

    def log(
        self,
        at: int,
        level: str,
        code: str,
        data: Mapping[str, Any],
        channel: str = "",
        machine_id: bytes | None = None,
    ) -> None:
        """Appends an event that is no request."""
        with write_cursor(self._engine) as cursor:
            _event(cursor, at, level, code, channel, machine_id, data)

    def guests(self, limit: int = 100_000) -> list[Guest]:
        """Those seen last first."""
        wanted = select(GUEST).order_by(GUEST.c.last_seen.desc(), GUEST.c.machine_id).limit(limit)
        with read(self._engine) as conn:
            return [Guest(**row._mapping) for row in conn.execute(wanted)]

    def licensed_guests(self, now: int) -> dict[tuple[str, str, str], int]:
        """How many places are taken, by root, product and edition."""
        row = GUEST_PLACE.c
        key = (row.root, row.product, row.edition)
        wanted = select(*key, func.count()).where(row.last_licensed > _oldest(now)).group_by(*key)
        with read(self._engine) as conn:
            return {(row[0], row[1], row[2]): row[3] for row in conn.execute(wanted)}

    def report(self, since_day: int) -> list[DailyGuests]:
        """The most guests of each day that had a licence issued."""
        wanted = select(DAILY_GUESTS).where(DAILY_GUESTS.c.day >= since_day).order_by(DAILY_GUESTS.c.day)
        with read(self._engine) as conn:
            return [DailyGuests(**row._mapping) for row in conn.execute(wanted)]

    def events(
        self, since: int = 0, limit: int = 1000, codes: Iterable[str] = (), *, newest_first: bool = False
    ) -> list[Event]:
        wanted = select(EVENT).where(EVENT.c.at >= since).limit(limit)
        if codes := tuple(codes):
            wanted = wanted.where(EVENT.c.code.in_(codes))
        with read(self._engine) as conn:
            rows = conn.execute(wanted.order_by(EVENT.c.id.desc() if newest_first else EVENT.c.id)).all()
        return [Event(**{**row._mapping, "data": json.loads(row.data)}) for row in rows]

    def counters(self) -> dict[str, int]:
        with read(self._engine) as conn:
            return {TOTAL: 0, FAILED: 0} | {row.name: row.value for row in conn.execute(select(COUNTER))}

    def setting(self, key: str, default: Any = None) -> Any:
        with read(self._engine) as conn:
            value = conn.execute(select(SETTING.c.value).where(SETTING.c.key == key)).scalar()
        return default if value is None else json.loads(value)

    def set_setting(self, key: str, value: Any) -> None:
        with write(self._engine) as conn:
            conn.exec_driver_sql(SET_SETTING, (key, _to_json(value)))

    def prune(self, now: int) -> None:
        """Housekeeping: guests that are long gone, and the old end of the log."""
        with write(self._engine) as conn:
            conn.execute(delete(GUEST_PLACE).where(GUEST_PLACE.c.last_licensed <= _oldest(now)))
            conn.execute(delete(GUEST).where(GUEST.c.last_seen < now - KEEP_GUESTS_DAYS * SECONDS_PER_DAY))
            conn.exec_driver_sql(PRUNE_EVENTS, (KEEP_EVENTS,))

    def checkpoint(self) -> int:
        return checkpoint(self._engine)


def _record(cursor: Cursor, one: Asked, now: int) -> str:
    known = cursor.execute(KNOWN, (one.root, one.product, one.machine_id)).fetchone()
    if known is None and _invents_identities(cursor, one.channel, now):
        _count(cursor, TOTAL, FAILED, REFUSED + IDENTITIES)
        _event(cursor, now, WARNING, IDENTITIES, one.channel, None, {"product": one.product, "name": one.name})
        return one.refused or IDENTITIES
    if known is not None and known[0] != one.channel:
        data = {"from": known[0], "product": one.product, "name": one.name}
        _event(cursor, now, WARNING, MOVED, one.channel, one.machine_id, data)
    others = cursor.execute(OTHERS, (one.root, one.product, one.edition, _oldest(now), one.machine_id)).fetchone()[0]
    refused = one.refused
    if not refused and one.limit and others >= one.limit:
        refused = LIMIT
    _see(cursor, one, refused, now)
    if not refused:
        cursor.execute(TAKE_PLACE, (one.root, one.product, one.edition, one.machine_id, now))
        cursor.execute(NOTE_GUESTS, (one.root, one.product, one.edition, day_of(now), others + 1))
    return refused


def _invents_identities(cursor: Cursor, channel: str, now: int) -> bool:
    return bool(
        cursor.execute(IDENTITIES_OF_CHANNEL, (channel, now - IDENTITY_HOURS * 3600)).fetchone()[0] >= MOST_IDENTITIES
    )


def _see(cursor: Cursor, one: Asked, refused: str, now: int) -> None:
    """The guest's row, its counters and its event."""
    licensed, until = (None, None) if refused else (now, one.until)
    who = (one.root, one.product, one.machine_id, one.edition, one.channel, one.state, one.name, one.os)
    cursor.execute(SEE_GUEST, (*who, now, now, licensed, until, refused))
    _count(cursor, *([TOTAL, FAILED, REFUSED + refused] if refused else [TOTAL, STATE + one.state]))
    data = {"product": one.product, "edition": one.edition, "name": one.name, "os": one.os, **(one.data or {})}
    if until is not None:
        data["until"] = until
    _event(cursor, now, WARNING if refused else INFO, refused or LICENSED, one.channel, one.machine_id, data)


def _note_unread(cursor: Cursor, bad: Unread, now: int) -> None:
    """Without a machine ID: anybody could have claimed one."""
    _count(cursor, TOTAL, FAILED, REFUSED + bad.code)
    _event(cursor, now, WARNING, bad.code, bad.channel, None, {"message": bad.message[:200]})


def _count(cursor: Cursor, *names: str) -> None:
    cursor.executemany(ADD_TO_COUNTER, [(name, 1) for name in names])


def _event(
    cursor: Cursor, at: int, level: str, code: str, channel: str, machine_id: bytes | None, data: Mapping[str, Any]
) -> None:
    cursor.execute(APPEND_EVENT, (at, level, code, channel, machine_id, _to_json(dict(data))))


def _oldest(now: int) -> int:
    return now - GUEST_DAYS * SECONDS_PER_DAY


_to_json = json.JSONEncoder(separators=(",", ":")).encode
