# SPDX-License-Identifier: Apache-2.0
"""Logins by a real OpenLDAP over TLS, and by a small OpenID Connect provider on the loopback."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from support.slapd import ADDRESS, ADMINISTRATOR, BASE, GROUP, PASSWORD, slapd
from support.web_client import WebClient
from volact.web.access.accounts import Accounts, Caller
from volact.web.access.records import Stage
from volact.web.access.roles import LOGGED_IN
from volact.web.access.store import WebStore
from volact.web.app import build_app
from volact.web.errors import LoginFailedError, LoginRefusedError
from volact.web.pages.visit import Page
from volact.web.sign_on.ldap import LdapBackend, LoginServerError, escape
from volact.web.sign_on.logins import open_logins
from volact.web.sign_on.settings import LoginSettingsError
from volact.web.site import Site
from volact.wire.serve import free_port

HERE = Caller("192.0.2.1")


@pytest.fixture
def accounts(tmp_path):
    store = WebStore.open(tmp_path / "web.db")
    yield Accounts(store, lambda: int(time.time()), bytes(32), totp_required=False)
    store.close()


def settings(folder, text: str):
    path = folder / "logins.toml"
    path.write_text(text)
    return path


# ---- LDAP


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    with slapd(tmp_path_factory.mktemp("slapd"), free_port()) as up:
        yield up


def ldap_settings(directory, folder, **changes: str):
    values = {
        "url": f"ldaps://{directory.server}", "base": BASE, "bind_dn": ADMINISTRATOR,
        "bind_password_file": str(directory.folder / "password"), "user_filter": "(cn={name})",
        "group_filter": "(member={dn})", "ca_file": str(directory.ca_file), **changes,
    }  # fmt: skip
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    return settings(folder, f'[ldap]\n{lines}\n[ldap.roles]\n"{GROUP}" = "operator"\n')


@pytest.mark.needs("slapd")
def test_a_member_of_a_mapped_group_logs_in_with_the_directory_s_password(directory, accounts, tmp_path):
    accounts, provider = open_logins(ldap_settings(directory, tmp_path), accounts)
    assert provider is None
    login = accounts.log_in("PC30", PASSWORD, HERE)
    assert login.session.stage is Stage.FULL
    account = accounts.store.account("pc30")
    assert (account.source, account.role, account.password) == ("ldap", "operator", None)
    with pytest.raises(LoginFailedError):
        accounts.log_in("pc30", "another password", HERE)


@pytest.mark.needs("slapd")
@pytest.mark.parametrize("name", ["pc30*", "*", "pc30)(cn=*", "nobody", "admin,dc=example"])
def test_names_are_no_patterns(directory, accounts, tmp_path, name):
    accounts, _ = open_logins(ldap_settings(directory, tmp_path), accounts)
    with pytest.raises(LoginFailedError):
        accounts.log_in(name, PASSWORD, HERE)
    assert accounts.backends[0].check(name, PASSWORD) is None


@pytest.mark.needs("slapd")
def test_an_empty_password_is_none_though_the_directory_takes_it(directory, accounts, tmp_path):
    accounts, _ = open_logins(ldap_settings(directory, tmp_path), accounts)
    assert accounts.backends[0].check("pc30", "") is None
    assert accounts.backends[0].check("pc30", "\0anything") is None


@pytest.mark.needs("slapd")
def test_who_is_in_no_mapped_group_is_refused_by_name(directory, accounts, tmp_path):
    accounts, _ = open_logins(ldap_settings(directory, tmp_path), accounts)
    with pytest.raises(LoginRefusedError):
        accounts.log_in("anna", PASSWORD, HERE)
    assert accounts.store.account("anna") is None


@pytest.mark.needs("slapd")
def test_a_local_account_is_never_the_directory_s_of_the_same_name(directory, accounts, tmp_path):
    accounts, _ = open_logins(ldap_settings(directory, tmp_path), accounts)
    accounts.add("pc30", "administrator", "tests", password="a password of this site")
    with pytest.raises(LoginFailedError):
        accounts.log_in("pc30", PASSWORD, HERE)
    assert accounts.log_in("pc30", "a password of this site", HERE)


@pytest.mark.needs("slapd")
def test_a_directory_that_cannot_be_trusted_or_reached_is_told(directory, accounts, tmp_path):
    for changes in ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, {"url": f"ldaps://{ADDRESS}:{free_port()}"}):
        found, _ = open_logins(ldap_settings(directory, tmp_path, **changes), accounts)
        with pytest.raises(LoginServerError):
            found.log_in("pc30", PASSWORD, HERE)
        accounts.add("ann" + str(len(accounts.store.accounts())), "viewer", "tests", password="local accounts go on")
    assert found.log_in("ann0", "local accounts go on", HERE)


def test_a_filter_s_signs_are_escaped():
    assert escape("a*(b)\\\0") == "a\\2a\\28b\\29\\5c\\00"


@pytest.mark.parametrize(
    "text",
    [
        "", "x = 1", "[ldap]", "[ldap]\nurl = 1", "[other]\nx = 1", "not toml",
        '[ldap]\nurl = "http://x"\nbase = "x"\n[ldap.roles]\ng = "viewer"',
        '[ldap]\nurl = "ldaps://x"\nbase = "x"\n[ldap.roles]\ng = "king"',
        '[ldap]\nurl = "ldaps://x"\nbase = "x"\nmore = 1\n[ldap.roles]\ng = "viewer"',
        '[oidc]\nissuer = "http://login.example"\nclient_id = "x"\n[oidc.roles]\ng = "viewer"',
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named(accounts, tmp_path, text):
    with pytest.raises(LoginSettingsError):
        open_logins(settings(tmp_path, text), accounts)
    with pytest.raises(LoginSettingsError):
        open_logins(tmp_path / "none", accounts)


# ---- OpenID Connect


class FakeProvider:
    """Speaks the code flow as a provider does; ``claims`` and ``key`` can be spoiled."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.key = self.signer = ECKey.generate_key("P-256", {"kid": "one"})
        self.claims: dict[str, object] = {}
        self.asked: dict[str, str] = {}

    def token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "volact", "exp": now + 300, "iat": now, "nonce": self.asked["nonce"],
            "preferred_username": "Olga", "name": "Olga Ivanova", "groups": ["staff", "helpdesk"], **self.claims,
        }  # fmt: skip
        algorithm = "HS256" if isinstance(self.signer, OctKey) else "ES256"
        return jwt.encode({"alg": algorithm, "kid": "one"}, claims, self.signer, algorithms=[algorithm])

    def answer(self, path: str, body: str) -> dict[str, object]:
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            return {"issuer": self.issuer, **{name: self.issuer + end for name, end in ends.items()}}
        if path == "/keys":
            return dict(KeySet([self.key]).as_dict(private=False))
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        hashed = base64.urlsafe_b64encode(hashlib.sha256(sent["code_verifier"].encode()).digest()).rstrip(b"=")
        if sent["code"] != "the-code" or hashed.decode() != self.asked["code_challenge"]:
            return {"error": "invalid_grant"}
        return {"access_token": "x", "token_type": "Bearer", "id_token": self.token()}


