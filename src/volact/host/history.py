# SPDX-License-Identifier: Apache-2.0
"""What a KMS host's store tells of the past: each product group's count day by day, and what was answered when.

Read-only; values, no text.  A day on which the host did not run has no count.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from volact.core.count import SECONDS_PER_DAY, day_of
from volact.host.folder import HostFolder
from volact.host.recording import HOST_SCOPE, REFUSED, SECONDS_PER_HOUR, STATE
from volact.host.status import GroupStatus, groups_of
from volact.host.store import HostStore, Hour

HOURS_UP_TO_DAYS = 2  # longer than that, an hour is too narrow to see


@dataclass(frozen=True, slots=True)
class DayCount:
    """``at`` is the day's first second, UTC."""

    at: int
    count: int


@dataclass(frozen=True, slots=True)
class GroupHistory:
    status: GroupStatus
    days: tuple[DayCount, ...]


@dataclass(slots=True)
class Answered:
    """Requests of one period and product group; ``states`` by the client's state before it asked, ``refusals`` by
    cause.  ``group`` and ``root`` are ``None`` for those that proved nothing."""

    at: int
    root: str | None
    group: int | None
    states: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostHistory:
    """``period`` is how many seconds each of ``answered`` covers."""

    groups: tuple[GroupHistory, ...]
    period: int
    answered: tuple[Answered, ...]


def host_history(folder: HostFolder, store: HostStore, now: int, days: int = 30) -> HostHistory:
    """The last ``days`` days, today included."""
    today = day_of(now)
    period = SECONDS_PER_HOUR if days <= HOURS_UP_TO_DAYS else SECONDS_PER_DAY
    groups = [
        GroupHistory(status, _days(store, status, today, days)) for status in groups_of(folder.products(), store, today)
    ]
    hours = store.hours(since=(today - days + 1) * SECONDS_PER_DAY, until=now)
    return HostHistory(tuple(groups), period, tuple(_answered(hours, store, period)))


def _days(store: HostStore, status: GroupStatus, today: int, days: int) -> tuple[DayCount, ...]:
    """Today's own count is what it is now: the kept one is as old as the last request."""
    kept = store.history(status.scope_id, today, days) | {today: status.count}
    return tuple(DayCount(day * SECONDS_PER_DAY, count) for day, count in sorted(kept.items()))


def _answered(hours: Iterable[Hour], store: HostStore, period: int) -> list[Answered]:
    scopes = {scope.id: scope for scope in store.scopes()}
    found: dict[tuple[int, int], Answered] = {}
    for hour in hours:
        at, scope = hour.at // period * period, scopes.get(hour.scope_id)
        key = (at, scope.id if scope else HOST_SCOPE)
        row = found.setdefault(key, Answered(at, scope.root if scope else None, scope.product_group if scope else None))
        _add(row, hour)
    return [found[key] for key in sorted(found)]


def _add(row: Answered, hour: Hour) -> None:
    for prefix, kinds in ((STATE, row.states), (REFUSED, row.refusals)):
        if hour.name.startswith(prefix):
            name = hour.name.removeprefix(prefix)
            kinds[name] = kinds.get(name, 0) + hour.requests
