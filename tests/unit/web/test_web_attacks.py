# SPDX-License-Identifier: Apache-2.0
"""What somebody tries who wants in: each was tried against the site once, and did not stay possible."""

import threading
import time

import pytest

from support.web_client import WebClient, token_of
from volact.testing.clock import FakeClock
from volact.web.access import credentials
from volact.web.access.accounts import Accounts, Caller, Identity
from volact.web.access.attempts import FREE_ATTEMPTS
from volact.web.access.roles import VIEW
from volact.web.access.store import WebStore
from volact.web.app import build_app
from volact.web.errors import LoginDelayedError, LoginFailedError, LoginLinkError, LoginRefusedError
from volact.web.pages.visit import Page
from volact.web.site import Site

HERE = Caller("192.0.2.1")
PASSWORD = "correct horse battery"
PAGES = [Page("/", lambda visit: visit.redirect("/account"), VIEW, "Start", menu=True, icon="house")]


@pytest.fixture
def accounts(tmp_path):
    store = WebStore.open(tmp_path / "web.db")
    made = Accounts(store, lambda: int(time.time()), bytes(32), totp_required=False)
    made.add("ann", "administrator", "tests", password=PASSWORD)
    yield made
    store.close()


def client_of(accounts, **how):
    site = Site("tests", "Tests", "Of the base", accounts, frozenset({"testserver"}), **how)
    return WebClient(build_app(site, PAGES))


@pytest.fixture
def client(accounts):
    with client_of(accounts) as client:
        yield client


def log_in(client, accounts):
    path = f"/login/link/{accounts.make_link('ann', 'tests')}"
    return client.send(client.get(path), path)


# ---- login links


def test_asking_for_a_link_s_headers_alone_uses_nothing_up(client, accounts):
    path = f"/login/link/{accounts.make_link('ann', 'tests')}"
    assert "-session" not in client.request("HEAD", path).headers.get("set-cookie", "")
    assert client.send(client.get(path), path).url.path == "/account"


def test_no_part_of_a_login_link_is_in_the_audit(client, accounts):
    token = accounts.make_link("ann", "tests")
    assert client.post(f"/login/link/{token}").status_code == 403
    assert client.post("/login/link/guessed").status_code == 403
    assert all(token not in row.subject for row in accounts.store.audit()[0])


def test_who_guesses_at_links_is_slowed_down(accounts):
    for number in range(FREE_ATTEMPTS):
        with pytest.raises(LoginLinkError):
            accounts.use_link(f"guess-{number}", HERE)
    with pytest.raises(LoginDelayedError):
        accounts.use_link("another", HERE)
    assert accounts.use_link(accounts.make_link("ann", "tests"), Caller("198.51.100.7")).session


def test_forged_forms_of_nobody_do_not_fill_the_audit(client, accounts):
    before = accounts.store.audit()[1]
    for path in ("/login", "/administration/accounts", "/logout"):
        assert client.post(path).status_code == 403
    assert accounts.store.audit()[1] == before
    log_in(client, accounts)
    before = accounts.store.audit()[1]
    assert client.post("/administration/accounts").status_code == 403
    assert accounts.store.audit()[1] == before + 1


# ---- guessing


def test_guesses_that_come_at_once_count_as_if_one_came_after_the_other(tmp_path, monkeypatch):
    """Were the delay looked up first and the failure written down last, a burst would pass between the two."""
    store = WebStore.open(tmp_path / "burst.db")
    accounts = Accounts(store, FakeClock(1_800_000_000), bytes(32))
    accounts.add("ann", "administrator", "tests", password=PASSWORD)
    tried, together = [], threading.Barrier(20)

    def slow(stored, password):
        tried.append(password)
        return False

    monkeypatch.setattr(credentials, "password_fits", slow)

    def guess(number):
        together.wait()
        with pytest.raises((LoginFailedError, LoginDelayedError)):
            accounts.log_in("ann", f"guess {number}", Caller(f"192.0.2.{number}"))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert len(tried) <= FREE_ATTEMPTS


def test_the_old_password_is_not_guessed_from_within_a_session(accounts):
    session = accounts.use_link(accounts.make_link("ann", "tests"), HERE).session
    for number in range(FREE_ATTEMPTS):
        with pytest.raises(LoginFailedError):
            accounts.set_own_password(session, f"guess {number}", "another long sentence", HERE)
    with pytest.raises(LoginDelayedError):
        accounts.set_own_password(session, PASSWORD, "another long sentence", HERE)


# ---- what a request says of itself


def test_of_several_forwarded_lines_the_proxy_s_own_counts(accounts):
    """HAProxy adds a line of its own below those that the client sent."""
    with client_of(accounts, proxies=frozenset({"192.0.2.1"})) as client:
        page = client.get("/login")
        headers = [("X-Forwarded-For", "203.0.113.66"), ("X-Forwarded-For", "198.51.100.9"),
                   ("Origin", "http://testserver")]  # fmt: skip
        data = {"name": "ann", "password": "wrong", "form_token": token_of(page)}
        assert client.post("/login", data, headers=headers).status_code == 401
    assert accounts.store.audit()[0][0].address == "198.51.100.9"


@pytest.mark.parametrize("host", ["testserver:80@evil.example", "testserver:x", "testserver:80/..", "testserver:"])
def test_behind_a_known_name_stands_a_port_or_nothing(client, host):
    assert client.request("GET", "/login", headers={"Host": host}).status_code == 421


def test_a_name_with_a_port_is_ours(client):
    assert client.request("GET", "/login", headers={"Host": "testserver:1691"}).status_code == 200


# ---- passwords


def test_who_forgot_a_password_and_came_by_a_link_sets_another_once(client, accounts):
    page = log_in(client, accounts)
    assert 'name="old"' not in page.text
    new = "another long sentence"
    page = client.send(page, "/account/password", password=new, again=new)
    assert "password was changed" in page.text
    assert 'name="old"' in page.text, "it is asked for again"
    assert (
        client.send(page, "/account/password", password="a third sentence", again="a third sentence").status_code == 422
    )
    assert accounts.log_in("ann", new, HERE)


def test_an_account_that_was_made_with_a_link_gets_its_password_by_its_owner(client, accounts):
    accounts.add("ben", "viewer", "tests", password=None)
    path = f"/login/link/{accounts.make_link('ben', 'tests')}"
    page = client.send(client.get(path), path)
    page = client.send(page, "/account/password", password="a sentence of my own", again="a sentence of my own")
    assert page.status_code == 200
    assert accounts.log_in("ben", "a sentence of my own", HERE)


def test_a_nul_in_an_address_is_no_fault(client, accounts):
    log_in(client, accounts)
    for path in ("/administration/audit?text=%00", "/help/guide/%00", "/help/errors/%00"):
        assert client.request("GET", path).status_code < 500


def test_who_lost_the_role_elsewhere_and_logs_in_again_loses_the_sessions_too(accounts):
    identity = Identity("olga", "Olga", ("operators",))
    before = accounts.vouched("oidc", identity, "operator", HERE)
    assert accounts.find(before.token)
    with pytest.raises(LoginRefusedError):
        accounts.vouched("oidc", identity, None, HERE)
    assert accounts.find(before.token) is None