@contextmanager
def serving(provider: FakeProvider) -> Iterator[FakeProvider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(provider.answer(self.path, self._body())).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def _body(self) -> str:
            return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", int(provider.issuer.rpartition(":")[2])), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def provider():
    with serving(FakeProvider(free_port())) as provider:
        yield provider


class Client(WebClient):
    def __init__(self, accounts: Accounts, app: Any) -> None:
        super().__init__(app)
        self.accounts = accounts


@pytest.fixture
def client(accounts, provider, tmp_path, request):
    """Its parameter: another line of the provider's settings."""
    text = getattr(request, "param", "")
    text = f'[oidc]\n{text}\nlabel = "Contoso"\nissuer = "{provider.issuer}"\nclient_id = "volact"\n'
    accounts, found = open_logins(settings(tmp_path, text + '[oidc.roles]\nhelpdesk = "viewer"\n'), accounts)
    pages = [Page("/", lambda visit: visit.redirect("/account"), LOGGED_IN, "Start")]
    hosts = frozenset({"testserver"})
    with Client(accounts, build_app(Site("t", "T", "T", accounts, hosts, single_sign_on=found), pages)) as client:
        yield client


def come_back(client, provider, **changes: str):
    away = client.request("GET", "/login/single-sign-on?next=/help")
    address = urlsplit(away.headers["location"])
    assert f"{address.scheme}://{address.netloc}" == provider.issuer
    provider.asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    query = {"code": "the-code", "state": provider.asked["state"], **changes}
    return client.request("GET", f"/login/single-sign-on/return?{urlencode(query)}")


def test_a_provider_s_user_logs_in_with_the_role_of_a_group(client, provider):
    assert "Log in with Contoso" in client.get("/login").text
    answer = come_back(client, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/help")
    assert client.get("/account").status_code == 200
    account = client.accounts.store.account("olga")
    assert (account.source, account.role, account.full_name) == ("oidc", "viewer", "Olga Ivanova")


def test_a_provider_s_account_is_offered_no_authenticator_of_its_own(client, provider):
    come_back(client, provider)
    shown = client.get("/account").text
    assert "as Contoso asks for one" in shown
    assert "/account/authenticator" not in shown
    answer = client.request("GET", "/account/authenticator")
    assert "account-elsewhere" in answer.text
    assert answer.status_code == 422


@pytest.mark.parametrize("client", ['acr = "two-factors"'], indirect=True)
def test_a_context_of_the_login_that_is_asked_for_must_come_back(client, provider):
    for claims in ({}, {"acr": "one-factor"}, {"acr": ["two-factors"]}):
        provider.claims = claims
        assert come_back(client, provider).status_code == 403
        assert provider.asked["acr_values"] == "two-factors"
    provider.claims = {"acr": "two-factors"}
    assert come_back(client, provider).status_code == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://evil.example"}, {"aud": "another"}, {"exp": 1}, {"nonce": "another"}, {"exp": None},
        {"preferred_username": None}, {"groups": "helpdesk"}, {"aud": ["volact", "another"]},
        {"preferred_username": "<b>"}, {"groups": []},
    ],
    ids=str,
)  # fmt: skip
def test_an_id_token_that_does_not_fit_logs_nobody_in(client, provider, claims):
    provider.claims = claims
    assert come_back(client, provider).status_code in (403, 422)
    assert client.request("GET", "/account").status_code == 303


