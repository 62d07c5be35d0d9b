# SPDX-License-Identifier: Apache-2.0
"""The console's other pages in real Chromium, over a real host and machines that are reached by SSH: bulk acts with
live progress, what each role sees, every page for the keyboard and the screen reader, in the dark and on a phone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import DESKTOP, PHONE, axe, chromium, is_wide, shoot, tab
from support.console import Console, picture, reachable_fleet
from support.processes import good, serving
from support.site import Vendor
from volact.console.pages import PAGES
from volact.core.count import SECONDS_PER_DAY, day_of
from volact.fleet.api import Fleet
from volact.fleet.schema import KEYS, SAMPLES
from volact.host.application import load_serving, open_store
from volact.host.recording import Refused, Seen
from volact.host.settings import HostSettings
from volact.testing.issuers import CLIENT_GROUP
from volact.wire.serve import free_port

pytestmark = pytest.mark.needs("chromium")

MACHINES = 6
SHOWN = ("/", "/fleet/machines", "/fleet/machines?view=machines", "/fleet/machines/machine-001",
         "/fleet/jobs", "/fleet/schedules", "/fleet/keys", "/fleet/agreements", "/fleet/proxy", "/fleet/reports",
         "/fleet/reports/overview", "/fleet/reports/consumption",
         "/hosts/machines", "/events", "/doctor", "/setup/method", "/administration/accounts",
         "/administration/sessions", "/administration/audit", "/administration/mail", "/help")  # fmt: skip


@dataclass
class Site:
    console: Console
    fleet: Fleet


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    vendor = Vendor.make(folder)
    port = free_port()
    host = vendor.give_host(folder / "host")
    past(host, port)
    for number in range(1, MACHINES + 1):
        own = ("--dir", folder / "machines" / f"{number:03d}")
        good("client", "add-product", vendor.file, "--root", vendor.root, *own, machine=number)
        good("client", "install-key", "acme-cad", "--generic", "--edition", "client", *own, machine=number)
        good("client", "set-host", f"127.0.0.1:{port}", *own, machine=number)
    with serving(folder / "host", port), reachable_fleet(folder, MACHINES) as fleet:
        pool(fleet, vendor)
        console = Console(folder)
        with console.served():
            yield Site(console, fleet)


def past(host, port: int) -> None:
    """A month in which a site grew past its threshold."""
    store = open_store(host)
    load_serving(host, store, "kms1")
    HostSettings(port=port, address="127.0.0.1").save(store)
    scope = next(scope.id for scope in store.scopes() if scope.product_group == CLIENT_GROUP)
    now = int(time.time())
    for number in range(32):
        at = now - max(0, 29 - number) * SECONDS_PER_DAY
        identity = b"%032d" % number
        for state in ("unlicensed", "licensed"):
            seen = Seen(scope, identity, identity, at, at, f"office-{number:02d}", "acme-cad", "client", state)
            refused = [Refused(scope, "clock-skew", at, identity)] if number % 5 == 0 else []
            store.record([seen], day_of(at), refused)
    store.close()


def pool(fleet: Fleet, vendor: Vendor) -> None:
    """A MAK pool with two months of use behind it."""
    from volact.core.product_key import Channel, ProductKey, publisher_tag

    key = ProductKey.new(Channel.MAK, publisher_tag(vendor.root), CLIENT_GROUP, b"1234567")
    ((added,), _) = fleet.keys_add([f"{key},branch offices"])
    fleet.definition_add(vendor.file.read_text().strip(), vendor.root)
    today = int(time.time()) // SECONDS_PER_DAY * SECONDS_PER_DAY
    with fleet.store.write() as conn:
        for ago in range(60):
            for kind, value in (("remaining", 100 + 6 * ago), ("activations", 500)):
                at = today - ago * SECONDS_PER_DAY
                conn.execute(SAMPLES.insert().values(kind=kind, key=added.key_id, at=at, value=value))
        conn.execute(KEYS.update().values(remaining=100, activations=500, refreshed_at=today, product="acme-cad"))


def finished(page: Page) -> None:
    """The job's part of the page changes by itself: the address stays, nothing is loaded anew."""
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#job-state")).to_have_text(f"{MACHINES} of {MACHINES} machines", timeout=60_000)
    expect(page.locator("#progress[hx-trigger]")).to_have_count(0, timeout=20_000)
    assert page.evaluate("window.sameDocument") is True


def test_a_bulk_act_is_a_job_whose_progress_is_seen_live(browser: Browser, site: Site) -> None:
    with tab(browser) as page:
        site.console.open(page, "olga")
        page.goto(site.console.url + "/fleet/machines?view=machines")
        page.get_by_label("Choose all rows of this page").check()
        expect(page.locator("[data-count='machine']")).to_have_text(str(MACHINES))
        shoot(page, "console-fleet-chosen", whole=False)
        picture(page, "console-fleet")
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_role("heading", name="refresh")).to_be_visible()
        finished(page)
        shoot(page, "console-job")
        page.goto(site.console.url + "/fleet/machines?filter=state=unlicensed-any")
        page.get_by_label("Choose machine-001").check()
        page.get_by_role("button", name="Activate").click()
        axe(page)
        shoot(page, "console-fleet-activate", whole=False)
        page.get_by_role("button", name="Only show what it would do").click()
        expect(page.get_by_text("dry run", exact=False).first).to_be_visible()
        page.goto(site.console.url + "/fleet/machines")
        page.get_by_label("Choose all rows of this page").check()
        page.get_by_role("button", name="Activate").click()
        page.locator("#d-activate").get_by_role("button", name="Activate", exact=True).click()
        finished(page)
        page.goto(site.console.url + "/fleet/machines?filter=state=licensed")
        expect(page.get_by_role("row", name="machine-006")).to_contain_text("licensed")
        page.goto(site.console.url + "/fleet/machines/machine-001")
        expect(page.locator(".timeline")).to_contain_text("activate")
        axe(page)


