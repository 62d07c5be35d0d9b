# SPDX-License-Identifier: Apache-2.0
"""Saved views: a filter with order, columns and grouping, by name.  Every function is part of a transaction."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from volact.core.errors import InputError
from volact.fleet.inventory import filters
from volact.fleet.schema import VIEWS
from volact.fleet.store import note

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}\Z")


class ViewMissingError(InputError):
    code = "view-missing"
    fmt = "there is no view {name}"
    remedy = "`volact fleet view list` shows them; `volact fleet view save` makes one"


class ViewNameUnfitError(InputError):
    code = "view-name-unfit"
    fmt = "{name} is not a view's name"
    remedy = "a name has up to 60 letters, digits, spaces and . _ -, and begins with a letter or digit"


@dataclass(frozen=True, slots=True)
class View:
    name: str
    filter: str = ""
    sort: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    grouping: tuple[str, ...] = ()
    owner: str = ""
    saved_at: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def save(conn: Connection, view: View, now: int, who: str) -> View:
    """Keeps it, in the place of one with the same name; raises what a list with it would."""
    from volact.fleet.inventory.inventory import check_columns

    if not _NAME.match(view.name):
        raise ViewNameUnfitError(name=repr(view.name[:80]))
    filters.parse(view.filter, now)
    check_columns((*(name.lstrip("-") for name in view.sort), *view.columns, *view.grouping))
    lists = {name: ",".join(getattr(view, name)) for name in ("sort", "columns", "grouping")}
    conn.execute(delete(VIEWS).where(VIEWS.c.name == view.name))
    conn.execute(insert(VIEWS).values(name=view.name, filter=view.filter, owner=who, saved_at=now, **lists))
    note(conn, now, who, "view-save", view.name, {"filter": view.filter, **lists})
    return find(conn, view.name)


def find(conn: Connection, name: str) -> View:
    """Raises :class:`ViewMissingError`."""
    row = conn.execute(select(VIEWS).where(VIEWS.c.name == name)).mappings().first()
    if row is None:
        raise ViewMissingError(name=name)
    return _view(row)


def all_views(conn: Connection) -> Sequence[View]:
    return [_view(row) for row in conn.execute(select(VIEWS).order_by(VIEWS.c.name)).mappings()]


def remove(conn: Connection, name: str, now: int, who: str) -> None:
    find(conn, name)
    conn.execute(delete(VIEWS).where(VIEWS.c.name == name))
    note(conn, now, who, "view-remove", name)


def _view(row: Any) -> View:
    lists = {name: tuple(filter(None, row[name].split(","))) for name in ("sort", "columns", "grouping")}
    return View(row["name"], row["filter"], owner=row["owner"], saved_at=row["saved_at"], **lists)
