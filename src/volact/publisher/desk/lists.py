# SPDX-License-Identifier: Apache-2.0
"""The desk's tables: one page of rows, sorted and filtered by the database, and how many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal_column, or_, select

from volact.core.policy import DAY
from volact.publisher.desk.state import Desk
from volact.publisher.desk.telling import Teller, keys_of
from volact.publisher.rows import queries
from volact.publisher.rows.activations import COLUMNS, read_activation
from volact.publisher.rows.ledger import MACHINE_ACTS, Act, Row
from volact.publisher.rows.records import HostActivation
from volact.publisher.rules.issuing import IssuedKey
from volact.publisher.rules.pools import Activation
from volact.publisher.schema import ACTIVATION, AGREEMENT, HOST_ACTIVATION, LEDGER, PRODUCT_KEY
from volact.web.pages.listing import Listing

KEY_SORTS = ("partial", "channel", "product", "organisation", "issued_at", "used")
MACHINE_SORTS = ("name", "organisation", "first_at", "last_at")
HOST_SORTS = ("name", "organisation", "at", "ends_at")
MOST_NEAR = 8  # of what the overview warns of


@dataclass(frozen=True, slots=True)
class Machine:
    activation: Activation
    partial: str
    organisation: str


def fill_keys(conn: Connection, listing: Listing, **equal: str) -> None:
    """``state``: ``blocked`` or ``open``; ``text``: in the last symbols or in the organisation's name."""
    row = PRODUCT_KEY.c
    wanted = [row[name] == value for name, value in equal.items() if value]
    state, text = listing.query.get("state"), listing.query.get("text", "").strip()
    if state in ("blocked", "open"):
        wanted.append(row.blocked_at.is_not(None) if state == "blocked" else row.blocked_at.is_(None))
    if text:
        wanted.append(_contains(text, row.partial, row.organisation, row.agreement, row.key_id))
    source = PRODUCT_KEY.outerjoin(AGREEMENT, AGREEMENT.c.name == row.agreement)
    listing.total = conn.execute(select(func.count()).select_from(PRODUCT_KEY).where(*wanted)).scalar_one()
    statement = select(*queries.KEY).select_from(source).where(*wanted)
    order = row[listing.sort] if listing.sort in KEY_SORTS else row.issued_at
    listing.rows = [queries.issued(one) for one in conn.execute(_page(statement, listing, order, row.key_id))]


def fill_machines(conn: Connection, listing: Listing, key_id: str = "") -> None:
    """Activations of machines; ``state``: ``held`` or ``returned``."""
    row, key = ACTIVATION.c, PRODUCT_KEY.c
    wanted: list[ColumnElement[bool]] = [row.key_id == key_id] if key_id else []
    state, text = listing.query.get("state"), listing.query.get("text", "").strip()
    if state in ("held", "returned"):
        wanted.append(row.returned_at.is_(None) if state == "held" else row.returned_at.is_not(None))
    if text:
        wanted.append(_contains(text, row.name, key.organisation, key.partial))
    source = ACTIVATION.join(PRODUCT_KEY, key.key_id == row.key_id)
    listing.total = conn.execute(select(func.count()).select_from(source).where(*wanted)).scalar_one()
    statement = select(*COLUMNS, key.partial, key.organisation).select_from(source).where(*wanted)
    columns: Mapping[str, Any] = {"name": row.name, "organisation": key.organisation, "last_at": row.last_at}
    order = columns.get(listing.sort, row.first_at)
    found = conn.execute(_page(statement, listing, order, row.id))
    listing.rows = [Machine(read_activation(one[:-2]), one[-2], one[-1]) for one in found]


def fill_hosts(conn: Connection, listing: Listing, key_id: str = "") -> None:
    """Certificates that were made for hosts."""
    acts, key = HOST_ACTIVATION.c, PRODUCT_KEY.c
    wanted: list[ColumnElement[bool]] = [acts.key_id == key_id] if key_id else []
    text = listing.query.get("text", "").strip()
    if text:
        wanted.append(_contains(text, acts.name, key.organisation, key.partial))
    source = HOST_ACTIVATION.join(PRODUCT_KEY, key.key_id == acts.key_id)
    listing.total = conn.execute(select(func.count()).select_from(source).where(*wanted)).scalar_one()
    statement = select(
        acts.key_id, key.partial, key.organisation, acts.machine_id, acts.name, acts.product, acts.kind, acts.at,
        acts.ends_at, acts.serial,
    ).select_from(source).where(*wanted)  # fmt: skip
    columns: Mapping[str, Any] = {"name": acts.name, "organisation": key.organisation, "ends_at": acts.ends_at}
    order = columns.get(listing.sort, acts.at)
    listing.rows = [queries.host_activation(one) for one in conn.execute(_page(statement, listing, order, acts.id))]


