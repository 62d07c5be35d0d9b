# SPDX-License-Identifier: Apache-2.0
"""The fleet's HTTP API: who may do what, what it answers, and that nothing which is sent breaks it."""

import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from support.fleet_rows import NOW, fill
from support.web_client import WebClient
from volact.fleet.api import Fleet
from volact.fleet.figures.forecast import DAY
from volact.fleet.rest import tokens
from volact.fleet.rest.access import ENDPOINTS, Role, allowed
from volact.fleet.rest.application import BASE, build, description, routes
from volact.web.api.limits import Limit

DESCRIPTION = Path(__file__).resolve().parents[3] / "docs" / "reference" / "fleet-openapi.json"
CHECKED = ("not_a_server_error", "status_code_conformance", "response_schema_conformance")
UNLIMITED = Limit("token", 10**6, 1)


class Api:
    """The application in this process, and callers of each role."""

    def __init__(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("volact.fleet.rest.office.KNOWN", UNLIMITED)
        self.fleet, self.app = fleet, build(fleet, automation=False)
        self.description = description(self.app)
        self.secrets = {role: tokens.make(fleet, f"a {role}", str(role))[1] for role in Role}
        self.client = WebClient(self.app, "http://fleet.test")

    def send(self, method: str, path: str, role: Role | None = Role.ADMINISTRATOR, **how: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secrets[role]}"} if role else {}
        return self.client.request(method, BASE + path, headers=headers, **how)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.init(tmp_path / "fleet", who="tester", clock=lambda: NOW) as made:
        fill(made.store, 60)
        yield made


@pytest.fixture
def api(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    made = Api(fleet, monkeypatch)
    with made.client:
        yield made


def test_the_description_in_the_reference_is_the_one_that_is_served(api: Api) -> None:
    assert json.loads(DESCRIPTION.read_text()) == api.description, "run tools/make_fleet_openapi.py"
    assert api.send("GET", "/openapi.json", None).json() == api.description


def test_every_endpoint_is_in_the_table_of_access_and_the_other_way_round(api: Api) -> None:
    assert {route.name for _, route in routes(api.app)} == set(ENDPOINTS)


@pytest.mark.parametrize("role", [None, *Role])
def test_each_role_is_let_in_where_the_table_says_and_nowhere_else(api: Api, role: Role | None) -> None:
    token = None
    if role is not None:
        token = next(one for one in tokens.listed(api.fleet) if one.role == role)
    for path, route in routes(api.app):
        (method,) = sorted(route.methods or ())
        filled = path.replace("{job}", "999999").removeprefix(BASE)
        for name in ("machine", "key", "name", "code", "id"):
            filled = filled.replace(f"{{{name}}}", "nothing-of-this-name")
        answer = api.send(method, filled, role, content=b"" if method == "GET" else b"{")
        refused = answer.status_code in (401, 403)
        assert refused != allowed(ENDPOINTS[route.name], token), f"{role} {method} {path}: {answer.status_code}"
        if refused:
            assert answer.json()["code"] in ("token-needed", "token-role-missing")
            assert answer.headers["content-type"] == "application/problem+json"


def test_an_act_is_answered_with_its_job_and_audited_with_its_token(api: Api) -> None:
    answer = api.send("POST", "/refresh", Role.OPERATOR, json={"names": ["pc000001.example.net"]})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"], job["tasks"]["queued"]) == ("refresh", "queued", 1)
    assert job["made_by"].startswith("token ")
    assert job["made_by"].endswith("(a operator)")
    shown = api.send("GET", f"/jobs/{job['id']}/tasks", Role.VIEWER).json()["items"]
    assert [one["machine"] for one in shown] == ["pc000001.example.net"]
    (row,) = [row for row in api.fleet.audit() if row.act == "refresh"]
    assert row.who == job["made_by"]
    assert api.send("POST", f"/jobs/{job['id']}/pause").json()["state"] == "paused"
    assert api.send("POST", f"/jobs/{job['id']}/resume").json()["state"] == "queued"
    assert api.send("POST", f"/jobs/{job['id']}/cancel").json()["state"] == "cancelled"


def test_machines_are_found_listed_tagged_and_forgotten(api: Api) -> None:
    made = api.send("POST", "/machines", json={"words": ["web[1-3].example.com"], "tags": ["web"]})
    assert (made.status_code, len(made.json()["new"])) == (201, 3)
    assert api.send("GET", "/machines?filter=tag=web&limit=2").json()["total"] == 3
    assert api.send("POST", "/machines/tag", json={"filter": "tag=web", "tags": ["x"]}).json() == {"machines": 3}
    assert api.send("GET", "/machines/web1.example.com").json()["tags"] == ["web", "x"]
    assert api.send("POST", "/machines/remove", json={"filter": "tag=web"}).json() == {"machines": 3}
    assert api.send("GET", "/machines/web1.example.com").status_code == 404


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/install-key", {}), ("/activate", {}), ("/restore", {}), ("/bootstrap", {"artefact": "volact.pyz"}),
        ("/machines/tag", {"tags": ["x"]}), ("/machines/untag", {"tags": ["x"]}), ("/machines/set", {"port": 22}),
        ("/machines/remove", {}),
    ],
)  # fmt: skip
def test_a_change_of_the_whole_fleet_must_be_said(api: Api, fleet: Fleet, path: str, more: dict[str, Any]) -> None:
    place = fleet.folder.artefact("volact.pyz")
    place.parent.mkdir()
    place.write_bytes(b"PK")
    refused = api.send("POST", path, json=more)
    assert (refused.status_code, refused.json()["code"]) == (422, "selection-missing")
    assert api.send("POST", path, json={**more, "filter": " ", "all": False}).json()["code"] == "selection-missing"
    assert fleet.jobs() == []
    done = api.send("POST", path, json={**more, "all": True}).json()
    assert (done["machines"] if "machines" in done else done["tasks"]["queued"]) == 60


