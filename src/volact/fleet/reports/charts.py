# SPDX-License-Identifier: Apache-2.0
"""A report's charts, drawn by matplotlib: as SVG for the HTML page, as PNG for the PDF.  ADR 0029.

The SVG keeps its text as text and names its colours as custom properties of the page, so that one drawing serves
light and dark.  matplotlib's settings are the process's own: one drawing at a time.
"""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from volact.fleet.reports.fonts import Fonts
from volact.fleet.reports.report import BarChart, Chart, LineChart, Tone

WIDTH = 7.4  # inches: the text's width on A4, and a page's column
PNG_DPI = 220

# By tone, from well to not.  They differ in brightness too, so that grey prints and all eyes can tell.
COLOURS: dict[Tone, str] = {
    Tone.PLAIN: "#2f5d8a",
    Tone.GOOD: "#3f8f6b",
    Tone.NOTE: "#7fb4d6",
    Tone.WARN: "#e0a93b",
    Tone.BAD: "#b23a48",
    Tone.QUIET: "#9aa3ad",
}
INK, MUTED, GRID = "#1d2733", "#5d6b7a", "#dde3ea"
_NAMES = {**{colour: f"--{tone}" for tone, colour in COLOURS.items()}, INK: "--ink", MUTED: "--muted", GRID: "--grid"}

MOST_BARS = 20
LEGEND_LETTERS = 100  # that a line of the legend has room for
_drawing = threading.Lock()


def to_svg(chart: Chart, number: int = 1) -> str:
    """An ``svg`` element to stand in a page; ``number`` keeps its names apart from those of the page's other charts."""
    text = _save(chart, "svg", Fonts()).decode()
    text = text[text.index("<svg") :]
    for colour, name in _NAMES.items():
        text = text.replace(colour, f"var({name})")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="c{number}-', text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#c{number}-", text)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{_attribute(chart.title)}" ', 1)


def to_png(chart: Chart, fonts: Fonts) -> bytes:
    return _save(chart, "png", fonts)


def texts(chart: Chart) -> Iterator[str]:
    """What is written on it."""
    yield chart.title
    yield chart.unit
    if isinstance(chart, BarChart):
        yield from chart.categories[:MOST_BARS]
        yield from (one.name for one in chart.series)
    else:
        yield from (line.name for line in chart.lines)
        yield from (band.name for band in chart.bands)


def _save(chart: Chart, kind: str, fonts: Fonts) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": chart.title,
        "font.family": ["DejaVu Sans", *map(_family, fonts.paths)],
        "font.size": 9,
        "text.parse_math": False,  # a name may hold a dollar
    }
    out = io.BytesIO()
    with _drawing, mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")  # in SVG: whoever reads it has one
        figure = Figure(figsize=(WIDTH, _height(chart)), layout="constrained")
        axes = figure.subplots()
        _bars(figure, axes, chart, fonts) if isinstance(chart, BarChart) else _lines(figure, axes, chart, fonts)
        figure.savefig(out, format=kind, dpi=PNG_DPI, transparent=kind == "svg", metadata=_unsigned(kind))
    return out.getvalue()


def _family(path: Path) -> str:
    """A font's name, by which matplotlib finds it from now on."""
    from matplotlib import font_manager

    name = str(font_manager.FontProperties(fname=path).get_name())
    if name not in font_manager.fontManager.get_font_names():
        font_manager.fontManager.addfont(path)
    return name


def _unsigned(kind: str) -> dict[str, Any]:
    """No date, so that the same report is the same bytes."""
    return {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}


def _height(chart: Chart) -> float:
    if isinstance(chart, LineChart):
        return 3.1
    return 0.75 + 0.30 * min(len(chart.categories), MOST_BARS) + (0.25 if len(chart.series) > 1 else 0)


def _bars(figure: Any, axes: Any, chart: BarChart, fonts: Fonts) -> None:
    names = [_short(fonts.text(name)) for name in chart.categories[:MOST_BARS]]
    places = range(len(names))
    left = [0.0] * len(names)
    for one in chart.series:
        values = one.values[:MOST_BARS]
        axes.barh(places, values, left=left, height=0.66, color=COLOURS[one.tone], label=fonts.text(one.name))
        left = [before + value for before, value in zip(left, values, strict=True)]
    most = max(left, default=0) or 1
    for place, total in zip(places, left, strict=True):
        axes.text(total + most * 0.008, place, f"{total:,.0f}", va="center", ha="left", color=MUTED, fontsize=8)
    axes.set_yticks(list(places), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.08)
    _plain_axes(axes, "x")
    axes.set_xlabel(fonts.text(chart.unit), color=MUTED)
    if len(chart.series) > 1:
        _legend(figure)


def _lines(figure: Any, axes: Any, chart: LineChart, fonts: Fonts) -> None:
    from matplotlib import dates

    for band in chart.bands:
        days = [_day(at) for at, _, _ in band.points]
        lows, highs = [low for _, low, _ in band.points], [high for _, _, high in band.points]
        axes.fill_between(
            days, lows, highs, color=COLOURS[Tone.NOTE], alpha=0.35, linewidth=0, label=fonts.text(band.name)
        )
    for line in chart.lines:
        style = (0, (4, 3)) if line.dashed else "solid"
        days, values = [_day(at) for at, _ in line.points], [value for _, value in line.points]
        look: Any = {"color": COLOURS[line.tone], "linewidth": 1.8, "linestyle": style}
        axes.plot(days, values, label=fonts.text(line.name), **look)
    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, show_offset=False))
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    _plain_axes(axes, "y")
    axes.set_ylabel(fonts.text(chart.unit), color=MUTED)
    if len(chart.lines) + len(chart.bands) > 1:
        _legend(figure)


def _plain_axes(axes: Any, grid: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.spines[["top", "right", "left" if grid == "x" else "bottom"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axis = axes.xaxis if grid == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _legend(figure: Any) -> None:
    longest = max(len(text) for text in figure.axes[0].get_legend_handles_labels()[1])
    across = max(1, min(6, LEGEND_LETTERS // (longest + 5)))
    figure.legend(loc="outside upper left", ncols=across, frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.4)


def _short(name: str, most: int = 34) -> str:
    """A label that leaves room for the bars."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _day(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _attribute(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