def fill_ledger(conn: Connection, listing: Listing, since: int | None, until: int | None) -> None:
    """The latest first, by act, who, key and words in what it tells."""
    row, query = LEDGER.c, listing.query
    wanted: list[ColumnElement[bool]] = []
    if query.get("act"):
        wanted.append(row.act == query["act"])
    if query.get("key"):
        wanted.append(row.key_id == query["key"])
    if since is not None:
        wanted.append(row.at >= since)
    if until is not None:
        wanted.append(row.at < until + DAY)
    for name, columns in (("actor", (row.actor,)), ("text", (row.data,))):
        if query.get(name, "").strip():
            wanted.append(_contains(query[name].strip(), *columns))
    listing.total = conn.execute(select(func.count()).select_from(LEDGER).where(*wanted)).scalar_one()
    statement = select(*queries.LEDGER_COLUMNS).where(*wanted).order_by(row.seq.desc())
    listing.rows = [Row(*one) for one in conn.execute(statement.limit(listing.size).offset(listing.offset))]


def latest_rows(conn: Connection, limit: int, key_id: str | None = None) -> list[Row]:
    statement = select(*queries.LEDGER_COLUMNS).order_by(LEDGER.c.seq.desc()).limit(limit)
    if key_id is not None:
        statement = statement.where(LEDGER.c.key_id == key_id)
    return [Row(*one) for one in conn.execute(statement)]


def teller(conn: Connection, desk: Desk, rows: Sequence[Row]) -> Teller:
    """With the names that these rows need."""
    key = PRODUCT_KEY.c
    found = conn.execute(select(key.key_id, key.partial).where(key.key_id.in_(keys_of(rows))))
    return Teller(desk.group_names(), desk.product_names(), {one.key_id: one.partial for one in found})


def acts_by_day(conn: Connection, since: int) -> dict[tuple[int, str], int]:
    """(day since 1970, act) → how many, for activations and refusals."""
    row = LEDGER.c
    shown = [str(act) for act in (*MACHINE_ACTS, Act.REQUEST_REFUSED, Act.HOST_ACTIVATED, Act.PHONE_CONFIRMED)]
    day = row.at.op("/")(literal_column(str(DAY)))  # no parameter: PostgreSQL takes two of them for two expressions
    statement = select(day, row.act, func.count()).where(row.act.in_(shown), row.at >= since).group_by(day, row.act)
    return {(int(one), act): int(number) for one, act, number in conn.execute(statement)}


def pools_running_out(conn: Connection) -> list[IssuedKey]:
    """MAKs in use of which less than an eighth is left, the fullest first."""
    row = PRODUCT_KEY.c
    statement = queries.KEYS.where(
        row.channel == "mak", row.blocked_at.is_(None), row.activations > 0, row.used * 8 >= row.activations * 7
    ).order_by((row.activations - row.used), row.key_id)
    return [queries.issued(one) for one in conn.execute(statement.limit(MOST_NEAR))]


def totals(conn: Connection) -> dict[str, int]:
    key, row = PRODUCT_KEY.c, ACTIVATION.c
    counts = {
        "keys": select(func.count()).select_from(PRODUCT_KEY),
        "blocked": select(func.count()).where(key.blocked_at.is_not(None)),
        "machines": select(func.count()).where(row.returned_at.is_(None)),
        "hosts": select(func.count(HOST_ACTIVATION.c.machine_id.distinct())),
    }
    return {name: int(conn.execute(statement).scalar_one()) for name, statement in counts.items()}


def hosts_used(conn: Connection, key_id: str) -> int:
    acts = HOST_ACTIVATION.c
    statement = select(func.count(acts.machine_id.distinct())).where(acts.key_id == key_id)
    return int(conn.execute(statement).scalar_one())


def hosts_of(conn: Connection, key_id: str) -> Sequence[HostActivation]:
    listing = Listing("", {}, "at", True, 1, 200)
    fill_hosts(conn, listing, key_id)
    return listing.rows


def _contains(text: str, *columns: Any) -> ColumnElement[bool]:
    return or_(*(column.icontains(text[:200], autoescape=True) for column in columns))


def _page(statement: Select[Any], listing: Listing, order: Any, tie: Any) -> Select[Any]:
    ordered = statement.order_by(order.desc() if listing.descending else order, tie)
    return ordered.limit(listing.size).offset(listing.offset)
