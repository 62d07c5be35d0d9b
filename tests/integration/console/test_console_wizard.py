# SPDX-License-Identifier: Apache-2.0
"""The Set up wizard in real Chromium, each way through it, with the production's publisher, hosts and directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import axe, chromium, shoot, tab
from support.console import Console, picture
from support.processes import ADDRESS, Server, serving
from support.site import RealPublisher
from volact.wire.serve import free_port

pytestmark = pytest.mark.needs("chromium")

DESK_REASON = "the console's test calls"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("publisher") / "acme")


@pytest.fixture(scope="module")
def service(publisher: RealPublisher) -> Iterator[Server]:
    port = free_port()
    where = ("--dir", publisher.folder / "publisher", "--passphrase-file", publisher.folder / "passphrase")
    words = ["publisher", "serve", "--listen", ADDRESS, "--port", port, *where]
    server = Server(words, publisher.folder / "publisher.log", port)
    try:
        yield server.wait_until()
    finally:
        server.stop()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    made = Console(tmp_path / "site")
    with made.served():
        yield made


def step(page: Page, title: str) -> None:
    expect(page.locator("#step-title")).to_have_text(title)


def begin(console: Console, page: Page, publisher: RealPublisher, shots: bool = False) -> None:
    """Method, machine, product and key: the same whichever way it is activated."""
    console.open(page)
    page.get_by_role("link", name="Set up").first.click()
    step(page, "Method")
    look(page, "console-setup-method", shots)
    page.get_by_role("button", name="Next").click()
    step(page, "Machine")
    look(page, "console-setup-machine", shots)
    page.get_by_role("button", name="Next").click()
    step(page, "Product")
    page.get_by_label("Product definition").set_input_files(publisher.file)
    page.get_by_label("Root fingerprint").fill("sha256:" + "0" * 64)
    page.get_by_role("button", name="Add the product").click()
    expect(page.get_by_role("alert")).to_contain_text("root")
    look(page, "console-setup-product", shots)
    page.get_by_label("Product definition").set_input_files(publisher.file)
    page.get_by_label("Root fingerprint").fill(publisher.root)
    page.get_by_role("button", name="Add the product").click()
    step(page, "Key")


def install(page: Page, publisher: RealPublisher, shots: bool = False) -> str:
    """A mistyped key is told at once and put right; returns its last five symbols."""
    key = publisher.host_key()
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    page.get_by_label("KMS host key").fill(wrong)
    page.get_by_role("button", name="Install the key").click()
    expect(page.get_by_role("alert")).to_contain_text("group")
    look(page, "console-setup-key", shots)
    page.get_by_label("KMS host key").fill(key)
    page.get_by_role("button", name="Install the key").click()
    step(page, "Activate")
    return key[-5:]


def look(page: Page, name: str, wanted: bool = True) -> None:
    axe(page)
    if wanted:
        shoot(page, name)


def test_online_through_to_a_test_activation(
    browser: Browser, console: Console, publisher: RealPublisher, service: Server
) -> None:
    with tab(browser) as page:
        begin(console, page, publisher, shots=True)
        install(page, publisher, shots=True)
        page.get_by_label("Address of the publisher's service").fill("http://127.0.0.1:9")
        page.get_by_role("button", name="Activate online").click()
        expect(page.get_by_role("alert")).to_contain_text("Connection refused")
        look(page, "console-setup-activate")
        page.get_by_label("Address of the publisher's service").fill(service.url)
        page.get_by_role("button", name="Activate online").click()
        step(page, "Configure")
        port = free_port()
        page.get_by_label("TCP port").fill(str(port))
        page.get_by_label("Address to listen on").fill(ADDRESS)
        page.get_by_label("Address to listen on").blur()
        expect(page.locator("#preview")).to_contain_text(f"volact host set-port {port}")
        page.get_by_text("Add a domain").first.click()
        page.get_by_label("Domain", exact=True).fill("example.com")
        page.get_by_label("This host's full name").fill("kms1.example.com")
        page.get_by_label("Priority").fill("10")
        page.get_by_role("button", name="Add the domain").click()
        expect(page.get_by_role("row", name="example.com")).to_contain_text("10")
        look(page, "console-setup-configure")
        picture(page, "console-setup")
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("None yet.")).to_be_visible()
        page.get_by_label("TCP port").fill(str(port))
        page.get_by_label("Address to listen on").fill(ADDRESS)
        page.get_by_role("button", name="Save and go on").click()
        step(page, "Prove it")
        expect(page.locator("#ready")).to_contain_text("does not answer yet")
        with serving(console.folder / "host", port):
            expect(page.locator("#ready")).to_contain_text("The host answers")
            page.get_by_role("button", name="Activate the test machine").click()
            expect(page.get_by_role("heading", name="It works.")).to_be_visible()
            expect(page.locator(".proven")).to_contain_text("counts 1 of 25")
            look(page, "console-setup-proof")
            page.get_by_role("link", name="To the dashboard").click()
            expect(page.get_by_role("heading", name="acme-clients")).to_be_visible()


def test_by_file_across_an_air_gap(
    browser: Browser, console: Console, publisher: RealPublisher, tmp_path: Path
) -> None:
    with tab(browser) as page:
        begin(console, page, publisher)
        install(page, publisher)
        page.get_by_role("link", name="By file").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the request").click()
        download.value.save_as(tmp_path / "host.volreq")
        publisher.run("answer", tmp_path / "host.volreq", "-o", tmp_path / "host.volans")
        page.get_by_label("Answer file").set_input_files(tmp_path / "host.volans")
        look(page, "console-setup-by-file")
        page.get_by_role("button", name="Apply the answer").click()
        step(page, "Configure")
        expect(page.locator(".wizard-side")).to_contain_text("Contoso")


def test_by_telephone_with_a_wrong_group_marked_at_once(
    browser: Browser, console: Console, publisher: RealPublisher
) -> None:
    with tab(browser) as page:
        begin(console, page, publisher)
        partial = install(page, publisher)
        page.get_by_role("link", name="By telephone").click()
        groups = page.locator("ol[aria-label='Installation ID'] li").all_inner_texts()
        assert len(groups) > 5
        spoken = publisher.run(
            "phone", "--installation-id", "-".join(groups), "--key", partial, "--reason", DESK_REASON
        ).json["groups"]
        typed = [*spoken]
        typed[3] = typed[3][:-1] + str((int(typed[3][-1]) + 1) % 10)
        page.get_by_label("Confirmation ID").press_sequentially(" ".join(typed[:5]), delay=0)
        expect(page.locator("[data-digits-note]")).to_have_text("Group 4 has a typing error.")
        expect(page.locator(".digits-wrong")).to_have_count(1)
        look(page, "console-setup-phone")
        page.get_by_label("Confirmation ID").fill("")
        page.get_by_label("Confirmation ID").press_sequentially(" ".join(spoken), delay=0)
        expect(page.locator("[data-digits-note]")).to_have_text("")
        page.get_by_role("button", name="Activate", exact=True).click()
        step(page, "Configure")


def test_the_key_can_be_skipped_and_given_later(browser: Browser, console: Console, publisher: RealPublisher) -> None:
    with tab(browser) as page:
        begin(console, page, publisher)
        page.goto(console.url + "/setup/proof")
        step(page, "Key")
        page.get_by_role("button", name="Skip: this host gets its key later").click()
        step(page, "Configure")
        page.goto(console.url + "/")
        expect(page.get_by_text("No host key is activated")).to_be_visible()
        page.goto(console.url + "/setup/key")
        install(page, publisher)


@pytest.mark.needs("slapd", "bonsai")
def test_through_a_directory(
    browser: Browser, console: Console, publisher: RealPublisher, service: Server, tmp_path: Path
) -> None:
    from support.slapd import ADMINISTRATOR, BASE, slapd

    (tmp_path / "ldap").mkdir()
    with slapd(tmp_path / "ldap", free_port()) as ldap, tab(browser) as page:
        console.open(page)
        page.goto(console.url + "/setup")
        page.get_by_text("Directory", exact=True).click()
        page.get_by_role("button", name="Next").click()
        step(page, "Directory")
        page.get_by_text("A plain LDAP directory").click()
        filled: dict[str, Any] = {
            "Server": ldap.server, "Account": ADMINISTRATOR, "File with its password": ldap.folder / "password",
            "Base entry": BASE, "Authority of the server's certificate": ldap.ca_file,
        }  # fmt: skip
        for label, value in filled.items():
            page.get_by_role("textbox", name=label).first.fill(str(value))
        look(page, "console-setup-directory")
        page.get_by_role("button", name="Ask the directory").click()
        step(page, "Prepare")
        look(page, "console-setup-prepare")
        page.get_by_role("button").filter(has_text="changes").or_(page.get_by_role("button", name="Next")).first.click()
        step(page, "Activate")
        page.get_by_label("KMS host key").fill(publisher.host_key())
        page.get_by_label("Name of the object").fill("Head office")
        page.get_by_label("Product definition").set_input_files(publisher.file)
        page.get_by_label("Root fingerprint").fill(publisher.root)
        page.get_by_label("Address of the publisher's service").fill(service.url)
        look(page, "console-setup-object")
        page.get_by_role("button", name="Activate the forest").click()
        step(page, "Prove it")
        expect(page.locator(".proven")).to_contain_text("Head office")
        expect(page.locator(".proven")).to_contain_text("signed by the publisher")
        look(page, "console-setup-object-proof")
        page.get_by_role("link", name="To the dashboard").click()
        expect(page.get_by_role("heading", name="Head office")).to_be_visible()
