# SPDX-License-Identifier: Apache-2.0
"""Recording a batch of activations: the host's one hot transaction.  :class:`volact.host.store.HostStore` runs it.

The statements go to the driver's own cursor: at the usual sizes of a batch, what SQLAlchemy adds to a statement costs
more than the statement.  Spec: docs/spec/count.md.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Cursor
from typing import Any, NamedTuple, TypeVar

from volact.core.count import FUTURE_DAYS, KnownFingerprint, Verdict, classify, first_day

HOST_SCOPE = 0  # what belongs to no product group
SECONDS_PER_HOUR = 3600
KEEP_FINGERPRINTS = 16  # of one machine ID: a machine that invents one each time must not fill the disk
VARIABLES = 500  # of one statement; SQLite's own limit was 999 for long

TOTAL, FAILED = "total", "failed"
STATE, REFUSED = "state:", "refused:"  # prefixes of the counters by licence state and by refusal

INFO, WARNING, ERROR = "info", "warning", "error"
ACTIVATED = "machine-activated"
VERDICT_EVENTS = {
    Verdict.CHANGED: "fingerprint-changed",
    Verdict.CLONE: "clone-detected",
    Verdict.SHARED: "fingerprint-shared",
}

COUNTS = """
SELECT id, window_days, collapse, (
    SELECT COALESCE(SUM(machines), 0) FROM seen_day
    WHERE scope_id = scope.id AND day BETWEEN ? - window_days + 1 AND ? + 1
) AS machines
FROM scope WHERE id IN ({})
"""

KNOWN = """
SELECT identity, machine_id, fingerprint, last_seen_day, last_seen, first_seen
FROM machine WHERE scope_id = ? AND identity IN ({})
"""

LEFT = """
SELECT identity, machine_id, fingerprint, last_seen_day, last_seen, first_seen
FROM machine WHERE scope_id = ? AND machine_id = ? AND identity <> ?
"""

DELETE_MACHINE = "DELETE FROM machine WHERE scope_id = ? AND identity = ?"

SEE_MACHINE = """
INSERT INTO machine (scope_id, identity, machine_id, fingerprint, last_seen_day, last_seen, first_seen, requests,
                     request_iat, name, product, edition, state)
VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)
ON CONFLICT (scope_id, identity) DO UPDATE SET
    machine_id = excluded.machine_id, fingerprint = excluded.fingerprint, last_seen_day = excluded.last_seen_day,
    last_seen = excluded.last_seen, requests = machine.requests + 1, request_iat = excluded.request_iat,
    name = excluded.name, product = excluded.product, edition = excluded.edition, state = excluded.state
"""

APPEND_EVENT = "INSERT INTO event (at, level, code, scope_id, machine_id, data) VALUES (?, ?, ?, ?, ?, ?)"

ADD_TO_COUNTER = """
INSERT INTO counter (scope_id, name, value) VALUES (?, ?, ?)
ON CONFLICT (scope_id, name) DO UPDATE SET value = counter.value + excluded.value
"""

ADD_TO_HOUR = """
INSERT INTO hourly (hour, scope_id, name, value) VALUES (?, ?, ?, ?)
ON CONFLICT (hour, scope_id, name) DO UPDATE SET value = hourly.value + excluded.value
"""

NOTE_COUNT = """
INSERT INTO daily_count (scope_id, day, machines) VALUES (?, ?, ?)
ON CONFLICT (scope_id, day) DO UPDATE SET machines = excluded.machines
"""

# The one that was replaced: its times are those of its own coming.
KEEP_REPLACED = """
INSERT INTO fingerprint_seen (scope_id, machine_id, fingerprint, first_seen, last_seen, times)
VALUES (?, ?, ?, ?, ?, 1)
ON CONFLICT (scope_id, machine_id, fingerprint) DO UPDATE SET last_seen = excluded.last_seen
"""

KEEP_REPLACING = """
INSERT INTO fingerprint_seen (scope_id, machine_id, fingerprint, first_seen, last_seen, times, proved_at)
VALUES (?, ?, ?, ?, ?, 1, ?)
ON CONFLICT (scope_id, machine_id, fingerprint) DO UPDATE SET
    last_seen = excluded.last_seen, times = fingerprint_seen.times + 1,
    proved_at = COALESCE(excluded.proved_at, fingerprint_seen.proved_at)
"""

FORGET_FINGERPRINTS = """
DELETE FROM fingerprint_seen WHERE scope_id = ? AND machine_id = ? AND fingerprint NOT IN (
    SELECT fingerprint FROM fingerprint_seen WHERE scope_id = ? AND machine_id = ? ORDER BY last_seen DESC LIMIT ?
)
"""

KNOWN_FINGERPRINTS = """
SELECT fingerprint, last_seen FROM fingerprint_seen
WHERE scope_id = ? AND machine_id = ? AND fingerprint <> ? ORDER BY last_seen
"""


class Seen(NamedTuple):
    """One verified request that is answered with a licence.  ``fingerprint`` is opaque here; text is valid Unicode.

    ``at`` is the host's time, ``request_iat`` the client's, ``state`` what the client was before it asked.
    """

    scope_id: int
    machine_id: bytes
    fingerprint: bytes
    at: int
    request_iat: int
    name: str
    product: str
    edition: str
    state: str
    event_code: str = ACTIVATED


@dataclass(frozen=True, slots=True)
class Recorded:
    """``count`` is the scope's count with this machine included, as of its turn in the batch."""

    count: int
    verdict: Verdict