def test_machines_are_added_tagged_and_removed(browser: Browser, site: Site) -> None:
    with tab(browser) as page:
        site.console.open(page, "olga")
        page.goto(site.console.url + "/fleet/machines?view=machines")
        page.get_by_role("button", name="Add machines").click()
        page.get_by_label("Names, addresses or ranges").fill("no such range [")
        page.locator("#add").get_by_role("button", name="Add", exact=True).click()
        expect(page.locator("#add").get_by_role("alert")).to_be_visible()
        page.get_by_label("Names, addresses or ranges").fill("spare[1-3].example.com")
        page.locator("#add").get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_text("3 machines were added")).to_be_visible()
        page.goto(site.console.url + "/fleet/machines?view=machines&filter=name~spare*")
        page.get_by_label("Choose all rows of this page").check()
        page.get_by_role("button", name="More").click()
        page.get_by_label("Tags").first.fill("lab")
        page.get_by_role("button", name="Tag", exact=True).click()
        expect(page.get_by_text("3 machines are tagged lab.")).to_be_visible()
        page.goto(site.console.url + "/fleet/machines?view=machines&filter=tag=lab")
        page.get_by_label("Choose all rows of this page").check()
        page.get_by_role("button", name="More").click()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("3 machines were removed")).to_be_visible()


def test_reports_come_as_files_of_every_format(browser: Browser, site: Site, tmp_path: Path) -> None:
    begins = {"JSON": b"{", "CSV": b"\xef\xbb\xbf", "XLSX": b"PK", "HTML": b"<!doctype", "PDF": b"%PDF"}
    with tab(browser) as page:
        site.console.open(page, "victor")
        page.goto(site.console.url + "/fleet/reports/overview")
        for name, start in begins.items():
            with page.expect_download() as download:
                page.get_by_role("link", name=name, exact=True).click()
            assert Path(download.value.path()).read_bytes().lower().startswith(start.lower()), name


def test_the_doctor_examines_a_machine_of_the_fleet(browser: Browser, site: Site) -> None:
    with tab(browser) as page:
        site.console.open(page, "olga")
        page.goto(site.console.url + "/fleet/machines/machine-002")
        page.get_by_role("button", name="Doctor").click()
        expect(page.locator(".walk-steps li").first).to_be_visible(timeout=30_000)
        expect(page.locator(".walk-steps strong", has_text="Discovery")).to_be_visible()
        axe(page)
        shoot(page, "console-doctor")


def test_a_viewer_sees_everything_and_is_offered_no_act(browser: Browser, site: Site) -> None:
    with tab(browser) as page:
        site.console.open(page, "victor")
        expect(page.get_by_role("link", name="Accounts")).to_have_count(0)
        expect(page.get_by_role("link", name="Set up")).to_have_count(0)
        page.goto(site.console.url + "/fleet/machines")
        expect(page.get_by_role("row", name="machine-001")).to_be_visible()
        expect(page.get_by_role("button", name="Refresh")).to_have_count(0)
        expect(page.get_by_role("checkbox")).to_have_count(0)
        answer = page.goto(site.console.url + "/setup/method")
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_text("may not do this")).to_be_visible()


def test_an_open_dashboard_is_made_anew_unless_somebody_reads_in_it(browser: Browser, site: Site) -> None:
    """By requests that say nobody is before them: they keep no session alive."""
    with tab(browser) as page:
        page.clock.install()
        site.console.open(page, "victor")
        expect(page.locator("#host-now")).to_be_visible()
        page.evaluate("window.sameDocument = true")
        with page.expect_request("**/dashboard/host") as asked:
            page.clock.fast_forward(31_000)
        assert asked.value.headers["x-unattended"] == "yes"
        assert asked.value.headers["x-form-token"]
        figures = page.locator("#host-now summary").first
        figures.click()
        seen: list[str] = []
        page.on("request", lambda request: seen.append(request.url))
        with page.expect_request("**/dashboard/fleet"):  # its figures are shut
            page.clock.fast_forward(31_000)
        assert not [url for url in seen if url.endswith("/dashboard/host")]
        assert page.evaluate("window.sameDocument") is True


@pytest.mark.parametrize(
    ("name", "dark", "phone"), [("light", False, False), ("dark", True, False), ("phone", False, True)]
)
def test_every_page_is_usable_in_the_light_in_the_dark_and_on_a_phone(
    browser: Browser, site: Site, name: str, dark: bool, phone: bool
) -> None:
    with tab(browser, dark=dark, size=PHONE if phone else DESKTOP) as page:
        site.console.open(page)
        for path in SHOWN:
            answer = page.goto(site.console.url + path)
            assert answer is not None
            assert answer.status == 200, path
            page.wait_for_load_state("networkidle")
            axe(page)
            if phone:
                assert not is_wide(page), path
            words = path.partition("?")[0].strip("/").replace("/", "-") or "dashboard"
            if path == "/" and name == "light":
                picture(page, "console-dashboard")
            shoot(page, f"console-{words}{'-machines' if 'view' in path else ''}-{name}")


def test_no_page_of_the_menu_is_left_out_here() -> None:
    shown = {path.partition("?")[0] for path in SHOWN} | {"/setup"}
    assert {page.path for page in PAGES if page.menu} <= shown
