# SPDX-License-Identifier: Apache-2.0
"""Reports on what is used up and what was bought: hosts and their counts, MAK pools with forecast, agreements."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

from volact.fleet import figures
from volact.fleet.figures import Compliance, HostCount, Pool, Sample
from volact.fleet.figures.forecast import DAY, Forecast, Point, Unforeseen
from volact.fleet.reports.asked import PRODUCT, Asked, share, warn_if
from volact.fleet.reports.report import (
    Band,
    BarChart,
    Chart,
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

SOON_DAYS = 60  # a pool that runs out within them is a warning: time to buy
HISTORY_DAYS = 365
MOST_CHARTS = 6
MOST_LINES = 4
AHEAD = 1.25  # of the way to the day it runs out: how far a chart looks

WORDS = {
    Unforeseen.TOO_LITTLE: "too few figures",
    Unforeseen.NOT_FALLING: "not used",
    Unforeseen.SPENT: "spent",
}
TONES = (Tone.PLAIN, Tone.GOOD, Tone.WARN, Tone.BAD)


def hosts(conn: Connection, asked: Asked) -> Report:
    since = asked.since or asked.now - HISTORY_DAYS * DAY
    return compose_hosts(asked, figures.hosts(conn, asked.scope), figures.trend(conn, "host", since, asked.now))


def consumption(conn: Connection, asked: Asked) -> Report:
    return compose_consumption(asked, figures.pools(conn, asked.since or asked.now - HISTORY_DAYS * DAY))


def compliance(conn: Connection, asked: Asked) -> Report:
    return compose_compliance(asked, figures.compliance(conn, asked.now))


def compose_hosts(asked: Asked, rows: Sequence[HostCount], history: Sequence[Sample]) -> Report:
    names = list(dict.fromkeys(row.host for row in rows))
    low = [row for row in rows if _below(row)]
    return Report(
        "hosts",
        "KMS hosts and their counts",
        asked.now,
        (
            Column("host", "Host"),
            PRODUCT,
            Column("product_group", "Group", Kind.NUMBER),
            Column("installations", "Installations", Kind.NUMBER),
            Column("licensed", "Licensed", Kind.NUMBER),
            Column("count", "Count", Kind.NUMBER),
            Column("threshold", "Threshold", Kind.NUMBER),
            Column("contacted_at", "Last asked", Kind.TIME),
        ),
        tuple(
            (row.host, row.product, row.product_group, row.installations, row.licensed, row.count, row.threshold,
             row.contacted_at)
            for row in rows
        ),
        summary=(
            f"{count(sum(row.installations for row in rows), 'installation')} were last answered by "
            f"{count(len(names), 'host')}.",
            *((f"{count(len(low), 'count is', 'counts are')} below the threshold: "
               + ", ".join(f"{row.host} for {row.product}" for row in low[:5]) + ".",) if low else ()),
        ) if rows else ("No machine was answered by a KMS host yet.",),
        figures=(
            Figure("Hosts", f"{len(names):,}"),
            Figure("Installations", f"{sum(row.installations for row in rows):,}"),
            Figure("Counts below threshold", f"{len(low):,}", warn_if(len(low))),
        ),
        charts=(
            *((_by_host(rows, names),) if rows else ()),
            *((_host_history(history, names),) if len({one.at for one in history}) > 1 else ()),
        ),
        selection=asked.selection,
        table_title="As their machines were last told",
        empty="No machine was answered by a KMS host yet.",
        facts={"hosts": len(names), "below_threshold": len(low)},
    )  # fmt: skip


def compose_consumption(asked: Asked, pools: Sequence[Pool]) -> Report:
    soon = [pool for pool in pools if _runs_out_by(pool, asked.now + SOON_DAYS * DAY)]
    left = [pool.remaining for pool in pools if pool.remaining is not None]
    return Report(
        "consumption",
        "MAK consumption",
        asked.now,
        (
            Column("partial_key", "Key"),
            PRODUCT,
            Column("description", "Description"),
            Column("activations", "Pool", Kind.NUMBER),
            Column("remaining", "Left", Kind.NUMBER),
            Column("per_week", "Used a week", Kind.NUMBER),
            Column("runs_out", "Runs out", Kind.TEXT),
            Column("earliest", "Earliest", Kind.DAY),
            Column("latest", "Latest", Kind.DAY),
            Column("refreshed_at", "As of", Kind.DAY),
        ),
        tuple(_pool_row(pool) for pool in pools),
        summary=tuple(_consumption_sentences(pools, soon)),
        figures=(
            Figure("Keys with a pool", f"{len(pools):,}"),
            Figure("Activations left", f"{sum(left):,}" if left else "–"),
            Figure(f"Run out within {SOON_DAYS} days", f"{len(soon):,}", warn_if(len(soon))),
            Figure("No forecast yet", f"{sum(pool.forecast is Unforeseen.TOO_LITTLE for pool in pools):,}", Tone.QUIET),
        ),
        charts=tuple(_pool_chart(pool) for pool in pools if len(pool.points) > 1)[:MOST_CHARTS],
        selection=asked.selection,
        table_title="Pools, the one that runs out first at the top",
        empty="No MAK or retail key is in the vault.",
        facts={"pools": len(pools), "soon": len(soon), "left": sum(left)},
    )


def compose_compliance(asked: Asked, rows: Sequence[Compliance]) -> Report:
    over = [row for row in rows if row.left < 0]
    bought, used = sum(row.bought for row in rows), sum(row.installed for row in rows)
    names = _group_names(rows)
    return Report(
        "compliance",
        "Agreement compliance",
        asked.now,
        (
            Column("product_group", "Group", Kind.NUMBER),
            Column("products", "Products"),
            Column("agreements", "Agreements", Kind.NUMBER),
            Column("bought", "Bought", Kind.NUMBER),
            Column("installed", "Used", Kind.NUMBER),
            Column("licensed", "Of them licensed", Kind.NUMBER),
            Column("covered", "From above", Kind.NUMBER),
            Column("lent", "To below", Kind.NUMBER),
            Column("left", "Left", Kind.NUMBER),
            Column("used_share", "Share", Kind.SHARE),
            Column("ends_at", "Next end", Kind.DAY),
        ),
        tuple(
            (row.product_group, row.products or None, row.agreements, row.bought, row.installed, row.licensed,
             row.covered, row.lent, row.left, share(row.installed, row.available), row.ends_at)
            for row in rows
        ),
        summary=tuple(_compliance_sentences(rows, over)),
        figures=(
            Figure("Bought", f"{bought:,}"),
            Figure("Used", f"{used:,}"),
            Figure("Groups over", f"{len(over):,}", warn_if(len(over))),
            Figure("Machines over", f"{-sum(row.left for row in over):,}", warn_if(len(over))),
        ),
        charts=(_compliance_chart(names, rows),) if rows else (),
        selection=asked.selection,
        table_title="Used against bought, by product group",
        empty="No agreement is known, and no machine has a volume or MAK key.",
        facts={"bought": bought, "used": used, "groups_over": len(over)},
    )  # fmt: skip


def outlook(forecast: Forecast | Unforeseen) -> str:
    """The day, or why there is none."""
    if isinstance(forecast, Unforeseen):
        return WORDS[forecast]
    return show(Kind.DAY, forecast.day) if forecast.day is not None else "not within 10 years"


def _below(row: HostCount) -> bool:
    return row.count is not None and row.threshold is not None and row.count < row.threshold


def _runs_out_by(pool: Pool, at: int) -> bool:
    forecast = pool.forecast
    if isinstance(forecast, Forecast):
        return forecast.day is not None and forecast.day <= at
    return forecast is Unforeseen.SPENT


def _pool_row(pool: Pool) -> tuple[str | int | float | None, ...]:
    known = pool.forecast if isinstance(pool.forecast, Forecast) else None
    return (
        pool.partial, pool.product, pool.description or None, pool.activations, pool.remaining,
        round(known.rate * 7, 1) if known else None, "blocked" if pool.blocked_at else outlook(pool.forecast),
        known.earliest if known else None, known.latest if known else None, pool.refreshed_at,
    )  # fmt: skip


def _consumption_sentences(pools: Sequence[Pool], soon: Sequence[Pool]) -> list[str]:
    if not pools:
        return ["No MAK or retail key is in the vault."]
    sentences = [_pool_sentence(pool) for pool in soon[:5]]
    if not soon:
        sentences.append(f"No pool runs out within {SOON_DAYS} days by the trend of its use.")
    blind = [pool for pool in pools if pool.forecast is Unforeseen.TOO_LITTLE]
    if blind:
        sentences.append(
            f"{count(len(blind), 'pool has', 'pools have')} too little history for a forecast: it takes five days' "
            "figures over two weeks (`volact fleet keys refresh`, nightly by schedule)."
        )
    sentences.append(
        "A forecast continues the trend of what was used; its range is what four in five of the past stretches would "
        "give. It knows nothing of plans."
    )
    return sentences


def _pool_sentence(pool: Pool) -> str:
    name = f"Key {pool.partial} ({pool.product or 'unknown product'})"
    forecast = pool.forecast
    if not isinstance(forecast, Forecast):
        return f"{name} is spent."
    range_ = f"between {show(Kind.DAY, forecast.earliest)} and {_until(forecast.latest)}"
    return (
        f"{name} has {count(pool.remaining or 0, 'activation')} left and runs out about "
        f"{show(Kind.DAY, forecast.day)}, {range_}, at {forecast.rate * 7:,.1f} a week."
    )


def _until(latest: int | None) -> str:
    return "no foreseeable day" if latest is None else show(Kind.DAY, latest)


def _pool_chart(pool: Pool) -> LineChart:
    title = f"Key {pool.partial}, {pool.product or 'unknown product'}: activations left"
    lines = [Line("left", tuple((point.at, float(point.remaining)) for point in pool.points))]
    bands: tuple[Band, ...] = ()
    if isinstance(pool.forecast, Forecast):
        last, end = pool.points[-1], _horizon(pool.points, pool.forecast)
        lines.append(Line("expected", _slope(last, pool.forecast.rate, end), Tone.BAD, dashed=True))
        bands = (Band("range", _fan(last, pool.forecast, end)),)
    return LineChart(title, tuple(lines), "activations", bands)


def _horizon(points: Sequence[Point], forecast: Forecast) -> int:
    """Far enough to see it end, and no farther than the past is long."""
    last, past = points[-1].at, points[-1].at - points[0].at
    wanted = (forecast.latest or forecast.day or last + past) - last
    return last + round(min(max(wanted * AHEAD, 14 * DAY), max(2 * past, 30 * DAY)))


def _slope(last: Point, rate: float, end: int) -> tuple[tuple[int, float], ...]:
    empty = last.at + round(last.remaining / rate * DAY) if rate > 0 else end
    stop = min(empty, end)
    points = [(last.at, float(last.remaining)), (stop, _left(last, rate, stop))]
    return tuple(points if stop == end else [*points, (end, 0.0)])


def _fan(last: Point, forecast: Forecast, end: int) -> tuple[tuple[int, float, float], ...]:
    bends = {forecast.earliest, forecast.latest} - {None}
    days = sorted({last.at, end, *(day for day in bends if day is not None and day < end)})
    return tuple((day, _left(last, forecast.most, day), _left(last, forecast.least, day)) for day in days)


def _left(last: Point, rate: float, at: int) -> float:
    return max(0.0, last.remaining - rate * (at - last.at) / DAY)


def _by_host(rows: Sequence[HostCount], names: Sequence[str]) -> BarChart:
    shown = tuple(names[:20])
    licensed = {name: sum(row.licensed for row in rows if row.host == name) for name in shown}
    total = {name: sum(row.installations for row in rows if row.host == name) for name in shown}
    return BarChart(
        "Installations by host",
        shown,
        (
            Series("licensed", tuple(float(licensed[name]) for name in shown), Tone.GOOD),
            Series("not licensed", tuple(float(total[name] - licensed[name]) for name in shown), Tone.BAD),
        ),
        "installations",
    )


def _host_history(history: Sequence[Sample], names: Sequence[str]) -> Chart:
    lines = []
    for name, tone in zip(names[:MOST_LINES], TONES, strict=False):
        points = tuple((one.at, float(one.value)) for one in history if one.key == name)
        if len(points) > 1:
            lines.append(Line(name, points, tone))
    return LineChart("Counts over time", tuple(lines), "count")


def _group_names(rows: Sequence[Compliance]) -> tuple[str, ...]:
    """Of the bars: the products, and the group where several groups are of the same."""
    several = Counter(row.products for row in rows)
    return tuple(
        f"{row.products}, {row.product_group}" if row.products and several[row.products] > 1
        else row.products or f"group {row.product_group}"
        for row in rows
    )  # fmt: skip


def _compliance_chart(names: tuple[str, ...], rows: Sequence[Compliance]) -> BarChart:
    within = tuple(float(min(row.installed, row.available)) for row in rows)
    free = tuple(float(max(0, row.left)) for row in rows)
    over = tuple(float(max(0, -row.left)) for row in rows)
    series = (
        Series("used", within, Tone.PLAIN),
        Series("bought and free", free, Tone.NOTE),
        Series("used and not bought", over, Tone.BAD),
    )
    return BarChart("Used against bought", names, series, "licences")


def _compliance_sentences(rows: Sequence[Compliance], over: Sequence[Compliance]) -> list[str]:
    if not rows:
        return ["No agreement is known, and no machine has a volume or MAK key."]
    sentences = [
        f"{row.products or f'Group {row.product_group}'}: {row.installed:,} used, {row.bought:,} bought"
        + (f", {row.covered:,} covered by groups above" if row.covered else "")
        + f", {-row.left:,} too many."
        for row in over[:5]
    ] or ["Every product group is within what was bought."]
    sentences.append(
        "Used is a machine with a volume or MAK key of the group, licensed or not; bought is the sum of the agreements "
        "in force. What is left of a group covers volume keys of the groups below it, as its KMS host key does; MAKs "
        "are covered by their own group only. Virtual machines that their host licenses are not counted."
    )
    return sentences
