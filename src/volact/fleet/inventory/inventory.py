# SPDX-License-Identifier: Apache-2.0
"""What the inventory shows: lists with filter, order and pages, groups with their numbers, one machine in full.

Two lists: ``products``, a row for each product of each machine (and one for a machine without), and ``machines``.
Everything is counted and sorted by the database; 100,000 machines take well under a second
(benchmarks/fleet_inventory.py).  Not here: how rows come to be (``machines``, ``refresh``), and how they look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Select, and_, case, cast, false, func, literal, select

from volact.core.errors import InputError
from volact.fleet.inventory import filters
from volact.fleet.inventory.machines import MachineMissingError, check_name, named
from volact.fleet.schema import HISTORY, JOBS, MACHINES, PRODUCTS, TAGS, TASKS
from volact.fleet.store import batches

MOST_ROWS = 100_000
SECONDS_PER_DAY = 86_400

PRODUCT_COLUMNS = (
    "name", "product", "edition", "channel", "key", "state", "expires", "grace-ends", "host", "count", "threshold",
    "contacted", "result",
)  # fmt: skip
MACHINE_COLUMNS = (
    "name",
    "address",
    "os",
    "volact",
    "reach",
    "products",
    "licensed",
    "refreshed",
    "contacted",
    "action",
    "result",
)
_NUMBERS = ("products", "licensed")  # of a machine's row, counted
_INSTALLED = MACHINES.join(PRODUCTS, PRODUCTS.c.machine_id == MACHINES.c.id)


class ColumnUnknownError(InputError):
    code = "column-unknown"
    fmt = "there is no column {name}"
    remedy = "the columns are: {known}"


@dataclass(frozen=True, slots=True)
class Query:
    """``sort``: columns, each with a minus before it for the other direction.  ``columns``: which, in this order."""

    filter: str = ""
    sort: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a list; ``total`` is the number without limit and offset."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    total: int

    def to_dicts(self) -> list[dict[str, Any]]:
        return [dict(zip((name.replace("-", "_") for name in self.columns), row, strict=True)) for row in self.rows]


def products(conn: Connection, query: Query, now: int) -> Page:
    """A row for each product that fits; for a machine without products one row of its own."""
    columns = query.columns or PRODUCT_COLUMNS
    chosen = [_column(name) for name in columns]
    parsed = filters.parse(query.filter, now)
    sort = query.sort or ("name", "product")
    bare = parsed.of_machines or _lets_bare(conn, parsed.condition)
    total = _total_products(conn, parsed, bare)
    if getattr(_column(sort[0].lstrip("-")), "table", None) is PRODUCTS:
        return Page(columns, _by_product(conn, chosen, parsed.condition, bare, sort, query), total)
    ordered = _joined(chosen, bare).where(parsed.condition).order_by(*_order(sort), MACHINES.c.id).limit(query.limit)
    return Page(columns, [tuple(row) for row in conn.execute(ordered.offset(query.offset))], total)


def _lets_bare(conn: Connection, condition: Any) -> bool:
    """Whether a condition on products lets a machine through that has none."""
    nothing = select(literal(1).label("one")).subquery().outerjoin(PRODUCTS, false())
    return conn.execute(select(literal(1)).select_from(nothing).where(condition)).first() is not None


def _total_products(conn: Connection, parsed: filters.Filter, bare: bool) -> int:
    """How many rows fit.  What asks nothing of machines is counted by an index of products, without their machines."""
    if parsed.of_machines:
        return _total(conn, _rows([func.count()]).where(parsed.condition))
    fitting = _total(conn, select(func.count()).select_from(PRODUCTS).where(parsed.condition))
    if not bare:
        return fitting
    having = _total(conn, select(func.count(func.distinct(PRODUCTS.c.machine_id))))
    return fitting + _total(conn, select(func.count()).select_from(MACHINES)) - having


def _by_product(
    conn: Connection, chosen: Sequence[Any], condition: Any, bare: bool, sort: Sequence[str], query: Query
) -> list[tuple[Any, ...]]:
    """A page in the order of a column of products: first the rows that have a value there, which an index walks, then
    those that have none, machines without products among them.  One query for both would have to sort every row."""
    first = _column(sort[0].lstrip("-"))
    leading, rest = first.desc() if sort[0].startswith("-") else first.asc(), (*_order(sort[1:]), MACHINES.c.id)
    there = and_(condition, first.is_not(None))
    ordered = select(*chosen).select_from(_INSTALLED).where(there).order_by(leading, *rest)
    found = [tuple(row) for row in conn.execute(ordered.limit(query.limit).offset(query.offset))]
    if len(found) == query.limit:
        return found
    past = 0 if found else query.offset - _total(conn, select(func.count()).select_from(_INSTALLED).where(there))
    without = _joined(chosen, bare).where(condition, first.is_(None)).order_by(*rest)
    more = without.limit(query.limit - len(found)).offset(max(0, past))
    return found + [tuple(row) for row in conn.execute(more)]


def _joined(chosen: Sequence[Any], bare: bool) -> Select[Any]:
    """Each product with its machine; ``bare``: and each machine without one."""
    return _rows(chosen) if bare else select(*chosen).select_from(_INSTALLED)


def machines(conn: Connection, query: Query, now: int) -> Page:
    """A row for each machine that fits, or has a product that does."""
    columns = query.columns or MACHINE_COLUMNS
    _check(columns, (*filters.MACHINE_FIELDS, *_NUMBERS, "tags", "last-error"))
    condition = _of_machines(query.filter, now)
    chosen = [_machine_column(name) for name in columns]
    order = [_directed(_machine_column(name.lstrip("-")), name) for name in query.sort or ("name",)]
    ids = select(MACHINES.c.id).where(condition).order_by(*order, MACHINES.c.id)
    page = list(conn.execute(ids.limit(query.limit).offset(query.offset)).scalars())
    total = _total(conn, select(func.count()).select_from(MACHINES).where(condition))
    found: dict[int, tuple[Any, ...]] = {}
    for part in batches(page):
        for row in conn.execute(select(MACHINES.c.id, *chosen).where(MACHINES.c.id.in_(part))):
            found[row[0]] = tuple(row[1:])
    return Page(columns, [found[id_] for id_ in page if id_ in found], total)


def select_machines(conn: Connection, text: str, names: Sequence[str], now: int) -> list[int]:
    """The machines of a selection: these names, and of them (or of all) those that fit the filter.

    Raises :class:`MachineMissingError` for a name that is not there."""
    query = select(MACHINES.c.id).where(_of_machines(text, now)).order_by(MACHINES.c.id)
    if not names:
        return list(conn.execute(query).scalars())
    wanted = named(conn, names)
    if not text.strip():
        return wanted
    fits: set[int] = set()
    for part in batches(wanted):
        fits.update(conn.execute(query.where(MACHINES.c.id.in_(part))).scalars())
    return [id_ for id_ in wanted if id_ in fits]


@dataclass(frozen=True, slots=True)
class Group:
    values: tuple[Any, ...]
    machines: int
    products: int
    licensed: int


def groups(conn: Connection, by: Sequence[str], text: str, now: int) -> list[Group]:
    """How many machines, products and licensed products there are with each combination of values, most first."""
    columns = [_column(name) for name in by]
    numbers = (
        func.count(func.distinct(MACHINES.c.id)),
        func.count(PRODUCTS.c.id),
        func.coalesce(func.sum(PRODUCTS.c.licensed), 0),
    )
    query = _rows([*columns, *numbers]).where(filters.parse(text, now).condition)
    if "tag" in by:
        query = _rows([*columns, *numbers], tags=True).where(filters.parse(text, now).condition)
    places = range(1, len(columns) + 1)
    found = conn.execute(query.group_by(*columns).order_by(numbers[0].desc(), *columns).limit(MOST_ROWS))
    return [Group(tuple(row[: len(places)]), row[-3], row[-2], int(row[-1])) for row in found]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine in full; ``products``, ``history``, ``tasks`` as rows."""

    row: dict[str, Any]
    tags: list[str]
    products: list[dict[str, Any]]
    history: list[dict[str, Any]]
    tasks: list[dict[str, Any]]


