# SPDX-License-Identifier: Apache-2.0
"""Names in every writing: a report as PDF finds a font for them, or says which letters it has none for."""

import subprocess
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from support.processes import volact
from volact.fleet.api import Fleet
from volact.fleet.reports import charts, fonts
from volact.fleet.reports.fonts import MISSING, FontUnusableError, find, needs_shaping, plain
from volact.fleet.reports.pdf import OWN, _font_folder, to_pdf
from volact.fleet.reports.render import render
from volact.fleet.reports.report import BarChart, Column, Figure, Kind, Report, Series

TOKYO, DELHI, CAIRO = "東京本社", "दिल्ली कार्यालय", "حاسوب المدير"
OURS = _font_folder() / OWN


def make_font(path: Path, letters: str, name: str = "Boxes") -> Path:
    """A real TrueType font with a box for each letter."""
    pen = TTGlyphPen(None)
    for number, point in enumerate(((0, 0), (0, 700), (500, 700), (500, 0))):
        pen.lineTo(point) if number else pen.moveTo(point)
    pen.closePath()
    box = pen.glyph()
    names = {ord(letter): f"g{ord(letter):04X}" for letter in letters}
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *names.values()])
    font.setupCharacterMap(names)
    font.setupGlyf(dict.fromkeys((".notdef", *names.values()), box))
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", *names.values()), (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular", "psName": name, "uniqueFontIdentifier": name})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    font.save(path)
    return path


def report(*names: str) -> Report:
    columns = (Column("machine", "machine"), Column("number", "number", Kind.NUMBER))
    chart = BarChart("Machines by organisation", names, (Series(names[0], (1,) * len(names)),), "machines")
    return Report(
        "overview", "Overview", 1_790_000_000, columns, tuple((name, 1) for name in names), (f"{names[0]} leads.",),
        (Figure(names[0], "1"),), (chart,), selection=f"tag={names[0]}",
    )  # fmt: skip


def read(pdf: bytes, path: Path) -> str:
    """What a PDF reader finds written there."""
    path.write_bytes(pdf)
    text = subprocess.run(["pdftotext", "-layout", path, "-"], check=True, capture_output=True, text=True).stdout
    return " ".join(text.split())


@pytest.fixture(autouse=True)
def system(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fonts of a computer that has none but ours, whatever this one has."""
    found: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(found))
    return found


@pytest.mark.needs("pdftoppm")
def test_letters_that_no_font_has_are_marked_and_the_report_says_so(tmp_path: Path) -> None:
    text = read(render(report(TOKYO, DELHI), "pdf"), tmp_path / "a.pdf")
    assert MISSING * 4 in text
    assert "Some letters (CJK, Devanagari) stand as" in text
    assert "volact fleet report --font" in text


@pytest.mark.needs("pdftoppm")
def test_a_font_of_this_computer_is_found(system: list[str], tmp_path: Path) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"\0\1\0\0 no font at all")
    system += [str(tmp_path / "damaged.ttf"), str(tmp_path / "gone.ttf"), str(tmp_path / "old.pfb")]
    system.append(str(make_font(tmp_path / "boxes.ttf", TOKYO)))
    text = read(render(report(TOKYO, "web1"), "pdf"), tmp_path / "a.pdf")
    assert text.count(TOKYO) == 4  # selection, figure, sentence, table; in the chart it is a picture
    assert MISSING not in text
    assert "Some letters" not in text


@pytest.mark.needs("pdftoppm")
def test_a_font_that_is_given_comes_first(system: list[str], tmp_path: Path) -> None:
    system.append(str(make_font(tmp_path / "system.ttf", TOKYO, "System")))
    given = make_font(tmp_path / "given.ttf", TOKYO[:2], "Given")
    assert find([TOKYO], OURS, [given]).paths == (given, tmp_path / "system.ttf")
    assert TOKYO in read(render(report(TOKYO), "pdf", [given]), tmp_path / "a.pdf")
    assert find(["web1"], OURS, [given]).paths == ()  # nobody needs it


def test_plain_fonts_come_before_styled_ones_and_boxes_for_everything_last() -> None:
    names = ("LastResort.ttf", "NotoSerifCJK.ttc", "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "wqy.ttc")
    order = [path.name for path in sorted(map(Path, names), key=fonts._order)]
    assert order == ["NotoSansCJK-Regular.ttc", "wqy.ttc", "NotoSansCJK-Bold.ttc", "NotoSerifCJK.ttc", "LastResort.ttf"]


@pytest.mark.parametrize(
    ("name", "data"), [("a.ttf", None), ("a.ttf", b"no font"), ("a.woff", b"wOFF"), ("a.otf", b"OTTO" + bytes(60))]
)
def test_a_given_file_that_is_no_font_is_named(name: str, data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FontUnusableError) as caught:
        to_pdf(report(TOKYO), [tmp_path / name])
    assert caught.value.path == str(tmp_path / name)


@pytest.mark.needs("pdftoppm")
def test_a_font_that_cannot_be_drawn_with_is_no_reports_end(
    system: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system.append(str(make_font(tmp_path / "odd.ttf", TOKYO)))

    def draw(path: Path) -> str:
        raise RuntimeError(f"cannot load {path}")

    monkeypatch.setattr(charts, "_family", draw)
    text = read(render(report(TOKYO), "pdf"), tmp_path / "a.pdf")
    assert "Some letters (CJK) stand as" in text
    assert "drawn again without" in caplog.text


@pytest.mark.parametrize("format_", ["html", "xlsx", "csv", "json", "pdf"])
def test_every_format_takes_every_name(format_: str) -> None:
    """Also where no font has it: no warning of any library ends a report, or stands on a terminal."""
    assert render(report(TOKYO, DELHI, CAIRO, "𒀀", "\ud7ff\ue000"), format_)


def test_marks_of_direction_make_no_name_look_like_another() -> None:
    assert plain("txt\N{RIGHT-TO-LEFT OVERRIDE}exe.\x07") == "txtexe. "
    joined = "नमस्\N{ZERO WIDTH JOINER}ते"
    assert plain(joined) == joined


@pytest.mark.parametrize(("text", "wanted"), [(CAIRO, True), (DELHI, True), (TOKYO, False), ("Ελλάς Москва é", False)])
def test_letters_that_join_or_run_from_the_right_are_shaped(text: str, wanted: bool) -> None:
    assert needs_shaping([text]) is wanted


@pytest.mark.needs("pdftoppm")
def test_pages_are_counted_in_shaped_reports_too(tmp_path: Path) -> None:
    text = read(render(report(CAIRO), "pdf"), tmp_path / "a.pdf")
    assert text.endswith(("1 / 1", "1/1"))
    assert MISSING not in text


def test_the_command_takes_a_font_for_a_pdf_only(tmp_path: Path) -> None:
    Fleet.init(tmp_path / "fleet").close()
    font = make_font(tmp_path / "boxes.ttf", TOKYO)
    words = ("fleet", "report", "overview", "--font", font, "--dir", tmp_path / "fleet")
    assert volact(*words, "-o", tmp_path / "a.pdf").code == 0
    for more in (("-o", tmp_path / "a.csv"), ("--format", "html"), ()):
        assert volact(*words, *more, "--json").json["error"]["code"] == "report-font-unfit"
    assert not (tmp_path / "a.csv").exists()
