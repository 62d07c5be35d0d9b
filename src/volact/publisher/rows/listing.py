# SPDX-License-Identifier: Apache-2.0
"""The publisher's tables in pages: filtered, in a stable order, each page beginning after a row of the one before.

Every function takes the ``organisation`` whose rows are wanted (``None``: all) and reads ``limit`` rows; nothing here
decides who may see them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from volact.publisher.rows import queries
from volact.publisher.rows.activations import COLUMNS, read_activation
from volact.publisher.rows.ledger import Row
from volact.publisher.rows.records import HostActivation, Signed
from volact.publisher.rules.issuing import POOLED, IssuedKey
from volact.publisher.rules.pools import Activation
from volact.publisher.schema import (
    ACTIVATION,
    DEFINITION,
    FOREST_ACTIVATION,
    HOST_ACTIVATION,
    LEDGER,
    PRODUCT_KEY,
)


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """``None`` where it does not matter."""

    organisation: str | None = None
    product: str | None = None
    group: int | None = None
    agreement: str | None = None
    kind: str | None = None
    blocked: bool | None = None


@dataclass(frozen=True, slots=True)
class LedgerFilter:
    """``actors``: any of these; ``without``: none of these."""

    organisation: str | None = None
    act: str | None = None
    actor: str | None = None
    actors: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    key_id: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class HeldActivation:
    """An activation of a machine, with whose key it is of."""

    activation: Activation
    partial: str
    organisation: str


@dataclass(frozen=True, slots=True)
class HeldForest:
    """``claim``: what the activation object says, or what was confirmed by telephone."""

    id: int
    object_id: str
    key_id: str
    partial: str
    organisation: str
    identity: str
    issued_at: int
    ends_at: int
    claim: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Use:
    """Of a product group in an agreement: what was bought, what its keys allow, and what is in use.

    ``issued``: activations of MAK and retail keys that are not blocked, and what blocked ones have used up."""

    agreement: str
    organisation: str
    group: int
    bought: int
    keys: int
    issued: int
    used: int


def keys(conn: Connection, wanted: KeyFilter, after: tuple[int, str] | None, limit: int) -> list[IssuedKey]:
    row = PRODUCT_KEY.c
    equal: dict[Any, Any] = {
        row.organisation: wanted.organisation,
        row.product: wanted.product,
        row.product_group: wanted.group,
        row.agreement: wanted.agreement,
        row.channel: wanted.kind,
    }
    statement = queries.KEYS.where(*(column == value for column, value in equal.items() if value is not None))
    if wanted.blocked is not None:
        statement = statement.where(row.blocked_at.is_not(None) if wanted.blocked else row.blocked_at.is_(None))
    if after is not None:
        at, key_id = after
        statement = statement.where(or_(row.issued_at > at, and_(row.issued_at == at, row.key_id > key_id)))
    statement = statement.order_by(row.issued_at, row.key_id).limit(limit)
    return [queries.issued(one) for one in conn.execute(statement)]


def key_by_name(conn: Connection, name: str, organisation: str | None) -> list[IssuedKey]:
    """By key ID or last five symbols."""
    row = PRODUCT_KEY.c
    statement = queries.KEYS.where(or_(row.key_id == name.lower(), row.partial == name.upper()))
    if organisation is not None:
        statement = statement.where(row.organisation == organisation)
    return [queries.issued(one) for one in conn.execute(statement)]


def hosts_used(conn: Connection, key_ids: Sequence[str]) -> dict[str, int]:
    """How many hosts each of these keys has been used on."""
    acts = HOST_ACTIVATION.c
    statement = select(acts.key_id, func.count(acts.machine_id.distinct())).where(acts.key_id.in_(key_ids))
    return {key_id: int(number) for key_id, number in conn.execute(statement.group_by(acts.key_id))}


def activations(
    conn: Connection,
    organisation: str | None,
    key_id: str | None,
    after: int | None,
    limit: int,
    *,
    returned: bool | None = None,
) -> list[HeldActivation]:
    row = ACTIVATION.c
    statement = select(*COLUMNS, PRODUCT_KEY.c.partial, PRODUCT_KEY.c.organisation).join(
        PRODUCT_KEY, PRODUCT_KEY.c.key_id == row.key_id
    )
    statement = _of(statement, organisation, row.key_id, key_id)
    if returned is not None:
        statement = statement.where(row.returned_at.is_not(None) if returned else row.returned_at.is_(None))
    found = _page(conn, statement, row.id, after, limit)
    return [HeldActivation(read_activation(one[:-2]), one[-2], one[-1]) for one in found]


def hosts(
    conn: Connection, organisation: str | None, key_id: str | None, after: int | None, limit: int
) -> list[tuple[int, HostActivation]]:
    """Certificates that were made for hosts, each with its place in the list."""
    acts, key = HOST_ACTIVATION.c, PRODUCT_KEY.c
    statement = select(
        acts.id, acts.key_id, key.partial, key.organisation, acts.machine_id, acts.name, acts.product,
        acts.kind, acts.at, acts.ends_at, acts.serial,
    ).join(PRODUCT_KEY, key.key_id == acts.key_id)  # fmt: skip
    statement = _of(statement, organisation, acts.key_id, key_id)
    return [(one[0], queries.host_activation(one[1:])) for one in _page(conn, statement, acts.id, after, limit)]


def certificate(conn: Connection, serial: str, organisation: str | None) -> bytes | None:
    """In DER, by its serial in hexadecimal."""
    acts = HOST_ACTIVATION.c
    statement = select(acts.certificate).join(PRODUCT_KEY, PRODUCT_KEY.c.key_id == acts.key_id)
    statement = _of(statement, organisation, acts.serial, serial)
    found = conn.execute(statement).scalar_one_or_none()
    return None if found is None else bytes(found)


def forest_objects(
    conn: Connection, organisation: str | None, key_id: str | None, after: int | None, limit: int
) -> list[HeldForest]:
    row, key = FOREST_ACTIVATION.c, PRODUCT_KEY.c
    statement = select(
        row.id, row.object_id, row.key_id, key.partial, key.organisation, row.identity, row.at, row.ends_at, row.claim
    ).join(PRODUCT_KEY, key.key_id == row.key_id)
    statement = _of(statement, organisation, row.key_id, key_id)
    found = _page(conn, statement, row.id, after, limit)
    return [HeldForest(*(*about, json.loads(claim))) for *about, claim in found]


def ledger(conn: Connection, wanted: LedgerFilter, after: int, limit: int) -> list[Row]:
    """An organisation's rows: those of its keys, and those that name it."""
    row = LEDGER.c
    statement = select(*queries.LEDGER_COLUMNS).where(row.seq > after)
    equal: dict[Any, Any] = {row.act: wanted.act, row.actor: wanted.actor, row.key_id: wanted.key_id}
    statement = statement.where(*(column == value for column, value in equal.items() if value is not None))
    if wanted.actors is not None:
        statement = statement.where(row.actor.in_(wanted.actors))
    if wanted.without:
        statement = statement.where(row.actor.not_in(wanted.without))
    if wanted.since is not None:
        statement = statement.where(row.at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(row.at < wanted.until)
    if wanted.organisation is not None:
        statement = statement.where(_concerns(conn, wanted.organisation))
    return [Row(*one) for one in conn.execute(statement.order_by(row.seq).limit(limit))]


def versions(conn: Connection, product: str, after: int, limit: int) -> list[Signed]:
    row = DEFINITION.c
    statement = select(*queries.SIGNED).where(row.product == product, row.version > after)
    return [Signed(*one) for one in conn.execute(statement.order_by(row.version).limit(limit))]


def usage(conn: Connection, organisation: str | None, agreement: str | None = None) -> list[Use]:
    """Of every product group of every agreement, or of one of them."""
    wanted = [
        one
        for one in queries.agreements(conn)
        if (organisation is None or one.organisation == organisation) and (agreement is None or one.name == agreement)
    ]
    row = PRODUCT_KEY.c
    allowed = case((row.blocked_at.is_not(None), row.used), else_=row.activations)
    pools = row.channel.in_(sorted(map(str, POOLED)))
    statement = (
        select(
            row.agreement,
            row.product_group,
            func.count(),
            func.coalesce(func.sum(allowed).filter(pools), 0),
            func.coalesce(func.sum(row.used), 0),
        )
        .where(row.agreement.in_([one.name for one in wanted]))
        .group_by(row.agreement, row.product_group)
    )
    found = {(name, group): (int(n), int(a), int(u)) for name, group, n, a, u in conn.execute(statement)}
    return [
        Use(one.name, one.organisation, group, bought, *found.get((one.name, group), (0, 0, 0)))
        for one in wanted
        for group, bought in sorted(one.quantities.items())
    ]


def _of(statement: Any, organisation: str | None, column: Any, value: str | None) -> Any:
    if organisation is not None:
        statement = statement.where(PRODUCT_KEY.c.organisation == organisation)
    return statement if value is None else statement.where(column == value)


def _page(conn: Connection, statement: Any, id: Any, after: int | None, limit: int) -> Sequence[Any]:
    if after is not None:
        statement = statement.where(id > after)
    return conn.execute(statement.order_by(id).limit(limit)).all()


def _concerns(conn: Connection, organisation: str) -> ColumnElement[bool]:
    own = select(PRODUCT_KEY.c.key_id).where(PRODUCT_KEY.c.organisation == organisation)
    return or_(LEDGER.c.key_id.in_(own), _mentions(conn, organisation))


def _mentions(conn: Connection, organisation: str) -> ColumnElement[bool]:
    """Whether a row's data has this member.  Inside a text a quote is escaped, so no text can look like the member; and
    LIKE would not tell upper from lower case."""
    member = f'"organisation":{json.dumps(organisation, ensure_ascii=False)}'
    find = func.instr if conn.dialect.name == "sqlite" else func.strpos
    return find(LEDGER.c.data, member) > 0
