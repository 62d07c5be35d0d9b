# SPDX-License-Identifier: Apache-2.0
"""The KMS host's store: machines and their count, clones, counters, events, settings.

Several processes share it; ``record`` is one durable transaction for a whole batch.  It decides nothing: which request
is refused, and what a count means, is said elsewhere.  Time and days come from the caller.  Spec: docs/spec/count.md.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import eq
from typing import Any

from sqlalchemy import Connection, Engine, Select, delete, func, select

from volact.core.count import SECONDS_PER_DAY, WINDOW_DAYS
from volact.host.recording import (
    COUNTS,
    FAILED,
    HOST_SCOPE,
    SECONDS_PER_HOUR,
    TOTAL,
    Batch,
    Recorded,
    Refused,
    Seen,
    append_events,
    to_json,
)
from volact.host.schema import COUNTER, DAILY_COUNT, EVENT, FINGERPRINT_SEEN, HOURLY, MACHINE, SCOPE, SEEN_DAY, SETTING
from volact.sql.engine import checkpoint, open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import read, write, write_cursor

__all__ = [
    "HOST_SCOPE",
    "Clone",
    "Event",
    "EventSearch",
    "FingerprintUse",
    "HostStore",
    "Hour",
    "Machine",
    "Recorded",
    "Refused",
    "Scope",
    "Seen",
    "SharedFingerprint",
]

MIGRATIONS = "volact.host.migrations"

KEEP_MACHINES_DAYS = 365  # long after they stop counting, for reports on what used to be there
KEEP_EVENTS = 2_000_000
KEEP_HOURS = 400 * 24  # a year, and a month to compare it with
SEARCHED = 200_000  # events that a search by text looks through: what a page has time for
CHUNK = 2_000  # rows of housekeeping in one transaction, so that activations wait milliseconds for it

NOTE_ALL_COUNTS = """
INSERT INTO daily_count (scope_id, day, machines)
SELECT id, ?, (SELECT COALESCE(SUM(machines), 0) FROM seen_day WHERE scope_id = scope.id
               AND day BETWEEN ? - window_days + 1 AND ? + 1)
FROM scope WHERE id <> ?
ON CONFLICT (scope_id, day) DO UPDATE SET machines = excluded.machines
"""

ADD_SCOPE = """
INSERT INTO scope (root, product_group, window_days, collapse) VALUES (?, ?, ?, ?)
ON CONFLICT (root, product_group) DO NOTHING
"""

SET_SETTING = """
INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""

SHARED = """
WITH pair AS (
    SELECT scope_id, fingerprint, COALESCE(machine_id, identity) AS machine_id FROM machine
    UNION SELECT scope_id, fingerprint, machine_id FROM fingerprint_seen
), shared AS (
    SELECT scope_id, fingerprint FROM pair GROUP BY scope_id, fingerprint HAVING COUNT(*) > 1
)
SELECT scope_id, fingerprint, machine_id FROM pair JOIN shared USING (scope_id, fingerprint)
ORDER BY scope_id, fingerprint, machine_id
"""

PRUNE_MACHINE = "DELETE FROM machine WHERE scope_id = ? AND identity = ? AND last_seen_day <= ?"
PRUNE_FINGERPRINTS = "DELETE FROM fingerprint_seen WHERE last_seen < ?"
PRUNE_HOURS = "DELETE FROM hourly WHERE hour < ?"
PRUNE_EVENTS = """
DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT ?)
AND (id <= (SELECT MAX(id) FROM event) - ? OR at < ?)
"""

