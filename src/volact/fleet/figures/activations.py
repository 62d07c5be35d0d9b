# SPDX-License-Identifier: Apache-2.0
"""What activations come from: KMS hosts with their counts, and the pools of keys with their forecasts."""

from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from volact.fleet.figures.forecast import Forecast, Point, Unforeseen, foresee
from volact.fleet.figures.scope import Scope, of_products
from volact.fleet.schema import KEYS, PRODUCTS, SAMPLES

POOLED = ("mak", "retail")  # channels whose keys have a pool of activations


@dataclass(frozen=True, slots=True)
class HostCount:
    """``count``: as the host last told one of these machines."""

    host: str
    product: str
    product_group: int | None
    installations: int
    licensed: int
    count: int | None
    threshold: int | None
    contacted_at: int | None


@dataclass(frozen=True, slots=True)
class Pool:
    key_id: str
    partial: str
    channel: str
    product: str | None
    description: str
    activations: int | None
    remaining: int | None
    blocked_at: int | None
    refreshed_at: int | None
    points: tuple[Point, ...]
    forecast: Forecast | Unforeseen


def hosts(conn: Connection, scope: Scope = None) -> list[HostCount]:
    """KMS hosts as the machines see them, the busiest first."""
    p = PRODUCTS.c
    by = (p.last_host, p.product, p.product_group)
    told = func.row_number().over(partition_by=by, order_by=(p.count.is_(None), p.last_attempt_at.desc(), p.id))
    rows = (
        select(*by, p.count, p.threshold, p.licensed, p.last_attempt_at, told.label("place"))
        .where(p.last_host.is_not(None), p.channel == "volume", of_products(scope))
        .subquery()
    )
    r = rows.c
    newest = case((r.place == 1, r.count)), case((r.place == 1, r.threshold))
    query = (
        select(
            r.last_host, r.product, r.product_group, func.count(), func.sum(r.licensed),
            func.max(newest[0]), func.max(newest[1]), func.max(r.last_attempt_at),
        )
        .group_by(r.last_host, r.product, r.product_group)
        .order_by(func.count().desc(), r.last_host, r.product)
    )  # fmt: skip
    return [HostCount(*row) for row in conn.execute(query)]


def pools(conn: Connection, since: int = 0) -> list[Pool]:
    """The keys that have a pool, each with its history since then and its forecast; what runs out first comes first."""
    k = KEYS.c
    query = select(
        k.key_id, k.partial, k.channel, k.product, k.description, k.activations, k.remaining, k.blocked_at,
        k.refreshed_at,
    ).where(k.channel.in_(POOLED))  # fmt: skip
    history = _history_of_pools(conn, since)
    found = []
    for row in conn.execute(query.order_by(k.product, k.partial)):
        points = history.get(row.key_id, [])
        if row.remaining is not None and row.refreshed_at is not None:
            points = [*points, Point(row.refreshed_at, row.remaining, row.activations)]
        found.append(Pool(*row, tuple(points), foresee(points)))
    return sorted(found, key=_urgency)


def _history_of_pools(conn: Connection, since: int) -> dict[str, list[Point]]:
    s = SAMPLES.c
    query = select(s.key, s.at, s.kind, s.value).where(s.kind.in_(("remaining", "activations")), s.at >= since)
    values: dict[tuple[str, int], dict[str, int]] = {}
    for key, at, kind, value in conn.execute(query.order_by(s.key, s.at)):
        values.setdefault((key, at), {})[kind] = value
    found: dict[str, list[Point]] = {}
    for (key, at), value in values.items():
        if "remaining" in value:
            found.setdefault(key, []).append(Point(at, value["remaining"], value.get("activations")))
    return found


def _urgency(pool: Pool) -> tuple[int, int, str]:
    if isinstance(pool.forecast, Forecast):
        return (1, pool.forecast.day, pool.partial) if pool.forecast.day else (2, 0, pool.partial)
    return (0 if pool.forecast is Unforeseen.SPENT else 3, 0, pool.partial)
