# SPDX-License-Identifier: Apache-2.0
"""A report as PDF on A4: fpdf2, with the Unicode font that comes with matplotlib, and others where it lacks letters.

ADR 0029.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, TableCellFillMode, TextDirection
from fpdf.fonts import FontFace, TTFFont
from PIL import Image

from volact import __version__
from volact.fleet.reports import charts, fonts
from volact.fleet.reports.fonts import MOST_NAMED, Fonts
from volact.fleet.reports.report import Figure, Kind, Report, Tone, Value, show

# More than anybody reads on paper (at 45 a page: eleven pages); CSV and XLSX hold them all.
MOST_ROWS = 500
MARGIN = 14
WIDE = 6  # columns, from which on the page is turned
TILES = 5  # a line of figures
MOST_CELL = 120  # characters: a cell never fills a page
GAP = 8  # between charts
MOST_CHART = 185  # millimetres a chart is wide
WIDEST = 62.0  # millimetres a column gets at most, where others need the room
FONT = "DejaVu"
MEASURED = 200  # rows that columns' widths are taken from

OWN, OWN_BOLD = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"
ANOTHER = "another{number}"  # a font beside it

INK, MUTED, LINE, STRIPE = (29, 39, 51), (93, 107, 122), (221, 227, 234), (246, 248, 251)


_log = logging.getLogger("volact.fleet")


def to_pdf(report: Report, given: Sequence[Path] = ()) -> bytes:
    """``given``: fonts to look for letters in before this computer's; raises ``FontUnusableError``."""
    texts = list(_texts(report))
    found = fonts.find(texts, _font_folder() / OWN, given)
    shaped = fonts.needs_shaping(texts)
    try:
        return _draw(report, found, shaped)
    except Exception:  # a font that its reader, the drawer of charts or the PDF cannot digest is no report's end
        if not found.paths:
            raise
        _log.exception("report %s: drawn again without %s", report.name, ", ".join(map(str, found.paths)))
        own = fonts.find(texts, _font_folder() / OWN, (), search=False)
        return _draw(report, own, shaped)


def _draw(report: Report, found: Fonts, shaped: bool) -> bytes:
    drawn = [(chart.title, charts.to_png(chart, found)) for chart in report.charts]
    with closing(_Page(report, found, shaped)) as page:
        page.head()
        page.tiles()
        page.sentences()
        page.charts(drawn)
        page.listing()
        return bytes(page.output())


