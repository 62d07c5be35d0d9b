# SPDX-License-Identifier: Apache-2.0
"""Real Chromium for tests of pages: started once, screenshots kept in build/screenshots, axe on each page.

    def test_…(site_url):
        with chromium() as browser, tab(browser) as page:
            page.goto(site_url); shoot(page, "start"); axe(page)

A page that logs an error to its console, or that its content security policy stopped from loading something, fails.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

EXECUTABLE = os.environ.get("VOLACT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
DESKTOP = (1360, 860)
PHONE = (390, 844)
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(
    browser: Browser, *, dark: bool = False, size: tuple[int, int] = DESKTOP, timeout: float = 15_000, **options: Any
) -> Iterator[Page]:
    """A page of a browser without cookies; fails at the end where its console had errors."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        timezone_id="Europe/Berlin",
        locale="en-GB",
        reduced_motion="reduce",
        accept_downloads=True,
        **options,
    )
    context.set_default_timeout(timeout)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: _collect(faults, message))
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert not faults, f"the browser's console has errors: {faults}"


def shoot(page: Page, name: str, *, whole: bool = True) -> Path:
    """A screenshot into build/screenshots/NAME.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.evaluate("document.fonts.ready")
    page.screenshot(path=path, full_page=whole)
    return path


def axe(page: Page) -> None:
    """Fails on what keeps people with a keyboard or a screen reader out: axe-core's serious and critical findings."""
    found = Axe().run(page).response["violations"]
    serious = [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in SERIOUS
    ]
    assert not serious, f"{page.url}: " + "\n".join(serious)


def is_wide(page: Page) -> bool:
    """Whether the page has to be scrolled sideways, as none should on a phone."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def _collect(faults: list[str], message: ConsoleMessage) -> None:
    # The browser itself reports every answer of 400 and more; whether a page may be refused is the test's to say.
    if message.type == "error" and "Failed to load resource" not in message.text:
        faults.append(message.text)
