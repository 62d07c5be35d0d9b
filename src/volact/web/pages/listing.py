# SPDX-License-Identifier: Apache-2.0
"""Long tables: one page of rows at a time, sorted and filtered on the server, from what the address says.

    listing = Listing.of(visit, sorts=("name", "at"), start="-at")
    listing.rows, listing.total = store.things(sort=listing.sort, descending=listing.descending,
                                               limit=listing.size, offset=listing.offset)

A template shows it by ``{% call(row) ui.table(listing, columns) %}…{% endcall %}``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

SIZES = (25, 50, 100, 200)
MOST_PAGE = 1_000_000


@dataclass(slots=True)
class Listing:
    path: str
    query: Mapping[str, str]
    sort: str
    descending: bool
    page: int
    size: int
    rows: Sequence[Any] = ()
    total: int = 0
    sorts: Sequence[str] = field(default=())

    @classmethod
    def of(
        cls, path: str, query: Mapping[str, str], *, sorts: Sequence[str] = (), start: str = "", size: int = 50
    ) -> "Listing":
        """``start``: the column it is sorted by at first, with ``-`` for descending."""
        wanted = query.get("sort") or start
        name = wanted.removeprefix("-")
        if name not in sorts:
            wanted = start
        chosen = _number(query.get("size"), size)
        return cls(
            path, query, wanted.removeprefix("-"), wanted.startswith("-"), max(1, _number(query.get("page"), 1)),
            chosen if chosen in SIZES else size, sorts=sorts,
        )  # fmt: skip

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.size

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        return self.offset + 1 if self.rows else 0

    @property
    def last(self) -> int:
        return self.offset + len(self.rows)

    @property
    def filters(self) -> dict[str, str]:
        """What the address filters by."""
        return {name: value for name, value in self.query.items() if name not in ("page", "sort", "size") and value}

    def link(self, **changes: Any) -> str:
        """The same table with something else: another page, order, filter; ``None`` takes something out."""
        query = {name: value for name, value in self.query.items() if value and name != "page"}
        query.update({name: str(value) for name, value in changes.items() if value is not None})
        for name, value in changes.items():
            if value is None:
                query.pop(name, None)
        return f"{self.path}?{urlencode(query)}" if query else self.path

    def sort_link(self, column: str) -> str:
        turned = column == self.sort and not self.descending
        return self.link(sort=f"-{column}" if turned else column)

    def slice(self, rows: Sequence[Any]) -> None:
        """For short lists that are whole in memory."""
        self.total = len(rows)
        self.rows = rows[self.offset : self.offset + self.size]


def _number(text: str | None, default: int) -> int:
    try:
        return min(int(text or default), MOST_PAGE)
    except ValueError:
        return default
