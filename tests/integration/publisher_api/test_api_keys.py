# SPDX-License-Identifier: Apache-2.0
"""Keys over the HTTP API: issued by operators and by organisations, shown, raised, blocked, superseded; sent again."""

import pytest

from volact.core.product_key import ProductKey
from volact.publisher.rules.roles import Role, Scope
from volact.sealing.verify import TrustedLicence
from volact.sql.errors import DiskFullError

MAK = {"kind": "mak", "product": "acme-cad", "group": "102", "organisation": "Example Ltd", "activations": 3}


@pytest.fixture
def agreement(api):
    now = api.site.clock()
    api.site.publisher.add_agreement("EA-1", "Example Ltd", now, None, {102: 10, 101: 2}, now, "tester")
    return "EA-1"


def test_an_operator_issues_a_key_and_a_machine_is_licensed_by_it(api):
    (issued,) = api.post("/keys", api.operator(Role.OPERATOR), MAK)["keys"]
    assert (issued["kind"], issued["remaining"], issued["partial"]) == ("mak", 3, issued["key"][-5:])
    assert isinstance(api.site.machine().ask(issued["key"]), TrustedLicence)
    shown = api.get(f"/keys/{issued['key_id']}", api.operator(Role.VIEWER))
    assert (shown["used"], shown["remaining"]) == (1, 2)
    assert "key" not in shown
    (row,) = [row for row in api.site.publisher.store.ledger() if row.act == "key-issued"]
    assert row.actor.startswith("token ")
    assert row.actor.endswith("(operator)")
    api.site.publisher.store.check_ledger()


def test_host_keys_have_hosts_and_pool_keys_have_none(api):
    token = api.operator()
    (key,) = api.post("/keys", token, {**MAK, "kind": "kms-host", "group": "servers", "activations": None})["keys"]
    assert (key["hosts"], key["hosts_used"], key["used"], key["remaining"]) == (6, 0, None, None)
    api.site.host().ask(key["key"])
    assert api.get(f"/keys/{key['partial']}", token)["hosts_used"] == 1
    assert api.refused("POST", "/keys", token, json={**MAK, "hosts": 2}) == (422, "request-invalid")
    assert api.refused("POST", "/keys", token, json={**MAK, "kind": "kms-host", "count": 2}) == (422, "request-invalid")


