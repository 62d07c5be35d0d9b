# SPDX-License-Identifier: Apache-2.0
"""What stands before every page: headers, host names, proxies, sizes, cookies, and where a login leads."""

import time

import pytest

from support.web_client import WebClient
from volact.web.access.accounts import Accounts
from volact.web.access.roles import VIEW
from volact.web.access.store import WebStore
from volact.web.app import all_pages, build_app
from volact.web.errors import PlainListenerError
from volact.web.pages import help as web_help
from volact.web.pages.visit import Page, local_path
from volact.web.site import Site, WebListener

PAGES = [Page("/", lambda visit: visit.redirect("/account"), VIEW, "Start", menu=True, icon="house")]


@pytest.fixture
def accounts(tmp_path):
    store = WebStore.open(tmp_path / "web.db")
    made = Accounts(store, lambda: int(time.time()), bytes(32), title="Tests")
    made.add("ann", "administrator", "tests", password="correct horse battery")
    yield made
    store.close()


def app_of(accounts, **how):
    return build_app(Site("tests", "Tests", "Of the base", accounts, frozenset({"testserver"}), **how), PAGES)


@pytest.fixture
def client(accounts):
    with WebClient(app_of(accounts)) as client:
        yield client


def log_in(client, accounts):
    path = f"/login/link/{accounts.make_link('ann', 'tests')}"
    return client.send(client.get(path), path)


@pytest.mark.parametrize("path", ["/login", "/nope", "/static/volact.css", "/healthz", "/static/nope"])
def test_every_answer_has_the_headers(client, path):
    headers = client.request("GET", path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


def test_pages_are_kept_by_nobody_and_static_files_for_ever(client):
    page = client.get("/login")
    assert page.headers["cache-control"] == "no-store"
    address = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
    assert "immutable" in client.get(address).headers["cache-control"]


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "", "169.254.169.254", "testserver@x"])
def test_a_name_that_is_not_ours_is_refused(client, host):
    assert client.request("GET", "/login", headers={"Host": host}).status_code == 421


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(client):
    assert client.post("/login", {"name": "x" * 2_000_000}).status_code == 413

    async def chunks():
        for _ in range(40):
            yield b"x" * 65536

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.request("POST", "/login", content=chunks(), headers=form).status_code == 413


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "application/json", "x"])
def test_a_form_that_is_none_is_refused_and_no_fault(client, kind):
    response = client.request("POST", "/login", content=b"\xff\x00--x--", headers={"Content-Type": kind})
    assert response.status_code in (403, 422)


def test_forwarded_headers_are_believed_of_a_named_proxy_only(accounts):
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    for proxies, address, secure in (
        (frozenset(), "192.0.2.1", False),
        (frozenset({"192.0.2.1"}), "203.0.113.9", True),
    ):
        with WebClient(app_of(accounts, proxies=proxies)) as client:
            page = client.request("GET", "/login", headers=headers)
            assert ("strict-transport-security" in page.headers) is secure
            assert ("__Host-" in page.headers["set-cookie"] and "Secure" in page.headers["set-cookie"]) is secure
            token = page.text.split('name="form_token" value="')[1].split('"')[0]
            origin = {"Origin": f"http{'s' if secure else ''}://testserver"}
            cookies = {"Cookie": page.headers["set-cookie"].split(";")[0]}
            data = {"name": "ann", "password": "wrong", "form_token": token}
            assert client.post("/login", data, headers={**headers, **origin, **cookies}).status_code == 401
        assert accounts.store.audit()[0][0].address == address


def test_the_session_s_cookie_is_for_the_server_alone(client, accounts):
    path = f"/login/link/{accounts.make_link('ann', 'tests')}"
    page = client.get(path)
    token = page.text.split('name="form_token" value="')[1].split('"')[0]
    answer = client.post(path, {"form_token": token}, headers={"Origin": "http://testserver"})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie


def test_a_session_that_was_planted_before_the_login_is_none_after_it(client, accounts):
    client.http.cookies.set("volact-tests-session", "planted", domain="testserver.local")
    log_in(client, accounts)
    assert all(one.id_hash for one in accounts.store.sessions(int(time.time())))
    assert accounts.find("planted") is None


def test_a_login_link_is_not_used_up_by_looking_at_it(client, accounts):
    path = f"/login/link/{accounts.make_link('ann', 'tests')}"
    for _ in range(3):
        assert client.get(path).status_code == 200
    assert client.send(client.get(path), path).url.path == "/account"


def test_logging_out_ends_the_session(client, accounts):
    page = log_in(client, accounts)
    client.send(page, "/logout")
    assert client.request("GET", "/account").status_code == 303
    assert accounts.store.sessions(int(time.time())) == []


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\\\\evil",
        "http:evil",
        "/a\nb",
    ],
)
def test_a_login_leads_to_no_other_site(wanted):
    assert local_path(wanted) == "/"
    assert local_path("/keys?page=2") == "/keys?page=2"


def test_passwords_cross_no_network_in_clear_text(tmp_path):
    WebListener("127.0.0.1", 1).check()
    WebListener("192.0.2.1", 1, tmp_path / "certificate", tmp_path / "key").check()
    with pytest.raises(PlainListenerError):
        WebListener("0.0.0.0", 1).check()


def test_every_help_topic_that_a_page_names_exists():
    missing = [page.help for page in all_pages(PAGES) if page.help and web_help.read_topic(page.help) is None]
    assert not missing


def test_help_shows_nothing_that_is_no_guide():
    for topic in ("guide/../../secret", "guide/none", "reference/../adr/0001", "guide/telephone#none", "x", ""):
        assert web_help.read_topic(topic) is None
    found = web_help.read_topic("guide/telephone")
    assert found is not None
    assert "<script" not in str(found.html)


def test_a_part_of_a_page_leads_over_the_login_to_its_page(client):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/help/guide/dns?x=1"}
    answer = client.request("GET", "/account", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["hx-redirect"] == "/login?next=%2Fhelp%2Fguide%2Fdns%3Fx%3D1"
    for hostile in ("http://[", "//evil.example", "javascript:alert(1)", ""):
        answer = client.request("GET", "/account", headers={**headers, "HX-Current-URL": hostile})
        assert answer.headers["hx-redirect"] == "/login?next=%2F", hostile
