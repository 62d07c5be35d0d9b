# SPDX-License-Identifier: Apache-2.0
"""Every page of the desk for every role, and every form without its token: a table of all of them, from the pages."""

import re

import pytest

from support.phone_desk import PASSPHRASE, Desk
from support.web_client import WebClient, token_of
from volact.publisher.administration.keys import NewKey
from volact.publisher.desk.application import PAGES, build_desk, open_accounts
from volact.publisher.desk.state import ROLES
from volact.web.access.roles import ANYBODY, LOGGED_IN
from volact.web.app import all_pages
from volact.web.site import WebListener

WHOLE = all_pages(PAGES)
CHECKED = [page for page in WHOLE if page.stages == ("full",) and not page.path.startswith("/login")]
FORMS = [page for page in WHOLE if "POST" in page.methods]

# Which permission each address needs, said here once more: a page that is not in the table fails.
NEEDS = {
    "/": LOGGED_IN, "/overview": "view", "/phone": "phone", "/phone/confirm": "phone", "/phone/key": "phone",
    "/organisations": "view", "POST /organisations": "operate", "/organisations/show": "view",
    "/organisations/revoke": "administer", "/agreements": "view", "/agreements/new": "operate",
    "/agreements/change": "operate", "/keys": "view", "/keys/new": "operate", "/keys/{key_id}": "view",
    "/keys/{key_id}/raise": "operate", "/keys/{key_id}/block": "operate", "/keys/{key_id}/unblock": "operate",
    "/keys/{key_id}/supersede": "operate", "/products": "view", "POST /products": "operate",
    "/products/{product}": "view", "/products/{product}/{version}.volproduct": "view", "/activations": "view",
    "/activations/hosts": "view", "/activations/forests": "view", "/ledger": "view", "/ledger/check": "view",
    "/ledger/export": "administer", "/account": LOGGED_IN, "/account/password": LOGGED_IN,
    "/account/authenticator": LOGGED_IN, "/account/sessions/{id_hash}/end": LOGGED_IN, "/logout": ANYBODY,
    "/help": LOGGED_IN, "/help/errors/{code}": LOGGED_IN, "/help/{folder}/{name}": LOGGED_IN,
    "/administration/accounts": "administer", "/administration/accounts/{name}": "administer",
    "/administration/sessions": "administer", "/administration/sessions/{id_hash}/end": "administer",
    "/administration/audit": "administer", "/administration/audit.csv": "administer",
}  # fmt: skip


class Selling(Desk):
    """One that has sold a key."""

    made: NewKey


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    desk = Selling.make(tmp_path_factory.mktemp("roles") / "publisher")
    desk.made = desk.key()
    accounts = open_accounts(desk.publisher.folder, desk.clock)
    for role in ROLES.names:
        accounts.add(f"the-{role}", role, "tests", password=None)
    yield desk
    accounts.store.close()
    desk.publisher.store.close()


@pytest.fixture(scope="module")
def app(desk):
    listener = WebListener("127.0.0.1", 1691, names=("testserver",))
    app = build_desk(desk.publisher, desk.publisher.folder.open_keys(PASSPHRASE), desk.clock, listener=listener)
    yield app
    app.close()


@pytest.fixture(scope="module")
def clients(desk, app):
    """One logged in for each role, by a link, and a stranger."""
    accounts = open_accounts(desk.publisher.folder, desk.clock)
    found = {"": WebClient(app)}
    for role in ROLES.names:
        client = found[role] = WebClient(app)
        path = f"/login/link/{accounts.make_link(f'the-{role}', 'tests')}"
        assert client.send(client.get(path), path).status_code == 200
    yield found
    accounts.store.close()
    for client in found.values():
        client.__exit__(None, None, None)


def address(desk, page) -> str:
    parts = {
        "key_id": desk.made.issued.key_id, "product": "acme-cad", "version": "1", "code": "login-failed",
        "folder": "guide", "name": "telephone", "id_hash": "0" * 64, "token": "x",
    }  # fmt: skip
    path = re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], page.path)
    return f"{path}?name=Contoso" if path == "/organisations/show" else path


def needs(page) -> str:
    return NEEDS.get(f"{page.methods[0]} {page.path}", NEEDS.get(page.path, "missing"))


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: f"{page.methods[0]} {page.path}")
def test_a_page_needs_what_the_table_says(page):
    assert page.needs == needs(page), "give the page a line in NEEDS"


