# SPDX-License-Identifier: Apache-2.0
"""A report as an Excel workbook: typed cells, a frozen header with filters, native charts that follow their cells.

Texts are written as texts and never as formulas or links, whatever they begin with.
"""

import io
from typing import Any

from xlsxwriter import Workbook

from volact.fleet.reports.charts import COLOURS
from volact.fleet.reports.report import BarChart, Chart, Column, Kind, LineChart, Report, Row, Tone, Value, moment, show

MOST_ROWS = 1_048_576 - 1  # of a sheet, without the header
MOST_TEXT = 32_767  # of a cell
NARROWEST, WIDEST = 9, 60
MEASURED = 500  # rows a column's width is taken from
OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "remove_timezone": True,
}
FORMATS = {Kind.NUMBER: "#,##0", Kind.SHARE: "0.0%", Kind.DAY: "yyyy-mm-dd", Kind.TIME: "yyyy-mm-dd hh:mm"}


def to_xlsx(report: Report) -> bytes:
    out = io.BytesIO()
    with Workbook(out, OPTIONS) as book:
        book.set_properties({"title": report.title, "created": moment(report.made_at).replace(tzinfo=None)})
        formats = {kind: book.add_format({"num_format": text, "valign": "top"}) for kind, text in FORMATS.items()}
        _summary(book, report)
        _table(book, report, formats)
        if report.charts:
            _charts(book, report, formats)
    return out.getvalue()


def _summary(book: Workbook, report: Report) -> None:
    sheet = book.add_worksheet("Summary")
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 34)
    sheet.set_column(1, 1, 60)
    large = book.add_format({"bold": True, "font_size": 18, "font_color": COLOURS[Tone.PLAIN]})
    muted, bold = book.add_format({"font_color": "#5d6b7a"}), book.add_format({"bold": True})
    sheet.write_string(0, 0, report.title, large)
    about = [f"As of {show(Kind.TIME, report.made_at)} UTC"]
    if report.period:
        about.insert(0, " to ".join(show(Kind.DAY, second) for second in report.period))
    if report.selection:
        about.append(f"Selection: {report.selection}")
    sheet.write_string(1, 0, " · ".join(about), muted)
    line = 3
    for sentence in report.summary:
        sheet.write_string(line, 0, sentence)
        line += 1
    line += 1
    for figure in report.figures:
        tone = book.add_format({"bold": True, "align": "left", "font_color": COLOURS[figure.tone]})
        sheet.write_string(line, 0, figure.label, bold)
        sheet.write_string(line, 1, figure.value, tone)
        line += 1


def _table(book: Workbook, report: Report, formats: dict[Kind, Any]) -> None:
    sheet = book.add_worksheet("Table")
    header = book.add_format({"bold": True, "bottom": 2, "bg_color": "#e8edf3", "valign": "vcenter"})
    text = book.add_format({"valign": "top"})
    for place, column in enumerate(report.columns):
        sheet.write_string(0, place, _title(column), header)
        sheet.set_column(place, place, _width(column, place, report.rows))
    rows = report.rows[:MOST_ROWS]
    for line, row in enumerate(rows, 1):
        for place, (column, value) in enumerate(zip(report.columns, row, strict=True)):
            _write(sheet, line, place, column.kind, value, formats.get(column.kind, text))
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, max(1, len(rows)), len(report.columns) - 1)
    sheet.repeat_rows(0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)


def _write(sheet: Any, line: int, place: int, kind: Kind, value: Value, form: Any) -> None:
    if value is None:
        return
    if kind in (Kind.DAY, Kind.TIME):
        sheet.write_datetime(line, place, moment(value).replace(tzinfo=None), form)
    elif kind is Kind.TEXT:
        sheet.write_string(line, place, str(value)[:MOST_TEXT], form)
    else:
        sheet.write_number(line, place, float(value), form)


def _title(column: Column) -> str:
    return f"{column.title} (UTC)" if column.kind is Kind.TIME else column.title


def _width(column: Column, place: int, rows: tuple[Row, ...]) -> float:
    longest = max((len(show(column.kind, row[place])) for row in rows[:MEASURED]), default=0)
    return min(WIDEST, max(NARROWEST, longest, len(_title(column)) + 2) + 1.5)


