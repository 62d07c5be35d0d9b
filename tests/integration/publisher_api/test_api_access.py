# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every endpoint, tried by everybody who may come, and compared with the one table."""

import functools
import re
from typing import Any

import anyio
import pytest

from volact.publisher.api.access import ENDPOINTS, READ, Rule
from volact.publisher.api.application import ENDPOINTS as SERVED
from volact.publisher.api.office import THREADS
from volact.publisher.api.route import Endpoint
from volact.publisher.rules.roles import Role, Scope

MISSING = {
    "product": "acme-cad", "version": "9", "organisation": "Nobody Ltd", "agreement": "EA-404", "key": "33333",
    "serial": "404", "id": "0" * 16, "code": "no-such-code",
}  # fmt: skip
DENIED = {"token-needed", "token-role-missing", "token-scope-missing"}


def path_of(endpoint: Endpoint) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: MISSING[found[1]], endpoint.path)


def by_name() -> dict[str, Endpoint]:
    return {endpoint.name: endpoint for endpoint in SERVED}


def test_every_endpoint_has_a_rule_and_every_rule_an_endpoint(api) -> None:
    served = {route.name for route in api.app.routes}
    assert served == set(ENDPOINTS)
    described = {op["operationId"] for path in api.description["paths"].values() for op in path.values()}
    assert described == set(ENDPOINTS) - {"read_description"}


def answers(api, endpoint: Endpoint, token: str | None) -> str | None:
    """The code by which somebody is turned away; ``None`` where they were let in, whatever became of it."""
    body: Any = {} if endpoint.method != "GET" else None
    answer = api.call(endpoint.method, path_of(endpoint), token, json=body)
    code = answer.json()["code"] if answer.status_code >= 400 else None
    return code if code in DENIED else None


@pytest.mark.parametrize("role", Role)
def test_each_role_is_let_in_where_the_table_says_so_and_nowhere_else(api, role) -> None:
    token = api.operator(role)
    for endpoint in SERVED:
        rule = ENDPOINTS[endpoint.name]
        if endpoint.name == "revoke_token":  # it would be told of no such token, after it was let in
            assert endpoint.method == "DELETE"
        admitted = rule.open or rule.any_scope or role in rule.roles
        assert answers(api, endpoint, token) == (None if admitted else "token-role-missing"), endpoint.name


@pytest.mark.parametrize("scope", Scope)
def test_each_scope_opens_its_endpoints_and_no_other(api, scope) -> None:
    token = api.organisation(scope)
    for endpoint in SERVED:
        rule = ENDPOINTS[endpoint.name]
        assert answers(api, endpoint, token) == expected(rule, scope), endpoint.name


def expected(rule: Rule, scope: Scope) -> str | None:
    if rule.open or rule.any_scope or rule.scope is scope:
        return None
    return "token-role-missing" if rule.scope is None else "token-scope-missing"


def test_without_a_token_only_what_is_public_is_there(api) -> None:
    for endpoint in SERVED:
        expected = None if ENDPOINTS[endpoint.name].open else "token-needed"
        assert answers(api, endpoint, None) == expected, endpoint.name


def test_a_viewer_changes_nothing_and_no_organisation_does_what_is_the_publishers() -> None:
    changing = {endpoint.name for endpoint in SERVED if endpoint.method != "GET"} - {"refresh_keys", "verify_ledger"}
    assert not {name for name in changing if Role.VIEWER in ENDPOINTS[name].roles}
    assert {name for name in changing if Role.PHONE in ENDPOINTS[name].roles} == {"look_up_call", "confirm_call"}
    assert all(ENDPOINTS[name].roles >= READ or ENDPOINTS[name].open for name in ENDPOINTS if name.startswith("list_p"))
    for name in ("revoke", "add_version", "add_organisation", "add_agreement", "change_agreement", "unblock_key"):
        assert ENDPOINTS[name].scope is None


class Things:
    """What belongs to one organisation: one of each kind, with the endpoint's request that names it."""

    def __init__(self, api, name: str) -> None:
        operator = api.operator()
        publisher, now = api.site.publisher, api.site.clock()
        mak = {"kind": "mak", "product": "acme-cad", "group": "102", "organisation": name, "activations": 3}
        (self.key,) = api.post("/keys", operator, mak)["keys"]
        (self.host_key,) = api.post("/keys", operator, {**mak, "kind": "kms-host", "group": "101"})["keys"]
        publisher.add_agreement(f"EA {name}", name, now, None, {102: 10}, now, "tester")
        self.agreement = f"EA {name}"
        self.machine, self.host = api.site.machine(7), api.site.host("kms7")
        self.licence = self.machine.ask(self.key["key"]).licence
        self.host.ask(self.host_key["key"])
        self.token = api.organisation(name=name)
        self.token_id = api.get("/whoami", self.token)["token_id"]
        self.serial = next(h["serial"] for h in api.get("/hosts", operator)["items"] if h["organisation"] == name)