def machine(conn: Connection, name: str, most: int = 50) -> Machine:
    """Raises :class:`MachineMissingError`."""
    row = conn.execute(select(MACHINES).where(MACHINES.c.name == check_name(name))).mappings().first()
    if row is None:
        raise MachineMissingError(name=name)
    id_ = row["id"]
    tags = conn.execute(select(TAGS.c.tag).where(TAGS.c.machine_id == id_).order_by(TAGS.c.tag))
    on_it = conn.execute(select(PRODUCTS).where(PRODUCTS.c.machine_id == id_).order_by(PRODUCTS.c.product))
    past = select(HISTORY).where(HISTORY.c.machine_id == id_).order_by(HISTORY.c.id.desc()).limit(most)
    acts = (
        select(TASKS.c.job_id, JOBS.c.kind, TASKS.c.state, TASKS.c.error, TASKS.c.error_text, TASKS.c.ended_at)
        .join(JOBS, JOBS.c.id == TASKS.c.job_id)
        .where(TASKS.c.machine_id == id_)
        .order_by(TASKS.c.id.desc())
        .limit(most)
    )
    return Machine(
        dict(row),
        list(tags.scalars()),
        [dict(one) for one in on_it.mappings()],
        [dict(one) for one in conn.execute(past).mappings()],
        [dict(one) for one in conn.execute(acts).mappings()],
    )


