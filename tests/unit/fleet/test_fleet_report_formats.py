# SPDX-License-Identifier: Apache-2.0
"""A report in each of its formats: what comes out is read again by programs that nobody here wrote."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest

from volact.fleet.reports.html import MOST_ROWS
from volact.fleet.reports.render import FORMATS, FormatUnknownError, format_of_file, render
from volact.fleet.reports.report import (
    Band,
    BarChart,
    Column,
    Figure,
    Kind,
    Line,
    LineChart,
    Report,
    Series,
    Tone,
)

NOW, DAY = 1_795_000_000, 86_400
EVIL = '=HYPERLINK("http://evil.example/","x")<script>alert(1)</script>'


@pytest.fixture
def report() -> Report:
    return Report(
        "overview",
        "Licence overview",
        NOW,
        (
            Column("machine", "Machine"),
            Column("number", "Installations", Kind.NUMBER),
            Column("share", "Share", Kind.SHARE),
            Column("seen", "Last contact", Kind.TIME),
            Column("ends", "Ends", Kind.DAY),
        ),
        ((EVIL, 1204, 0.875, NOW, NOW), ("Ωmega-Søren", 3, None, None, None), ("+49", 0, 0.0, NOW - DAY, NOW)),
        summary=(f"Ask {EVIL}.",),
        figures=(Figure("Machines", "1,204", Tone.GOOD), Figure(EVIL, "12", Tone.BAD)),
        charts=(
            BarChart("By product", (EVIL, "b $x$"), (Series("ok", (3, 4), Tone.GOOD), Series("not", (1, 0), Tone.BAD)),
                     "installations"),
            LineChart("Left", (Line("left", ((NOW - 9 * DAY, 9), (NOW, 4))),
                               Line("expected", ((NOW, 4), (NOW + DAY, 0)), Tone.BAD, dashed=True)),
                      "activations", (Band("range", ((NOW, 4, 4), (NOW + DAY, 0, 3))),)),
        ),
        period=(NOW - 9 * DAY, NOW),
        selection="tag=berlin",
    )  # fmt: skip


def test_json_keeps_types_and_gives_times_by_rfc_3339(report: Report) -> None:
    shown = json.loads(render(report, "json"))
    assert shown["rows"][0] == {
        "machine": EVIL, "number": 1204, "share": 0.875, "seen": "2026-11-18T11:06:40Z", "ends": "2026-11-18",
    }  # fmt: skip
    assert shown["rows"][1]["seen"] is None
    assert shown["charts"][1]["lines"][1]["expected"] is True


def test_no_cell_of_csv_is_a_formula(report: Report) -> None:
    data = render(report, "csv")
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows[0] == ["machine", "number", "share", "seen", "ends"]
    assert rows[1][0] == f"'{EVIL}"
    assert rows[3][0] == "'+49"
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for row in rows for cell in row)
    assert rows[1][1:3] == ["1204", "0.875"]


def test_xlsx_has_typed_cells_a_frozen_header_and_native_charts(report: Report) -> None:
    book = openpyxl.load_workbook(io.BytesIO(render(report, "xlsx")))
    assert book.sheetnames == ["Summary", "Table", "Charts", "Chart data"]
    table = book["Table"]
    assert table.freeze_panes == "A2"
    assert table.auto_filter.ref == "A1:E4"
    assert (table["A2"].value, table["A2"].data_type) == (EVIL, "s")
    assert (table["B2"].value, table["B2"].number_format) == (1204, "#,##0")
    assert (table["C2"].value, table["C2"].number_format) == (0.875, "0.0%")
    assert table["D2"].value == datetime(2026, 11, 18, 11, 6, 40)  # noqa: DTZ001 - Excel's have no zone
    assert len(book["Charts"]._charts) == 2
    assert all(cell.data_type != "f" for sheet in book for row in sheet.iter_rows() for cell in row)


def test_html_is_one_file_that_loads_and_runs_nothing(report: Report) -> None:
    page = render(report, "html").decode()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page.replace("xlink:href", "href"))
    assert "url(http" not in page
    assert "@import" not in page
    assert page.count("<svg") == 2
    assert page.count('role="img"') == 2
    assert "tag=berlin" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "#2f5d8a" not in page.split("</style>")[1]  # the charts' colours are the page's


def test_a_long_table_is_cut_on_paper_and_whole_in_data(report: Report) -> None:
    long = replace(report, rows=report.rows * (MOST_ROWS // 2), charts=())
    assert f"{len(long.rows) - MOST_ROWS:,} further rows are left out" in render(long, "html").decode()
    assert len(render(long, "csv").splitlines()) == len(long.rows) + 1
    assert openpyxl.load_workbook(io.BytesIO(render(long, "xlsx")))["Table"].max_row == len(long.rows) + 1


@pytest.mark.needs("pdftoppm")
def test_pdf_has_its_words_its_pages_and_its_charts(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(render(replace(report, rows=report.rows * 60), "pdf"))
    text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, check=True).stdout.decode()
    assert "Licence overview" in text
    assert "Ωmega-Søren" in text
    assert "Selection: tag=berlin" in text
    pages = text.count("\f")
    numbers = re.findall(rf"(\d+) ?/ ?{pages}\b", text)
    assert numbers == [str(number) for number in range(1, pages + 1)]
    images = subprocess.run(["pdfimages", "-list", path], capture_output=True, check=True).stdout
    assert images.count(b"image") >= 2


def test_what_the_font_has_no_glyph_for_is_seen_to_be_missing(report: Report) -> None:
    assert render(replace(report, title="漢字"), "pdf").startswith(b"%PDF")


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_report_is_the_same_file(name: str, report: Report) -> None:
    make: Callable[[], bytes] = lambda: re.sub(rb"/ID ?\[[^]]*\]", b"", render(report, name))  # noqa: E731
    assert make() == make()


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_report_says_that_there_is_nothing(name: str, report: Report) -> None:
    empty = replace(report, rows=(), charts=(), figures=(), summary=(), empty="Nothing fails.")
    assert render(empty, name)


def test_a_format_is_known_by_the_files_ending() -> None:
    assert format_of_file("out/report.PDF").name == "pdf"
    with pytest.raises(FormatUnknownError, match="docx"):
        format_of_file("report.docx")
