# SPDX-License-Identifier: Apache-2.0
"""How many machines and installations there are, in which state, and what ends when."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from volact.core.states import State
from volact.fleet.figures.forecast import DAY
from volact.fleet.figures.scope import GRACES, OK, Scope, number_of, of_machines, of_products
from volact.fleet.schema import MACHINES, PRODUCTS

STALE_DAYS = 30

# Upper ends, in days from now, of what a licence or a grace period has left.
BUCKETS: tuple[tuple[str, int | None], ...] = (
    ("over", 0),
    ("7 days", 7),
    ("30 days", 30),
    ("90 days", 90),
    ("180 days", 180),
    ("later", None),
)


@dataclass(frozen=True, slots=True)
class Size:
    """``stale``: refreshed before, and not for 30 days."""

    machines: int
    never_refreshed: int
    stale: int
    failing: int
    installations: int
    licensed: int
    in_grace: int
    notification: int
    unlicensed: int


@dataclass(frozen=True, slots=True)
class StateCount:
    product: str
    edition: str | None
    channel: str | None
    state: str
    installations: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Installations whose licence or grace ends in more than ``after`` days, ``until`` days at most."""

    label: str
    after: int | None
    until: int | None
    licences: int
    graces: int


@dataclass(frozen=True, slots=True)
class Ending:
    machine: str
    product: str
    edition: str | None
    channel: str | None
    state: str
    ends_at: int
    last_host: str | None
    contacted_at: int | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class NeverActivated:
    machine: str
    product: str
    edition: str | None
    channel: str | None
    partial_key: str | None
    state: str
    reason: str | None
    cause: str | None
    grace_ends_at: int | None
    first_seen_at: int
    contacted_at: int | None


def fleet_size(conn: Connection, now: int, scope: Scope = None) -> Size:
    """Everything a tile shows, in two statements."""
    old = now - STALE_DAYS * DAY
    m = MACHINES.c
    machines = conn.execute(
        select(
            func.count(),
            number_of(m.refreshed_at.is_(None)),
            number_of(m.refreshed_at < old),
            number_of(and_(m.last_result.is_not(None), m.last_result != OK)),
        ).where(of_machines(scope))
    ).one()
    p = PRODUCTS.c
    products = conn.execute(
        select(
            func.count(),
            number_of(p.state == State.LICENSED),
            number_of(p.state.in_(GRACES)),
            number_of(p.state == State.NOTIFICATION),
            number_of(p.state == State.UNLICENSED),
        ).where(of_products(scope))
    ).one()
    return Size(*machines, *products)


def licence_states(conn: Connection, scope: Scope = None) -> list[StateCount]:
    p = PRODUCTS.c
    by = (p.product, p.edition, p.channel, p.state)
    rows = conn.execute(select(*by, func.count()).where(of_products(scope)).group_by(*by).order_by(*by))
    return [StateCount(*row) for row in rows]


def expiry_buckets(conn: Connection, now: int, scope: Scope = None) -> list[Bucket]:
    """Leases and graces by the days they have left; what has no end is in none."""
    counts = {False: _in_buckets(conn, now, scope, grace=False), True: _in_buckets(conn, now, scope, grace=True)}
    after: int | None = None
    found = []
    for label, until in BUCKETS:
        found.append(Bucket(label, after, until, counts[False].get(label, 0), counts[True].get(label, 0)))
        after = until
    return found


def expiring(conn: Connection, now: int, days: int, scope: Scope = None) -> list[Ending]:
    """Whose licence or grace ends within that many days, or has ended since its refresh; the soonest first."""
    m, p = MACHINES.c, PRODUCTS.c
    end = _end()
    query = (
        select(m.name, p.product, p.edition, p.channel, p.state, end, p.last_host, m.contacted_at, p.cause)
        .join_from(PRODUCTS, MACHINES, p.machine_id == m.id)
        .where(or_(_ends_as(grace=False), _ends_as(grace=True)), end <= now + days * DAY, of_products(scope))
        .order_by(end, m.name, p.product)
    )
    return [Ending(*row) for row in conn.execute(query)]


def never_activated(conn: Connection, scope: Scope = None) -> list[NeverActivated]:
    """The products that no refresh ever saw licensed."""
    m, p = MACHINES.c, PRODUCTS.c
    query = (
        select(
            m.name, p.product, p.edition, p.channel, p.partial_key, p.state, p.reason, p.cause, p.grace_ends_at,
            p.first_seen_at, m.contacted_at,
        )
        .join_from(PRODUCTS, MACHINES, p.machine_id == m.id)
        .where(p.activated_at.is_(None), p.licensed == 0, of_products(scope))
        .order_by(p.first_seen_at, m.name, p.product)
    )  # fmt: skip
    return [NeverActivated(*row) for row in conn.execute(query)]


def _ends_as(*, grace: bool) -> ColumnElement[bool]:
    p = PRODUCTS.c
    return p.state.in_(GRACES) if grace else p.state == State.LICENSED


def _end() -> ColumnElement[int]:
    p = PRODUCTS.c
    return case((p.state.in_(GRACES), p.grace_ends_at), else_=p.expires_at)


def _in_buckets(conn: Connection, now: int, scope: Scope, *, grace: bool) -> dict[str, int]:
    end = PRODUCTS.c.grace_ends_at if grace else PRODUCTS.c.expires_at
    ends = [(end <= now + until * DAY, label) for label, until in BUCKETS if until is not None]
    label = case(*ends, else_=BUCKETS[-1][0])
    rows = select(label.label("label")).where(_ends_as(grace=grace), end.is_not(None), of_products(scope)).subquery()
    query = select(rows.c.label, func.count().label("number")).group_by(rows.c.label)
    return {row.label: row.number for row in conn.execute(query)}