@pytest.mark.parametrize("role", ["", *ROLES.names])
@pytest.mark.parametrize("page", [p for p in CHECKED if "GET" in p.methods], ids=lambda page: page.path)
def test_every_page_opens_for_the_roles_that_may_and_for_no_other(desk, clients, page, role):
    response = clients[role].request("GET", address(desk, page))
    if role == "":
        assert response.status_code == 303
        assert response.headers["location"].startswith("/login?next=")
    elif ROLES.allows(role, page.needs):
        assert response.status_code in (200, 303), response.text
    else:
        assert response.status_code == 403
        assert "role-missing" in response.text


@pytest.mark.parametrize("page", FORMS, ids=lambda page: page.path)
@pytest.mark.parametrize("how", ["no token", "another's token", "another site", "another origin"])
def test_no_form_is_taken_without_its_token_or_from_elsewhere(desk, clients, page, how):
    client, path = clients["administrator"], address(desk, page).replace("{token}", "x")
    before = len(desk.publisher.store.ledger())
    token = token_of(client.get("/account"))
    other = token_of(clients["operator"].get("/account"))
    response = {
        "no token": lambda: client.post(path),
        "another's token": lambda: client.post(path, {"form_token": other}),
        "another site": lambda: client.post(path, {"form_token": token}, headers={"Sec-Fetch-Site": "cross-site"}),
        "another origin": lambda: client.post(path, {"form_token": token}, headers={"Origin": "http://evil.example"}),
    }[how]()
    assert response.status_code == 403
    assert "form-forged" in response.text
    assert len(desk.publisher.store.ledger()) == before


@pytest.mark.parametrize("role", ["viewer", "phone"])
@pytest.mark.parametrize(
    "page", [page for page in FORMS if page.needs in ("operate", "administer")], ids=lambda page: page.path
)
def test_no_form_is_taken_from_a_role_that_may_not(desk, clients, page, role):
    client = clients[role]
    response = client.post(address(desk, page), {"form_token": token_of(client.get("/account"))})
    assert response.status_code == 403
    assert "role-missing" in response.text


def test_a_phone_operator_s_menu_has_the_phone_and_nothing_else(clients):
    html = clients["phone"].get("/").text
    assert re.findall(r'<li><a href="([^"]+)"', html)[:2] == ["/phone", "/phone/key"]
    assert "/keys" not in re.findall(r'href="([^"]+)"', html)


def test_names_are_shown_as_text_wherever_they_appear(desk, clients):
    hostile = '<img src=x onerror="alert(1)">'
    client = clients["administrator"]
    client.send(client.get("/organisations"), "/organisations", name=hostile)
    for path in ("/organisations", "/ledger", "/keys/new", "/agreements/new", "/administration/audit"):
        html = client.get(path).text
        assert "<img" not in html
        assert "&lt;img src=x" in html


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/products/..%2f..%2fetc", 404),
        ("/products/acme-cad/%2e%2e%2f1.volproduct", 404),
        ("/static/..%2f..%2fpublisher.json", 404),
        ("/static/%2e%2e/%2e%2e/web/access/accounts.py", 404),
        ("/help/guide/..%2f..%2fsecret", 404),
        ("/help/errors/%3Cscript%3E", 404),
        ("/keys/%00", 422),
        ("/organisations/show?name=%0d%0aSet-Cookie:x=1", 422),
        ("/ledger?since=notaday&page=-5&size=99999&sort=';drop", 200),
    ],
)
def test_paths_and_headers_carry_nothing_in(clients, path, status):
    response = clients["administrator"].request("GET", path)
    assert response.status_code == status, response.text[:500]
    assert "set-cookie" not in response.headers


def test_what_is_done_stands_in_the_audit_and_in_the_ledger(desk, clients):
    client = clients["operator"]
    client.send(client.get("/organisations"), "/organisations", name="Audited Ltd")
    row = desk.publisher.store.ledger()[-1]
    assert (row.act, row.actor) == ("organisation-added", "desk:the-operator")
    audit = clients["administrator"].get("/administration/audit?text=Audited").text
    assert "organisation-added" in audit
    assert "192.0.2.1" in audit
