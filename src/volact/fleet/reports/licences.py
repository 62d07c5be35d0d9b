# SPDX-License-Identifier: Apache-2.0
"""Reports on licence states: the overview, what expires soon, what was never activated."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection

from volact.fleet import figures
from volact.fleet.figures import Bucket, Ending, NeverActivated, Size, StateCount
from volact.fleet.figures.forecast import DAY
from volact.fleet.reports.asked import (
    CHANNEL,
    CONTACTED,
    EDITION,
    MACHINE,
    OTHER,
    PRODUCT,
    STANDINGS,
    STATE,
    Asked,
    percent,
    share,
    standing,
    warn_if,
)
from volact.fleet.reports.report import BarChart, Column, Figure, Kind, Report, Series, Tone, count

LABELS = {"over": "ended", "later": "more than 180 days"}
MOST_PRODUCTS = 15  # bars of a chart


def overview(conn: Connection, asked: Asked) -> Report:
    size = figures.fleet_size(conn, asked.now, asked.scope)
    return compose_overview(asked, size, figures.licence_states(conn, asked.scope))


def expiring(conn: Connection, asked: Asked) -> Report:
    rows = figures.expiring(conn, asked.now, asked.days, asked.scope)
    return compose_expiring(asked, rows, figures.expiry_buckets(conn, asked.now, asked.scope))


def never_activated(conn: Connection, asked: Asked) -> Report:
    size = figures.fleet_size(conn, asked.now, asked.scope)
    return compose_never(asked, size, figures.never_activated(conn, asked.scope))


def compose_overview(asked: Asked, size: Size, states: Sequence[StateCount]) -> Report:
    products = sorted({row.product for row in states})
    return Report(
        "overview",
        "Licence overview",
        asked.now,
        (
            PRODUCT,
            EDITION,
            CHANNEL,
            STATE,
            Column("installations", "Installations", Kind.NUMBER),
            Column("share", "Share", Kind.SHARE),
        ),
        tuple(
            (row.product, row.edition, row.channel, row.state, row.installations,
             share(row.installations, size.installations))
            for row in states
        ),
        summary=tuple(_overview_sentences(size, len(products))),
        figures=(
            Figure("Machines", f"{size.machines:,}"),
            Figure("Licensed", percent(size.licensed, size.installations), _tone(size)),
            Figure("In grace", f"{size.in_grace:,}", warn_if(size.in_grace, Tone.WARN)),
            Figure("Notification", f"{size.notification:,}", warn_if(size.notification)),
            Figure("Not seen lately", f"{size.stale + size.never_refreshed:,}", Tone.QUIET),
        ),
        charts=(_states_chart("Licence states by product", states, lambda row: row.product),
                _states_chart("Licence states by channel", states, lambda row: row.channel or "no key")),
        selection=asked.selection,
        table_title="Installations by product, edition, channel and state",
        empty="No machine has been refreshed yet.",
        facts={"machines": size.machines, "installations": size.installations, "licensed": size.licensed},
    )  # fmt: skip


def compose_expiring(asked: Asked, rows: Sequence[Ending], buckets: Sequence[Bucket]) -> Report:
    over = sum(1 for row in rows if row.ends_at <= asked.now)
    graces = sum(1 for row in rows if row.state != "licensed")
    return Report(
        "expiring",
        f"Expiring within {count(asked.days, 'day')}",
        asked.now,
        (
            MACHINE,
            PRODUCT,
            EDITION,
            STATE,
            Column("ends_at", "Ends", Kind.TIME),
            Column("days_left", "Days left", Kind.NUMBER),
            Column("last_host", "Last host"),
            CONTACTED,
            Column("cause", "Last failure"),
        ),
        tuple(
            (row.machine, row.product, row.edition, row.state, row.ends_at, (row.ends_at - asked.now) // DAY,
             row.last_host, row.contacted_at, row.cause)
            for row in rows
        ),
        summary=_expiring_sentences(asked.days, len(rows), over, graces),
        figures=(
            Figure(f"End within {count(asked.days, 'day')}", f"{len(rows):,}", warn_if(len(rows), Tone.WARN)),
            Figure("Licences", f"{len(rows) - graces:,}"),
            Figure("Grace periods", f"{graces:,}", warn_if(graces, Tone.WARN)),
            Figure("Ended since seen", f"{over:,}", warn_if(over)),
        ),
        charts=(_buckets_chart(buckets),),
        period=(asked.now, asked.now + asked.days * DAY),
        selection=asked.selection,
        table_title="The soonest first",
        empty="Nothing expires in this time.",
        facts={"expiring": len(rows), "ended": over, "graces": graces, "days": asked.days},
    )  # fmt: skip


def compose_never(asked: Asked, size: Size, rows: Sequence[NeverActivated]) -> Report:
    reasons = Counter(row.cause or row.reason or "unknown" for row in rows)
    machines = len({row.machine for row in rows})
    return Report(
        "never-activated",
        "Never activated",
        asked.now,
        (
            MACHINE,
            PRODUCT,
            EDITION,
            CHANNEL,
            Column("partial_key", "Key"),
            STATE,
            Column("reason", "Reason"),
            Column("cause", "Last failure"),
            Column("grace_ends_at", "Grace ends", Kind.DAY),
            Column("first_seen_at", "First seen", Kind.DAY),
            CONTACTED,
        ),
        tuple(
            (row.machine, row.product, row.edition, row.channel, row.partial_key, row.state, row.reason, row.cause,
             row.grace_ends_at, row.first_seen_at, row.contacted_at)
            for row in rows
        ),
        summary=(
            f"{count(len(rows), 'installation')} on {count(machines, 'machine')} of {size.machines:,} "
            "were never seen activated.",
            f"{count(size.never_refreshed, 'further machine has', 'further machines have')} not been asked at all yet: "
            "refresh them to know.",
        ) if rows or size.never_refreshed else ("Every installation has been activated at least once.",),
        figures=(
            Figure("Never activated", f"{len(rows):,}", warn_if(len(rows), Tone.WARN)),
            Figure("Machines concerned", f"{machines:,}"),
            Figure("Never asked", f"{size.never_refreshed:,}", Tone.QUIET),
        ),
        charts=(_ranking("Why", reasons.most_common(MOST_PRODUCTS), "installations", Tone.WARN),) if rows else (),
        selection=asked.selection,
        table_title="Installations that were never seen activated, the longest known first",
        empty="None: every installation has been activated at least once.",
        facts={"installations": len(rows), "machines": machines, "never_refreshed": size.never_refreshed},
    )  # fmt: skip


def _overview_sentences(size: Size, products: int) -> Iterable[str]:
    if not size.installations:
        yield f"{count(size.machines, 'machine')} in the inventory; none has told of a product yet."
        return
    yield (
        f"{count(size.machines, 'machine')} run {count(products, 'product')}: "
        f"{size.licensed:,} of {count(size.installations, 'installation')} "
        f"({percent(size.licensed, size.installations)}) are licensed."
    )
    if size.in_grace or size.notification:
        yield f"{size.in_grace:,} are in a grace period, {size.notification:,} ask their users to activate."
    old = size.stale + size.never_refreshed
    if old:
        days = figures.STALE_DAYS
        yield f"{count(old, 'machine has', 'machines have')} not answered for {days} days or were never asked."


def _expiring_sentences(days: int, rows: int, over: int, graces: int) -> tuple[str, ...]:
    if not rows:
        return (f"No licence and no grace period ends within {count(days, 'day')}.",)
    first = (
        f"{count(rows, 'installation')} will lose {'its' if rows == 1 else 'their'} licence or grace within {days} days"
    )
    second = "A lease is renewed every few days by itself: one that gets so near its end has not reached its host."
    ended = f"{over:,} ended since the machine was last asked; refresh them to know what became of them."
    return (f"{first}; {graces:,} of them are in a grace period already.", second, *((ended,) if over else ()))


def _tone(size: Size) -> Tone:
    part = share(size.licensed, size.installations)
    if part is None:
        return Tone.QUIET
    return Tone.GOOD if part >= 0.95 else Tone.WARN if part >= 0.8 else Tone.BAD


def _states_chart(title: str, states: Sequence[StateCount], name: Callable[[StateCount], str]) -> BarChart:
    totals: Counter[str] = Counter()
    parts: Counter[tuple[str, str]] = Counter()
    for row in states:
        totals[name(row)] += row.installations
        parts[name(row), standing(row.state)] += row.installations
    names = tuple(one for one, _ in totals.most_common(MOST_PRODUCTS))
    all_standings = [(word, tone) for word, _, tone in STANDINGS] + [(OTHER, Tone.NOTE)]
    series = tuple(
        Series(word, tuple(float(parts[one, word]) for one in names), tone)
        for word, tone in all_standings
        if any(parts[one, word] for one in names)
    )
    return BarChart(title, names, series, "installations")


def _buckets_chart(buckets: Sequence[Bucket]) -> BarChart:
    names = tuple(LABELS.get(bucket.label, f"within {bucket.label}") for bucket in buckets)
    licences = Series("licences", tuple(float(bucket.licences) for bucket in buckets), Tone.PLAIN)
    graces = Series("grace periods", tuple(float(bucket.graces) for bucket in buckets), Tone.WARN)
    return BarChart("What ends when", names, (licences, graces), "installations")


def _ranking(title: str, ranks: Sequence[tuple[str, int]], unit: str, tone: Tone) -> BarChart:
    return BarChart(
        title, tuple(name for name, _ in ranks), (Series(unit, tuple(float(n) for _, n in ranks), tone),), unit
    )
