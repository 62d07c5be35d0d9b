# SPDX-License-Identifier: Apache-2.0
"""Rate limits: so many requests of one caller in so many seconds, and what an answer says about them.

The rule is pure: a caller's state is one number, the time at which everything that it sent would have been due at an
even pace (the generic cell rate algorithm).  :class:`Limiter` keeps these numbers in the memory of one process; with
several processes each has its own.  Headers: draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

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
