# SPDX-License-Identifier: Apache-2.0
"""Reports drawn by a real browser and a real PDF reader; the pictures stay in build/screenshots to be looked at."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from support.fleet_rows import NOW, fill
from volact.fleet.figures.forecast import DAY
from volact.fleet.reports.asked import Asked
from volact.fleet.reports.catalogue import make_report
from volact.fleet.reports.render import render
from volact.fleet.reports.report import BarChart, Report, Series
from volact.fleet.store import FleetStore

SCREENSHOTS = Path(__file__).resolve().parents[3] / "build" / "screenshots"
LEAST_PIXELS = 9  # of a line of a chart's letters, on a phone too
LOOKED_AT = ("overview", "consumption", "compliance", "failures")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path_factory.mktemp("pictures") / "fleet.sqlite") as store:
        fill(store, 2_000)
        yield store


@pytest.fixture(scope="module")
def make(store: FleetStore) -> Callable[[str], Report]:
    def make_it(name: str) -> Report:
        with store.read() as conn:
            return make_report(conn, name, Asked(NOW, since=NOW - 30 * DAY if name == "changes" else 0))

    return make_it


@pytest.fixture(scope="module")
def browser(find_command: Callable[[str], str]) -> Iterator[Any]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=find_command("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield found
        found.close()


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_is_drawn_without_asking_anybody_and_can_be_read_by_everybody(
    name: str, scheme: Any, make: Callable[[str], Report], browser: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.html"
    path.write_bytes(render(make(name), "html"))
    page = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"fleet-report-{name}-{scheme}.png", full_page=True)
    assert asked == [path.as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    heights = "() => [...document.querySelectorAll('figure svg text')].map(text => text.getBoundingClientRect().height)"
    letters = page.evaluate(heights)
    assert letters
    assert min(letters) >= LEAST_PIXELS
    page.close()


@pytest.mark.needs("chromium")
def test_axe_finds_nothing_wrong(make: Callable[[str], Report], browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "overview.html"
    # The page's own policy forbids every script, axe's too.
    text = render(make("overview"), "html").decode().replace("http-equiv", "data-was")
    path.write_text(text)
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(path.as_uri())
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.close()


@pytest.mark.needs("pdftoppm")
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_pdf_is_drawn_page_by_page(name: str, make: Callable[[str], Report], tmp_path: Path) -> None:
    path = tmp_path / f"{name}.pdf"
    path.write_bytes(render(make(name), "pdf"))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    target = SCREENSHOTS / f"fleet-report-{name}-pdf"
    subprocess.run(["pdftoppm", "-r", "70", "-png", "-f", "1", "-l", "2", path, target], check=True)
    assert list(SCREENSHOTS.glob(f"{target.name}-*1.png"))


@pytest.mark.needs("pdftoppm")
def test_names_in_every_writing_are_drawn_or_seen_to_be_missing(make: Callable[[str], Report], tmp_path: Path) -> None:
    """With the fonts that this computer has, whichever they are."""
    report, names = (
        make("failures"),
        ("東京本社", "서울-개발-02", "حاسوب المدير", "दिल्ली कार्यालय", "מחשב-5", "ไทย-6", "𒀀𒀁"),
    )
    chart = BarChart("Machines", names, (Series("machines", tuple(range(1, len(names) + 1))),), "machines")
    row = report.rows[0]
    rows = tuple((name, *row[1:]) for name in names)
    path, target = tmp_path / "names.pdf", SCREENSHOTS / "fleet-report-names-pdf"
    path.write_bytes(render(replace(report, rows=rows, charts=(chart,)), "pdf"))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    subprocess.run(["pdftoppm", "-r", "70", "-png", "-singlefile", path, target], check=True)
    assert target.with_suffix(".png").exists()
