# SPDX-License-Identifier: Apache-2.0
"""What fails, by its cause, and machines that are one another's copies."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, distinct, func, literal, select

from volact.fleet.figures.scope import OK, Scope, of_machines, of_products
from volact.fleet.schema import MACHINES, PRODUCTS


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


def failures(conn: Connection, scope: Scope = None) -> list[Failure]:
    """What is wrong now, by cause; the most machines first."""
    m, p = MACHINES.c, PRODUCTS.c
    reach = (
        select(
            literal("reach"), m.last_result, func.count(), func.min(m.last_action_at), func.max(m.last_action_at),
            func.min(m.last_error),
        )
        .where(m.last_result.is_not(None), m.last_result != OK, of_machines(scope))
        .group_by(m.last_result)
    )  # fmt: skip
    found = [Failure(*row) for row in conn.execute(reach)]
    for kind, cause, text in (("activation", p.cause, p.cause_text), ("state", p.reason, p.reason_text)):
        query = (
            select(
                literal(kind), cause, func.count(distinct(p.machine_id)), func.min(p.last_attempt_at),
                func.max(p.last_attempt_at), func.min(text),
            )
            .where(cause.is_not(None), cause != "", p.licensed == 0, of_products(scope))
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
        .where(of_machines(scope))
        .order_by(shared.c.together.desc(), m.machine_id, m.name)
    )
    found = [CloneGroup(*row) for row in conn.execute(ids)]
    return found + _shared_fingerprints(conn, scope)


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
        .where(of_machines(scope))
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
