# SPDX-License-Identifier: Apache-2.0
"""A report as a value: sentences, figures, one table, charts.  Every renderer takes this and nothing else.

Not here: where the rows come from (``volact.fleet.figures``) and how it is drawn (``render``).  Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

Value = str | int | float | None
Row = tuple[Value, ...]

DASH = "–"


class Kind(StrEnum):
    """What a column holds; times are Unix seconds, shares are from 0 to 1."""

    TEXT = "text"
    NUMBER = "number"
    SHARE = "share"
    DAY = "day"
    TIME = "time"


class Tone(StrEnum):
    """What a figure or a series means, from well to not; a renderer has one colour for each."""

    PLAIN = "plain"
    GOOD = "good"
    NOTE = "note"
    WARN = "warn"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Column:
    """``key`` names it in JSON and CSV, ``title`` on paper."""

    key: str
    title: str
    kind: Kind = Kind.TEXT

    @property
    def right(self) -> bool:
        return self.kind in (Kind.NUMBER, Kind.SHARE)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that stands large at the top."""

    label: str
    value: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each category of a bar chart."""

    name: str
    values: tuple[float, ...]
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars, stacked where there are several series."""

    title: str
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str


@dataclass(frozen=True, slots=True)
class Line:
    """Points of (Unix seconds, value); ``dashed`` for what is expected and not measured."""

    name: str
    points: tuple[tuple[int, float], ...]
    tone: Tone = Tone.PLAIN
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A range over time: (Unix seconds, least, most)."""

    name: str
    points: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    """Values over days."""

    title: str
    lines: tuple[Line, ...]
    unit: str
    bands: tuple[Band, ...] = ()


Chart = BarChart | LineChart


@dataclass(frozen=True, slots=True)
class Report:
    """``name`` is the report's word on the command line; ``period`` is (since, until) where it has one."""

    name: str
    title: str
    made_at: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    summary: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()
    period: tuple[int, int] | None = None
    selection: str = ""
    table_title: str = ""
    empty: str = "Nothing to list."
    facts: Mapping[str, Value] = field(default_factory=dict)  # for programs: what the sentences say

    def file_name(self, ending: str) -> str:
        return f"volact-{self.name}-{show(Kind.DAY, self.made_at)}.{ending}"


def show(kind: Kind, value: Value) -> str:
    """A cell as people read it; times in UTC, since a report is read elsewhere than where it was made."""
    if value is None:
        return DASH
    match kind:
        case Kind.TEXT:
            return str(value)
        case Kind.NUMBER:
            return f"{value:,}" if isinstance(value, int) else f"{float(value):,.1f}"
        case Kind.SHARE:
            return f"{float(value):.1%}"
        case Kind.DAY:
            return moment(value).strftime("%Y-%m-%d")
        case Kind.TIME:
            return moment(value).strftime("%Y-%m-%d %H:%M")


def moment(value: Value) -> datetime:
    return datetime.fromtimestamp(int(value or 0), UTC)


def rfc3339(second: int) -> str:
    return moment(second).strftime("%Y-%m-%dT%H:%M:%SZ")


def count(number: int, one: str, many: str = "") -> str:
    """``1 machine``, ``1,204 machines``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
