# SPDX-License-Identifier: Apache-2.0
"""The API in this process over a whole publisher, on SQLite and on PostgreSQL; callers with tokens of every kind.

Every answer that is no success is compared with what the API's description says of its endpoint.
"""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from fastapi.routing import APIRoute

from integration.publisher.conftest import (  # noqa: F401 - fixtures
    NOW,
    Finished,
    Site,
    finish,
    finished,
    make_publisher,
    open_site,
    postgresql_address,
    together,
)
from support.clock import Clock
from volact.publisher.administration import tokens
from volact.publisher.administration.publisher import Publisher
from volact.publisher.api.application import build
from volact.publisher.api.office import Limits, Office
from volact.publisher.rules.roles import Role, Scope
from volact.web.api.limits import Limit

UNLIMITED = Limits(Limit("token", 1_000_000, 60), Limit("address", 1_000_000, 60))


class Client:
    """Calls an ASGI application from ordinary tests, several at once where they like."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://publisher.test")
        self._portal = portal

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self._portal.call(functools.partial(self._client.request, method, path, **given))

    def close(self) -> None:
        self._portal.call(self._client.aclose)


@dataclass
class Api:
    """The application, and whoever calls it.  ``get(path, token)`` and so on return the parsed JSON of a success."""

    site: Site
    office: Office
    app: FastAPI
    client: Client
    description: dict[str, Any]
    secrets: dict[str, str] = field(default_factory=dict)

    def token(self, label: str = "test", **given: Any) -> str:
        _, secret = tokens.make(self.site.publisher.store, label, self.site.clock(), "tester", **given)
        return secret

    def operator(self, role: Role = Role.ADMINISTRATOR) -> str:
        if role not in self.secrets:
            self.secrets[role] = self.token(str(role), role=role)
        return self.secrets[role]

    def organisation(self, *scopes: Scope, name: str = "Example Ltd") -> str:
        return self.token("organisation", organisation=name, scopes=scopes or tuple(Scope))

    def call(self, method: str, path: str, token: str | None = None, **given: Any) -> Any:
        headers = dict(given.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        answer = self.client.request(method, f"/api/v1{path}", headers=headers, **given)
        if answer.status_code >= 400:
            self.check_documented(answer)
        return answer

    def ok(self, method: str, path: str, token: str | None = None, **given: Any) -> Any:
        answer = self.call(method, path, token, **given)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def get(self, path: str, token: str | None = None, **query: Any) -> Any:
        return self.ok("GET", path, token, params=query)

    def post(self, path: str, token: str | None = None, body: Any = None, **given: Any) -> Any:
        return self.ok("POST", path, token, json=body, **given)

    def refused(self, method: str, path: str, token: str | None = None, **given: Any) -> tuple[int, str]:
        """Status and code of a problem."""
        answer = self.call(method, path, token, **given)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["code"]

    def check_documented(self, answer: Any) -> None:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["type"] == f"/api/v1/problems/{problem['code']}"
        route = next((r for r in self.app.routes if r.matches(_scope(answer.request))[0].value == 2), None)
        if route is None:
            assert problem["code"] in ("web-path-unknown", "method-unfit", "request-too-large")
            return
        assert isinstance(route, APIRoute)
        operation = self.description["paths"][route.path_format][answer.request.method.lower()]
        documented = operation["responses"][str(answer.status_code)]["content"]["application/problem+json"]["examples"]
        assert problem["code"] in documented, f"{route.name} answers {problem['code']}, which is not in its description"


def _scope(request: Any) -> dict[str, Any]:
    path = request.url.path if isinstance(request.url.path, str) else request.url.path.decode()
    return {"type": "http", "method": request.method, "path": path, "headers": []}


@pytest.fixture
def site(finished: Finished, tmp_path: Path) -> Iterator[Site]:  # noqa: F811
    with finished.copy(tmp_path / "acme") as path, Publisher.open(path) as publisher:
        yield open_site(publisher, Clock(NOW))


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def make_api(site: Site, portal: BlockingPortal) -> Iterator[Callable[..., Api]]:
    opened = []

    def make(limits: Limits = UNLIMITED) -> Api:
        office = Office(site.publisher, site.keys, site.clock, time.monotonic, limits)
        app = build(office)
        client = Client(app, portal)
        opened.append(client)
        return Api(site, office, app, client, client.request("GET", "/api/v1/openapi.json").json())

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    return make_api()


@pytest.fixture
def other(api: Api) -> str:
    """Another organisation, with an agreement, keys and a machine of its own; returns a token with every scope."""
    publisher, now = api.site.publisher, api.site.clock()
    publisher.add_organisation("Other Inc", now, "tester")
    publisher.add_agreement("OTHER-1", "Other Inc", now, None, {102: 10, 101: 1}, now, "tester")
    return api.organisation(name="Other Inc")