def test_answers_are_brought_to_the_machines_that_have_one(api: Api) -> None:
    for body in ({}, {"all": True}):
        assert api.send("POST", "/proxy/apply", json=body).json()["code"] == "fleet-no-answer"


def test_a_list_is_kept_under_a_name_for_everybody(api: Api) -> None:
    kept = {"filter": "expires<+30d", "sort": ["-expires"], "columns": ["name", "expires"], "grouping": []}
    assert api.send("PUT", "/views/soon", Role.VIEWER, json=kept).status_code == 403
    saved = api.send("PUT", "/views/soon", Role.OPERATOR, json=kept).json()
    assert {name: saved[name] for name in kept} == kept
    assert saved["owner"].endswith("(a operator)")
    assert api.send("GET", "/views", Role.VIEWER).json()["items"] == [saved]
    assert api.send("GET", "/views/soon", Role.VIEWER).json() == saved
    assert api.send("PUT", "/views/bad", json={"columns": ["nothing"]}).status_code == 422
    assert api.send("DELETE", "/views/soon").status_code == 204
    assert api.send("GET", "/views/soon").json()["code"] == "view-missing"


def test_only_what_an_administrator_put_into_the_folder_is_brought_to_machines(api: Api, fleet: Fleet) -> None:
    body = {"artefact": "volact-1.0.pyz", "names": ["pc000001.example.net"]}
    assert api.send("POST", "/bootstrap", Role.OPERATOR, json=body).status_code == 403
    assert api.send("POST", "/bootstrap", json=body).json()["code"] == "artefact-missing"
    for name in ("/etc/shadow", "../fleet.sqlite", "..", ".hidden.pyz"):
        assert api.send("POST", "/bootstrap", json={**body, "artefact": name}).status_code == 422
    place = fleet.folder.artefact("volact-1.0.pyz")
    place.parent.mkdir()
    place.write_bytes(b"PK")
    job = api.send("POST", "/bootstrap", json=body).json()
    assert (job["kind"], job["tasks"]["queued"], job["arguments"]["artefact"]) == (
        "bootstrap",
        1,
        str(place.absolute()),
    )