def test_the_same_request_sent_again_gets_the_same_answer_and_is_done_once(api):
    token, headers = api.operator(), {"Idempotency-Key": "c0ffee-1"}
    first = api.call("POST", "/keys", token, json=MAK, headers=headers)
    again = api.call("POST", "/keys", token, json=MAK, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(api.get("/keys", token)["items"]) == 1
    other = api.call("POST", "/keys", token, json={**MAK, "activations": 4}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    api.post("/keys", api.operator(Role.OPERATOR), MAK, headers=headers)  # another token's key is another key
    api.site.clock.now += 86400
    api.post("/keys", token, MAK, headers=headers)  # a day later it is a new request
    assert len(api.get("/keys", token)["items"]) == 3


def test_kept_answers_do_not_show_their_secrets(api):
    headers = {"Idempotency-Key": '"c0ffee-2"'}
    (key,) = api.post("/keys", api.operator(), MAK, headers=headers)["keys"]
    with api.site.publisher.store.look() as conn:
        (kept,) = conn.exec_driver_sql("SELECT sealed, request FROM api_answer").all()
    assert key["key"].encode() not in bytes(kept[0])
    assert b"102" not in bytes(kept[1])


def test_what_dies_between_the_act_and_its_answer_has_done_nothing(api, monkeypatch):
    token, headers = api.operator(), {"Idempotency-Key": "c0ffee-5"}
    keep = api.office.answers.keep

    def die(conn, *given):
        keep(conn, *given)
        raise DiskFullError(database="publisher.db")

    monkeypatch.setattr(api.office.answers, "keep", die)
    assert api.refused("POST", "/keys", token, json=MAK, headers=headers) == (503, "disk-full")
    assert api.get("/keys", token)["items"] == []
    monkeypatch.undo()
    first = api.post("/keys", token, MAK, headers=headers)
    assert api.post("/keys", token, MAK, headers=headers) == first
    api.site.publisher.store.check_ledger()


def test_a_request_that_failed_may_be_sent_again_under_its_key(api):
    token, headers = api.operator(), {"Idempotency-Key": "c0ffee-3"}
    wrong = {**MAK, "organisation": "Later Ltd"}
    assert api.refused("POST", "/keys", token, json=wrong, headers=headers) == (404, "organisation-missing")
    api.post("/organisations", token, {"organisation": "Later Ltd"})
    api.post("/keys", token, wrong, headers=headers)


def test_two_requests_with_one_key_that_come_at_once_are_one_act(api, together):
    token, headers = api.operator(), {"Idempotency-Key": "c0ffee-4"}
    answers = together([lambda: api.call("POST", "/keys", token, json=MAK, headers=headers)] * 4)
    assert len({answer.text for answer in answers}) == 1
    assert len(api.get("/keys", token)["items"]) == 1
    api.site.publisher.store.check_ledger()


@pytest.mark.parametrize("header", ["", '""', "a b", "ü", "x" * 201])
def test_an_idempotency_key_that_is_none_is_named(api, header):
    answer = api.call("POST", "/keys", api.operator(), json=MAK, headers={"Idempotency-Key": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-unfit")


def test_an_organisation_issues_keys_as_far_as_its_agreement_goes(api, agreement):
    token = api.organisation(Scope.KEYS_ISSUE, Scope.KEYS_READ, Scope.KEYS_RAISE, Scope.KEYS_BLOCK)
    asked = {"kind": "mak", "product": "acme-cad", "group": "clients", "agreement": agreement, "activations": 6}
    (first,) = api.post("/keys", token, asked)["keys"]
    assert first["organisation"] == "Example Ltd"
    assert api.refused("POST", "/keys", token, json=asked) == (409, "agreement-quantity")
    (second,) = api.post("/keys", token, {**asked, "activations": 4})["keys"]
    raised = {"json": {"activations": 7}}
    assert api.refused("POST", f"/keys/{first['key_id']}/raise", token, **raised) == (409, "agreement-quantity")
    # What a blocked key has used up stays used; the rest of it may be issued anew.
    api.site.machine().ask(second["key"])
    api.post(f"/keys/{second['partial']}/block", token, {"reason": "lost"})
    api.post(f"/keys/{first['key_id']}/raise", token, {"activations": 9})
    assert api.refused("POST", f"/keys/{second['partial']}/unblock", token) == (403, "token-role-missing")
    assert api.refused("POST", "/keys", token, json={**asked, "activations": 1}) == (409, "agreement-quantity")
    assert api.get("/keys", token)["items"][0]["activations"] in (9, 4)


def test_an_organisation_has_one_host_key_of_a_group_and_no_say_in_its_limits(api, agreement):
    token = api.organisation()
    asked = {"kind": "kms-host", "product": "acme-cad", "group": "servers", "agreement": agreement}
    (key,) = api.post("/keys", token, asked)["keys"]
    assert (key["hosts"], key["activations"]) == (6, 10)
    assert api.refused("POST", "/keys", token, json=asked) == (409, "agreement-host-key")
    assert api.refused("POST", "/keys", token, json={**asked, "hosts": 9}) == (409, "host-key-limits")
    assert api.refused("POST", f"/keys/{key['key_id']}/raise", token, json={"hosts": 9}) == (409, "host-key-limits")
    new = api.post(f"/keys/{key['key_id']}/supersede", token)
    assert api.get(f"/keys/{key['key_id']}", token)["superseded_by"] == new["key_id"]


def test_an_organisation_issues_nothing_without_an_agreement_of_its_own(api, other):
    token = api.organisation()
    asked = {"kind": "mak", "product": "acme-cad", "group": "102", "activations": 1}
    assert api.refused("POST", "/keys", token, json=asked) == (409, "agreement-needed")
    assert api.refused("POST", "/keys", token, json={**asked, "agreement": "OTHER-1"}) == (404, "agreement-missing")
    assert api.refused("POST", "/keys", token, json={**asked, "organisation": "Other Inc"}) == (
        404,
        "organisation-missing",
    )


def test_keys_are_raised_blocked_and_superseded(api):
    token = api.operator()
    (key,) = api.post("/keys", token, MAK)["keys"]
    path = f"/keys/{key['key_id']}"
    assert api.post(f"{path}/raise", token, {"activations": 5})["remaining"] == 5
    assert api.refused("POST", f"{path}/raise", token, json={"activations": 5}) == (409, "key-not-raised")
    assert api.refused("POST", f"{path}/raise", token, json={}) == (422, "request-invalid")
    assert api.refused("POST", f"{path}/raise", token, json={"hosts": 5}) == (422, "request-invalid")
    assert api.post(f"{path}/block", token, {"reason": "published"})["blocked_reason"] == "published"
    assert api.post(f"{path}/unblock", token)["blocked_at"] is None
    new = api.post(f"{path}/supersede", token)
    assert (ProductKey.parse(new["key"]).key_id, new["remaining"]) == (new["key_id"], 5)
    assert api.refused("POST", f"{path}/supersede", token) == (409, "key-superseded")
    assert api.refused("POST", f"{path}/unblock", token) == (409, "key-superseded")


def test_many_keys_are_refreshed_at_once_by_whatever_names_them(api, other):
    (mine,) = api.post("/keys", api.operator(), MAK)["keys"]
    (foreign,) = api.post("/keys", api.operator(), {**MAK, "organisation": "Other Inc"})["keys"]
    names = [mine["key"], mine["partial"], mine["key_id"], foreign["key"], "9NR7Y-PNRJ3-TCRCR-WP494-Y7WA7", "33333"]
    items = api.post("/keys/refresh", api.organisation(Scope.KEYS_READ), {"keys": names})["items"]
    assert [item["key"]["remaining"] if item["key"] else item["problem"]["code"] for item in items] == [
        3, 3, 3, "key-not-issued", "product-key-typo", "key-not-issued",
    ]  # fmt: skip
    assert items[0]["name"] == mine["partial"]  # a whole key is not sent around once more


def test_a_list_comes_in_pages_that_hold_every_key_once(api):
    token = api.operator()
    issued = {key["key_id"] for key in api.post("/keys", token, {**MAK, "count": 5})["keys"]}
    found, cursor, pages = [], None, 0
    while True:
        answer = api.call("GET", "/keys", token, params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        found += [key["key_id"] for key in answer.json()["items"]]
        cursor, pages = answer.json()["next"], pages + 1
        if cursor is None:
            break
        assert f'cursor={cursor}>; rel="next"' in answer.headers["link"]
    assert (pages, set(found), len(found)) == (3, issued, 5)
    assert 'rel="next"' not in answer.headers["link"]
    for wrong in ("AAAA", "W10", "WzEsMV0", "WyJhIiwxXQ"):
        assert api.refused("GET", "/keys", token, params={"cursor": wrong}) == (422, "cursor-unfit")


def test_lists_are_filtered(api, other):
    token = api.operator()
    api.post("/keys", token, MAK)
    api.post("/keys", token, {**MAK, "organisation": "Other Inc", "kind": "retail"})
    api.post("/keys", token, {**MAK, "kind": "vm-host", "group": "101", "activations": None})

    def kinds(**query):
        return [key["kind"] for key in api.get("/keys", token, **query)["items"]]

    assert sorted(kinds()) == ["mak", "retail", "vm-host"]
    assert kinds(organisation="Other Inc") == ["retail"]
    assert kinds(group=101) == ["vm-host"]
    assert kinds(kind="mak") == ["mak"]
    assert kinds(blocked="true") == []
    assert [key["organisation"] for key in api.get("/keys", other)["items"]] == ["Other Inc"]
    assert api.get("/keys", other, organisation="Example Ltd")["items"] == []
