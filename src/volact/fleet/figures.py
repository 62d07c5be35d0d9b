# SPDX-License-Identifier: Apache-2.0
"""What the fleet's tables say in numbers: one question a function, aggregated in SQL, typed answers.

Reports, the console's dashboard and the REST interface ask the same ones.  ``scope`` is a select of machine IDs: only
those machines count; ``None`` is the whole fleet.  Every function takes a connection, so that several of them see one
moment.  Not here: changes of anything, and the clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, distinct, func, literal, or_, select, true

from volact.core.errors import VolactError
from volact.core.states import State
from volact.fleet import publisher
from volact.fleet.forecast import DAY, Forecast, Point, Unforeseen, foresee
from volact.fleet.schema import AGREEMENTS, HISTORY, KEYS, MACHINES, PRODUCTS, SAMPLES

Scope = Select[tuple[int]] | None

OK = "ok"
REMOVED = "removed"  # the state of a product that is gone, in the history
GRACES = (State.INITIAL_GRACE, State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.EXTENDED_GRACE)
POOLED = ("mak", "retail")  # channels whose keys have a pool of activations
BOUGHT = ("volume", "mak")  # channels that an agreement's licences are used by
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


@dataclass(frozen=True, slots=True)
class Failure:
    """``kind``: ``reach`` (the machine was not reached, or an act on it failed), ``activation`` (its last attempt
    failed) or ``state`` (why it is not licensed)."""

    kind: str
    cause: str
    machines: int
    oldest: int | None
    newest: int | None
    example: str | None


@dataclass(frozen=True, slots=True)
class CloneGroup:
    """``kind``: ``machine-id`` (one machine ID on several machines) or ``fingerprint`` (one fingerprint under many)."""

    kind: str
    value: bytes
    machine: str
    address: str | None
    machine_id: bytes | None
    contacted_at: int | None
    together: int


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


@dataclass(frozen=True, slots=True)
class Compliance:
    """``bought``: of the agreements in force; ``installed``: machines with a volume or MAK key of the group, ``by_kms``
    of them with a volume key.  ``covered``: what groups above have left for these; ``lent``: to groups below."""

    product_group: int
    products: str
    agreements: int
    bought: int
    installed: int
    licensed: int
    ends_at: int | None
    by_kms: int = 0
    covered: int = 0
    lent: int = 0

    @property
    def available(self) -> int:
        return self.bought + self.covered - self.lent

    @property
    def left(self) -> int:
        return self.available - self.installed


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


def fleet_size(conn: Connection, now: int, scope: Scope = None) -> Size:
    """Everything a tile shows, in two statements."""
    old = now - STALE_DAYS * DAY
    m = MACHINES.c
    machines = conn.execute(
        select(
            func.count(),
            _number(m.refreshed_at.is_(None)),
            _number(m.refreshed_at < old),
            _number(and_(m.last_result.is_not(None), m.last_result != OK)),
        ).where(_machines(scope))
    ).one()
    p = PRODUCTS.c
    products = conn.execute(
        select(
            func.count(),
            _number(p.state == State.LICENSED),
            _number(p.state.in_(GRACES)),
            _number(p.state == State.NOTIFICATION),
            _number(p.state == State.UNLICENSED),
        ).where(_products(scope))
    ).one()
    return Size(*machines, *products)


def licence_states(conn: Connection, scope: Scope = None) -> list[StateCount]:
    p = PRODUCTS.c
    by = (p.product, p.edition, p.channel, p.state)
    rows = conn.execute(select(*by, func.count()).where(_products(scope)).group_by(*by).order_by(*by))
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
        .where(or_(_ends_as(grace=False), _ends_as(grace=True)), end <= now + days * DAY, _products(scope))
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
        .where(p.activated_at.is_(None), p.licensed == 0, _products(scope))
        .order_by(p.first_seen_at, m.name, p.product)
    )  # fmt: skip
    return [NeverActivated(*row) for row in conn.execute(query)]


def failures(conn: Connection, scope: Scope = None) -> list[Failure]:
    """What is wrong now, by cause; the most machines first."""
    m, p = MACHINES.c, PRODUCTS.c
    reach = (
        select(
            literal("reach"), m.last_result, func.count(), func.min(m.last_action_at), func.max(m.last_action_at),
            func.min(m.last_error),
        )
        .where(m.last_result.is_not(None), m.last_result != OK, _machines(scope))
        .group_by(m.last_result)
    )  # fmt: skip
    found = [Failure(*row) for row in conn.execute(reach)]
    for kind, cause, text in (("activation", p.cause, p.cause_text), ("state", p.reason, p.reason_text)):
        query = (
            select(
                literal(kind), cause, func.count(distinct(p.machine_id)), func.min(p.last_attempt_at),
                func.max(p.last_attempt_at), func.min(text),
            )
            .where(cause.is_not(None), cause != "", p.licensed == 0, _products(scope))
            .group_by(cause)
        )  # fmt: skip
        found += [Failure(*row) for row in conn.execute(query)]
    return sorted(found, key=lambda one: (-one.machines, one.kind, one.cause))


def clones(conn: Connection, scope: Scope = None) -> list[CloneGroup]:
    """Machines that share a machine ID, or a fingerprint under several machine IDs; group by group."""
    m = MACHINES.c
    shared = (
        select(m.machine_id.label("value"), func.count().label("together"))
        .where(m.machine_id.is_not(None))
        .group_by(m.machine_id)
        .having(func.count() > 1)
        .subquery()
    )
    ids = (
        select(literal("machine-id"), m.machine_id, m.name, m.address, m.machine_id, m.contacted_at, shared.c.together)
        .join_from(MACHINES, shared, m.machine_id == shared.c.value)
        .where(_machines(scope))
        .order_by(shared.c.together.desc(), m.machine_id, m.name)
    )
    found = [CloneGroup(*row) for row in conn.execute(ids)]
    return found + _shared_fingerprints(conn, scope)


def hosts(conn: Connection, scope: Scope = None) -> list[HostCount]:
    """KMS hosts as the machines see them, the busiest first."""
    p = PRODUCTS.c
    by = (p.last_host, p.product, p.product_group)
    told = func.row_number().over(partition_by=by, order_by=(p.count.is_(None), p.last_attempt_at.desc(), p.id))
    rows = (
        select(*by, p.count, p.threshold, p.licensed, p.last_attempt_at, told.label("place"))
        .where(p.last_host.is_not(None), p.channel == "volume", _products(scope))
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


def compliance(conn: Connection, now: int) -> list[Compliance]:
    """Licences used against licences bought, for each product group of either."""
    bought = _bought(conn, now)
    installed = {row.product_group: row for row in conn.execute(_installed())}
    rows = [
        Compliance(
            group,
            _names(installed.get(group), bought.get(group)),
            bought[group].agreements if group in bought else 0,
            int(bought[group].quantity) if group in bought else 0,
            installed[group].machines if group in installed else 0,
            installed[group].licensed if group in installed else 0,
            bought[group].ends_at if group in bought else None,
            installed[group].by_kms if group in installed else 0,
        )
        for group in sorted(bought.keys() | installed.keys())
    ]
    return cover_from_above(rows, _parents(conn))


def cover_from_above(rows: Sequence[Compliance], parents: Mapping[int, int]) -> list[Compliance]:
    """As a KMS host key of a group serves the groups below it, what is left of a group covers the volume keys below
    that are more than was bought for them, the nearest first.  A MAK is good for its own group only."""
    found = {row.product_group: row for row in rows}
    for group in found:
        above, seen = parents.get(group), {group}
        while above is not None and above not in seen:
            seen.add(above)
            low, high = found[group], found.get(above)
            moved = 0 if high is None else min(-low.left, low.by_kms - low.covered, high.left)
            if high is not None and moved > 0:
                found[group] = replace(low, covered=low.covered + moved)
                found[above] = replace(high, lent=high.lent + moved)
            above = parents.get(above)
    return [found[row.product_group] for row in rows]


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
        .where(_machines(scope))
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


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows fulfil it; PostgreSQL and SQLite agree on this spelling only."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _machines(scope: Scope) -> ColumnElement[bool]:
    return true() if scope is None else MACHINES.c.id.in_(scope)


def _products(scope: Scope) -> ColumnElement[bool]:
    return true() if scope is None else PRODUCTS.c.machine_id.in_(scope)


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
    rows = select(label.label("label")).where(_ends_as(grace=grace), end.is_not(None), _products(scope)).subquery()
    query = select(rows.c.label, func.count().label("number")).group_by(rows.c.label)
    return {row.label: row.number for row in conn.execute(query)}


def _shared_fingerprints(conn: Connection, scope: Scope) -> list[CloneGroup]:
    """Salted by product, so that only installations of one product can be compared; a machine is told once."""
    m, p = MACHINES.c, PRODUCTS.c
    shared = (
        select(p.fingerprint.label("value"), func.count(distinct(p.machine_id)).label("together"))
        .where(p.fingerprint.is_not(None))
        .group_by(p.fingerprint)
        .having(func.count(distinct(p.machine_id)) > 1)
        .subquery()
    )
    query = (
        select(
            literal("fingerprint"), p.fingerprint, m.name, m.address, m.machine_id, m.contacted_at, shared.c.together
        )
        .join_from(PRODUCTS, shared, p.fingerprint == shared.c.value)
        .join(MACHINES, m.id == p.machine_id)
        .where(_machines(scope))
        .order_by(shared.c.together.desc(), p.fingerprint, m.name)
    )
    groups: dict[bytes, list[CloneGroup]] = {}
    for row in conn.execute(query):
        groups.setdefault(row.fingerprint, []).append(CloneGroup(*row))
    different = {tuple(one.machine for one in group): group for group in groups.values() if _many_ids(group)}
    return [one for group in different.values() for one in group]


def _many_ids(group: Sequence[CloneGroup]) -> bool:
    """Under one machine ID it is told as that already."""
    return len({one.machine_id for one in group}) > 1


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


def _bought(conn: Connection, now: int) -> dict[int, Any]:
    a = AGREEMENTS.c
    query = (
        select(
            a.product_group, func.count().label("agreements"), func.sum(a.quantity).label("quantity"),
            func.min(a.ends_at).label("ends_at"), func.min(a.product).label("product"),
        )
        .where(or_(a.starts_at.is_(None), a.starts_at <= now), or_(a.ends_at.is_(None), a.ends_at > now))
        .group_by(a.product_group)
    )  # fmt: skip
    return {row.product_group: row for row in conn.execute(query)}


def _parents(conn: Connection) -> dict[int, int]:
    """Which group stands under which, by the definitions that the fleet has; where two disagree, neither counts."""
    said: dict[int, set[int]] = {}
    for known in publisher.definitions(conn):
        try:
            groups = known.verified().definition.groups
        except VolactError:  # a definition that no longer holds says nothing, and stops no report
            continue
        for group in groups:
            if group.parent is not None:
                said.setdefault(group.number, set()).add(group.parent)
    return {number: next(iter(above)) for number, above in said.items() if len(above) == 1}


def _installed() -> Select[Any]:
    p = PRODUCTS.c
    return (
        select(
            p.product_group,
            func.count(distinct(p.machine_id)).label("machines"),
            func.count(distinct(case((p.licensed == 1, p.machine_id)))).label("licensed"),
            func.count(distinct(case((p.channel == "volume", p.machine_id)))).label("by_kms"),
            func.min(p.product).label("first"),
            func.max(p.product).label("last"),
        )
        .where(p.channel.in_(BOUGHT), p.product_group.is_not(None))
        .group_by(p.product_group)
    )


def _names(installed: Any, bought: Any) -> str:
    """The group's products, as far as a person wants to read them."""
    names = [] if installed is None else [installed.first, installed.last]
    names += [] if bought is None else [bought.product]
    return ", ".join(dict.fromkeys(name for name in names if name))
