# SPDX-License-Identifier: Apache-2.0
"""Daily figures, kept for trends and forecasts: one value for each kind, key and UTC day, the day's last one.

state        licence state          installations in it
cause        error or refusal       unlicensed installations whose last attempt failed with it
reach        error                  machines whose last act failed with it
host         KMS host               its count, as its machines were last told
remaining    key ID                 activations left of a pool, of the day the publisher told it
activations  key ID                 the size of the pool, of the same day
machines     (empty)                machines in the inventory
"""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, insert, select

from volact.fleet.figures.activations import hosts
from volact.fleet.figures.forecast import DAY
from volact.fleet.figures.scope import OK
from volact.fleet.schema import KEYS, MACHINES, PRODUCTS, SAMPLES

KEPT_SAMPLES = 3 * 365 * DAY
Value = tuple[str, str, int]  # kind, key, value


def take_daily_samples(conn: Connection, now: int) -> int:
    """The day's figures, and an end to those of three years ago."""
    forget_samples(conn, now - KEPT_SAMPLES)
    return take_samples(conn, now)


def take_samples(conn: Connection, now: int) -> int:
    """Writes the day's figures, over those of earlier today; returns how many."""
    values = [*_counted(conn), *_pools_of(conn, now)]
    _replace(conn, now - now % DAY, values)
    return len(values)


def forget_samples(conn: Connection, before: int) -> int:
    """Drops what is older, and tells how many figures that were."""
    return conn.execute(delete(SAMPLES).where(SAMPLES.c.at < before)).rowcount


def _counted(conn: Connection) -> Iterable[Value]:
    p, m = PRODUCTS.c, MACHINES.c
    for state, number in conn.execute(select(p.state, func.count()).group_by(p.state)):
        yield "state", state, number
    failed = select(p.cause, func.count()).where(p.cause.is_not(None), p.cause != "", p.licensed == 0).group_by(p.cause)
    for cause, number in conn.execute(failed):
        yield "cause", cause, number
    unreached = select(m.last_result, func.count()).where(m.last_result.is_not(None), m.last_result != OK)
    for result, number in conn.execute(unreached.group_by(m.last_result)):
        yield "reach", result, number
    counts: dict[str, int] = {}
    for host in hosts(conn):
        counts[host.host] = max(counts.get(host.host, 0), host.count or 0)
    yield from (("host", host, count) for host, count in counts.items())
    yield "machines", "", conn.execute(select(func.count()).select_from(MACHINES)).scalar_one()


def _pools_of(conn: Connection, now: int) -> Iterable[Value]:
    """Only what the publisher told today: an old figure repeated would look like a pool that nobody uses."""
    k = KEYS.c
    query = select(k.key_id, k.remaining, k.activations).where(
        k.remaining.is_not(None), k.refreshed_at >= now - now % DAY
    )
    for key_id, remaining, activations in conn.execute(query):
        yield "remaining", key_id, remaining
        if activations is not None:
            yield "activations", key_id, activations


def _replace(conn: Connection, day: int, values: list[Value]) -> None:
    s = SAMPLES.c
    kinds = {kind for kind, _, _ in values}
    for kind in kinds:
        keys = [key for one, key, _ in values if one == kind]
        conn.execute(delete(SAMPLES).where(s.kind == kind, s.at == day, s.key.in_(keys)))
    rows = [{"kind": kind, "key": key[:200], "at": day, "value": value} for kind, key, value in values]
    if rows:
        conn.execute(insert(SAMPLES), rows)
