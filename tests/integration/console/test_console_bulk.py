# SPDX-License-Identifier: Apache-2.0
"""Bulk acts of the console in real Chromium, to the end: a MAK installed, requests collected, answered by a real
publisher and brought back, machines backed up and restored; schedules and agreements; what each role is offered."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import PHONE, axe, chromium, is_wide, shoot, tab
from support.console import Console, reachable_fleet
from support.fleet_folders import EDITION, issue
from support.processes import ADDRESS, Server, good
from support.site import RealPublisher
from volact.fleet.api import Fleet
from volact.wire.serve import free_port

pytestmark = pytest.mark.needs("chromium")

MACHINES = 3


@dataclass
class Site:
    console: Console
    fleet: Fleet
    publisher: RealPublisher
    service: Server
    mak: str

    def install(self, number: int) -> None:
        """What an installer does on a machine."""
        own = ("--dir", self.console.folder / "machines" / f"{number:03d}")
        good("client", "add-product", self.publisher.file, "--root", self.publisher.root, *own, machine=number)
        good("client", "install-key", "acme-cad", "--generic", "--edition", EDITION, *own, machine=number)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("bulk")
    publisher = RealPublisher.make(folder / "acme")
    port = free_port()
    where = ("--dir", publisher.folder / "publisher", "--passphrase-file", publisher.folder / "passphrase")
    words = ["publisher", "serve", "--listen", ADDRESS, "--port", port, *where]
    service = Server(words, publisher.folder / "publisher.log", port)
    try:
        service.wait_until()
        with reachable_fleet(folder, MACHINES) as fleet:
            made = Site(Console(folder), fleet, publisher, service, issue(publisher))
            for number in range(1, MACHINES + 1):
                made.install(number)
            with made.console.served():
                yield made
    finally:
        service.stop()


def finished(page: Page, number: int = MACHINES) -> None:
    expect(page.locator("#job-state")).to_have_text(f"{number} of {number} machines", timeout=60_000)
    expect(page.locator("#progress[hx-trigger]")).to_have_count(0, timeout=20_000)
    expect(page.locator("main")).not_to_contain_text("failed")


def choose(site: Site, page: Page, *names: str, filter_: str = "") -> None:
    """Ticks these machines, or all."""
    page.goto(f"{site.console.url}/fleet/machines?view=machines&filter={filter_}")
    if not names:
        page.get_by_label("Choose all rows of this page").check()
    for name in names:
        page.get_by_label(f"Choose {name}").check()


def more(page: Page, act: str) -> None:
    page.get_by_role("button", name="More").click()
    page.locator("#d-more").get_by_role("button", name=act, exact=True).click()


def test_a_mak_is_kept_installed_collected_for_answered_applied_backed_up_and_restored(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    url = site.console.url
    with tab(browser) as page:
        # the vault: a key and the definition that it belongs to
        site.console.open(page, "admin")
        page.goto(url + "/fleet/keys")
        page.get_by_role("button", name="Add keys").first.click()
        page.get_by_label("Keys, one a line").fill(f"{site.mak}, head office")
        page.locator("#add").get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_role("row", name=site.mak[-5:])).to_contain_text("head office")
        assert site.mak not in page.content()
        page.get_by_role("button", name="Add a definition").click()
        page.get_by_label("Product definition", exact=True).set_input_files(site.publisher.file)
        page.get_by_label("Root fingerprint").fill(site.publisher.root)
        page.locator("#define").get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_text("The definition of acme-cad was added.")).to_be_visible()

        # installed on all machines, in place of the generic key
        choose(site, page)
        page.get_by_role("button", name="Refresh").click()
        finished(page)
        choose(site, page)
        page.get_by_role("button", name="Install key").click()
        dialog = page.locator("#d-install")
        dialog.locator("#f-key").select_option(index=1)
        dialog.get_by_label("Also where another key is installed").check()
        axe(page)
        shoot(page, "console-fleet-install", whole=False)
        dialog.get_by_role("button", name="Install", exact=True).click()
        finished(page)
        page.goto(url + "/fleet/machines?filter=channel=mak")
        expect(page.get_by_role("row")).to_have_count(MACHINES + 1)

        # collected, carried to the publisher, and back
        choose(site, page)
        more(page, "Collect")
        finished(page)
        page.goto(url + "/fleet/proxy")
        expect(page.get_by_text(f"{MACHINES} requests wait for an answer")).to_be_visible()
        with page.expect_download() as requests:
            page.get_by_role("button", name="Download the bundle").click()
        carried = tmp_path / requests.value.suggested_filename
        requests.value.save_as(carried)
        page.get_by_label("Bundle of requests").set_input_files(carried)
        page.get_by_label("Publisher's service").fill(site.service.url)
        with page.expect_download() as answers:
            page.get_by_role("button", name="Have it answered").click()
        answered = tmp_path / answers.value.suggested_filename
        answers.value.save_as(answered)
        page.goto(url + "/fleet/proxy")
        page.get_by_label("Bundle of answers").set_input_files(answered)
        page.get_by_role("button", name="Take it in").click()
        expect(page.get_by_text(f"{MACHINES} answers wait to be brought")).to_be_visible()
        axe(page)
        shoot(page, "console-proxy")
        page.get_by_role("button", name="Bring them to the machines").click()
        finished(page)
        page.goto(url + "/fleet/machines?filter=state=licensed")
        expect(page.get_by_role("row")).to_have_count(MACHINES + 1)

        # one machine is set up anew, and gets back what was its own
        choose(site, page)
        more(page, "Back up")
        finished(page)
        shutil.rmtree(site.console.folder / "machines" / "003")
        site.install(3)
        choose(site, page, "machine-003")
        page.get_by_role("button", name="Refresh").click()
        finished(page, 1)
        page.goto(url + "/fleet/machines/machine-003")
        expect(page.locator("main")).not_to_contain_text("mak, ends in")
        choose(site, page, "machine-003")
        more(page, "Restore")
        finished(page, 1)
        page.goto(url + "/fleet/machines?filter=state=licensed")
        expect(page.get_by_role("row")).to_have_count(MACHINES + 1)


def test_an_act_without_a_chosen_machine_says_what_to_do(browser: Browser, site: Site) -> None:
    with tab(browser) as page:
        site.console.open(page, "olga")
        choose(site, page, "machine-001")
        page.get_by_label("Choose machine-001").evaluate("box => { box.checked = false }")
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_role("alert")).to_contain_text("no machine was chosen")
        expect(page.get_by_role("alert")).to_contain_text("tick some rows")


@pytest.mark.parametrize(
    ("account", "acts", "keeps"), [("admin", True, True), ("olga", True, False), ("victor", False, False)]
)
def test_each_role_is_offered_its_acts_and_no_others(
    browser: Browser, site: Site, account: str, acts: bool, keeps: bool
) -> None:
    url = site.console.url
    with tab(browser) as page:
        site.console.open(page, account)
        page.goto(url + "/fleet/machines?view=machines")
        boxes = page.get_by_role("checkbox")
        expect(boxes).to_have_count(MACHINES + 1 if acts else 0)
        if acts:
            page.get_by_label("Choose machine-001").check()
            for name in ("Refresh", "Install key", "Activate", "More"):
                expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
        for path, name, offered in (
            ("/fleet/machines", "Add machines", acts),
            ("/fleet/keys", "Ask what is left", acts),
            ("/fleet/keys", "Add keys", keeps),
            ("/fleet/proxy", "Take it in", acts),
            ("/fleet/schedules", "Add a schedule", keeps),
            ("/fleet/agreements", "Take in a file", keeps),
        ):
            page.goto(url + path)
            expect(page.get_by_role("button", name=name)).to_have_count(1 if offered else 0)


def test_a_schedule_is_added_run_disabled_and_removed(browser: Browser, site: Site) -> None:
    with tab(browser) as page:
        site.console.open(page, "admin")
        page.goto(site.console.url + "/fleet/schedules")
        expect(page.get_by_text("Nothing runs by itself yet.")).to_be_visible()
        page.get_by_role("button", name="Add a schedule").click()
        dialog = page.locator("#add")
        dialog.get_by_label("Name").fill("nightly")
        dialog.get_by_label("When").select_option("")
        dialog.get_by_label("Times").fill("61 2 * * *")
        axe(page)
        dialog.get_by_role("button", name="Add", exact=True).click()
        expect(dialog.get_by_role("alert")).to_contain_text("minute, hour, day, month and weekday")
        dialog.get_by_label("Times").fill("0 2 * * *")
        dialog.get_by_role("button", name="Add", exact=True).click()
        row = page.get_by_role("row", name="nightly")
        expect(row).to_contain_text("refresh machines")
        expect(page.locator("#who-runs")).to_contain_text("Run by this console. Next is nightly")
        row.get_by_role("button", name="Run now").click()
        expect(page.get_by_role("row", name="nightly")).to_contain_text("ok", timeout=30_000)
        shoot(page, "console-schedules")
        page.get_by_role("row", name="nightly").get_by_role("button", name="Disable").click()
        expect(page.get_by_role("row", name="nightly")).to_contain_text("disabled")
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("nightly was removed.")).to_be_visible()


def test_agreements_are_taken_in_from_a_file_and_removed(browser: Browser, site: Site, tmp_path: Path) -> None:
    right, wrong = tmp_path / "bought.csv", tmp_path / "wrong.csv"
    right.write_text("agreement,group,quantity,product,ends\nA-2026,101,1500,acme-cad,2027-12-31\n")
    wrong.write_text("not,a,heading\n1,2,3\n")
    with tab(browser, size=PHONE) as page:
        site.console.open(page, "admin")
        page.goto(site.console.url + "/fleet/agreements")
        for file in (wrong, right):
            if not page.locator("#take").is_visible():
                page.get_by_role("button", name="Take in a file").click()
            page.get_by_label("File of agreements").set_input_files(file)
            page.get_by_role("button", name="Take it in").click()
            if file is wrong:
                expect(page.locator("#take").get_by_role("alert")).to_be_visible()
        row = page.get_by_role("row", name="A-2026")
        expect(row).to_contain_text(re.compile(r"1.500"))
        axe(page)
        assert not is_wide(page)
        shoot(page, "console-agreements-phone")
        row.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("No agreement is known yet.")).to_be_visible()
