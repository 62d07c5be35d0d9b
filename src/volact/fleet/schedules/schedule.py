# SPDX-License-Identifier: Apache-2.0
"""Schedules: what runs by itself, when, and that a run is neither lost nor done by two.

    due       next_at has come: one process takes it (``running_by``, ``running_until``), in one transaction
    done      its result is written, and next_at moves to the first time after now: what was missed is caught up once
    dead      its process is gone, or its lease has ended: the same run is taken again

A run is named by its schedule and its planned time, :attr:`Schedule.run`.  What a run does is done under that name, so
that taking it again does not do it twice: the job that it made is found again, the mail has the same Message-ID.
Not here: the clock, and what the kinds of schedules do (``volact.fleet.schedules.automation``).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from volact.core.errors import ConfigError, InputError, VolactError
from volact.fleet.schedules.cron import CronNeverError, Times
from volact.fleet.schema import SCHEDULES
from volact.fleet.store import note

LEASE_SECONDS = 120
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}\Z")
OK = "ok"
MOST_TEXT = 400


class ScheduleNameError(InputError):
    code = "schedule-name-unfit"
    fmt = "{name} is not a schedule's name"
    remedy = "one word of up to 60 lower-case letters, digits and . _ -"


class ScheduleTakenError(ConfigError):
    code = "schedule-taken"
    fmt = "there is a schedule {name} already"
    remedy = "remove it first, or choose another name"


class ScheduleMissingError(InputError):
    code = "schedule-missing"
    fmt = "there is no schedule {name}"
    remedy = "`volact fleet schedule list` shows them"


@dataclass(frozen=True, slots=True)
class Schedule:
    """``next_at``: the planned time of the next run, or of the one that is running."""

    id: int
    name: str
    times: Times
    kind: str
    arguments: dict[str, Any]
    enabled: bool
    made_at: int
    made_by: str
    next_at: int | None
    last_at: int | None
    last_result: str | None
    last_error: str | None
    running: bool

    @property
    def run(self) -> str:
        """The name of the present run, in audits and made jobs."""
        return f"schedule {self.name} {self.next_at}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "cron": self.times.expression,
            "time_zone": self.times.zone,
            "kind": self.kind,
            "arguments": self.arguments,
            "enabled": self.enabled,
            "made_at": self.made_at,
            "made_by": self.made_by,
            "next_at": self.next_at,
            "last_at": self.last_at,
            "last_result": self.last_result,
            "last_error": self.last_error,
            "running": self.running,
        }


def add(
    conn: Connection, name: str, times: Times, kind: str, arguments: Mapping[str, Any], now: int, who: str
) -> Schedule:
    """Raises :class:`ScheduleNameError`, :class:`ScheduleTakenError`, and ``CronNeverError`` for a 31 February."""
    if not NAME.match(name):
        raise ScheduleNameError(name=repr(name[:80]))
    next_at = times.after(now)
    if next_at is None:
        raise CronNeverError(text=repr(times.expression))
    if conn.execute(select(SCHEDULES.c.id).where(SCHEDULES.c.name == name)).first():
        raise ScheduleTakenError(name=name)
    values = {"name": name, "cron": times.text, "kind": kind, "arguments": json.dumps(arguments, ensure_ascii=False)}
    conn.execute(insert(SCHEDULES).values(**values, enabled=1, made_at=now, made_by=who, next_at=next_at))
    note(conn, now, who, "schedule-add", name, {"cron": times.text, "kind": kind, **arguments})
    return find(conn, name)


def listed(conn: Connection) -> list[Schedule]:
    return [_read(row) for row in conn.execute(select(SCHEDULES).order_by(SCHEDULES.c.name))]


def find(conn: Connection, name: str) -> Schedule:
    row = conn.execute(select(SCHEDULES).where(SCHEDULES.c.name == name)).first()
    if row is None:
        raise ScheduleMissingError(name=name[:80])
    return _read(row)


def remove(conn: Connection, name: str, now: int, who: str) -> None:
    found = find(conn, name)
    conn.execute(delete(SCHEDULES).where(SCHEDULES.c.id == found.id))
    note(conn, now, who, "schedule-remove", name)


def enable(conn: Connection, name: str, now: int, who: str, *, enabled: bool) -> Schedule:
    """One that is enabled again begins with its next time: what was missed while it was off is not caught up."""
    found = find(conn, name)
    values: dict[str, Any] = {"enabled": int(enabled)}
    if enabled and not found.enabled:
        values["next_at"] = found.times.after(now)
    conn.execute(update(SCHEDULES).where(SCHEDULES.c.id == found.id).values(**values))
    note(conn, now, who, "schedule-enable" if enabled else "schedule-disable", name)
    return find(conn, name)


def run_now(conn: Connection, name: str, now: int, who: str) -> Schedule:
    """Makes it due at once (a disabled one for who takes it by name); a run that is under way stays the one."""
    found = find(conn, name)
    if not found.running:
        conn.execute(update(SCHEDULES).where(SCHEDULES.c.id == found.id).values(next_at=now))
    note(conn, now, who, "schedule-run", name)
    return find(conn, name)


def take(
    conn: Connection, worker: str, now: int, is_dead: Callable[[str], bool] = lambda _: False, name: str | None = None
) -> Schedule | None:
    """The schedule that is due for longest and nobody works on, taken; ``None`` where there is none."""
    s = SCHEDULES.c
    due = select(SCHEDULES).where(s.next_at <= now).order_by(s.next_at, s.id)
    for row in conn.execute(due.where(s.enabled == 1 if name is None else s.name == name)).all():
        free = row.running_by is None or row.running_until <= now or is_dead(row.running_by)
        if not free:
            continue
        mine = or_(s.running_by.is_(None), s.running_by == row.running_by)
        taken = update(SCHEDULES).where(s.id == row.id, s.next_at == row.next_at, mine)
        if conn.execute(taken.values(running_by=worker, running_until=now + LEASE_SECONDS)).rowcount:
            return _read(row)
    return None


def beat(conn: Connection, taken: Schedule, worker: str, now: int) -> bool:
    """A sign of life of a run that takes long; ``False`` where it is another's by now."""
    s = SCHEDULES.c
    mine = update(SCHEDULES).where(s.id == taken.id, s.running_by == worker)
    return bool(conn.execute(mine.values(running_until=now + LEASE_SECONDS)).rowcount)