class _Page(FPDF):
    """The document: fpdf2 calls ``footer`` at the end of each page."""

    def __init__(self, report: Report, found: Fonts, shaped: bool) -> None:
        super().__init__("L" if len(report.columns) > WIDE else "P", "mm", "A4")
        self.report, self.found, self.shaped = report, found, shaped
        for style, file in (("", OWN), ("B", OWN_BOLD)):
            self.add_font(FONT, style, _font_folder() / file)
        others = [ANOTHER.format(number=number) for number, _ in enumerate(found.paths)]
        for name, path in zip(others, found.paths, strict=True):
            self.add_font(name, "", path)
        self.set_fallback_fonts(others, exact_match=False)
        self.set_text_shaping(shaped)
        self.set_margins(MARGIN, MARGIN)
        self.set_auto_page_break(True, MARGIN + 6)
        self.set_title(report.title)
        self.set_creator(f"Volact {__version__}")
        self.set_creation_date(datetime.fromtimestamp(report.made_at, UTC))
        self.set_lang("en")
        self.add_page()

    def normalize_text(self, text: str) -> str:
        """What no font has is seen to be missing."""
        found: Fonts | None = getattr(self, "found", None)
        return super().normalize_text(text if found is None else found.text(text))

    def footer(self) -> None:
        self.set_y(-MARGIN)
        shaping, self.text_shaping = self.text_shaping, None  # fpdf2 knows the number of pages only without it
        self._font(7.5, colour=MUTED)
        left = f"{self.report.title} · {show(Kind.TIME, self.report.made_at)} UTC · Volact {__version__}"
        self.cell(self.epw - 30, 5, left)
        self.cell(30, 5, f"{self.page_no()} / {{nb}}", align="R")
        self.text_shaping = shaping

    def close(self) -> None:
        for font in self.fonts.values():
            if isinstance(font, TTFFont):
                font.close()

    def head(self) -> None:
        self._font(19, bold=True)
        self.multi_cell(self.epw, 9, self.report.title, align="L", new_x="LMARGIN", new_y="NEXT")
        self._font(8.5, colour=MUTED)
        self.multi_cell(self.epw, 5, " · ".join(self._about()), align="L", new_x="LMARGIN", new_y="NEXT")
        self.ln(1.5)
        self.set_draw_color(*_rgb(Tone.PLAIN))
        self.set_line_width(0.8)
        self.line(self.l_margin, self.get_y(), self.l_margin + self.epw, self.get_y())
        self.ln(5)

    def tiles(self) -> None:
        figures = self.report.figures
        for start in range(0, len(figures), TILES):
            self._tile_line(figures[start : start + TILES], min(TILES, len(figures)))

    def sentences(self) -> None:
        """English ones, whatever name they begin with: left to right.  A cell holds a name, which says its own way."""
        self.set_text_shaping(self.shaped, direction=TextDirection.LTR)
        self._font(9.5)
        for sentence in self.report.summary:
            self.multi_cell(self.epw, 5.2, sentence, align="L", new_x="LMARGIN", new_y="NEXT")
            self.ln(0.8)
        if self.found.missing:
            self._font(8.5, colour=MUTED)
            self.multi_cell(self.epw, 4.8, _note(self.found.missing), align="L", new_x="LMARGIN", new_y="NEXT")
        self.set_text_shaping(self.shaped)
        self.ln(3)

    def charts(self, drawn: Sequence[tuple[str, bytes]]) -> None:
        """One below the other, or two side by side where the page is turned."""
        across = 2 if self.w > self.h and len(drawn) > 1 else 1
        for start in range(0, len(drawn), across):
            self._chart_line(drawn[start : start + across], across)

    def listing(self) -> None:
        report = self.report
        if self.will_page_break(30):
            self.add_page()
        self._title(report.table_title or report.title)
        if not report.rows:
            self._font(9, colour=MUTED)
            self.multi_cell(self.epw, 5, report.empty, align="L")
            return
        texts = [
            [_cell(column.kind, value) for column, value in zip(report.columns, row, strict=True)]
            for row in report.rows[:MOST_ROWS]
        ]
        self._table(texts)
        left_out = len(report.rows) - len(texts)
        if left_out:
            self.ln(2)
            self._font(8, colour=MUTED)
            text = f"{left_out:,} further rows are left out here; the report's CSV and XLSX files hold them all."
            self.multi_cell(self.epw, 5, text, align="L")

    def _table(self, texts: list[list[str]]) -> None:
        columns = self.report.columns
        self._font(8, bold=True)
        widths = self._widths([[column.title for column in columns], *texts[:MEASURED]])
        self._font(8)
        self.set_draw_color(*LINE)
        self.set_fill_color(255, 255, 255)
        self.set_line_width(0.2)
        heading = FontFace(emphasis="BOLD", color=MUTED, fill_color=(255, 255, 255))
        with self.table(
            col_widths=widths,
            text_align=tuple("RIGHT" if column.right else "LEFT" for column in columns),
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            cell_fill_color=STRIPE,
            cell_fill_mode=TableCellFillMode.EVEN_ROWS,
            headings_style=heading,
            line_height=4.4,
            padding=(0.9, 1.2),
        ) as table:
            table.row([column.title for column in columns])
            for row in texts:
                table.row(row)

    def _widths(self, rows: Sequence[Sequence[str]]) -> tuple[float, ...]:
        """What each column needs: its longest word at least, and of what is left as much as its longest text wants."""
        places = range(len(rows[0]))
        least = [max(self._longest_word(row[place]) for row in rows) + 3.4 for place in places]
        wanted = [max(max(self.get_string_width(row[place]) for row in rows) + 3.4, least[place]) for place in places]
        least = [min(one, WIDEST) for one in least]
        wanted = [max(min(one, 1.6 * WIDEST), need) for one, need in zip(wanted, least, strict=True)]
        left = max(0.0, self.epw - sum(least))
        wish = sum(wanted) - sum(least) or 1.0
        widths = [need + (one - need) * min(1.0, left / wish) for one, need in zip(wanted, least, strict=True)]
        return tuple(width * self.epw / sum(widths) for width in widths)

    def _longest_word(self, text: str) -> float:
        return max((self.get_string_width(word) for word in text.split(" ")), default=0.0)

    def _tile_line(self, figures: Sequence[Figure], across: int) -> None:
        gap, height, top = 3.0, 17.0, self.get_y()
        width = (self.epw - gap * (across - 1)) / across
        for place, figure in enumerate(figures):
            left = self.l_margin + place * (width + gap)
            self.set_draw_color(*LINE)
            self.set_line_width(0.2)
            self.rect(left, top, width, height)
            self.set_fill_color(*_rgb(figure.tone))
            self.rect(left, top, width, 1.2, "F")
            self.set_xy(left + 2, top + 3)
            self._font(_fitting(self, figure.value, width - 4), bold=True, colour=_value_colour(figure.tone))
            self.cell(width - 4, 7, figure.value)
            self.set_xy(left + 2, top + 10.2)
            self._font(7.5, colour=MUTED)
            self.cell(width - 4, 4.5, self._on_line(figure.label, width - 5))
        self.set_xy(self.l_margin, top + height + 5)

    def _chart_line(self, drawn: Sequence[tuple[str, bytes]], across: int) -> None:
        images = [(title, Image.open(io.BytesIO(png))) for title, png in drawn]
        width = min(MOST_CHART, (self.epw - GAP * (across - 1)) / across)
        height = max(width * image.height / image.width for _, image in images)
        if self.will_page_break(height + 12):
            self.add_page()
        top = self.get_y()
        for place, (title, image) in enumerate(images):
            left = self.l_margin + place * (width + GAP)
            self.set_xy(left, top)
            self._font(11, bold=True)
            self.cell(width, 7, title)
            self.image(image, x=left, y=top + 8, w=width, alt_text=title)
        self.set_xy(self.l_margin, top + 8 + height + 5)

    def _about(self) -> list[str]:
        report = self.report
        period = [" to ".join(show(Kind.DAY, second) for second in report.period)] if report.period else []
        selection = [f"Selection: {report.selection}"] if report.selection else []
        return [*period, f"As of {show(Kind.TIME, report.made_at)} UTC", *selection]

    def _title(self, text: str) -> None:
        self._font(11, bold=True)
        self.multi_cell(self.epw, 7, text, align="L", new_x="LMARGIN", new_y="NEXT")
        self.ln(1)

    def _on_line(self, text: str, width: float) -> str:
        """As much of a label as its tile has room for."""
        while text and self.get_string_width(text) > width:
            text = text.rstrip("…")[:-1].rstrip() + "…" if len(text) > 2 else ""
        return text

    def _font(self, size: float, *, bold: bool = False, colour: tuple[int, int, int] = INK) -> None:
        self.set_font(FONT, "B" if bold else "", size)
        self.set_text_color(*colour)


