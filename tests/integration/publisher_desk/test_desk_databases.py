# SPDX-License-Identifier: Apache-2.0
"""The desk's pages and the acts of its forms, on SQLite and on PostgreSQL."""

import base64
import json

import pytest

from support import postgresql
from support.client_machine import ClientMachine
from support.phone_desk import EXAMPLE, PASSPHRASE, Desk, show
from support.web_client import WebClient
from volact.client.products import installing
from volact.publisher.administration.publisher import Publisher
from volact.publisher.desk.application import DeskApplication, build_desk, open_accounts
from volact.publisher.folder.hardware import KeyMaker, load
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.folder.rotation import rotate
from volact.sealing import certificates
from volact.web.site import WebListener
from volact.wire.serve import free_port

CUSTOMER, GROUP = "Fabrikam / Söhne & Co", "acme-cad 102"
PATHS = (
    "/overview", "/keys?text=Contoso&kind=mak&state=open&sort=used", "/organisations",
    "/organisations/show?name=Contoso", "/agreements",
    "/products", "/activations?text=x&state=held", "/activations/hosts?text=x", "/activations/forests",
    "/ledger?act=key-issued&text=Contoso&actor=tests&since=2020-01-01&until=2030-01-01", "/ledger/check",
    "/administration/audit?text=login&account=ann&act=login", "/administration/accounts", "/administration/sessions",
)  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def desk(request, tmp_path):
    if request.param == "sqlite":
        yield Desk.make(tmp_path / "publisher")
        return
    with postgresql.server(free_port()) as address:
        desk = Desk.make(tmp_path / "publisher", f"{address.rstrip('/')}/postgres")
        yield desk
        desk.publisher.store.close()


class Client(WebClient):
    def __init__(self, desk: DeskApplication) -> None:
        super().__init__(desk)
        self.desk = desk


@pytest.fixture
def client(desk):
    accounts = open_accounts(desk.publisher.folder, desk.clock)
    accounts.add("ann", "administrator", "tests", password=None)
    path = f"/login/link/{accounts.make_link('ann', 'tests')}"
    accounts.store.close()
    listener = WebListener("127.0.0.1", 1691, names=("testserver",))
    keys = desk.publisher.folder.open_keys(PASSPHRASE)
    app = build_desk(desk.publisher, keys, desk.clock, listener=listener)
    with Client(app) as client:
        client.send(client.get(path), path)
        yield client
    app.close()


def machine(desk, folder, key):
    made = ClientMachine(folder / "machine", desk.site(), 7)
    made.add()
    installing.install_key(made.store, "acme-cad", key, desk.edition.id)
    return made


def test_every_list_is_read(desk, client):
    desk.key()
    for path in PATHS:
        response = client.get(path)
        assert response.status_code == 200, (path, response.text[-2000:])


def test_after_a_rotation_its_pages_sign_by_the_new_keys(desk, client):
    path = desk.publisher.folder.path
    rotate(desk.publisher.folder, load(path / "root" / "root.key", PASSPHRASE), KeyMaker(PASSPHRASE), desk.clock(), "t")
    folder = PublisherFolder.open(path)
    keys = folder.open_keys(PASSPHRASE)
    client.desk.use(Publisher(folder, desk.publisher.store), keys)
    toml = EXAMPLE.read_bytes().replace(b"version = 1", b"version = 2")
    client.send(client.get("/products"), "/products", files={"file": ("next.toml", toml)})
    header = desk.publisher.store.version("acme-cad", 2).token.split(".")[0]
    signer = json.loads(base64.urlsafe_b64decode(header + "=="))["x5c"][0]
    assert base64.b64decode(signer) == certificates.der(keys.definition.chain[0])


def test_customers_keys_and_a_call_go_through_their_forms(desk, client, tmp_path):
    client.send(client.get("/organisations"), "/organisations", name=CUSTOMER)
    sold = {"name": "S-1", "organisation": CUSTOMER, "starts_at": "2020-01-01", "ends_at": "", "group_102": "40"}
    assert client.send(client.get("/agreements/new"), "/agreements/new", **sold).url.path == "/agreements"
    asked = {"organisation": CUSTOMER, "kind": "mak", "group": GROUP, "agreement": "S-1", "count": "1"}
    made = client.send(client.get("/keys/new"), "/keys/new", **asked).text
    key = made.split("data-new-key>")[1].split("<")[0]
    issued = desk.publisher.find_key(key)
    assert (issued.activations, issued.organisation) == (40, CUSTOMER)
    assert key not in client.get(f"/keys/{issued.key_id}").text

    digits = str(show(machine(desk, tmp_path, key)).installation)
    call = client.send(client.get("/phone"), "/phone", g1=digits)
    assert "Fabrikam / Söhne &amp; Co" in call.text
    answered = client.send(call, "/phone/confirm", key=key[-5:], reason="no network")
    assert "39 of 40 are left" in answered.text
    assert "1 of 40" in client.get("/agreements").text

    page = client.get(f"/keys/{issued.key_id}")
    for act, fields in (("raise", {"activations": "50"}), ("block", {"reason": "published"}), ("unblock", {})):
        path = f"/keys/{issued.key_id}/{act}"
        page = client.send(page, path, **fields)
        assert page.status_code == 200, page.text
    assert desk.publisher.find_key(key).activations == 50
    path = f"/keys/{issued.key_id}/supersede"
    assert "only time" in client.send(page, path).text
    assert desk.publisher.find_key(key).superseded_by
    revoke = {"reason": "the contract ended"}
    shown = client.get("/organisations/show?name=Fabrikam%20%2F%20S%C3%B6hne%20%26%20Co")
    assert "was revoked" in client.send(shown, "/organisations/revoke", **revoke).text
    assert "are whole" in client.get("/ledger/check").text


