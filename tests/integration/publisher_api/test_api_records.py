# SPDX-License-Identifier: Apache-2.0
"""The catalogue, agreements and their ETag, the ledger, revocation, and the form of every problem."""

import json
from pathlib import Path

from volact.publisher.rules.roles import Role, Scope
from volact.sealing.verify import verify_definition

JSON = {"Content-Type": "application/json"}
EXAMPLE = (Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml").read_text()


def test_a_product_is_shown_with_its_signed_definition_and_a_new_version_is_added(api):
    token = api.operator(Role.OPERATOR)
    assert [one["product"] for one in api.get("/products", token)["items"]] == ["acme-cad"]
    newer = EXAMPLE.replace("version = 1", "version = 2")
    added = api.post("/products", token, {"toml": newer})
    assert added["version"] == 2
    assert api.refused("POST", "/products", token, json={"toml": newer}) == (409, "product-version-not-newer")
    assert api.refused("POST", "/products", token, json={"toml": "x"}) == (422, "definition-invalid")
    assert [one["version"] for one in api.get("/products/acme-cad/versions", token)["items"]] == [1, 2]
    path = "/products/acme-cad/versions/2/definition"
    answer = api.call("GET", path, token)
    definition = verify_definition(answer.text.strip(), api.site.folder.fingerprint).definition
    assert definition.version == 2
    assert answer.headers["content-type"] == "application/jose"
    kept = api.call("GET", path, token, headers={"If-None-Match": answer.headers["etag"]})
    assert (kept.status_code, kept.content) == (304, b"")
    assert api.refused("GET", "/products/acme-cad/versions/9", token) == (404, "product-version-missing")
    assert api.refused("GET", "/products/nothing", token) == (404, "product-not-published")


def test_groups_are_shown_with_what_lies_below_them(api):
    groups = {one["number"]: one for one in api.get("/product-groups", api.operator())["items"]}
    assert groups[102]["parent"] == 101 or groups[102]["parent"] is None
    assert all(set(one["below"]) <= set(groups) for one in groups.values())


def test_an_agreement_is_changed_only_as_it_was_read_where_that_is_asked_for(api):
    token = api.operator()
    body = {"agreement": "EA/2027 ä", "organisation": "Example Ltd", "quantities": {"102": 100}}
    made = api.call("POST", "/agreements", token, json=body)
    assert made.status_code == 201
    read = api.call("GET", "/agreements/EA%2F2027 ä", token)
    assert read.headers["etag"] == made.headers["etag"]
    change = {"json": {"ends_at": "2030-01-01T00:00:00Z"}, "headers": {"If-Match": read.headers["etag"]}}
    changed = api.call("PATCH", "/agreements/EA%2F2027 ä", token, **change)
    assert changed.json()["ends_at"] == "2030-01-01T00:00:00Z"
    assert changed.headers["etag"] != read.headers["etag"]
    assert api.refused("PATCH", "/agreements/EA%2F2027 ä", token, **change) == (412, "precondition-failed")
    api.ok("PATCH", "/agreements/EA%2F2027 ä", token, json={"ends_at": None})
    past = {"json": {"ends_at": "2020-01-01T00:00:00Z"}}
    assert api.refused("PATCH", "/agreements/EA%2F2027 ä", token, **past) == (422, "agreement-dates")
    assert api.refused("POST", "/agreements", token, json=body) == (409, "agreement-taken")
    unknown = {**body, "agreement": "x", "quantities": {"999": 1}}
    assert api.refused("POST", "/agreements", token, json=unknown) == (404, "product-group-unknown")


def test_what_is_used_of_what_was_bought(api):
    now = api.site.clock()
    api.site.publisher.add_agreement("EA-1", "Example Ltd", now, None, {102: 10}, now, "tester")
    key = api.site.pool_key(4, agreement="EA-1")
    api.site.machine().ask(key)
    (use,) = api.get("/usage", api.operator(Role.VIEWER), agreement="EA-1")["items"]
    assert (use["bought"], use["keys"], use["activations"], use["used"]) == (10, 1, 4, 1)


def test_a_host_is_revoked_and_the_public_status_tells_it(api):
    api.site.host("kms1").ask(api.site.key())
    before = api.client.request("GET", "/api/v1/revocation-status").json()
    revoked = api.post("/revocations", api.operator(), {"what": "host", "name": "kms1", "reason": "stolen"})
    after = api.client.request("GET", "/api/v1/revocation-status")
    assert (before["revoked"], [one["signer"] for one in after.json()["revoked"]]) == ([], revoked["revoked"])
    assert after.json()["epoch"] == before["epoch"] + 1
    assert after.headers["cache-control"] == "public, max-age=300"
    kept = api.client.request("GET", "/api/v1/revocation-status", headers={"If-None-Match": after.headers["etag"]})
    assert kept.status_code == 304
    assert api.refused("POST", "/revocations", api.operator(), json={"what": "host", "name": "none"}) == (
        404, "host-not-certified",
    )  # fmt: skip
    organisation = {"what": "organisation", "name": "Example Ltd"}
    its_token = api.organisation()
    api.post("/revocations", api.operator(), organisation)
    assert api.refused("POST", "/revocations", api.operator(), json=organisation) == (409, "organisation-blocked")
    assert api.refused("GET", "/whoami", its_token) == (401, "token-revoked")


def test_the_ledger_is_read_filtered_exported_and_verified_against_a_checkpoint(api):
    token = api.operator()
    kept = api.get("/ledger/checkpoint", token)
    api.post("/organisations", token, {"organisation": "New Ltd"})
    assert api.post("/ledger/verify", token, kept)["compared"] is True
    assert api.refused("POST", "/ledger/verify", token, json={"size": 1}) == (422, "request-invalid")
    wrong = {"size": 1, "head": "0" * 64}
    assert api.refused("POST", "/ledger/verify", token, json=wrong) == (409, "ledger-broken")
    lines = api.call("GET", "/ledger/export", token).text.splitlines()
    rows = api.get("/ledger", token, limit=500)["items"]
    assert [json.loads(line)["hash"] for line in lines] == [row["hash"] for row in rows]
    assert [row["act"] for row in api.get("/ledger", token, act="organisation-added")["items"]] == [
        "organisation-added"
    ] * 2
    assert api.get("/ledger", token, since="2027-01-15T08:00:01Z")["items"] == []
    assert len(api.get("/ledger", token, until="2027-01-15T08:00:01+00:00")["items"]) == len(rows)
    assert api.refused("GET", "/ledger", token, params={"since": "yesterday"}) == (422, "request-invalid")
    api.site.tamper("UPDATE ledger SET actor = 'nobody' WHERE seq = 2")
    assert api.refused("GET", "/ledger/export", token) == (409, "ledger-broken")


def test_the_audit_shows_people_and_tokens_and_to_an_organisation_its_own(api):
    api.site.machine().ask(api.site.pool_key(1))
    token = api.organisation(Scope.TOKENS_MANAGE, Scope.KEYS_READ)
    api.post("/tokens", token, {"label": "part", "scopes": ["keys:read"]})
    everybody = api.get("/audit", api.operator())["items"]
    assert "machine-activated" not in [row["act"] for row in everybody]
    assert [row["act"] for row in api.get("/audit", token)["items"]] == ["token-made"]


def test_problems_of_the_framework_have_the_same_form(api):
    token = api.operator()
    assert api.refused("GET", "/nothing") == (404, "web-path-unknown")
    assert api.refused("PUT", "/keys", token) == (405, "method-unfit")
    assert api.refused("POST", "/keys", token, content=b"{", headers={"Content-Type": "application/json"}) == (
        422, "request-invalid",
    )  # fmt: skip
    assert api.refused("POST", "/keys", token, content=b"\xff\xfe", headers=JSON)[0] == 422
    assert api.refused("POST", "/keys", token, content=b"x" * 3_000_000) == (413, "request-too-large")

    async def endless():
        for _ in range(40):
            yield b"x" * 100_000

    assert api.refused("POST", "/keys", token, content=endless()) == (413, "request-too-large")
    lone = b'{"organisation": "\\ud800"}'
    assert api.refused("POST", "/organisations", token, content=lone, headers=JSON) == (422, "request-invalid")
    for name in ("a\u0000b", " x", "x\n", "\u202e", ""):
        assert api.refused("POST", "/organisations", token, json={"organisation": name})[0] == 422
    assert api.refused("GET", "/organisations/a%00b", token)[0] in (404, 422)
    answer = api.call("POST", "/organisations", token, json={"organisation": ["a secret"]})
    assert "a secret" not in answer.text
    shown = api.get("/problems/key-not-issued")
    assert (shown["status"], shown["type"]) == (404, "/api/v1/problems/key-not-issued")
    assert api.refused("GET", "/problems/none") == (404, "problem-missing")
