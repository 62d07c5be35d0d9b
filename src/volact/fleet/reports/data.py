# SPDX-License-Identifier: Apache-2.0
"""A report for other programs: JSON and CSV.  JSON keeps types; times are RFC 3339 in both."""

import csv
import io
import json
from typing import Any

from volact.core.spreadsheet import as_text
from volact.fleet.reports.report import BarChart, Chart, Kind, Report, Value, rfc3339, show


def to_json(report: Report) -> bytes:
    return json.dumps(as_dict(report), ensure_ascii=False, indent=2).encode() + b"\n"


def as_dict(report: Report) -> dict[str, Any]:
    """What ``--json`` and the API give."""
    return {
        "report": report.name,
        "title": report.title,
        "made_at": rfc3339(report.made_at),
        "period": [rfc3339(second) for second in report.period] if report.period else None,
        "selection": report.selection or None,
        "summary": list(report.summary),
        "facts": dict(report.facts),
        "figures": [{"label": one.label, "value": one.value, "tone": str(one.tone)} for one in report.figures],
        "columns": [{"key": one.key, "title": one.title, "kind": str(one.kind)} for one in report.columns],
        "rows": [
            {column.key: _plain(column.kind, value) for column, value in zip(report.columns, row, strict=True)}
            for row in report.rows
        ],
        "charts": [_chart(chart) for chart in report.charts],
    }


def to_csv(report: Report) -> bytes:
    """The table alone, with a byte order mark, without which Excel takes UTF-8 for something else."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([column.key for column in report.columns])
    for row in report.rows:
        writer.writerow([_cell(column.kind, value) for column, value in zip(report.columns, row, strict=True)])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _plain(kind: Kind, value: Value) -> Value:
    if value is None or kind not in (Kind.DAY, Kind.TIME):
        return value
    return rfc3339(int(value)) if kind is Kind.TIME else show(Kind.DAY, value)


def _cell(kind: Kind, value: Value) -> str:
    plain = _plain(kind, value)
    if plain is None:
        return ""
    if isinstance(plain, str):
        return as_text(plain)
    return f"{plain:.6g}" if isinstance(plain, float) else str(plain)


def _chart(chart: Chart) -> dict[str, Any]:
    if isinstance(chart, BarChart):
        series = [{"name": one.name, "values": list(one.values)} for one in chart.series]
        return {"title": chart.title, "unit": chart.unit, "categories": list(chart.categories), "series": series}
    lines = [
        {"name": line.name, "expected": line.dashed, "points": [[rfc3339(at), value] for at, value in line.points]}
        for line in chart.lines
    ]
    bands = [
        {"name": band.name, "points": [[rfc3339(at), low, high] for at, low, high in band.points]}
        for band in chart.bands
    ]
    return {"title": chart.title, "unit": chart.unit, "lines": lines, "bands": bands}
