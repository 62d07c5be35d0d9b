# SPDX-License-Identifier: Apache-2.0
"""The dashboard's figures as charts: values in, each a :class:`Chart` out.  Labels lead to their rows."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

from volact.core.count import SECONDS_PER_DAY
from volact.core.states import State
from volact.fleet.figures import Bucket, Pool, StateCount
from volact.fleet.figures.forecast import Forecast
from volact.host.history import Answered, GroupHistory
from volact.web.pages.charts import Chart, Series, Tone

MOST_CAUSES = 4  # more colours than that nobody tells apart
STATE_TONES: dict[str, Tone] = {
    State.LICENSED: "good",
    State.INITIAL_GRACE: "main",
    State.OUT_OF_TOLERANCE_GRACE: "warn",
    State.EXTENDED_GRACE: "warn",
    State.NON_GENUINE_GRACE: "warn",
    State.NOTIFICATION: "bad",
    State.UNLICENSED: "calm",
}
REFUSED_TONES: tuple[Tone, ...] = ("bad", "warn", "other", "calm")


def days_back(now: int, days: int) -> list[int]:
    """The first second of each of the last days, today's last."""
    today = now // SECONDS_PER_DAY * SECONDS_PER_DAY
    return [today - ago * SECONDS_PER_DAY for ago in range(days - 1, -1, -1)]


def day_label(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b").lstrip("0")


def count_chart(group: GroupHistory, now: int, days: int) -> Chart:
    """The count with the thresholds of its editions as dashed lines; a day without the host is a gap."""
    known = {day.at: day.count for day in group.days}
    shown = days_back(now, days)
    counts = Series("count", [known.get(at) for at in shown], "main", filled=True)
    limits: dict[int, list[str]] = {}
    for edition, threshold in group.status.thresholds.items():
        limits.setdefault(threshold, []).append(edition.partition("/")[2] or edition)
    lines = [
        Series(f"threshold of {', '.join(editions)}", [threshold] * len(shown), "warn", dashed=True)
        for threshold, editions in sorted(limits.items())
    ]
    title = f"Count of {group.status.name or f'product group {group.status.group}'}, day by day"
    links = [events_link(at, SECONDS_PER_DAY) for at in shown]
    return Chart(title, "line", [day_label(at) for at in shown], [counts, *lines], "machines", links)


def answered_chart(answered: Sequence[Answered], now: int, days: int) -> Chart:
    """Requests of each day: renewals, new activations, and refusals by cause."""
    shown = days_back(now, days)
    renewed, first, causes = Counter[int](), Counter[int](), Counter[str]()
    refused: dict[str, Counter[int]] = {}
    for row in answered:
        at = row.at // SECONDS_PER_DAY * SECONDS_PER_DAY
        licensed = row.states.get(State.LICENSED, 0)
        renewed[at] += licensed
        first[at] += sum(row.states.values()) - licensed
        for code, number in row.refusals.items():
            causes[code] += number
            refused.setdefault(code, Counter())[at] += number
    series = [
        Series("renewals", [renewed[at] for at in shown], "good"),
        Series("activations", [first[at] for at in shown], "main"),
    ]
    for (code, _), tone in zip(causes.most_common(MOST_CAUSES), REFUSED_TONES, strict=False):
        series.append(Series(f"refused: {code}", [refused[code][at] for at in shown], tone))
    links = [events_link(at, SECONDS_PER_DAY) for at in shown]
    labels = [day_label(at) for at in shown]
    return Chart("Requests answered, day by day", "bar", labels, series, "requests", links, stacked=True)


def states_chart(counts: Sequence[StateCount]) -> Chart:
    """Installations by licence state; a bar, since shares of a circle are hard to compare."""
    by_state = Counter[str]()
    for count in counts:
        by_state[count.state] += count.installations
    known = [str(state) for state in State if by_state[state]]
    states = [*known, *sorted(set(by_state) - set(known))]
    series = [
        Series(
            state,
            [by_state[state] if state == other else None for other in states],
            STATE_TONES.get(state, "other"),
            filled=True,
        )
        for state in states
    ]
    links = [machines_link(f"state={state}") for state in states]
    return Chart("Installations by licence state", "bar", states, series, "installations", links, stacked=True)


def leases_chart(buckets: Sequence[Bucket], links: Sequence[str]) -> Chart:
    labels = [bucket.label for bucket in buckets]
    series = [
        Series("licences", [bucket.licences for bucket in buckets], "good"),
        Series("graces", [bucket.graces for bucket in buckets], "warn"),
    ]
    title = "Licences and graces by the days they have left"
    return Chart(title, "bar", labels, series, "installations", links, stacked=True)


def pool_chart(pool: Pool) -> Chart | None:
    """What is left of a pool, with its forecast where there is one; nothing before there are two days to draw."""
    known = {point.at // SECONDS_PER_DAY * SECONDS_PER_DAY: point.remaining for point in pool.points}
    days = sorted(known)
    if len(days) < 2:
        return None
    left: list[float | None] = [known[day] for day in days]
    expected: list[float | None] = [None] * len(days)
    if isinstance(pool.forecast, Forecast) and pool.forecast.day:
        ends = pool.forecast.day // SECONDS_PER_DAY * SECONDS_PER_DAY
        expected[-1] = left[-1]
        days.append(max(ends, days[-1] + SECONDS_PER_DAY))
        left.append(None)
        expected.append(0)
    series = [Series("left", left, "main", filled=True), Series("expected", expected, "warn", dashed=True)]
    title = f"Activations left of the key ending in {pool.partial}"
    return Chart(title, "line", [day_label(day) for day in days], series, "activations")


def events_link(at: int, seconds: int) -> str:
    return f"/events?{urlencode({'since': at, 'until': at + seconds - 1})}"


def machines_link(filter_: str) -> str:
    return f"/fleet/machines?{urlencode({'filter': filter_})}"
