# SPDX-License-Identifier: Apache-2.0
"""Logins at the console that others vouch for, in real Chromium: a real OpenLDAP over TLS, and an OpenID Connect
provider; roles come from groups."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from support.browser import axe, chromium, shoot, tab
from support.console import Console
from support.oidc_provider import oidc_provider
from support.processes import volact
from support.slapd import ADMINISTRATOR, BASE, GROUP, PASSWORD, slapd
from volact.wire.serve import free_port

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.needs("slapd")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("logins")
    (folder / "slapd").mkdir()
    with (
        slapd(folder / "slapd", free_port()) as directory,
        oidc_provider(preferred_username="Olga.Ivanova", name="Olga Ivanova", groups=["helpdesk"]) as provider,
    ):
        ldap = {
            "url": f"ldaps://{directory.server}", "base": BASE, "bind_dn": ADMINISTRATOR,
            "bind_password_file": str(directory.folder / "password"), "user_filter": "(cn={name})",
            "group_filter": "(member={dn})", "ca_file": str(directory.ca_file),
        }  # fmt: skip
        oidc = {"label": "Contoso", "issuer": provider.issuer, "client_id": "console"}
        console = Console(folder / "site", logins=(logins := folder / "logins.toml"))
        logins.write_text(_table("ldap", ldap, {GROUP: "operator"}) + _table("oidc", oidc, {"helpdesk": "viewer"}))
        with console.served():
            yield console


def _table(name: str, values: dict[str, str], roles: dict[str, str]) -> str:
    def lines(pairs: dict[str, str]) -> str:
        return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in pairs.items())

    return f"[{name}]\n{lines(values)}[{name}.roles]\n{lines(roles)}\n"


def test_a_person_of_the_directory_logs_in_and_has_the_group_s_role(browser: Browser, console: Console) -> None:
    with tab(browser) as page:
        page.goto(console.url + "/fleet/machines")
        axe(page)
        page.get_by_label("Name").fill("pc30")
        page.get_by_label("Password").fill("not this one")
        page.get_by_role("button", name="Log in", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in", exact=True).click()
        page.wait_for_url(console.url + "/fleet/machines")
        page.goto(console.url + "/account")
        expect(page.locator("main")).to_contain_text("operator")
        answer = page.goto(console.url + "/setup/method")
        assert answer is not None
        assert answer.status == 403


def test_single_sign_on_leads_to_the_provider_and_back_to_the_page_that_was_asked_for(
    browser: Browser, console: Console
) -> None:
    with tab(browser) as page:
        page.goto(console.url + "/help")
        shoot(page, "console-login")
        page.get_by_role("link", name="Log in with Contoso").click()
        page.wait_for_url(console.url + "/help")
        page.goto(console.url + "/account")
        expect(page.locator("main")).to_contain_text("Olga Ivanova")
        expect(page.locator("main")).to_contain_text("viewer")
        expect(page.get_by_role("link", name="Set up", exact=True)).to_have_count(0)


def test_local_accounts_log_in_beside_them(browser: Browser, console: Console) -> None:
    with tab(browser) as page:
        console.open(page, "admin")
        page.goto(console.url + "/administration/accounts")
        expect(page.get_by_role("row", name="victor")).to_be_visible()


def test_settings_that_do_not_fit_are_told_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "logins.toml").write_text("[ldap]\nurl = 1\n")
    done = volact("console", "serve", "--dir", tmp_path / "console", "--web-logins", tmp_path / "logins.toml")
    assert done.code == 1
    assert "login settings" in done.errors[0]