def finish(conn: Connection, taken: Schedule, worker: str, now: int, error: VolactError | None = None) -> bool:
    """Writes how it went, and when it runs next; ``False`` where it is another's by now."""
    s = SCHEDULES.c
    mine = update(SCHEDULES).where(s.id == taken.id, s.running_by == worker)
    result = OK if error is None else error.code or "internal-error"
    values = {
        "running_by": None,
        "running_until": None,
        "last_at": now,
        "last_result": result,
        "last_error": None if error is None else str(error)[:MOST_TEXT],
        "next_at": taken.times.after(now),
    }
    if not conn.execute(mine.values(**values)).rowcount:
        return False
    note(conn, now, taken.run, f"scheduled-{taken.kind}", taken.name, {"planned": taken.next_at}, result)
    return True


def next_due(conn: Connection) -> int | None:
    """When anything is due next."""
    s = SCHEDULES.c
    return conn.execute(select(s.next_at).where(s.enabled == 1, s.next_at.is_not(None)).order_by(s.next_at)).scalar()


def _read(row: Any) -> Schedule:
    return Schedule(
        row.id, row.name, Times(row.cron), row.kind, json.loads(row.arguments), bool(row.enabled), row.made_at,
        row.made_by, row.next_at, row.last_at, row.last_result, row.last_error, row.running_by is not None,
    )  # fmt: skip