@pytest.mark.parametrize(
    "signer",
    [ECKey.generate_key("P-256", {"kid": "one"}), OctKey.generate_key(256)],
    ids=["another-key", "shared-secret"],
)
def test_an_id_token_of_another_key_logs_nobody_in(client, provider, signer):
    provider.signer = signer
    assert come_back(client, provider).status_code == 403


def test_a_return_that_this_browser_did_not_begin_is_refused(client, provider):
    assert come_back(client, provider, state="another").status_code == 403
    assert come_back(client, provider, state="\N{LATIN SMALL LETTER E WITH ACUTE}").status_code == 403
    assert come_back(client, provider, code="another").status_code == 403
    assert come_back(client, provider, error="access_denied").status_code == 403
    client.http.cookies.clear()
    assert client.request("GET", "/login/single-sign-on/return?code=x&state=y").status_code == 403


def test_a_local_account_is_never_the_provider_s_of_the_same_name(client, provider):
    client.accounts.add("olga", "administrator", "tests", password="a password of this site")
    assert come_back(client, provider).status_code == 401
    assert client.accounts.store.account("olga").source == "local"


def test_ldap_settings_are_a_backend(tmp_path, accounts):
    text = '[ldap]\nurl = "ldaps://dc1"\nbase = "dc=x"\n[ldap.roles]\nadmins = "administrator"\n'
    found, _ = open_logins(settings(tmp_path, text), accounts)
    assert isinstance(found.backends[0], LdapBackend)
    assert "password" not in repr(found.backends[0])
