# SPDX-License-Identifier: Apache-2.0
"""Reading the publisher's tables: the same questions inside a change and outside."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Select, select

from volact.core.binding import MACHINE_ID_SIZE
from volact.core.product_key import Channel
from volact.publisher.rows.activations import COLUMNS, read_activation
from volact.publisher.rows.ledger import Act, Row
from volact.publisher.rows.records import Agreement, HostActivation, Signed
from volact.publisher.rules.issuing import IssuedKey, Kind
from volact.publisher.rules.pools import Activation
from volact.publisher.schema import (
    ACTIVATION,
    AGREEMENT,
    AGREEMENT_QUANTITY,
    DEFINITION,
    LEDGER,
    PRODUCT_KEY,
    REVOCATION,
)

READ_AT_ONCE = 1000  # rows of half a kilobyte

KEY = (
    PRODUCT_KEY.c.key_id,
    PRODUCT_KEY.c.partial,
    PRODUCT_KEY.c.channel,
    PRODUCT_KEY.c.product,
    PRODUCT_KEY.c.product_group,
    PRODUCT_KEY.c.organisation,
    PRODUCT_KEY.c.hosts,
    PRODUCT_KEY.c.activations,
    PRODUCT_KEY.c.issued_at,
    PRODUCT_KEY.c.blocked_at,
    PRODUCT_KEY.c.blocked_reason,
    PRODUCT_KEY.c.agreement,
    PRODUCT_KEY.c.used,
    PRODUCT_KEY.c.superseded_by,
    AGREEMENT.c.starts_at,
    AGREEMENT.c.ends_at,
)
KEYS = select(*KEY).select_from(PRODUCT_KEY.outerjoin(AGREEMENT, AGREEMENT.c.name == PRODUCT_KEY.c.agreement))
REVOCATIONS = select(REVOCATION.c.signer, REVOCATION.c.revoked_at)
LEDGER_COLUMNS = tuple(LEDGER.c[name] for name in ("seq", "at", "act", "actor", "key_id", "data", "previous", "hash"))
SIGNED = (DEFINITION.c.product, DEFINITION.c.version, DEFINITION.c.issued_at, DEFINITION.c.token)


def newest(conn: Connection, product: str) -> Signed | None:
    statement = select(*SIGNED).where(DEFINITION.c.product == product).order_by(DEFINITION.c.version.desc()).limit(1)
    row = conn.execute(statement).one_or_none()
    return Signed(*row) if row is not None else None


def newest_of_all(conn: Connection) -> list[Signed]:
    rows = conn.execute(select(*SIGNED).order_by(DEFINITION.c.product, DEFINITION.c.version))
    return list({row.product: Signed(*row) for row in rows}.values())


def every_version(conn: Connection) -> list[Signed]:
    rows = conn.execute(select(*SIGNED).order_by(DEFINITION.c.issued_at.desc(), DEFINITION.c.version.desc()))
    return [Signed(*row) for row in rows]


def signed_version(conn: Connection, product: str, version: int) -> Signed | None:
    statement = select(*SIGNED).where(DEFINITION.c.product == product, DEFINITION.c.version == version)
    row = conn.execute(statement).one_or_none()
    return Signed(*row) if row is not None else None


def activations_beginning(conn: Connection, key_id: str, machine: bytes) -> list[Activation]:
    row, rest = ACTIVATION.c, MACHINE_ID_SIZE - len(machine)
    named = row.machine_id.between(machine + bytes(rest), machine + b"\xff" * rest)
    statement = select(*COLUMNS).where(row.key_id == key_id, named).order_by(row.id)
    found = [read_activation(one) for one in conn.execute(statement)]
    return sorted(found, key=lambda one: one.returned_at is not None)


def agreements(conn: Connection) -> list[Agreement]:
    quantities: dict[str, dict[int, int]] = {}
    row = AGREEMENT_QUANTITY.c
    for agreement, group, quantity in conn.execute(select(row.agreement, row.product_group, row.quantity)):
        quantities.setdefault(agreement, {})[group] = quantity
    columns = tuple(AGREEMENT.c[name] for name in ("name", "organisation", "starts_at", "ends_at", "added_at"))
    rows = conn.execute(select(*columns).order_by(AGREEMENT.c.added_at, AGREEMENT.c.name))
    return [
        Agreement(name, organisation, starts_at, ends_at, added_at, quantities.get(name, {}))
        for name, organisation, starts_at, ends_at, added_at in rows
    ]


def ledger_rows(conn: Connection, first: int = 1, last: int | None = None) -> Iterator[Row]:
    """Those rows in their order, read as they are asked for."""
    statement = select(*LEDGER_COLUMNS)
    if last is not None:
        statement = statement.where(LEDGER.c.seq <= last)
    return (Row(*one) for one in few_at_a_time(conn, statement, LEDGER.c.seq, first - 1))


def ledger_acts(conn: Connection, act: Act) -> list[Row]:
    statement = select(*LEDGER_COLUMNS).where(LEDGER.c.act == str(act)).order_by(LEDGER.c.seq)
    return [Row(*one) for one in conn.execute(statement)]


def last_row(conn: Connection) -> Row | None:
    found = conn.execute(select(*LEDGER_COLUMNS).order_by(LEDGER.c.seq.desc()).limit(1)).one_or_none()
    return None if found is None else Row(*found)


def few_at_a_time(conn: Connection, statement: Select[Any], by: Column[Any], after: Any = None) -> Iterator[Any]:
    """Rows of a table as long as it may be, in the order of ``by``, which is unique and the first column selected."""
    page: Sequence[Any] = ()
    while len(page) in (0, READ_AT_ONCE):
        more = statement if after is None else statement.where(by > after)
        page = conn.execute(more.order_by(by).limit(READ_AT_ONCE)).all()
        if not page:
            return
        yield from page
        after = page[-1][0]


def issued(row: Sequence[Any]) -> IssuedKey:
    key_id, partial, channel, *rest = row
    return IssuedKey(key_id, partial, Channel(channel), *rest)


def host_activation(row: Sequence[Any]) -> HostActivation:
    key_id, partial, organisation, machine, name, product, kind, *rest = row
    return HostActivation(key_id, partial, organisation, machine, name, product, Kind(kind), *rest)
