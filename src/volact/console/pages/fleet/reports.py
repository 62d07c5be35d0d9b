# SPDX-License-Identifier: Apache-2.0
"""Reports: which there are, one on the page, and each as a file."""

from starlette.responses import Response

from volact.console.pages.parts import fleet_of
from volact.core.errors import VolactError
from volact.fleet.reports.asked import DEFAULT_DAYS
from volact.fleet.reports.catalogue import REPORTS, find_report
from volact.fleet.reports.render import FORMATS, find_format
from volact.fleet.reports.report import BarChart, Kind, LineChart, Report, Tone, show
from volact.web.pages.charts import Chart, Series
from volact.web.pages.charts import Tone as WebTone
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

TONES: dict[Tone, WebTone] = {
    Tone.PLAIN: "main", Tone.GOOD: "good", Tone.NOTE: "other", Tone.WARN: "warn", Tone.BAD: "bad", Tone.QUIET: "calm",
}  # fmt: skip


def reports(visit: Visit) -> Response:
    return visit.render("fleet/reports.html", reports=REPORTS.values(), formats=FORMATS)


def report(visit: Visit) -> Response:
    """On the page, with a long table in pages; as a file where a format is named."""
    kind = find_report(visit.part("name"))
    form = Form(dict(visit.query))
    days = form.integer("days", least=1, most=3650, required=False) or DEFAULT_DAYS
    since = form.day("since", required=False) or 0
    filter_ = form.text("filter", required=False)
    try:
        made = fleet_of(visit).report(kind.name, filter=filter_, days=days, since=since) if form.valid else None
    except VolactError as exc:
        made = None
        form.fail(exc)
    if made is not None and visit.query.get("format"):
        chosen = find_format(visit.query["format"])
        return visit.download(made.file_name(chosen.ending), chosen.render(made), chosen.media)
    listing = visit.listing(size=50)
    listing.slice(made.rows if made else ())
    return visit.render(
        "fleet/report.html",
        200 if form.valid else 422,
        kind=kind,
        report=made,
        form=form,
        listing=listing,
        charts=[_chart(chart) for chart in made.charts] if made else [],
        columns=[("", column.title, "num") if column.right else ("", column.title) for column in made.columns]
        if made
        else [],
        kinds=[column.kind for column in made.columns] if made else [],
        show=lambda kind, value: show(Kind(kind), value),
        formats=FORMATS,
    )


def _chart(chart: BarChart | LineChart) -> Chart:
    if isinstance(chart, BarChart):
        series = [Series(one.name, list(one.values), TONES[one.tone]) for one in chart.series]
        return Chart(chart.title, "bar", list(chart.categories), series, chart.unit, stacked=True)
    days = sorted({at for line in chart.lines for at, _ in line.points})
    lines = []
    for line in chart.lines:
        known = dict(line.points)
        lines.append(Series(line.name, [known.get(day) for day in days], TONES[line.tone], dashed=line.dashed))
    return Chart(chart.title, "line", [show(Kind.DAY, day) for day in days], lines, chart.unit)


def is_empty(made: Report) -> bool:
    return not made.rows
