# SPDX-License-Identifier: Apache-2.0
"""The API as an ASGI application: every endpoint of every file, guarded, with one form of error.

Spec: docs/reference/openapi.json.  Why a listener and a process of its own: docs/adr/0023-http-api.md.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from volact.publisher.api import calls, catalogue, keys, machines, parties, problems, records, tokens
from volact.publisher.api.description import VERSION, describe
from volact.publisher.api.office import Office
from volact.publisher.api.problems import BASE, STATUSES
from volact.publisher.api.route import Endpoint, GuardedRoute, limit_headers
from volact.web.problems import BodyLimit, install

MOST_BODY = 2 * 1024 * 1024  # a product's TOML file of 1 MiB, escaped
# Threads at work: each has a connection, and one that writes another to read by; a pool has 15.
THREADS = 6

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
    """To be mounted at ``/``: its paths begin with ``/api/v1``."""
    app = FastAPI(
        title="Volact publisher",
        version=VERSION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan,
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


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[Any]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
