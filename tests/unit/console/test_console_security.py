# SPDX-License-Identifier: Apache-2.0
"""Who may do what at the console, and what forged, injected and stolen requests come to."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from support.console import ACCOUNTS, Console, log_in
from support.site import Vendor
from support.web_client import WebClient
from volact.console.pages import PAGES
from volact.core.count import day_of
from volact.fleet.api import Fleet
from volact.fleet.exchange import bundle
from volact.fleet.schema import MACHINES, PRODUCTS
from volact.host.application import load_serving, open_store
from volact.host.recording import Seen
from volact.sealing.keys import LocalKey
from volact.web.access.roles import STANDARD
from volact.web.app import all_pages
from volact.web.pages.visit import Page

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
PARTS = {"name": "pc1", "number": "1", "key_id": "0" * 40, "topic": "guide", "page": "dns", "code": "malformed"}
FORMS = [page for page in PAGES if page.methods == ("POST",)]
VIEWS = [page for page in PAGES if page.methods == ("GET",)]
TYPED = ("%3Cscript%3Ealert(1)%3C/script%3E", "%00", "..%2F..%2Fetc%2Fpasswd", "%ff", "9" * 400, "%0d%0aX:%20y")
NOW = 1_790_000_000


class Inline(HTMLParser):
    """Attributes that run or style something by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, _ in attrs if name == "style" or name.startswith("on")]


def path_of(page: Page) -> str:
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: PARTS[found[1]], page.path)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Console:
    """With a KMS host and a fleet in which somebody chose the names of machines badly."""
    folder = tmp_path_factory.mktemp("console")
    host = Vendor.make(folder).give_host(folder / "host")
    store = open_store(host)
    load_serving(host, store, "kms1")
    scope = store.scopes()[0].id
    store.record([Seen(scope, b"m" * 32, b"f" * 16, NOW, NOW, SCRIPT, SCRIPT, SCRIPT, "unlicensed")], day_of(NOW))
    store.log(NOW, "warning", SCRIPT, {"text": SCRIPT})
    store.close()
    with Fleet.init(folder / "fleet", who=SCRIPT) as fleet:
        fleet.discover(["pc1"])
        with fleet.store.write() as conn:
            conn.execute(MACHINES.update().values(os=SCRIPT, source=SCRIPT, last_result="x", last_error=SCRIPT))
            row = {"root": SCRIPT, "product": SCRIPT, "edition": SCRIPT, "state": SCRIPT, "reason_text": SCRIPT}
            times = {"licensed": 0, "first_seen_at": NOW, "refreshed_at": NOW, "last_host": SCRIPT}
            conn.execute(PRODUCTS.insert().values(machine_id=1, **row, **times))
        fleet.refresh(wait=False)
    return Console(folder)


@pytest.fixture(scope="module", params=ACCOUNTS)
def somebody(request: pytest.FixtureRequest, console: Console) -> Iterator[tuple[str, WebClient]]:
    with console.client(request.param) as client:
        yield ACCOUNTS[request.param], client


@pytest.fixture(scope="module")
def admin(console: Console) -> Iterator[WebClient]:
    with console.client("admin") as client:
        yield client


def test_each_role_opens_its_pages_and_no_others(somebody: tuple[str, WebClient]) -> None:
    role, client = somebody
    wrong = []
    for page in VIEWS:
        answer = client.request("GET", path_of(page))
        allowed = answer.status_code != 403
        if allowed != STANDARD.allows(role, page.needs) or answer.status_code >= 500:
            wrong.append((page.path, answer.status_code))
    assert wrong == []


def test_each_role_sends_its_forms_and_no_others(somebody: tuple[str, WebClient]) -> None:
    """With the session's own token: it is the role that is refused."""
    role, client = somebody
    token = re.search(r'name="form_token" value="(\w+)"', client.get("/account").text)
    assert token is not None
    headers = {"Origin": client.base}
    for page in FORMS:
        if STANDARD.allows(role, page.needs):
            continue
        answer = client.request("POST", path_of(page), data={"form_token": token[1]}, headers=headers)
        assert answer.status_code == 403, page.path
        assert "role-missing" in answer.text, page.path


@pytest.mark.parametrize("page", FORMS, ids=lambda page: page.path)
def test_a_form_without_its_token_is_refused(admin: WebClient, page: Page) -> None:
    for data in ({}, {"form_token": "0" * 64}):
        answer = admin.request("POST", path_of(page), data=data, headers={"Origin": admin.base})
        assert answer.status_code == 403
        assert "form-forged" in answer.text


