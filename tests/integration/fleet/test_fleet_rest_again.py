# SPDX-License-Identifier: Apache-2.0
"""Requests of the fleet's HTTP API that are sent again: done once, answered alike; on SQLite and PostgreSQL."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.web_client import WebClient
from volact.fleet.api import Fleet
from volact.fleet.desk import REFRESH
from volact.fleet.rest import tokens
from volact.fleet.rest.access import ENDPOINTS, Role
from volact.fleet.rest.application import BASE, build, description, routes
from volact.fleet.rest.models import JobModel
from volact.fleet.rest.once import ONCE, answers_of, asking, once
from volact.web.api.idempotency import Answers

START = 1_790_000_000
KEY = {"Idempotency-Key": "4f0e2a0c-0f7f-4a39-9a53-2f6a6a8f1c11"}
ASKING_OTHERS = {"keys_refresh", "proxy_confirm", "export"}


class Api:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.app = fleet, build(fleet, automation=False)
        self.secret = self.token()
        self.client = WebClient(self.app, "http://fleet.test")

    def token(self) -> str:
        return tokens.make(self.fleet, "a script", Role.ADMINISTRATOR)[1]

    def post(self, path: str, body: Any, secret: str = "", **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {secret or self.secret}", **(headers or KEY)}
        return self.client.request("POST", BASE + path, headers=sent, json=body)


@pytest.fixture
def fleet(fleet_database: str | Path, tmp_path: Path) -> Iterator[Fleet]:
    database = None if isinstance(fleet_database, Path) else fleet_database
    with Fleet.init(tmp_path / "fleet", database, who="tester", clock=lambda: START) as made:
        made.discover(["pc1", "pc2"])
        yield made


@pytest.fixture
def api(fleet: Fleet) -> Iterator[Api]:
    made = Api(fleet)
    with made.client:
        yield made


def test_an_act_that_is_sent_again_is_done_once_and_answered_alike(api: Api, fleet: Fleet) -> None:
    first = api.post("/activate", {"all": True})
    again = api.post("/activate", {"all": True})
    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["cache-control"] == "no-store"
    assert [job.id for job in fleet.jobs()] == [first.json()["id"]]
    assert [row.act for row in fleet.audit()].count("activate") == 1


def test_one_key_is_for_one_request_of_one_token_and_one_day(api: Api, fleet: Fleet) -> None:
    api.post("/refresh", {})
    for path, body in (("/refresh", {"dry_run": True}), ("/backup", {})):
        other = api.post(path, body)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(fleet.jobs()) == 1
    assert "idempotent-replayed" not in api.post("/refresh", {}, api.token()).headers
    assert len(fleet.jobs()) == 2
    later = Api(fleet.as_("tester"))
    later.fleet.clock, later.secret = (lambda: START + 86400), api.secret
    with later.client:
        assert later.post("/refresh", {}).status_code == 202
    assert len(fleet.jobs()) == 3


def test_an_error_is_no_answer(api: Api, fleet: Fleet) -> None:
    body = {"names": ["pc3"], "tags": ["lab"]}
    assert api.post("/machines/tag", body).json()["code"] == "machine-not-in-fleet"
    fleet.discover(["pc3"])
    assert api.post("/machines/tag", body).json() == {"machines": 1}


def test_an_act_whose_answer_cannot_be_kept_was_not_done(
    api: Api, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process dies between the two."""

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Answers, "keep", full)
        with pytest.raises(OSError, match="no space left"):
            api.post("/refresh", {})
    assert fleet.jobs() == []
    assert api.post("/refresh", {}).status_code == 202


def test_a_secret_that_is_shown_once_is_given_again_and_not_in_the_database(
    api: Api, fleet: Fleet, tmp_path: Path
) -> None:
    body = {"label": "tickets", "role": "viewer"}
    first = api.post("/tokens", body).json()
    assert api.post("/tokens", body).json() == first
    assert [one.label for one in tokens.listed(fleet)].count("tickets") == 1
    fleet.store.checkpoint()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "fleet").rglob("*") if path.is_file())
    assert first["secret"].encode() not in kept


@pytest.mark.parametrize("key", ["", "two words", "k" * 201, "schlüssel"])
def test_a_key_that_is_none_is_named(api: Api, fleet: Fleet, key: str) -> None:
    headers = [(b"Authorization", f"Bearer {api.secret}".encode()), (b"Idempotency-Key", key.encode())]
    answer = api.client.request("POST", BASE + "/refresh", headers=headers, json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-unfit")
    assert fleet.jobs() == []


def test_two_that_come_at_once_wait_for_each_other(fleet: Fleet) -> None:
    answers = answers_of(fleet)
    asked = answers.asked("token", "key", "POST", "/refresh", b"{}")
    inside, second = threading.Event(), threading.Event()

    def refresh(fleet: Fleet) -> dict[str, Any]:
        inside.set()
        assert second.wait(60)
        return fleet.refresh(wait=False).to_json()

    act = once(refresh, 202, JobModel)

    def send() -> Any:
        with asking(answers, asked):
            return act(fleet=fleet)

    def send_second() -> Any:
        assert inside.wait(60)
        second.set()
        return send()

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(send), pool.submit(send_second)
        assert one.result(60).body == two.result(60).body
    assert two.result().headers["idempotent-replayed"] == "true"
    assert [job.kind for job in fleet.jobs()] == [REFRESH]


def test_what_is_done_together_is_done_wholly_or_not_at_all(fleet: Fleet) -> None:
    def discover() -> None:
        with fleet.store.together("x"):
            fleet.discover(["pc9"])
            assert fleet.list_machines(filter="name=pc9").total == 1
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        discover()
    assert fleet.list_machines(filter="name=pc9").total == 0


def test_whatever_changes_something_by_a_post_can_be_sent_again_and_says_so(api: Api) -> None:
    posts = {route.name: path for path, route in routes(api.app) if "POST" in (route.methods or ())}
    assert set(posts) - ASKING_OTHERS == ONCE
    assert set(ENDPOINTS) > ONCE
    paths = description(api.app)["paths"]
    for name, path in posts.items():
        told = [one["name"] for one in paths[path]["post"].get("parameters", [])]
        assert ("Idempotency-Key" in told) == (name in ONCE)
