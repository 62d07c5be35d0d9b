# SPDX-License-Identifier: Apache-2.0
"""Licences used against licences bought, for each product group, with what groups above have left for those below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, case, distinct, func, or_, select

from volact.core.errors import VolactError
from volact.fleet.keys import publisher
from volact.fleet.schema import AGREEMENTS, PRODUCTS

BOUGHT = ("volume", "mak")  # channels that an agreement's licences are used by


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