def _charts(book: Workbook, report: Report, formats: dict[Kind, Any]) -> None:
    """The charts stand on one sheet, the cells they follow on another."""
    sheet = book.add_worksheet("Charts")
    sheet.hide_gridlines(2)
    cells = book.add_worksheet("Chart data")
    column, line = 0, 0
    for chart in report.charts:
        drawn, height = _draw(book, cells, chart, column, formats)
        sheet.insert_chart(line, 0, drawn)
        column += _columns(chart) + 1
        line += height // 20 + 2
    book.worksheets()[0].activate()


def _columns(chart: Chart) -> int:
    return 1 + len(chart.series) if isinstance(chart, BarChart) else 2 * len(chart.lines) + 4 * len(chart.bands)


def _draw(book: Workbook, cells: Any, chart: Chart, column: int, formats: dict[Kind, Any]) -> tuple[Any, int]:
    drawn = (
        _bar(book, cells, chart, column) if isinstance(chart, BarChart) else _line(book, cells, chart, column, formats)
    )
    height = 320 if isinstance(chart, LineChart) else 140 + 26 * len(chart.categories)
    drawn.set_title({"name": chart.title, "name_font": {"size": 12}, "overlay": False})
    drawn.set_size({"width": 860, "height": height})
    drawn.set_legend({"position": "bottom"})
    return drawn, height


def _bar(book: Workbook, cells: Any, chart: BarChart, column: int) -> Any:
    drawn: Any = book.add_chart({"type": "bar", "subtype": "stacked"})
    last = max(1, len(chart.categories))
    cells.write_string(0, column, chart.title)
    for line, name in enumerate(chart.categories, 1):
        cells.write_string(line, column, name)
    for place, series in enumerate(chart.series, column + 1):
        cells.write_string(0, place, series.name)
        for line, value in enumerate(series.values, 1):
            cells.write_number(line, place, value)
        drawn.add_series(
            {
                "name": ["Chart data", 0, place],
                "categories": ["Chart data", 1, column, last, column],
                "values": ["Chart data", 1, place, last, place],
                "fill": {"color": COLOURS[series.tone]},
                "gap": 45,
            }
        )
    drawn.set_y_axis({"reverse": True})
    drawn.set_x_axis(
        {"name": chart.unit, "num_format": "#,##0", "major_gridlines": {"visible": True}, "label_position": "high"}
    )
    return drawn


def _line(book: Workbook, cells: Any, chart: LineChart, column: int, formats: dict[Kind, Any]) -> Any:
    drawn: Any = book.add_chart({"type": "scatter", "subtype": "straight"})
    for line in chart.lines:
        style = {"color": COLOURS[line.tone], "width": 2, **({"dash_type": "dash"} if line.dashed else {})}
        column = _points(drawn, cells, line.name, line.points, column, style, formats)
    for band in chart.bands:
        style = {"color": COLOURS[Tone.NOTE], "width": 1.25, "dash_type": "round_dot"}
        lows = tuple((at, low) for at, low, _ in band.points)
        highs = tuple((at, high) for at, _, high in band.points)
        column = _points(drawn, cells, f"{band.name}: least", lows, column, style, formats)
        column = _points(drawn, cells, f"{band.name}: most", highs, column, style, formats)
    drawn.set_x_axis({"date_axis": True, "num_format": "yyyy-mm-dd", "major_gridlines": {"visible": False}})
    drawn.set_y_axis({"name": chart.unit, "num_format": "#,##0", "min": 0})
    return drawn


def _points(
    drawn: Any, cells: Any, name: str, points: tuple[tuple[int, float], ...], column: int, style: Any, formats: Any
) -> int:
    cells.write_string(0, column, "day")
    cells.write_string(0, column + 1, name)
    cells.set_column(column, column, 12)
    for row, (at, value) in enumerate(points, 1):
        cells.write_datetime(row, column, moment(at).replace(tzinfo=None), formats[Kind.DAY])
        cells.write_number(row, column + 1, value)
    last = max(1, len(points))
    drawn.add_series(
        {
            "name": ["Chart data", 0, column + 1],
            "categories": ["Chart data", 1, column, last, column],
            "values": ["Chart data", 1, column + 1, last, column + 1],
            "line": style,
            "marker": {"type": "none"},
        }
    )
    return column + 2
