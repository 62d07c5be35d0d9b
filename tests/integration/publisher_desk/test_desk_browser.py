# SPDX-License-Identifier: Apache-2.0
"""Operators at the desk in real Chromium: from the first login to a machine that is licensed by telephone."""

import pytest

from support.browser import DESKTOP, PHONE, axe, chromium, is_wide, shoot, tab
from support.client_machine import ClientMachine
from support.operator_desk import ADMINISTRATOR, code_of, make_desk, served
from support.phone_desk import apply, show
from support.processes import volact
from volact.client.products import installing
from volact.publisher.desk.application import open_accounts

pytestmark = pytest.mark.needs("chromium")

NEW_PASSWORD = "a sentence that is easy to keep"
HOSTILE = '<script>document.title="taken"</script>"><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    desk = make_desk(tmp_path_factory.mktemp("desk") / "publisher")
    with served(desk) as site:
        site.add(ADMINISTRATOR, "administrator")
        yield site


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    with tab(browser) as page:
        yield page


def digits_of(machine) -> list[str]:
    return list(show(machine).installation.groups)


def test_an_operator_logs_in_with_password_and_authenticator(site, browser, page):
    site.add("carl", "operator")
    accounts = ("publisher", "operator", "list", "--dir", site.folder, "--json")
    with tab(browser) as other:  # an administrator's link; then a password of one's own
        site.enter(other, ADMINISTRATOR)
        other.goto(f"{site.url}/administration/accounts")
        shoot(other, "desk-accounts")
        axe(other)
    set_password(site, "carl", "a first password that is long")
    page.goto(site.url)
    shoot(page, "desk-login")
    axe(page)
    log_in(page, "carl", "not it")
    assert "name or password is wrong" in page.inner_text("[role=alert]").lower()
    log_in(page, "carl", "a first password that is long")
    page.wait_for_url("**/login/password")
    set_up(page)
    assert [one["authenticator"] for one in volact(*accounts).json if one["name"] == "carl"] == [True]
    assert page.url == f"{site.url}/overview"


def test_a_key_is_issued_and_a_machine_licensed_by_telephone(site, browser, page, tmp_path):
    site.enter(page, ADMINISTRATOR)
    page.goto(f"{site.url}/keys/new")
    axe(page)
    page.select_option("#f-group", label="Acme CAD: clients")
    page.fill("#f-activations", "5")
    page.click("button:has-text('Issue')")
    key = page.inner_text("[data-new-key]")
    shoot(page, "desk-key-made")
    axe(page)
    machine = caller(site, tmp_path, key)
    groups = digits_of(machine)
    page.goto(f"{site.url}/phone")
    shoot(page, "desk-phone-empty")
    axe(page)
    page.focus("#g1")
    page.keyboard.type("".join(groups[:3]))
    assert page.evaluate("document.activeElement.id") == "g4", "the next box has the cursor by itself"
    page.keyboard.type(wrong(groups[3]))
    assert page.get_attribute("#g4", "data-state") == "wrong"
    assert page.inner_text("[data-said]") == "Group 4 is wrong: ask for it again."
    assert page.is_disabled("[data-look-up]")
    shoot(page, "desk-phone-wrong-group")
    axe(page)
    page.keyboard.type(groups[3])  # the wrong one is selected, so that typing replaces it
    page.keyboard.type("".join(groups[4:]))
    assert page.inner_text("[data-said]") == "All groups are right."
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Contoso")
    shoot(page, "desk-phone-call")
    axe(page)
    page.fill("#f-key", "XXXXX")
    page.fill("#f-reason", "Mr Smith, no network in the vault")
    page.click("text=Give the confirmation ID")
    page.wait_for_selector(".field-error")
    assert "does not end in XXXXX" in page.inner_text(".field-error")
    page.fill("#f-key", key[-5:].lower())
    page.click("text=Give the confirmation ID")
    page.wait_for_selector("[data-answer]")
    shoot(page, "desk-phone-answer")
    axe(page)
    answer = "".join(page.locator("[data-answer] code").all_inner_texts())
    assert apply(machine, answer).evaluation.licensed
    assert site.desk.publisher.store.check_ledger().actor == f"desk:{ADMINISTRATOR}"
    with tab(browser, size=PHONE, dark=True) as small:
        site.enter(small, ADMINISTRATOR)
        small.goto(f"{site.url}/phone")
        assert not is_wide(small)
        shoot(small, "desk-phone-small-dark")


