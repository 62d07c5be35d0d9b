# SPDX-License-Identifier: Apache-2.0
"""Rate limits: so many requests of one caller in so many seconds, and what an answer says about them.

The rule is pure: a caller's state is one number, the time at which everything that it sent would have been due at an
even pace (the generic cell rate algorithm).  :class:`Limiter` keeps these numbers in the memory of one process; with
several processes each has its own.  :class:`SharedLimiter` keeps them in a table that all processes share; it writes at
each use, so it is for what is rare and matters, behind a :class:`Limiter` that bounds how often it is asked.
Headers: draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, Table, Text, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from volact.core.errors import TransportError

MOST_CALLERS = 100_000  # remembered, 150 bytes each; the one that was quiet for longest is forgotten


class RateLimitedError(TransportError):
    code = "rate-limited"
    fmt = "more than {requests} requests in {seconds} seconds"
    remedy = "wait {retry_after} seconds and send it again; the RateLimit headers say what is left at any time"


@dataclass(frozen=True, slots=True)
class Limit:
    """``requests`` at once, and from then on so many in ``seconds``."""

    name: str
    requests: int
    seconds: int

    @property
    def interval(self) -> float:
        return self.seconds / self.requests


@dataclass(frozen=True, slots=True)
class Decision:
    """``remaining`` requests may follow at once, after ``reset`` seconds all; ``retry_after``: where not allowed."""

    limit: Limit
    allowed: bool
    remaining: int
    reset: int
    retry_after: int = 0

    def headers(self) -> dict[str, str]:
        limit = self.limit
        return {
            "RateLimit-Policy": f'"{limit.name}";q={limit.requests};w={limit.seconds}',
            "RateLimit": f'"{limit.name}";r={self.remaining};t={self.reset}',
        }

    def error(self) -> RateLimitedError:
        return RateLimitedError(requests=self.limit.requests, seconds=self.limit.seconds, retry_after=self.retry_after)


def spend(due: float | None, now: float, limit: Limit, cost: int = 1) -> tuple[float, Decision]:
    """``due``: the caller's state, ``None`` for one who was not here before; what is not allowed costs nothing."""
    before = now if due is None else max(due, now)
    after = before + cost * limit.interval
    over = after - now - limit.seconds
    if over > 1e-9:  # sums of floats
        waiting = max(1, math.ceil(over))
        return before, Decision(limit, False, 0, math.ceil(before - now), waiting)
    remaining = int((now + limit.seconds - after) / limit.interval + 1e-6)
    return after, Decision(limit, True, remaining, math.ceil(after - now))


class Limiter:
    """The callers of one process.  ``now`` is of a clock that only goes forward."""

    def __init__(self, most: int = MOST_CALLERS) -> None:
        self._due: OrderedDict[Hashable, float] = OrderedDict()
        self._most, self._lock = most, threading.Lock()

    def spend(self, caller: Hashable, now: float, limit: Limit, cost: int = 1) -> Decision:
        with self._lock:
            due, decision = spend(self._due.get((caller, limit.name)), now, limit, cost)
            self._due[caller, limit.name] = due
            self._due.move_to_end((caller, limit.name))
            if len(self._due) > self._most:
                self._due.popitem(last=False)
        return decision


def limit_table(metadata: MetaData) -> Table:
    """The table, declared in a room's own schema; the room's migrations create it.  ``due`` is in milliseconds."""
    return Table(
        "api_limit",
        metadata,
        Column("caller", Text, primary_key=True),
        Column("due", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
        Index("api_limit_by_due", "due"),
        sqlite_strict=True,
    )


class SharedLimiter:
    """The callers of all processes with one database; transactions are the room's."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._take = {"sqlite": self._hold(sqlite.insert), "postgresql": self._hold(postgresql.insert)}

    def spend(self, conn: Connection, caller: str, now: int, limit: Limit) -> Decision:
        """Inside a write transaction.  ``now``: Unix seconds.  Whoever has been quiet long enough is forgotten."""
        row, name = self._table.c, f"{limit.name}:{caller}"
        quiet = select(row.caller).where(row.due < now * _MILLI, row.caller != name).limit(_AT_ONCE)
        conn.execute(delete(self._table).where(row.caller.in_(quiet.with_for_update(skip_locked=True))))
        held = conn.execute(self._take[conn.dialect.name], {"caller": name, "due": 0}).scalar_one()
        due, decision = spend(held / _MILLI, now, limit)
        conn.execute(update(self._table).where(row.caller == name).values(due=math.ceil(due * _MILLI)))
        return decision

    def _hold(self, insert_of_dialect: Any) -> Any:
        """The caller's row, made where there is none, and locked: of two the second sees what the first spent."""
        statement = insert_of_dialect(self._table)
        own = {"caller": statement.excluded.caller}
        return statement.on_conflict_do_update(index_elements=["caller"], set_=own).returning(self._table.c.due)


_MILLI = 1000
_AT_ONCE = 1000  # callers that are forgotten at one occasion