def test_of_another_organisations_things_nothing_is_there(api, other) -> None:
    things = Things(api, "Example Ltd")
    key, host_key = things.key["key_id"], things.host_key["key_id"]
    before = [row.hash for row in api.site.publisher.store.ledger()]
    for method, path, body in (
        ("GET", "/organisations/Example Ltd", None),
        ("GET", f"/agreements/{things.agreement}", None),
        ("GET", f"/keys/{key}", None),
        ("GET", f"/keys/{things.key['partial']}", None),
        ("POST", f"/keys/{key}/raise", {"activations": 9}),
        ("POST", f"/keys/{key}/block", {}),
        ("POST", f"/keys/{host_key}/supersede", None),
        ("GET", f"/activations?key={key}", None),
        ("GET", f"/hosts?key={host_key}", None),
        ("GET", f"/forests?key={host_key}", None),
        ("GET", f"/ledger?key={key}", None),
        ("GET", f"/hosts/{things.serial}/certificate", None),
        ("DELETE", f"/tokens/{things.token_id}", None),
        ("POST", "/tokens", {"label": "x", "organisation": "Example Ltd", "scopes": ["keys:read"]}),
    ):
        status, _ = api.refused(method, path, other, json=body)
        assert status == 404, path
    for path in (
        "/keys",
        "/activations",
        "/hosts",
        "/forests",
        "/usage",
        "/agreements",
        "/ledger",
        "/tokens",
        "/audit",
    ):
        shown = api.call("GET", path, other, params={"limit": 500}).text
        assert "Example Ltd" not in shown, path
        assert key not in shown, path
    for path in ("/keys", "/activations", "/hosts", "/forests", "/usage", "/agreements", "/ledger"):
        assert api.get(path, other, organisation="Example Ltd")["items"] == []
    assert [one["organisation"] for one in api.get("/organisations", other)["items"]] == ["Other Inc"]
    assert [row.hash for row in api.site.publisher.store.ledger()] == before


def test_an_organisation_sees_its_own_things_and_its_own_rows(api, other) -> None:
    things = Things(api, "Example Ltd")
    token = things.token
    assert api.get(f"/keys/{things.key['key_id']}", token)["used"] == 1
    assert [one["machine"] for one in api.get("/activations", token)["items"]] == [things.licence.machine.hex()]
    assert [one["name"] for one in api.get("/hosts", token)["items"]] == ["kms7"]
    assert "BEGIN CERTIFICATE" in api.call("GET", f"/hosts/{things.serial}/certificate", token).text
    acts = [row["act"] for row in api.get("/ledger", token)["items"]]
    assert {"organisation-added", "key-issued", "agreement-added", "machine-activated", "host-activated"} <= set(acts)
    assert all("Other Inc" not in row["data"] for row in api.get("/ledger", token)["items"])
    (use,) = api.get("/usage", token)["items"]
    assert (use["bought"], use["used"]) == (10, 0)


def test_names_that_differ_by_case_or_look_like_json_do_not_meet(api) -> None:
    operator = api.operator()
    for name in ("example ltd", 'x","organisation":"Example Ltd'):
        api.post("/organisations", operator, {"organisation": name})
        token = api.organisation(Scope.LEDGER_READ, name=name)
        rows = api.get("/ledger", token)["items"]
        assert [row["act"] for row in rows] == ["organisation-added", "token-made"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic YTpi", "token-needed"),
        ("Bearer", "token-needed"),
        ("Bearer x", "token-unknown"),
        ("Bearer vlt_" + "A" * 43, "token-unknown"),
        ("bearer vlt_" + "é" * 43, "token-unknown"),
        ("", "token-needed"),
    ],
)
def test_a_token_that_is_none_is_refused_by_name(api, header, code) -> None:
    answer = api.call("GET", "/whoami", headers={"Authorization": header.encode("latin-1")})
    if header == "Bearer":
        code = "token-unknown"
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_who_sends_a_body_slowly_holds_no_place_that_others_wait_for(api, portal) -> None:
    token = api.organisation(Scope.KEYS_READ)
    rest = portal.call(anyio.Event)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def slow() -> Any:
        yield b'{"keys": ["33333"'
        await rest.wait()
        yield b"]}"

    def ask(method: str, path: str, **given: Any) -> Any:
        send = functools.partial(api.client._client.request, method, f"/api/v1{path}", headers=headers, **given)
        return portal.start_task_soon(send)

    sent = [ask("POST", "/keys/refresh", content=slow()) for _ in range(2 * THREADS)]
    try:
        assert ask("GET", "/whoami").result(timeout=120).status_code == 200
    finally:
        portal.call(rest.set)
    assert {one.result(timeout=120).status_code for one in sent} == {200}