# A scope whose policy changed its mind: its machines get their new identities, the histogram follows by trigger.
COLLAPSE = (
    """
    INSERT INTO fingerprint_seen (scope_id, machine_id, fingerprint, first_seen, last_seen, times)
    SELECT scope_id, identity, fingerprint, first_seen, last_seen, 1
    FROM (SELECT *, COUNT(*) OVER (PARTITION BY fingerprint) AS sharers FROM machine WHERE scope_id = ?) AS counted
    WHERE sharers > 1
    ON CONFLICT (scope_id, machine_id, fingerprint) DO UPDATE SET last_seen = excluded.last_seen
    """,
    """
    CREATE TEMPORARY TABLE rekeyed AS SELECT * FROM (
        SELECT *, ROW_NUMBER() OVER (PARTITION BY fingerprint ORDER BY last_seen DESC, identity) AS place
        FROM machine WHERE scope_id = ?
    ) AS ranked WHERE place = 1
    """,
    "DELETE FROM machine WHERE scope_id = ?",
    """
    INSERT INTO machine (scope_id, identity, machine_id, fingerprint, last_seen_day, last_seen, first_seen, requests,
                         request_iat, name, product, edition, state)
    SELECT scope_id, fingerprint, identity, fingerprint, last_seen_day, last_seen, first_seen, requests,
           request_iat, name, product, edition, state FROM rekeyed
    """,
    "DROP TABLE rekeyed",
)
SEPARATE = (
    "CREATE TEMPORARY TABLE rekeyed AS SELECT * FROM machine WHERE scope_id = ?",
    "DELETE FROM machine WHERE scope_id = ?",
    """
    INSERT INTO machine (scope_id, identity, machine_id, fingerprint, last_seen_day, last_seen, first_seen, requests,
                         request_iat, name, product, edition, state)
    SELECT scope_id, machine_id, NULL, fingerprint, last_seen_day, last_seen, first_seen, requests,
           request_iat, name, product, edition, state FROM rekeyed
    """,
    "DROP TABLE rekeyed",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What one count is about: a publisher (by root fingerprint) and one of its product groups, and how to count."""

    id: int
    root: str
    product_group: int
    window_days: int
    collapse: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """``identity`` is the row's place in the listing: pass the last one on to get the next page."""

    identity: bytes
    machine_id: bytes
    fingerprint: bytes
    first_seen: int
    last_seen: int
    requests: int
    request_iat: int
    name: str
    product: str
    edition: str
    state: str


@dataclass(frozen=True, slots=True)
class FingerprintUse:
    """``times`` is how often this fingerprint took the place of another."""

    fingerprint: bytes
    first_seen: int
    last_seen: int
    times: int


@dataclass(frozen=True, slots=True)
class Clone:
    """A machine ID with several fingerprints; ``proved_at`` says when two machines last proved to share it."""

    scope_id: int
    machine_id: bytes
    proved_at: int | None
    fingerprints: tuple[FingerprintUse, ...]


@dataclass(frozen=True, slots=True)
class SharedFingerprint:
    scope_id: int
    fingerprint: bytes
    machine_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: int
    level: str
    code: str
    scope_id: int
    machine_id: bytes | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventSearch:
    """What else an event must be.  ``before``: its ID is smaller.  ``text``: in what it tells, or the beginning of its
    machine's ID; only the latest :data:`SEARCHED` events are looked through for it."""

    before: int | None = None
    until: int | None = None
    level: str = ""
    text: str = ""

    def narrow(self, wanted: Select[Any]) -> Select[Any]:
        if self.before is not None:
            wanted = wanted.where(EVENT.c.id < self.before)
        if self.until is not None:
            wanted = wanted.where(EVENT.c.at <= self.until)
        if self.level:
            wanted = wanted.where(EVENT.c.level == self.level)
        if self.text:
            latest = select(func.max(EVENT.c.id)).scalar_subquery()
            in_machine = func.lower(func.hex(EVENT.c.machine_id)).startswith(self.text.lower(), autoescape=True)
            told = EVENT.c.data.contains(self.text, autoescape=True) | EVENT.c.code.contains(self.text, autoescape=True)
            wanted = wanted.where(EVENT.c.id > latest - SEARCHED, told | in_machine)
        return wanted


@dataclass(frozen=True, slots=True)
class Hour:
    """How many requests of one kind (``state:…`` or ``refused:…``) came in the hour that begins ``at``."""

    at: int
    scope_id: int
    name: str
    requests: int


class HostStore:
    """Open it once in each process.  ``same_hardware`` compares two fingerprints of a machine ID, old and new."""

    def __init__(self, engine: Engine, same_hardware: Callable[[bytes, bytes], bool] = eq) -> None:
        self._engine = engine
        self._same_hardware = same_hardware
        self._noted: dict[int, tuple[int, int]] = {}  # scope -> day and count that daily_count has from us

    @classmethod
    def open(cls, database: str | os.PathLike[str], same_hardware: Callable[[bytes, bytes], bool] = eq) -> "HostStore":
        """Opens or creates the database and brings its tables to this version."""
        engine = open_engine(database)
        upgrade(engine, MIGRATIONS)
        return cls(engine, same_hardware)

    def close(self) -> None:
        self._engine.dispose()

    # -- acts of the activation service --------------------------------------------------------------------------

    def record(self, seen: Sequence[Seen], today: int, refused: Sequence[Refused] = ()) -> list[Recorded]:
        """Makes a batch durable and counts it.  When this returns, the answers may leave."""
        with write_cursor(self._engine) as cursor:
            batch = Batch(cursor, today, self._same_hardware)
            recorded = [batch.add(one) for one in seen] if batch.load(seen) else []
            for one in refused:
                batch.add_refusal(one)
            counts = batch.finish(self._noted)
        self._noted.update(counts)
        return recorded

    def record_refusals(self, refused: Sequence[Refused]) -> None:
        self.record((), 0, refused)

    def log(
        self,
        at: int,
        level: str,
        code: str,
        data: Mapping[str, Any],
        scope_id: int = HOST_SCOPE,
        machine_id: bytes | None = None,
    ) -> None:
        """Appends an event that is no activation."""
        with write_cursor(self._engine) as cursor:
            append_events(cursor, [(at, level, code, scope_id, machine_id, to_json(dict(data)))])

    # -- scopes and settings -------------------------------------------------------------------------------------

    def scope(self, root: str, product_group: int, window_days: int = WINDOW_DAYS, collapse: bool = False) -> Scope:
        """The scope of a publisher's product group, made or brought to its policy's present rules."""
        with write(self._engine) as conn:
            conn.exec_driver_sql(ADD_SCOPE, (root, product_group, window_days, collapse))
            wanted = select(SCOPE).where(SCOPE.c.root == root, SCOPE.c.product_group == product_group)
            stored = _scope(conn.execute(wanted).one())
            if (stored.window_days, stored.collapse) == (window_days, collapse):
                return stored
            _change_scope(conn, stored, window_days, collapse)
            return _scope(conn.execute(wanted).one())

    def scopes(self) -> list[Scope]:
        with read(self._engine) as conn:
            rows = conn.execute(select(SCOPE).where(SCOPE.c.id != HOST_SCOPE).order_by(SCOPE.c.id))
            return [_scope(row) for row in rows]

    def setting(self, key: str, default: Any = None) -> Any:
        with read(self._engine) as conn:
            value = conn.execute(select(SETTING.c.value).where(SETTING.c.key == key)).scalar()
        return default if value is None else json.loads(value)

    def settings(self) -> dict[str, Any]:
        with read(self._engine) as conn:
            return {row.key: json.loads(row.value) for row in conn.execute(select(SETTING))}

    def set_setting(self, key: str, value: Any) -> None:
        with write(self._engine) as conn:
            conn.exec_driver_sql(SET_SETTING, (key, to_json(value)))

    def clear_setting(self, key: str) -> None:
        with write(self._engine) as conn:
            conn.execute(delete(SETTING).where(SETTING.c.key == key))

    # -- what administrators ask ---------------------------------------------------------------------------------

    def count(self, scope_id: int, today: int) -> int:
        """The machines that count today; a sum over the window's days, whatever the number of machines."""
        with read(self._engine) as conn:
            return int(conn.exec_driver_sql(COUNTS.format("?"), (today, today, scope_id)).one().machines)

    def histogram(self, scope_id: int) -> dict[int, int]:
        """{last-seen day: machines}, those that no longer count included."""
        with read(self._engine) as conn:
            rows = conn.execute(select(SEEN_DAY.c.day, SEEN_DAY.c.machines).where(SEEN_DAY.c.scope_id == scope_id))
            return {row.day: row.machines for row in rows}

    def history(self, scope_id: int, today: int, days: int) -> dict[int, int]:
        """{day: count at its end} of the last ``days`` days; days on which the host did not run are missing."""
        table = DAILY_COUNT
        wanted = select(table.c.day, table.c.machines).where(
            table.c.scope_id == scope_id, table.c.day > today - days, table.c.day <= today
        )
        with read(self._engine) as conn:
            return {row.day: row.machines for row in conn.execute(wanted.order_by(table.c.day))}

    def counters(self, scope_id: int) -> dict[str, int]:
        """Cumulative requests: ``total``, of which ``failed``, and by ``state:…`` or ``refused:…``."""
        with read(self._engine) as conn:
            rows = conn.execute(select(COUNTER.c.name, COUNTER.c.value).where(COUNTER.c.scope_id == scope_id))
            return {TOTAL: 0, FAILED: 0} | {row.name: row.value for row in rows}

    def hours(self, since: int, until: int) -> list[Hour]:
        """What was answered in the hours that begin between two times, by counter; oldest first, quiet ones missing."""
        first, last = -(-since // SECONDS_PER_HOUR), until // SECONDS_PER_HOUR
        wanted = select(HOURLY).where(HOURLY.c.hour.between(first, last)).order_by(*HOURLY.primary_key)
        with read(self._engine) as conn:
            rows = conn.execute(wanted)
            return [Hour(row.hour * SECONDS_PER_HOUR, row.scope_id, row.name, row.value) for row in rows]

    def events(
        self,
        since: int = 0,
        limit: int = 1000,
        codes: Iterable[str] = (),
        after_id: int = 0,
        newest_first: bool = False,
        search: EventSearch | None = None,
    ) -> list[Event]:
        """A page of the event log; go on with ``after_id`` = the last one's ``id``, or backwards by a search."""
        wanted = select(EVENT).where(EVENT.c.id > after_id, EVENT.c.at >= since).limit(limit)
        if search is not None:
            wanted = search.narrow(wanted)
        if codes := tuple(codes):
            wanted = wanted.where(EVENT.c.code.in_(codes))
        with read(self._engine) as conn:
            rows = conn.execute(wanted.order_by(EVENT.c.id.desc() if newest_first else EVENT.c.id))
            return [_event(row) for row in rows]

    def machines(self, scope_id: int, limit: int = 1000, after: bytes = b"") -> list[Machine]:
        wanted = select(MACHINE).where(MACHINE.c.scope_id == scope_id, MACHINE.c.identity > after)
        with read(self._engine) as conn:
            return [_machine(row) for row in conn.execute(wanted.order_by(MACHINE.c.identity).limit(limit))]

    def clones(self, since: int = 0) -> list[Clone]:
        """Machine IDs whose fingerprint was replaced since then, proven clones and mere changes."""
        table = FINGERPRINT_SEEN
        with read(self._engine) as conn:
            rows = conn.execute(select(table).order_by(table.c.scope_id, table.c.machine_id, table.c.last_seen)).all()
        groups = groupby(rows, key=lambda row: (row.scope_id, row.machine_id))
        clones = [_clone(*key, tuple(uses)) for key, uses in groups]
        return [one for one in clones if len(one.fingerprints) > 1 and one.fingerprints[-1].last_seen >= since]

    def shared_fingerprints(self) -> list[SharedFingerprint]:
        """Fingerprints under several machine IDs: cloned disks, or a hypervisor that gives all guests one hardware."""
        with read(self._engine) as conn:
            rows = conn.exec_driver_sql(SHARED).all()
        groups = groupby(rows, key=lambda row: (row.scope_id, row.fingerprint))
        return [SharedFingerprint(*key, tuple(row.machine_id for row in uses)) for key, uses in groups]

    # -- housekeeping, in the background -------------------------------------------------------------------------

    def note_counts(self, today: int) -> None:
        """Keeps today's counts for the history; ``record`` does it too, this is for days without activations."""
        with write(self._engine) as conn:
            conn.exec_driver_sql(NOTE_ALL_COUNTS, (today, today, today, HOST_SCOPE))

    def prune_machines(self, today: int, keep_days: int = KEEP_MACHINES_DAYS, chunk: int = CHUNK) -> int:
        """Deletes machines unseen for ``keep_days`` (never ones that could count), a chunk a transaction."""
        last_day = today - max(keep_days, self._longest_window())
        with write(self._engine) as conn:
            conn.exec_driver_sql(PRUNE_FINGERPRINTS, ((last_day + 1) * SECONDS_PER_DAY,))
        return sum(self._prune_scope(scope_id, last_day, chunk) for scope_id in self._scopes_with(last_day))

    def prune_events(self, before: int = 0, keep: int = KEEP_EVENTS, chunk: int = CHUNK) -> int:
        """Deletes events older than ``before`` and all but the latest ``keep``, a chunk a transaction."""
        deleted, more = 0, True
        while more:
            with write(self._engine) as conn:
                gone = conn.exec_driver_sql(PRUNE_EVENTS, (chunk, keep, before)).rowcount
            deleted, more = deleted + gone, gone == chunk
        return deleted

    def prune_hours(self, now: int, keep: int = KEEP_HOURS) -> int:
        with write(self._engine) as conn:
            return int(conn.exec_driver_sql(PRUNE_HOURS, (now // SECONDS_PER_HOUR - keep,)).rowcount)

    def checkpoint(self) -> int:
        """Folds the log into the database; every few seconds under load.  Returns the pages left in the log."""
        return checkpoint(self._engine)

    def _longest_window(self) -> int:
        with read(self._engine) as conn:
            return int(conn.execute(select(func.max(SCOPE.c.window_days))).scalar_one())

    def _scopes_with(self, last_day: int) -> list[int]:
        """Asks the histogram, so that the usual answer, nothing to prune, costs nothing."""
        with read(self._engine) as conn:
            return list(
                conn.execute(select(SEEN_DAY.c.scope_id).where(SEEN_DAY.c.day <= last_day).distinct()).scalars()
            )

    def _prune_scope(self, scope_id: int, last_day: int, chunk: int) -> int:
        deleted, after = 0, b""
        while identities := self._unseen(scope_id, last_day, after, chunk):
            with write(self._engine) as conn:  # which may have been seen in the meantime
                rows = [(scope_id, identity, last_day) for identity in identities]
                deleted += conn.exec_driver_sql(PRUNE_MACHINE, rows).rowcount
            after = identities[-1]
        return deleted

    def _unseen(self, scope_id: int, last_day: int, after: bytes, limit: int) -> list[bytes]:
        wanted = select(MACHINE.c.identity).where(
            MACHINE.c.scope_id == scope_id, MACHINE.c.identity > after, MACHINE.c.last_seen_day <= last_day
        )
        with read(self._engine) as conn:
            return list(conn.execute(wanted.order_by(MACHINE.c.identity).limit(limit)).scalars())


def _change_scope(conn: Connection, scope: Scope, window_days: int, collapse: bool) -> None:
    values = {"window_days": window_days, "collapse": int(collapse)}
    conn.execute(SCOPE.update().where(SCOPE.c.id == scope.id).values(**values))
    if collapse != scope.collapse:
        for statement in COLLAPSE if collapse else SEPARATE:
            conn.exec_driver_sql(statement, (scope.id,) if "?" in statement else ())


def _scope(row: Any) -> Scope:
    return Scope(row.id, row.root, row.product_group, row.window_days, bool(row.collapse))


def _event(row: Any) -> Event:
    return Event(row.id, row.at, row.level, row.code, row.scope_id, row.machine_id, json.loads(row.data))


def _machine(row: Any) -> Machine:
    return Machine(
        identity=row.identity,
        machine_id=row.machine_id or row.identity,
        fingerprint=row.fingerprint,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        requests=row.requests,
        request_iat=row.request_iat,
        name=row.name,
        product=row.product,
        edition=row.edition,
        state=row.state,
    )


def _clone(scope_id: int, machine_id: bytes, uses: Sequence[Any]) -> Clone:
    proofs = [use.proved_at for use in uses if use.proved_at is not None]
    fingerprints = tuple(FingerprintUse(use.fingerprint, use.first_seen, use.last_seen, use.times) for use in uses)
    return Clone(scope_id, machine_id, max(proofs, default=None), fingerprints)