def _texts(report: Report) -> Iterator[str]:
    """Everything that is drawn and is not our own."""
    yield from (report.title, report.selection, report.table_title, report.empty, *report.summary)
    yield from (text for figure in report.figures for text in (figure.label, figure.value))
    yield from (column.title for column in report.columns)
    for chart in report.charts:
        yield from charts.texts(chart)
    texts = [place for place, column in enumerate(report.columns) if column.kind is Kind.TEXT]
    yield from (str(row[place]) for row in report.rows[:MOST_ROWS] for place in texts)


def _note(missing: frozenset[str]) -> str:
    names = fonts.scripts(missing)
    shown = ", ".join(names[:MOST_NAMED]) + (" and others" if len(names) > MOST_NAMED else "")
    return (
        f"Some letters ({shown}) stand as {fonts.MISSING}: no font of this computer has them. CSV, XLSX and HTML "
        "files hold them; in a PDF they need a font that is installed, or named by volact fleet report --font."
    )


def _fitting(page: FPDF, text: str, width: float) -> float:
    """The largest size at which a figure stands on one line."""
    for size in (15.0, 13.0, 11.0, 9.0):
        page.set_font(FONT, "B", size)
        if page.get_string_width(text) <= width:
            return size
    return 8.0


def _rgb(tone: Tone) -> tuple[int, int, int]:
    text = charts.COLOURS[tone]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _value_colour(tone: Tone) -> tuple[int, int, int]:
    return {Tone.BAD: _rgb(Tone.BAD), Tone.WARN: (138, 90, 0), Tone.GOOD: (47, 125, 91)}.get(tone, INK)


def _cell(kind: Kind, value: Value) -> str:
    """A time stays on its line; a text has no control characters and an end."""
    text = show(kind, value)
    if kind is not Kind.TEXT:
        return text.replace(" ", "\N{NO-BREAK SPACE}")
    clean = fonts.plain(text)
    return clean if len(clean) <= MOST_CELL else clean[: MOST_CELL - 1] + "…"


def _font_folder() -> Path:
    import matplotlib as mpl

    path: Any = mpl.get_data_path()
    return Path(path) / "fonts" / "ttf"