@pytest.mark.parametrize("page", FORMS, ids=lambda page: page.path)
def test_a_form_of_another_site_is_refused_even_with_the_token(admin: WebClient, page: Page) -> None:
    token = re.search(r'name="form_token" value="(\w+)"', admin.get("/account").text)
    assert token is not None
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = admin.request("POST", path_of(page), data={"form_token": token[1]}, headers=headers)
        assert answer.status_code == 403


def test_nobody_who_is_not_logged_in_sees_a_page(console: Console) -> None:
    with WebClient(console.application()) as stranger:
        for page in VIEWS:
            answer = stranger.request("GET", path_of(page))
            assert answer.status_code == 303, page.path
            assert answer.headers["location"].startswith("/login"), page.path


@pytest.mark.parametrize("page", [*VIEWS], ids=lambda page: page.path)
def test_what_machines_call_themselves_is_text_on_every_page(admin: WebClient, page: Page) -> None:
    answer = admin.get(path_of(page))
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/fleet/machines?filter=",
        "/events?text=",
        "/events?code=",
        "/fleet/reports/overview?filter=",
        "/hosts/machines?group=",
        "/events?before=",
        "/events?source=",
        "/fleet/reports/",
        "/fleet/jobs/",
        "/fleet/keys/",
        "/doctor?machine=",
        "/hosts/machines?group=101&after=",
        "/fleet/machines/",
        "/setup/activate?way=",
        "/setup/",
    ],
)
def test_what_is_typed_into_an_address_is_text_and_no_fault(admin: WebClient, path: str) -> None:
    for typed in (
        "%3Cscript%3Ealert(1)%3C/script%3E",
        "%00",
        "..%2F..%2Fetc%2Fpasswd",
        "%ff",
        "9" * 400,
        "%0d%0aX:%20y",
    ):
        answer = admin.request("GET", path + typed)
        assert answer.status_code < 500, (path, typed)
        assert "<script>alert" not in answer.text
        assert "root:x:" not in answer.text
        assert "x" not in answer.headers


def test_a_login_has_another_session_than_the_visit_before_it(console: Console) -> None:
    with WebClient(console.application()) as client:
        client.http.cookies.set("volact-console-session", "a" * 43)
        client.http.cookies.set("volact-console-visitor", "b" * 43)
        log_in(client, console.link("victor"))
        assert client.http.cookies.get("volact-console-session", domain="testserver.local") != "a" * 43
    with WebClient(console.application()) as other:
        other.http.cookies.set("volact-console-session", "a" * 43)
        assert other.request("GET", "/").status_code == 303


def test_another_host_name_is_refused(admin: WebClient) -> None:
    answer = admin.request("GET", "/", headers={"Host": "evil.example"})
    assert answer.status_code == 421


def test_no_page_runs_what_is_inline(admin: WebClient) -> None:
    for page in VIEWS:
        answer = admin.get(path_of(page))
        policy = answer.headers.get("content-security-policy", "")
        assert "script-src 'self'" in policy, page.path
        assert "unsafe" not in policy, page.path
        reader = Inline()
        reader.feed(answer.text)
        assert reader.found == [], page.path


def test_a_bundle_and_a_definition_that_are_none_are_refused_by_their_name(admin: WebClient) -> None:
    page = admin.get("/fleet/proxy")
    answer = admin.send(page, "/fleet/proxy/import", files={"bundle": ("a.volbundle", b"\x00" * 2000)})
    assert answer.status_code == 422
    assert "notice-bad" in answer.text
    page = admin.get("/fleet/keys")
    answer = admin.send(page, "/fleet/keys/definition", files={"definition": ("x", b"no")}, root="sha256:" + "0" * 64)
    assert answer.status_code == 422


def test_every_page_of_the_console_has_one_permission_and_every_form_a_name_in_the_audit() -> None:
    for page in all_pages(PAGES):
        assert isinstance(page.needs, str)
    for page in FORMS:
        assert page.acts, page.path


def test_another_fleet_s_inventory_is_taken_in_by_administrators_only(console: Console, admin: WebClient) -> None:
    """It brings addresses, accounts and definitions, and with its signer somebody to trust."""
    key = LocalKey.generate()
    carried = bundle.write(bundle.Kind.INVENTORY, [], key, bytes(16), NOW)
    sent = {"files": {"bundle": ("all.volbundle", carried)}, "signer": bundle.fingerprint(key)}
    with console.client("olga") as operator:
        answer = operator.send(operator.get("/fleet/proxy"), "/fleet/proxy/import", **sent)
        assert answer.status_code == 403
        assert "role-missing" in answer.text
    assert admin.send(admin.get("/fleet/proxy"), "/fleet/proxy/import", **sent).status_code == 200
