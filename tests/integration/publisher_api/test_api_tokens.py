# SPDX-License-Identifier: Apache-2.0
"""Tokens: made, used, ended, revoked; and how often one may call."""

import hashlib
import json

from sqlalchemy import func, select

from volact.publisher.api.office import Limits
from volact.publisher.rules.roles import Role, Scope
from volact.publisher.schema import API_LIMIT
from volact.web.api.limits import Limit

DAY = 86400


def test_a_token_is_shown_once_and_kept_as_its_hash(api):
    made = api.post(
        "/tokens", api.operator(), {"label": "fleet", "organisation": "Example Ltd", "scopes": ["keys:read"]}
    )
    assert made["token"].startswith("vlt_")
    with api.site.publisher.store.look() as conn:
        rows = conn.exec_driver_sql("SELECT * FROM api_token").all()
    assert made["token"] not in repr(rows)
    assert hashlib.sha256(made["token"].encode()).digest() in [bytes(row[1]) for row in rows]
    assert "token" not in api.get("/tokens", api.operator())["items"][-1]
    who = api.get("/whoami", made["token"])
    assert (who["organisation"], who["scopes"], who["role"]) == ("Example Ltd", ["keys:read"], None)
    assert {"show_key", "whoami"} <= set(who["may"])
    assert "issue_keys" not in who["may"]


def test_a_token_ends_and_is_revoked(api):
    operator = api.operator()
    ends = api.site.clock() + DAY
    body = {"label": "short", "role": "viewer", "ends_at": "2027-01-16T08:00:00Z"}
    made = api.post("/tokens", operator, body)
    assert ends == 1_800_086_400
    assert made["ends_at"] == "2027-01-16T08:00:00Z"
    revoked = api.post("/tokens", operator, {"label": "lost", "role": "viewer"})
    assert api.ok("DELETE", f"/tokens/{revoked['id']}", operator)["revoked_at"] is not None
    assert api.refused("GET", "/keys", revoked["token"]) == (401, "token-revoked")
    api.get("/keys", made["token"])
    api.site.clock.now = ends
    assert api.refused("GET", "/keys", made["token"]) == (401, "token-ended")
    acts = [(row.act, json.loads(row.data)["label"]) for row in api.site.publisher.store.ledger() if "token" in row.act]
    assert acts[1:] == [("token-made", "short"), ("token-made", "lost"), ("token-revoked", "lost")]


def test_the_last_use_is_known_to_the_minute(api):
    token = api.operator()
    used = api.get("/tokens", token)["items"][0]["last_used_at"]
    assert used == "2027-01-15T08:00:00Z"
    api.site.clock.now += 30
    assert api.get("/tokens", token)["items"][0]["last_used_at"] == used
    api.site.clock.now += 31
    assert api.get("/tokens", token)["items"][0]["last_used_at"] == "2027-01-15T08:01:01Z"


def test_nobody_gives_away_more_than_they_have(api):
    token = api.organisation(Scope.TOKENS_MANAGE, Scope.KEYS_READ)
    made = api.post("/tokens", token, {"label": "part", "scopes": ["keys:read"]})
    assert made["organisation"] == "Example Ltd"
    assert api.refused("POST", "/tokens", token, json={"label": "x", "scopes": ["keys:issue"]}) == (
        403,
        "token-scope-missing",
    )
    assert api.refused("POST", "/tokens", token, json={"label": "x", "role": "viewer"}) == (403, "token-role-missing")
    own = [one["id"] for one in api.get("/tokens", token)["items"]]
    assert made["id"] in own
    api.ok("DELETE", f"/tokens/{made['id']}", token)


def test_a_token_is_of_an_organisation_or_of_an_operator(api):
    token = api.operator()
    for body in (
        {"label": "x"},
        {"label": "x", "organisation": "Example Ltd"},
        {"label": "x", "organisation": "Example Ltd", "scopes": ["keys:read"], "role": "viewer"},
        {"label": "x", "role": "viewer", "scopes": ["keys:read"]},
    ):
        assert api.refused("POST", "/tokens", token, json=body) == (422, "token-kind-unfit")
    body = {"label": "x", "organisation": "Nobody Ltd", "scopes": ["keys:read"]}
    assert api.refused("POST", "/tokens", token, json=body) == (404, "organisation-missing")
    body = {"label": "x", "role": "viewer", "ends_at": "2020-01-01T00:00:00Z"}
    assert api.refused("POST", "/tokens", token, json=body) == (422, "token-end-unfit")


def test_who_calls_too_often_is_told_when_to_come_back_and_keeps_nobody_else_out(make_api):
    api = make_api(Limits(Limit("token", 5, 600), Limit("address", 3, 600)))
    one, two = api.operator(Role.VIEWER), api.operator(Role.ADMINISTRATOR)
    left = [api.call("GET", "/whoami", one).headers["ratelimit"] for _ in range(5)]
    assert left[0].startswith('"token";r=4;t=')
    assert left[-1].startswith('"token";r=0;t=')
    answer = api.call("GET", "/whoami", one)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate-limited")
    assert 100 < int(answer.headers["retry-after"]) <= 120
    assert answer.headers["ratelimit-policy"] == '"token";q=5;w=600'
    assert api.call("GET", "/whoami", two).status_code == 200
    guesses = [api.call("GET", "/whoami", "vlt_" + "A" * 43).status_code for _ in range(5)]
    assert guesses == [401, 401, 429, 429, 429]  # one of three was spent on the description


def test_wrong_tokens_of_an_address_are_counted_by_all_processes_together(make_api):
    limits = Limits(Limit("token", 1000, 600), Limit("address", 5, 600))
    one, two = make_api(limits), make_api(limits)
    guesses = [api.call("GET", "/whoami", "vlt_" + "A" * 43).status_code for api in (one, two, one, two, one, two, one)]
    assert guesses == [401, 401, 401, 401, 401, 429, 429]
    assert one.call("GET", "/whoami", one.operator(Role.VIEWER)).status_code == 200, "a right one is let in"
    one.site.clock.now += 120  # a fifth of the time: another guess
    with one.site.publisher.store.touch() as conn:
        left = [two.office.shared.spend(conn, "127.0.0.1", one.site.clock(), limits.address).allowed for _ in range(2)]
        assert left == [True, False]
        held = one.office.shared.spend(conn, "::1", one.site.clock() + 3600, limits.address)
        assert (held.allowed, conn.execute(select(func.count()).select_from(API_LIMIT)).scalar()) == (True, 1)