def test_the_ledger_is_told_in_names_and_leads_to_the_keys(desk, client):
    key = desk.key().key
    sold = {"name": "S-2", "organisation": "Contoso", "starts_at": "2020-01-01", "ends_at": "", "group_102": "40"}
    client.send(client.get("/agreements/new"), "/agreements/new", **sold)
    issued = client.get("/ledger?act=key-issued").text
    for said in ("<dd>clients</dd>", "<dd>Acme CAD</dd>", "<dd>MAK</dd>", f"Key …{key.partial}</a>"):
        assert said in issued
    assert "product_group" not in issued
    agreed = client.get("/ledger?act=agreement-added").text
    assert "<dd>clients 40</dd>" in agreed
    assert '<time datetime="2020-01-01">2020-01-01</time>' in agreed, "a day that was agreed on is no time"
    assert f"sha256:{desk.root.removeprefix('sha256:')[:16]}…" in client.get("/ledger?act=publisher-initialised").text
    assert f"…{key.partial}</a>" in client.get("/overview").text


@pytest.mark.parametrize("desk", ["sqlite"], indirect=True)
def test_what_a_key_is_for_is_chosen_and_never_guessed(desk, client):
    assert client.get("/keys/new").text.count("choose …") == 1, "of two groups, not of one organisation"
    assert "choose …" not in client.get("/agreements/new").text, "there is one organisation"
    desk.publisher.add_organisation(CUSTOMER, desk.clock(), "tests")
    assert "choose …" in client.get("/agreements/new").text
    asked = {"organisation": "", "kind": "mak", "group": "", "count": "1", "activations": "5"}
    refused = client.send(client.get("/keys/new"), "/keys/new", **asked)
    assert refused.status_code == 422
    assert refused.text.count('class="field-error"') == 2


@pytest.mark.parametrize("desk", ["sqlite"], indirect=True)
def test_the_menu_marks_the_page_that_is_shown_and_no_other(desk, client):
    key = desk.key().key
    for path, entry in (("/phone", "/phone"), ("/phone/key", "/phone/key"), (f"/keys/{key.key_id}", "/keys")):
        menu = client.get(path).text.split("</nav>")[0]
        marked = [
            link.split('"')[0] for link in menu.split('<a href="')[1:] if 'aria-current="page"' in link.split(">")[0]
        ]
        assert marked == [entry]


@pytest.mark.parametrize("desk", ["sqlite"], indirect=True)
def test_a_row_that_was_tampered_with_is_shown_as_it_is(desk, client):
    for seq, text in (
        (1, "not JSON"),
        (2, '{"quantities": {"x": 1}, "product_group": [], "groups": [{}], "ends_at": "y"}'),
    ):
        with desk.publisher.store.change() as change:
            change.conn.exec_driver_sql(f"UPDATE ledger SET data = '{text}' WHERE seq = {seq}")
    shown = client.get("/ledger")
    assert shown.status_code == 200
    assert "not JSON" in shown.text


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/keys/new", {"kind": "mak", "group": GROUP, "organisation": "Nobody", "activations": "5"}, "no organisation"),
        (
            "/keys/new",
            {"kind": "mak", "group": GROUP, "organisation": "Contoso", "activations": "-1"},
            "whole",
        ),
        ("/keys/new", {"kind": "king", "group": "none 1", "organisation": "Contoso"}, "choose one of the list"),
        ("/organisations", {"name": "Contoso"}, "was added before"),
        ("/organisations", {"name": " "}, "fill this in"),
        ("/agreements/new", {"name": "x", "organisation": "Contoso", "starts_at": "31.12.2027"}, "a day as"),
        ("/phone", {"g1": "1234567"}, "has 7 digits instead of 77"),
        ("/phone", {"digits": "0" * 77}, "has a mistake in groups"),
    ],
)
@pytest.mark.parametrize("desk", ["sqlite"], indirect=True)
def test_what_does_not_fit_is_said_at_its_field(desk, client, path, fields, said):
    response = client.send(client.get(path), path, **fields)
    assert response.status_code == 422
    assert said in response.text
