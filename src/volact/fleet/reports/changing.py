# SPDX-License-Identifier: Apache-2.0
"""The report on what changed since a date."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

from volact.fleet import figures
from volact.fleet.figures import Changed, Sample
from volact.fleet.figures.forecast import DAY
from volact.fleet.reports.asked import MACHINE, OTHER, PRODUCT, STANDINGS, Asked, standing, warn_if
from volact.fleet.reports.report import (
    BarChart,
    Column,
    Figure,
    Kind,
    Line,
    LineChart,
    Report,
    Series,
    Tone,
    count,
    show,
)

NEW, GONE = "new", "gone"
MOST_BARS = 15
DEFAULT_DAYS = 7


def changes(conn: Connection, asked: Asked) -> Report:
    since = asked.since or asked.now - DEFAULT_DAYS * DAY
    rows = figures.changes(conn, since, asked.scope)
    history = [] if asked.scope is not None else figures.trend(conn, "state", since, asked.now)
    return compose_changes(asked, since, rows, history)


def compose_changes(asked: Asked, since: int, rows: Sequence[Changed], history: Sequence[Sample]) -> Report:
    real = [row for row in rows if row.before != row.after or row.before_key != row.after_key]
    gained = sum(1 for row in real if row.before != "licensed" and row.after == "licensed")
    lost = sum(1 for row in real if row.before == "licensed" and row.after != "licensed")
    return Report(
        "changes",
        f"Changes since {show(Kind.DAY, since)}",
        asked.now,
        (
            MACHINE,
            PRODUCT,
            Column("before", "Before"),
            Column("after", "Now"),
            Column("before_key", "Key before"),
            Column("after_key", "Key now"),
            Column("changes", "Changes", Kind.NUMBER),
            Column("changed_at", "Last change", Kind.TIME),
        ),
        tuple(
            (
                row.machine,
                row.product,
                row.before or NEW,
                _after(row),
                row.before_key,
                row.after_key,
                row.changes,
                row.at,
            )
            for row in real
        ),
        summary=_sentences(rows, real, gained, lost),
        figures=(
            Figure("Changed", f"{len(real):,}"),
            Figure("Became licensed", f"{gained:,}", Tone.GOOD),
            Figure("Lost their licence", f"{lost:,}", warn_if(lost)),
            Figure("New", f"{sum(row.before is None for row in real):,}", Tone.NOTE),
            Figure("Gone", f"{sum(row.after == figures.REMOVED for row in real):,}", Tone.QUIET),
        ),
        charts=(*((_ways(real),) if real else ()), *_over_time(history)),
        period=(since, asked.now),
        selection=asked.selection,
        table_title="Installations that are now other than they were",
        empty="Nothing changed in this time.",
        facts={"changed": len(real), "gained": gained, "lost": lost, "back_again": len(rows) - len(real)},
    )


def _after(row: Changed) -> str:
    return GONE if row.after == figures.REMOVED else row.after


def _sentences(rows: Sequence[Changed], real: Sequence[Changed], gained: int, lost: int) -> tuple[str, ...]:
    if not rows:
        return ("Nothing changed in this time.",)
    back = len(rows) - len(real)
    first = f"{count(len(real), 'installation')} changed: {gained:,} became licensed, {lost:,} lost their licence."
    second = f"{count(back, 'installation')} changed and changed back, and are not listed."
    return (first, *((second,) if back else ()))


def _ways(rows: Sequence[Changed]) -> BarChart:
    ways = Counter(f"{row.before or NEW} → {_after(row)}" for row in rows).most_common(MOST_BARS)
    values = tuple(float(number) for _, number in ways)
    return BarChart(
        "From what to what", tuple(way for way, _ in ways), (Series("installations", values),), "installations"
    )


def _over_time(history: Sequence[Sample]) -> tuple[LineChart, ...]:
    totals: Counter[tuple[str, int]] = Counter()
    for sample in history:
        totals[standing(sample.key), sample.at] += sample.value
    days = sorted({at for _, at in totals})
    if len(days) < 2:
        return ()
    tones = [(word, tone) for word, _, tone in STANDINGS] + [(OTHER, Tone.NOTE)]
    lines = tuple(
        Line(word, tuple((day, float(totals[word, day])) for day in days), tone)
        for word, tone in tones
        if any(totals[word, day] for day in days)
    )
    return (LineChart("Licence states over time", lines, "installations"),)
