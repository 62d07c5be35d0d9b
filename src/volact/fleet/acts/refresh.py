# SPDX-License-Identifier: Apache-2.0
"""Asking machines what is on them, and writing that down: a row a product, and history where something changed.

What the machine answers (``volact client status --json``) is read here into :class:`Seen`, strictly enough that no
answer can do harm: texts are cut and cleaned, numbers bounded, and what is missing is missing.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from volact.core.encoding import MAX_INT
from volact.core.states import State
from volact.fleet.jobs.acts import Outcome, Work
from volact.fleet.reach import Reach
from volact.fleet.reach.errors import RemoteUnreadableError
from volact.fleet.reach.remote import call, clean
from volact.fleet.schema import HISTORY, MACHINES, PRODUCTS

MOST_PRODUCTS = 200
MOST_32 = 2**31 - 1
ERROR, REMOVED = "error", "removed"
_GRACES = (State.INITIAL_GRACE, State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.EXTENDED_GRACE)
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,64}\Z")
_TOLD = ("edition", "channel", "partial_key", "state", "reason")  # whose change is a row of history
_MOVED = 86_400  # a lease's new end is one where it moved by this much, or into the past


@dataclass(frozen=True, slots=True)
class SeenProduct:
    """The columns of a product's row, as one answer has them."""

    product: str
    root: str
    state: str
    licensed: int = 0
    publisher: str | None = None
    edition: str | None = None
    version: int | None = None
    product_group: int | None = None
    channel: str | None = None
    partial_key: str | None = None
    enforcement: str | None = None
    reason: str | None = None
    reason_text: str | None = None
    cause: str | None = None
    cause_text: str | None = None
    expires_at: int | None = None
    grace_ends_at: int | None = None
    last_attempt_at: int | None = None
    last_host: str | None = None
    host_source: str | None = None
    count: int | None = None
    threshold: int | None = None
    organisation: str | None = None
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One machine's answer."""

    products: tuple[SeenProduct, ...]
    machine_id: bytes | None = None
    os: str | None = None
    version: str | None = None

    @classmethod
    def read(cls, answer: Mapping[str, Any], machine: str) -> "Seen":
        """Raises :class:`RemoteUnreadableError` where it is no answer to ``status``."""
        rows = answer.get("products")
        if not isinstance(rows, list) or len(rows) > MOST_PRODUCTS or not all(isinstance(row, dict) for row in rows):
            raise RemoteUnreadableError(machine=machine, line="it is no list of products")
        about = answer.get("machine")
        about = about if isinstance(about, dict) else {}
        products = {(one.root, one.product): one for row in rows if (one := _product(row)) is not None}
        return cls(
            tuple(products.values()), _octets(about.get("id")), clean(about.get("os")), clean(about.get("volact"), 60)
        )


def record(conn: Connection, machine: int, seen: Seen, now: int) -> int:
    """Brings a machine's rows to what was seen; the number of changes that history got."""
    conn.execute(
        update(MACHINES)
        .where(MACHINES.c.id == machine)
        .values(refreshed_at=now, machine_id=seen.machine_id, volact_version=seen.version)
    )
    if seen.os is not None:
        conn.execute(update(MACHINES).where(MACHINES.c.id == machine).values(os=seen.os))
    known = list(conn.execute(select(PRODUCTS).where(PRODUCTS.c.machine_id == machine)).mappings())
    changes = sum(_record_product(conn, machine, _with_root(one, known), known, now) for one in seen.products)
    there = {(_with_root(one, known).root, one.product) for one in seen.products}
    gone = [row for row in known if (row["root"], row["product"]) not in there]
    for row in gone:
        conn.execute(delete(PRODUCTS).where(PRODUCTS.c.id == row["id"]))
        _tell(conn, machine, SeenProduct(row["product"], row["root"], REMOVED), now)
    return changes + len(gone)