class Refused(NamedTuple):
    """One request that is answered with a refusal.  Unverified senders belong to :data:`HOST_SCOPE`.  ``noted``: in the
    log as well as in the counters."""

    scope_id: int
    code: str
    at: int
    machine_id: bytes | None = None
    data: Mapping[str, Any] = {}
    noted: bool = True


class _Known(NamedTuple):
    """What an identity's row says before a request."""

    machine_id: bytes | None
    fingerprint: bytes
    last_seen_day: int
    last_seen: int
    first_seen: int


class Batch:
    """One transaction's activations, taken in order; what they write is gathered and written by ``finish``.

    The loop is the host's own share of an activation, so it keeps to tuples, dictionaries and few calls.
    """

    def __init__(self, cursor: Cursor, today: int, same_hardware: Callable[[bytes, bytes], bool]) -> None:
        self._cursor, self._today, self._same_hardware = cursor, today, same_hardware
        self._first_day: dict[int, int] = {}
        self._last_day = today + FUTURE_DAYS
        self._collapse: dict[int, bool] = {}
        self._counts: dict[int, int] = {}
        self._known: dict[tuple[int, bytes], _Known] = {}
        self._machines: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []
        self._counters: Counter[tuple[int, str]] = Counter()
        self._at = 0  # of the last request: a batch is milliseconds, and counts for one hour

    def load(self, seen: Sequence[Seen]) -> bool:
        """Reads what the database knows of the batch; false for an empty one."""
        self._load_scopes(list({one.scope_id for one in seen}))
        identities: dict[int, list[bytes]] = {}
        for one in seen:
            identity = one.fingerprint if self._collapse[one.scope_id] else one.machine_id
            identities.setdefault(one.scope_id, []).append(identity)
        for scope_id, wanted in identities.items():
            self._load_known(scope_id, wanted)
        return bool(seen)

    def add(self, one: Seen) -> Recorded:
        scope_id, machine_id, fingerprint, at, request_iat, name, product, edition, state, event_code = one
        collapse = self._collapse[scope_id]
        key = (scope_id, fingerprint if collapse else machine_id)
        stored_id = machine_id if collapse else None
        known = self._known.get(key)
        if known is not None and known.fingerprint == fingerprint and known.machine_id == stored_id:
            verdict, first_seen = Verdict.SAME, known.first_seen
        elif collapse:
            verdict, first_seen = self._other_machine_id(one, known)
        else:
            verdict, first_seen = self._other_fingerprint(one, known)
        if known is None or not self._first_day[scope_id] <= known.last_seen_day <= self._last_day:
            self._counts[scope_id] += 1
        count, today = self._counts[scope_id], self._today
        self._known[key] = _Known(stored_id, fingerprint, today, at, first_seen)
        self._machines.append(
            (*key, stored_id, fingerprint, today, at, first_seen, request_iat, name, product, edition, state)
        )
        self._counters[scope_id, STATE + state] += 1
        self._at = at
        data = (  # written out: twice as fast as encoding a dictionary
            f'{{"name":{_quoted(name)},"product":{_quoted(product)},"edition":{_quoted(edition)},'
            f'"state":{_quoted(state)},"count":{count}}}'
        )
        self._events.append((at, INFO, event_code, scope_id, machine_id, data))
        if verdict in VERDICT_EVENTS:
            self._events.append((at, WARNING, VERDICT_EVENTS[verdict], scope_id, machine_id, to_json({"name": name})))
        return Recorded(count, verdict)

    def add_refusal(self, one: Refused) -> None:
        self._at = one.at
        for name in (TOTAL, FAILED, REFUSED + one.code):
            self._counters[one.scope_id, name] += 1
        if one.noted:
            self._events.append((one.at, WARNING, one.code, one.scope_id, one.machine_id, to_json(dict(one.data))))

    def finish(self, noted: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """Writes what was gathered; returns the day and count of each scope, for the next batch's ``noted``."""
        self._write_machines()
        append_events(self._cursor, self._events)
        self._write_counters()
        counts = {scope_id: (self._today, count) for scope_id, count in self._counts.items()}
        changed = [(scope_id, *now) for scope_id, now in counts.items() if noted.get(scope_id) != now]
        if changed:
            self._cursor.executemany(NOTE_COUNT, changed)
        return counts

    def _load_scopes(self, scope_ids: list[int]) -> None:
        if not scope_ids:
            return
        rows = self._cursor.execute(COUNTS.format(_marks(scope_ids)), (self._today, self._today, *scope_ids))
        for scope_id, window_days, collapse, count in rows:
            self._first_day[scope_id] = first_day(self._today, window_days)
            self._collapse[scope_id] = bool(collapse)
            self._counts[scope_id] = count

    def _load_known(self, scope_id: int, identities: list[bytes]) -> None:
        for part in _parts(identities):
            rows = self._cursor.execute(KNOWN.format(_marks(part)), (scope_id, *part))
            for identity, *known in rows:
                self._known[scope_id, identity] = _Known(*known)

    def _other_fingerprint(self, one: Seen, known: _Known | None) -> tuple[Verdict, int]:
        """A machine ID that is new, or whose fingerprint has other bytes than the last time."""
        verdict = self._judge(one, known)
        if known is None:
            return verdict, one.at
        if verdict is not Verdict.SAME:
            self._keep_replaced(one.scope_id, one.machine_id, known)
            self._keep_replacing(one, verdict)
        return verdict, known.first_seen

    def _other_machine_id(self, one: Seen, known: _Known | None) -> tuple[Verdict, int]:
        """In a collapsing scope: hardware that is new, or comes under another machine ID than the last time.

        A machine ID stays the latest of one fingerprint only; the row that it leaves is deleted.
        """
        self._write_machines()
        left = self._leave(one)
        verdict = Verdict.SHARED if known is not None else self._judge(one, left)
        if verdict not in (Verdict.NEW, Verdict.SAME):
            if left is not None:
                self._keep_replaced(one.scope_id, one.machine_id, left)
            if known is not None:
                self._keep_replaced(one.scope_id, known.machine_id or b"", known)
            self._keep_replacing(one, verdict)
        before = known or left
        return verdict, before.first_seen if before is not None else one.at

    def _leave(self, one: Seen) -> _Known | None:
        """Takes away the row of other hardware whose latest machine ID this one was."""
        row = self._cursor.execute(LEFT, (one.scope_id, one.machine_id, one.fingerprint)).fetchone()
        if row is None:
            return None
        identity, *values = row
        left = _Known(*values)
        self._cursor.execute(DELETE_MACHINE, (one.scope_id, identity))
        self._known.pop((one.scope_id, identity), None)
        if self._first_day[one.scope_id] <= left.last_seen_day <= self._last_day:
            self._counts[one.scope_id] -= 1
        return left

    def _judge(self, one: Seen, before: _Known | None) -> Verdict:
        if before is None:
            return Verdict.NEW
        earlier = self._cursor.execute(KNOWN_FINGERPRINTS, (one.scope_id, one.machine_id, before.fingerprint))
        known = [KnownFingerprint(fingerprint, last_seen) for fingerprint, last_seen in earlier]
        known.append(KnownFingerprint(before.fingerprint, before.last_seen))
        return classify(known, one.fingerprint, self._today, self._same_hardware)

    def _keep_replaced(self, scope_id: int, machine_id: bytes, known: _Known) -> None:
        row = (scope_id, machine_id, known.fingerprint, known.first_seen, known.last_seen)
        self._cursor.execute(KEEP_REPLACED, row)

    def _keep_replacing(self, one: Seen, verdict: Verdict) -> None:
        proved_at = one.at if verdict is Verdict.CLONE else None
        where = (one.scope_id, one.machine_id)
        self._cursor.execute(KEEP_REPLACING, (*where, one.fingerprint, one.at, one.at, proved_at))
        self._cursor.execute(FORGET_FINGERPRINTS, (*where, *where, KEEP_FINGERPRINTS))

    def _write_machines(self) -> None:
        if self._machines:
            self._cursor.executemany(SEE_MACHINE, self._machines)
            self._machines = []

    def _write_counters(self) -> None:
        self._write_hour()
        for (scope_id, name), value in list(self._counters.items()):
            if name.startswith(STATE):
                self._counters[scope_id, TOTAL] += value
        rows = [(scope_id, name, value) for (scope_id, name), value in self._counters.items()]
        if rows:
            self._cursor.executemany(ADD_TO_COUNTER, rows)

    def _write_hour(self) -> None:
        """Before the sums over states are added to the counters."""
        hour = self._at // SECONDS_PER_HOUR
        rows = [(hour, *key, value) for key, value in self._counters.items() if key[1] not in (TOTAL, FAILED)]
        if rows:
            self._cursor.executemany(ADD_TO_HOUR, rows)


def append_events(cursor: Cursor, events: list[tuple[Any, ...]]) -> None:
    if events:
        cursor.executemany(APPEND_EVENT, events)


_T = TypeVar("_T")


def _parts(values: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (values[at : at + VARIABLES] for at in range(0, len(values), VARIABLES))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


_quoted = json.encoder.encode_basestring_ascii  # what the encoder below comes to for text
to_json = json.JSONEncoder(separators=(",", ":")).encode