def test_a_whole_installation_id_is_pasted_into_one_box(site, page, tmp_path):
    key = site.desk.key()
    machine = caller(site, tmp_path, str(key.key))
    site.enter(page, ADMINISTRATOR)
    page.goto(f"{site.url}/phone")
    text = str(show(machine).installation)
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.setData("text", text);
            const paste = new ClipboardEvent("paste", {clipboardData: data, cancelable: true});
            document.querySelector("#g1").dispatchEvent(paste);
        }""",
        text,
    )
    assert page.inner_text("[data-said]") == "All groups are right."


def test_every_page_is_calm_and_can_be_used_by_everybody(site, browser):
    site.desk.publisher.add_organisation(HOSTILE[:190], site.desk.clock(), "tests")
    site.desk.publisher.add_agreement(
        "Select 7", "Contoso", site.desk.clock() - 86400, None, {102: 50}, site.desk.clock(), "tests"
    )
    key = site.desk.key(activations=4)
    paths = {
        "overview": "/overview", "phone-key": f"/phone/key?key={key.key.partial}", "keys": "/keys",
        "key": f"/keys/{key.key.key_id}", "key-new": "/keys/new", "organisations": "/organisations",
        "organisation": "/organisations/show?name=Contoso", "agreements": "/agreements",
        "agreement-new": "/agreements/new", "products": "/products", "product": "/products/acme-cad",
        "activations": "/activations", "hosts": "/activations/hosts", "forests": "/activations/forests",
        "ledger": "/ledger", "ledger-checked": "/ledger/check", "audit": "/administration/audit",
        "sessions": "/administration/sessions", "account": "/account", "help": "/help/guide/telephone",
    }  # fmt: skip
    for dark, size in ((False, DESKTOP), (True, DESKTOP), (False, PHONE)):
        with tab(browser, dark=dark, size=size) as page:
            site.enter(page, ADMINISTRATOR)
            for name, path in paths.items():
                page.goto(f"{site.url}{path}")
                assert page.title() != "taken", "a stored script ran"
                assert not (size and is_wide(page)), f"{path} scrolls sideways"
                shoot(page, f"desk-{name}{'-dark' if dark else ''}{'-small' if size else ''}")
                if not size:
                    axe(page)


def caller(site, folder, key: str):
    machine = ClientMachine(folder / "machine", site.desk.site(), 7)
    machine.add()
    installing.install_key(machine.store, "acme-cad", key, site.desk.edition.id)
    return machine


def wrong(group: str) -> str:
    return group[:5] + str((int(group[5]) + 1) % 10) + group[6]


def set_password(site, name: str, password: str) -> None:
    """What `operator add --password` asks for at a terminal."""
    accounts = open_accounts(site.desk.publisher.folder, site.desk.clock)
    accounts.set_password(name, password, "tests")
    accounts.store.close()


def log_in(page, name: str, password: str) -> None:
    page.fill("#f-name", name)
    page.fill("#f-password", password)
    page.click("button:has-text('Log in')")
    page.wait_for_load_state()


def set_up(page) -> None:
    page.fill("#f-password", NEW_PASSWORD)
    page.fill("#f-again", NEW_PASSWORD)
    page.click("button:has-text('Go on')")
    page.wait_for_url("**/login/enrol")
    shoot(page, "desk-enrol")
    axe(page)
    page.click("summary")
    secret = "".join(page.inner_text(".spaced").split())
    page.fill("#f-code", code_of(secret))
    page.click("button:has-text('Go on')")
    page.wait_for_selector(".codes")
    axe(page)
    page.click("text=I have kept them")
    page.wait_for_url("**/overview")
