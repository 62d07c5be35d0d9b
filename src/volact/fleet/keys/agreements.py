# SPDX-License-Identifier: Apache-2.0
"""What the organisation bought, from a file: CSV, or what ``volact publisher agreement list --json`` prints.

A file names each agreement with its quantities; one that is named replaces what was known of it.  CSV has a heading
``agreement,group,quantity`` with, where wanted, ``product``, ``publisher``, ``starts`` and ``ends`` (days, UTC).
Any bytes parse or raise :class:`AgreementsError`.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from volact.core.errors import InputError
from volact.fleet.schema import AGREEMENTS
from volact.fleet.store import note

MOST_BYTES = 4 * 1024 * 1024
MOST_ROWS = 10_000
MOST_NAME = 200
MOST_QUANTITY = 2**31 - 1
NEEDED = {"agreement", "group", "quantity"}
KNOWN = NEEDED | {"product", "publisher", "starts", "ends"}


class AgreementsError(InputError):
    code = "agreements-unreadable"
    fmt = "the file of agreements cannot be read: {why}"
    remedy = (
        "give CSV with the heading agreement,group,quantity,product,publisher,starts,ends, or the output of "
        "`volact publisher agreement list --json`"
    )


class AgreementMissingError(InputError):
    code = "agreement-not-here"
    fmt = "no agreement {name} is known here"
    remedy = "`volact fleet agreements list` shows them"


@dataclass(frozen=True, slots=True)
class Bought:
    """So many licences of a product group, by an agreement."""

    name: str
    product_group: int
    quantity: int
    product: str = ""
    publisher: str = ""
    starts_at: int | None = None
    ends_at: int | None = None

    @property
    def dates(self) -> tuple[int | None, int | None]:
        return self.starts_at, self.ends_at

    def to_json(self) -> dict[str, Any]:
        return {
            "agreement": self.name,
            "product_group": self.product_group,
            "quantity": self.quantity,
            "product": self.product or None,
            "publisher": self.publisher or None,
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
        }


def parse(data: bytes) -> list[Bought]:
    """Raises :class:`AgreementsError`, whatever the bytes are."""
    if len(data) > MOST_BYTES:
        raise AgreementsError(why=f"it has more than {MOST_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AgreementsError(why="it is not UTF-8 text") from None
    found = list(_json(text) if text.lstrip()[:1] in ("[", "{") else _csv(text))
    if not found or len(found) > MOST_ROWS:
        raise AgreementsError(why=f"it names none, or more than {MOST_ROWS:,}")
    if len({(one.name, one.product, one.product_group) for one in found}) != len(found):
        raise AgreementsError(why="it names a group of an agreement twice")
    return found


def keep(conn: Connection, found: Sequence[Bought], source: str, now: int, who: str) -> int:
    """Writes them; how many agreements they are."""
    names = {one.name for one in found}
    conn.execute(delete(AGREEMENTS).where(AGREEMENTS.c.name.in_(names)))
    rows = [
        {
            "name": one.name, "product": one.product, "product_group": one.product_group, "publisher": one.publisher,
            "quantity": one.quantity, "starts_at": one.starts_at, "ends_at": one.ends_at, "source": source[:200],
            "refreshed_at": now,
        }
        for one in found
    ]  # fmt: skip
    conn.execute(insert(AGREEMENTS), rows)
    note(conn, now, who, "agreements-import", source[:200], {"agreements": sorted(names)[:50]})
    return len(names)


def listed(conn: Connection) -> list[Bought]:
    a = AGREEMENTS.c
    query = select(a.name, a.product_group, a.quantity, a.product, a.publisher, a.starts_at, a.ends_at)
    return [Bought(*row) for row in conn.execute(query.order_by(a.name, a.product_group, a.product))]


def remove(conn: Connection, name: str, now: int, who: str) -> None:
    """Raises :class:`AgreementMissingError`."""
    if not conn.execute(delete(AGREEMENTS).where(AGREEMENTS.c.name == name)).rowcount:
        raise AgreementMissingError(name=repr(name[:80]))
    note(conn, now, who, "agreement-remove", name)


def _json(text: str) -> Iterator[Bought]:
    try:
        claim = json.loads(text)
    except (ValueError, RecursionError):
        raise AgreementsError(why="it begins as JSON and is none") from None
    for one in claim if isinstance(claim, list) else [claim]:
        if not isinstance(one, dict) or not isinstance(one.get("quantities"), dict):
            raise AgreementsError(why="an agreement has no quantities")
        dates = {"starts": one.get("starts_at"), "ends": one.get("ends_at")}
        for group, quantity in one["quantities"].items():
            row = {"agreement": one.get("agreement"), "group": group, "quantity": quantity, **dates}
            yield _bought(row, f"agreement {one.get('agreement')!r:.80}")


def _csv(text: str) -> Iterator[Bought]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        heading = {name.strip().lower() for name in reader.fieldnames or () if name}
        if not heading >= NEEDED or not heading <= KNOWN:
            raise AgreementsError(why=f"its first line does not name {', '.join(sorted(NEEDED))}")
        for row in reader:
            cells = {str(name).strip().lower(): value for name, value in row.items()}
            yield _bought(cells, f"line {reader.line_num}")
    except csv.Error as exc:
        raise AgreementsError(why=str(exc)[:100]) from None


def _bought(row: Mapping[str, Any], where: str) -> Bought:
    return Bought(
        _name(row.get("agreement"), where),
        _number(row.get("group"), where),
        _number(row.get("quantity"), where),
        _text(row.get("product"), where),
        _text(row.get("publisher"), where),
        _day(row.get("starts"), where),
        _day(row.get("ends"), where),
    )


def _name(value: Any, where: str) -> str:
    text = _text(value, where)
    if not text:
        raise AgreementsError(why=f"{where} has no agreement's name")
    return text


def _text(value: Any, where: str) -> str:
    text = "" if value is None else value.strip() if isinstance(value, str) else None
    if text is None or len(text) > MOST_NAME or not text.isprintable():
        raise AgreementsError(why=f"{where} holds what is no name")
    return text


def _number(value: Any, where: str) -> int:
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MOST_QUANTITY):
        raise AgreementsError(why=f"{where} has a number that is none")
    return int(text)


def _day(value: Any, where: str) -> int | None:
    """A day, or a time of RFC 3339."""
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        second = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, AttributeError, OverflowError):
        raise AgreementsError(why=f"{where} has a day that is none; write 2027-12-31") from None
    if not 0 <= second < 2**40:
        raise AgreementsError(why=f"{where} has a day out of all bounds")
    return second