def history(conn: Connection, text: str, since: int, now: int, limit: int = 1000) -> list[dict[str, Any]]:
    """What changed since then on the machines that fit, the newest first."""
    query = (
        select(HISTORY, MACHINES.c.name)
        .join(MACHINES, MACHINES.c.id == HISTORY.c.machine_id)
        .where(HISTORY.c.at >= since, _of_machines(text, now))
        .order_by(HISTORY.c.at.desc(), HISTORY.c.id.desc())
        .limit(limit)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def states_at(conn: Connection, at: int) -> dict[str, int]:
    """How many products were in which state at a moment of the past, by the history."""
    last = (
        select(HISTORY.c.machine_id, HISTORY.c.root, HISTORY.c.product, func.max(HISTORY.c.id).label("id"))
        .where(HISTORY.c.at <= at)
        .group_by(HISTORY.c.machine_id, HISTORY.c.root, HISTORY.c.product)
        .subquery()
    )
    query = select(HISTORY.c.state, func.count()).join(last, last.c.id == HISTORY.c.id).group_by(HISTORY.c.state)
    return {state: number for state, number in conn.execute(query) if state != "removed"}


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole fleet in numbers."""

    machines: int
    never_refreshed: int
    failed: int
    states: dict[str, int]


def overview(conn: Connection) -> Overview:
    numbers = conn.execute(
        select(
            func.count(),
            func.count(case((MACHINES.c.refreshed_at.is_(None), 1))),
            func.count(case((MACHINES.c.reach_state == "failed", 1))),
        )
    ).one()
    states = conn.execute(select(PRODUCTS.c.state, func.count()).group_by(PRODUCTS.c.state).order_by(PRODUCTS.c.state))
    return Overview(*numbers, {row[0]: row[1] for row in states})


def check_columns(names: Sequence[str]) -> None:
    """Raises :class:`ColumnUnknownError` for what no list has."""
    _check(names, (*filters.FIELDS, *_NUMBERS, "tag", "tags", "last-error"))


def _rows(columns: Sequence[Any], *, tags: bool = False) -> Select[Any]:
    joined = MACHINES.outerjoin(PRODUCTS, PRODUCTS.c.machine_id == MACHINES.c.id)
    if tags:
        joined = joined.outerjoin(TAGS, TAGS.c.machine_id == MACHINES.c.id)
    return select(*columns).select_from(joined)


def _of_machines(text: str, now: int) -> Any:
    """The filter as a condition on machines alone."""
    parsed = filters.parse(text, now)
    if not parsed.of_products:
        return parsed.condition
    inner = select(MACHINES.c.id).select_from(MACHINES.outerjoin(PRODUCTS, PRODUCTS.c.machine_id == MACHINES.c.id))
    return MACHINES.c.id.in_(inner.where(parsed.condition))


def _total(conn: Connection, counted: Select[Any]) -> int:
    return int(conn.execute(counted).scalar() or 0)


def _column(name: str) -> Any:
    if name == "tag":
        return TAGS.c.tag
    if name == "tags":
        return _tags()
    if name == "last-error":
        return MACHINES.c.last_error.label("last_error")
    if name not in filters.FIELDS:
        raise ColumnUnknownError(name=name, known=", ".join((*filters.FIELDS, "tags", "last-error")))
    return filters.FIELDS[name].column


def _machine_column(name: str) -> Any:
    if name not in _NUMBERS:
        return _column(name)
    number = func.count() if name == "products" else func.coalesce(func.sum(PRODUCTS.c.licensed), 0)
    mine = select(number).select_from(PRODUCTS).where(PRODUCTS.c.machine_id == MACHINES.c.id)
    return cast(mine.scalar_subquery(), Integer)


def _tags() -> Any:
    """A machine's tags as one text, in order."""
    mine = select(TAGS.c.tag).where(TAGS.c.machine_id == MACHINES.c.id).order_by(TAGS.c.tag)
    ordered = mine.correlate(MACHINES).subquery()
    return select(func.aggregate_strings(ordered.c.tag, " ")).select_from(ordered).correlate(MACHINES).scalar_subquery()


def _check(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ColumnUnknownError(name=name, known=", ".join(sorted(known)))


def _order(sort: Sequence[str]) -> list[Any]:
    return [_directed(_column(name.lstrip("-")), name) for name in sort]


def _directed(column: Any, name: str) -> Any:
    """What is not there comes last, whichever way."""
    return (column.desc() if name.startswith("-") else column.asc()).nulls_last()
