# SPDX-License-Identifier: Apache-2.0
"""What is other than it was, and daily figures over time."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from volact.fleet.figures.scope import Scope, of_machines
from volact.fleet.schema import HISTORY, MACHINES, SAMPLES

REMOVED = "removed"  # the state of a product that is gone, in the history


@dataclass(frozen=True, slots=True)
class Changed:
    machine: str
    product: str
    before: str | None
    after: str
    before_key: str | None
    after_key: str | None
    changes: int
    at: int


@dataclass(frozen=True, slots=True)
class Sample:
    at: int
    key: str
    value: int


def changes(conn: Connection, since: int, scope: Scope = None) -> list[Changed]:
    """What became of each product whose state or key changed since then: before and after, the newest first."""
    h, m = HISTORY.c, MACHINES.c
    recent = (
        select(h.machine_id, h.root, h.product, func.max(h.id).label("last"), func.count().label("changes"))
        .where(h.at >= since)
        .group_by(h.machine_id, h.root, h.product)
        .subquery()
    )
    last, earlier = HISTORY.alias("last"), HISTORY.alias("earlier")
    before = (
        select(earlier.c.id)
        .where(
            earlier.c.machine_id == recent.c.machine_id,
            earlier.c.root == recent.c.root,
            earlier.c.product == recent.c.product,
            earlier.c.at < since,
        )
        .order_by(earlier.c.at.desc(), earlier.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    then = HISTORY.alias("then")
    query = (
        select(
            m.name, recent.c.product, then.c.state, last.c.state, then.c.partial_key, last.c.partial_key,
            recent.c.changes, last.c.at,
        )
        .select_from(recent)
        .join(last, last.c.id == recent.c.last)
        .join(MACHINES, m.id == recent.c.machine_id)
        .join(then, then.c.id == before, isouter=True)
        .where(of_machines(scope))
        .order_by(last.c.at.desc(), m.name, recent.c.product)
    )  # fmt: skip
    return [Changed(*row) for row in conn.execute(query)]


def trend(conn: Connection, kind: str, since: int, until: int) -> list[Sample]:
    """A kind of daily figure over time: ``state``, ``cause``, ``reach``, ``host`` …, see ``samples``."""
    s = SAMPLES.c
    query = select(s.at, s.key, s.value).where(s.kind == kind, s.at >= since, s.at <= until).order_by(s.at, s.key)
    return [Sample(*row) for row in conn.execute(query)]


def refusals_over_time(conn: Connection, since: int, until: int) -> list[Sample]:
    """Installations a day whose last attempt failed, by its cause."""
    return trend(conn, "cause", since, until)
