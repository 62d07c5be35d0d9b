# SPDX-License-Identifier: Apache-2.0
"""The API as an ASGI application: every endpoint of every file, guarded, with one form of error.

Spec: docs/reference/openapi.json.  Why a listener and a process of its own: docs/adr/0023-http-api.md.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from volact.publisher.api import calls, catalogue, keys, machines, parties, problems, records, tokens
from volact.publisher.api.description import VERSION, describe
from volact.publisher.api.office import Office
from volact.publisher.api.problems import BASE, STATUSES
from volact.publisher.api.route import Endpoint, GuardedRoute, limit_headers
from volact.web.api.problems import BodyLimit, install

MOST_BODY = 2 * 1024 * 1024  # a product's TOML file of 1 MiB, escaped

ENDPOINTS: tuple[Endpoint, ...] = (
    *tokens.ENDPOINTS,
    *catalogue.ENDPOINTS,
    *parties.ENDPOINTS,
    *keys.ENDPOINTS,
    *machines.ENDPOINTS,
    *calls.ENDPOINTS,
    *records.ENDPOINTS,
    *problems.ENDPOINTS,
)
_TAGS = {
    tokens: "tokens",
    catalogue: "products",
    parties: "organisations",
    keys: "keys",
    machines: "activations",
    calls: "telephone and proxy",
    records: "ledger and revocation",
    problems: "problems",
}


def build(office: Office) -> FastAPI:
    """Its paths begin with ``/api/v1``."""
    app = FastAPI(
        title="Volact publisher",
        version=VERSION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.office = office
    app.router.route_class = GuardedRoute
    for module, tag in _TAGS.items():
        for endpoint in module.ENDPOINTS:
            _add(app, endpoint, tag)
    description = describe(app, ENDPOINTS)

    def read_description() -> JSONResponse:
        return JSONResponse(description)

    app.add_api_route(f"{BASE}/openapi.json", read_description, name="read_description", include_in_schema=False)
    install(app, STATUSES, limit_headers)
    app.add_middleware(BodyLimit, most=MOST_BODY, statuses=STATUSES)
    return app


class AtRoot:
    """The same application where a site mounts it below ``/api``: its paths are whole."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "root_path": ""}, receive, send)


def _add(app: FastAPI, endpoint: Endpoint, tag: str) -> None:
    app.add_api_route(
        f"{BASE}{endpoint.path}",
        endpoint.call,
        methods=[endpoint.method],
        name=endpoint.name,
        operation_id=endpoint.name,
        response_model=endpoint.model,
        status_code=endpoint.status,
        tags=[tag],
        summary=endpoint.name.replace("_", " ").capitalize(),
    )
