# SPDX-License-Identifier: Apache-2.0
"""Lists in pages: a cursor that means the place after the last row, so that rows which come or go move nothing.

A cursor is opaque to clients and holds the sort key of a row; it grants nothing, the rows' own rules are applied to
each page anew.  ``Link`` headers as RFC 8288.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from volact.core.errors import InputError

MOST_ROWS, DEFAULT_ROWS = 500, 100
MOST_CURSOR = 1000
MOST_NUMBER = 2**63 - 1

Part = str | int
Item = TypeVar("Item")


class CursorUnfitError(InputError):
    code = "cursor-unfit"
    fmt = "the cursor is not one that this list gave out"
    remedy = "take `next` of a page of the same list as it is, or begin without a cursor"


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """``after``: the sort key of the last row, where more follow."""

    items: Sequence[Item]
    after: tuple[Part, ...] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page is asked for: ``limit`` rows after the row with sort key ``after``."""

    limit: int = DEFAULT_ROWS
    cursor: str | None = None

    def after(self, *kinds: type) -> tuple[Any, ...] | None:
        """The sort key that the cursor holds, of these types; ``None`` for the first page."""
        return None if self.cursor is None else decode(self.cursor, kinds)

    def cut(self, rows: Sequence[Item], key: Callable[[Item], tuple[Part, ...]]) -> Page[Item]:
        """A page of ``limit + 1`` rows that were read, the last of which only says that more follow."""
        if len(rows) <= self.limit:
            return Page(rows)
        shown = rows[: self.limit]
        return Page(shown, key(shown[-1]))

    def slice(self, rows: Sequence[Item], key: Callable[[Item], tuple[Part, ...]], *kinds: type) -> Page[Item]:
        """A page of rows that are all here."""
        after, ordered = self.after(*kinds), sorted(rows, key=key)
        rest = ordered if after is None else [row for row in ordered if key(row) > after]
        return self.cut(rest[: self.limit + 1], key)


def wanted(
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many rows a page has at most.")] = DEFAULT_ROWS,
    cursor: Annotated[
        str | None,
        Query(
            min_length=1, max_length=MOST_CURSOR, pattern=r"^[A-Za-z0-9_-]+$", description="`next` of the page before."
        ),
    ] = None,
) -> Wanted:
    """A dependency: the two parameters of every list."""
    return Wanted(limit, cursor)


def link(request: Request, response: Response, after: tuple[Part, ...] | None) -> str | None:
    """Sets the Link header of a page; returns the cursor of the next one."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    links = [_link(request, query, "first")]
    cursor = None if after is None else encode(after)
    if cursor is not None:
        links.append(_link(request, [*query, ("cursor", cursor)], "next"))
    response.headers["Link"] = ", ".join(links)
    return cursor


def encode(key: tuple[Part, ...]) -> str:
    data = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(cursor: str, kinds: Sequence[type]) -> tuple[Any, ...]:
    """Raises :class:`CursorUnfitError`, and nothing else, whatever the text is."""
    try:
        data = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        key = json.loads(data)
    except (ValueError, binascii.Error, RecursionError):
        raise CursorUnfitError() from None
    if type(key) is not list or len(key) != len(kinds) or not all(map(_fits, key, kinds)):
        raise CursorUnfitError()
    return tuple(key)


def _fits(part: Any, kind: type) -> bool:
    if kind is int:
        return type(part) is int and 0 <= part <= MOST_NUMBER
    return type(part) is str and part.isprintable()


def _link(request: Request, query: list[tuple[str, str]], relation: str) -> str:
    """Relative to the server's root: which name and scheme a client used, a reverse proxy knows."""
    path = request.scope.get("root_path", "") + request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    encoded = urlencode({"": path})[1:].replace("%2F", "/")
    return f'<{encoded}{"?" + urlencode(query) if query else ""}>; rel="{relation}"'