@pytest.mark.parametrize("format_", ["json", "csv", "xlsx", "html", "pdf"])
def test_a_report_comes_in_each_of_its_formats(api: Api, format_: str) -> None:
    answer = api.send("GET", f"/reports/overview?format={format_}", Role.VIEWER)
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="volact-overview-2026-11-18.{format_}"'


def test_a_mistake_is_a_problem_with_a_code_that_the_api_explains(api: Api) -> None:
    problem = api.send("GET", "/machines?filter=((", Role.VIEWER)
    assert problem.status_code == 422
    assert problem.json()["code"] == "filter-unfit"
    explained = api.send("GET", problem.json()["type"].removeprefix(BASE), None)
    assert explained.json()["remedy"]


def test_a_revoked_and_an_ended_token_open_nothing(api: Api, fleet: Fleet) -> None:
    (mine,) = [one for one in tokens.listed(fleet) if one.role == Role.VIEWER]
    assert api.send("DELETE", f"/tokens/{mine.id}").json()["revoked_at"] == NOW
    assert api.send("GET", "/machines", Role.VIEWER).json()["code"] == "token-revoked"
    fleet.clock = lambda: NOW + 366 * DAY
    assert api.send("GET", "/machines", Role.OPERATOR).json()["code"] == "token-ended"


def test_guessing_at_tokens_is_slowed_down(api: Api) -> None:
    headers = {"Authorization": "Bearer vlt_" + "A" * 43}
    codes = [api.client.request("GET", f"{BASE}/machines", headers=headers).status_code for _ in range(90)]
    assert codes[0] == 401
    assert codes.count(429) > 10


def test_nothing_that_is_sent_breaks_the_api(api: Api) -> None:
    schema = schemathesis.openapi.from_dict(api.description)
    checks = [CHECKS.get_one(name) for name in CHECKED]
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _try(api, found.ok(), mode, checks)


def _try(api: Api, operation: Any, mode: GenerationMode, checks: list[Any]) -> None:
    @settings(max_examples=4, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def try_case(case: Any) -> None:
        case.validate_response(_send(api, case), checks=checks)

    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        try_case()  # of an endpoint without parameters there is nothing to send that does not fit


def _send(api: Api, case: Any) -> httpx.Response:
    given_ = case.as_transport_kwargs(base_url="http://fleet.test")
    kind = {name: value for name, value in dict(given_["headers"]).items() if name.lower() == "content-type"}
    headers = {"Authorization": f"Bearer {api.secrets[Role.ADMINISTRATOR]}", **kind}
    encoded = {name: value.encode("utf-8", "surrogateescape") for name, value in headers.items()}
    sent = {name: given_[name] for name in ("params", "json", "data") if given_.get(name) is not None}
    if "data" in sent:
        sent["content"] = sent.pop("data")
    return api.client.request(given_["method"], given_["url"], headers=encoded, **sent)


def test_only_an_administrator_lets_the_server_write_into_a_folder(api: Api, tmp_path: Path) -> None:
    body = {"name": "weekly", "cron": "0 6 * * 1", "kind": "report"}
    into = {"report": "overview", "folder": str(tmp_path)}
    answer = api.send("POST", "/schedules", Role.OPERATOR, json={**body, "arguments": into})
    assert (answer.status_code, answer.json()["code"]) == (403, "token-role-missing")
    assert api.send("POST", "/schedules", Role.ADMINISTRATOR, json={**body, "arguments": into}).status_code == 201
    by_mail = {"report": "overview", "mail_to": ["ann@example.com"]}
    sent = {**body, "name": "mailed", "arguments": by_mail}
    assert api.send("POST", "/schedules", Role.OPERATOR, json=sent).status_code == 201
