# SPDX-License-Identifier: Apache-2.0
"""When a pool runs out: a robust linear trend of what was used, with its range.  Pure.

The rate is the median of the slopes between all pairs of days that lie at least a quarter of the time apart (Theil and
Sen), so that one busy day, or one wrong figure, does not bend it.  The range is what four in five of those slopes would
give: between the tenth and the ninetieth hundredth.  A raised pool does not disturb it, since what is fitted is what
was used and not what is left.  It is a continuation of the past and no promise, and says nothing where there is too
little past.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median

DAY = 86_400
LEAST_POINTS = 5
LEAST_DAYS = 14
MOST_POINTS = 180  # half a year of days: older use says little, and pairs grow with the square
LOW, HIGH = 0.1, 0.9
FAR = 3650  # days: nobody plans further


@dataclass(frozen=True, slots=True)
class Point:
    """What a pool was at a time; ``activations`` is its size, where the publisher told it."""

    at: int
    remaining: int
    activations: int | None = None


class Unforeseen(StrEnum):
    """Why there is no day."""

    TOO_LITTLE = "too-little-history"
    NOT_FALLING = "not-falling"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Forecast:
    """``rate``, ``least``, ``most``: activations a day.  ``latest`` is ``None`` where the range does not end within ten
    years; then ``day`` may be ``None`` too."""

    points: int
    days: int
    rate: float
    least: float
    most: float
    day: int | None
    earliest: int | None
    latest: int | None


def foresee(history: Sequence[Point]) -> Forecast | Unforeseen:
    """From the newest point on; a day's last point counts for the day."""
    points = _daily(history)[-MOST_POINTS:]
    if points and points[-1].remaining <= 0:
        return Unforeseen.SPENT
    days = (points[-1].at - points[0].at) // DAY if points else 0
    if len(points) < LEAST_POINTS or days < LEAST_DAYS:
        return Unforeseen.TOO_LITTLE
    slopes = sorted(
        _slopes([(point.at / DAY, used) for point, used in zip(points, _used(points), strict=True)], days / 4)
    )
    rate, least, most = median(slopes), _quantile(slopes, LOW), _quantile(slopes, HIGH)
    if most <= 0:
        return Unforeseen.NOT_FALLING
    last = points[-1]
    return Forecast(
        len(points), days, rate, max(0.0, least), most,
        _empty(last, rate), _empty(last, most), _empty(last, least),
    )  # fmt: skip


def _daily(history: Sequence[Point]) -> list[Point]:
    days = {point.at // DAY: point for point in sorted(history, key=lambda point: point.at)}
    return list(days.values())


def _used(points: Sequence[Point]) -> list[float]:
    """Activations used since the first point: by the pool's size where it is known at both ends of a step, else by what
    fell; a rise is then taken for a raised pool."""
    used = [0.0]
    for before, after in pairwise(points):
        if before.activations is not None and after.activations is not None:
            step = (after.activations - after.remaining) - (before.activations - before.remaining)
        else:
            step = max(0, before.remaining - after.remaining)
        used.append(used[-1] + step)
    return used


def _slopes(points: Sequence[tuple[float, float]], apart: float) -> list[float]:
    return [
        (later - earlier) / (end - begin)
        for place, (begin, earlier) in enumerate(points)
        for end, later in points[place + 1 :]
        if end - begin >= apart
    ]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _empty(last: Point, rate: float) -> int | None:
    if rate <= 0 or last.remaining / rate > FAR:
        return None
    return last.at + round(last.remaining / rate * DAY)