class RefreshAct:
    """Asks one machine for its products.  Asking twice changes nothing, so it needs no intent."""

    kind = "refresh"
    resumable = True

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def run(self, work: Work) -> Outcome:
        async with self._reach.session(work.target) as session:
            seen = Seen.read(await call(session, ["status"]), work.target.name)
        summary = {one.product: one.state for one in seen.products}
        return Outcome({"products": summary}, changes=lambda conn, now: _record(conn, work.machine_id, seen, now))

    async def preview(self, work: Work) -> Outcome:
        return Outcome({"would": f"ask {work.target.name} for its products"}, contacted=False)


def _record(conn: Connection, machine: int, seen: Seen, now: int) -> None:
    record(conn, machine, seen, now)


def _record_product(
    conn: Connection, machine: int, seen: SeenProduct, known: list[Mapping[str, Any]] | list[Any], now: int
) -> int:
    before = next((row for row in known if (row["root"], row["product"]) == (seen.root, seen.product)), None)
    values = {**asdict(seen), "refreshed_at": now}
    if seen.licensed and (before is None or before["activated_at"] is None):
        values["activated_at"] = now
    if before is None:
        conn.execute(insert(PRODUCTS).values(machine_id=machine, first_seen_at=now, **values))
    else:
        conn.execute(update(PRODUCTS).where(PRODUCTS.c.id == before["id"]).values(values))
    if before is not None and not _differs(before, seen):
        return 0
    _tell(conn, machine, seen, now)
    return 1


def _differs(before: Mapping[str, Any], seen: SeenProduct) -> bool:
    """A lease that was renewed is a change; that the same grace ends a second later is none."""
    if any(before[name] != getattr(seen, name) for name in _TOLD):
        return True
    old, new = before["expires_at"], seen.expires_at
    return (old is None) != (new is None) or (old is not None and new is not None and abs(new - old) >= _MOVED)


def _tell(conn: Connection, machine: int, seen: SeenProduct, now: int) -> None:
    names = ("root", "product", "edition", "channel", "partial_key", "state", "reason", "expires_at")
    conn.execute(insert(HISTORY).values(machine_id=machine, at=now, **{name: getattr(seen, name) for name in names}))


def _with_root(seen: SeenProduct, known: list[Any]) -> SeenProduct:
    """A product that could not be loaded does not tell its root: it is the one known by its name."""
    if seen.root:
        return seen
    root = next((row["root"] for row in known if row["product"] == seen.product), "")
    return replace(seen, root=root)


def _product(row: Mapping[str, Any]) -> SeenProduct | None:
    name = clean(row.get("product"), 100)
    if name is None:
        return None
    error = row.get("error")
    if isinstance(error, dict):
        text = clean(error.get("message"), 400)
        return SeenProduct(name, _root(row), ERROR, reason=clean(error.get("code"), 60), reason_text=text)
    state, until, licensed = (
        clean(row.get("state"), 40) or ERROR,
        _second(row.get("until")),
        row.get("licensed") is True,
    )
    reason, attempt = _object(row.get("reason")), _object(row.get("last_attempt"))
    return SeenProduct(
        name,
        _root(row),
        state,
        int(licensed),
        clean(row.get("publisher")),
        clean(row.get("edition"), 100),
        _number(row.get("version")),
        _number(row.get("group")),
        clean(row.get("channel"), 20),
        clean(row.get("partial_key"), 10),
        clean(row.get("enforcement"), 20),
        clean(reason.get("code"), 60),
        clean(reason.get("message"), 400),
        clean(attempt.get("code"), 60),
        clean(attempt.get("message"), 400),
        until if licensed else None,
        until if state in _GRACES else None,
        _second(attempt.get("at")),
        clean(row.get("host")),
        clean(row.get("host_source"), 40),
        _number(row.get("count")),
        _number(row.get("threshold")),
        clean(row.get("organisation")),
        _octets(row.get("fingerprint")),
    )


def _root(row: Mapping[str, Any]) -> str:
    return clean(row.get("root"), 100) or ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_32 else None


def _octets(value: Any) -> bytes | None:
    return bytes.fromhex(value) if isinstance(value, str) and _HEX.match(value) else None


def _second(value: Any) -> int | None:
    """An RFC 3339 time as volact prints it."""
    if not isinstance(value, str):
        return None
    try:
        second = int(datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError):
        return None
    return second if 0 <= second <= MAX_INT else None
