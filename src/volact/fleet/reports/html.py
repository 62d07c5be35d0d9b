# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML file: nothing is loaded from anywhere, nothing runs, and it prints.

Every text goes through the template's escaping, since names come from other machines; a policy in the page forbids
scripts and every address besides, should one slip through.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from volact import __version__
from volact.fleet.reports import charts
from volact.fleet.reports.report import Column, Kind, Report, Value, show

# More than anybody reads on a page; CSV and XLSX hold them all.
MOST_ROWS = 1_000
SHORT = 24  # letters: a name, a date, a key's end


def to_html(report: Report) -> bytes:
    rows = [
        [_cell(column, value) for column, value in zip(report.columns, row, strict=True)]
        for row in report.rows[:MOST_ROWS]
    ]
    drawn = [
        (chart.title, Markup(charts.to_svg(chart, number)))  # noqa: S704 - matplotlib escapes what it draws
        for number, chart in enumerate(report.charts, 1)
    ]
    page = _template().render(
        report=report,
        rows=rows,
        left_out=len(report.rows) - len(rows),
        charts=drawn,
        made_at=show(Kind.TIME, report.made_at),
        period=[show(Kind.DAY, second) for second in report.period or ()],
        version=__version__,
    )
    return page.encode()


def _cell(column: Column, value: Value) -> tuple[str, str]:
    """The text and its class: numbers to the right, what is short on one line."""
    text = show(column.kind, value)
    return text, "right" if column.right else "short" if len(text) <= SHORT else ""


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("volact.fleet.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
