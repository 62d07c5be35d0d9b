# SPDX-License-Identifier: Apache-2.0
"""The fleet's HTTP API put together, and with it the process's other work: schedules and jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from volact import __version__
from volact.core.errors import REGISTRY, VolactError
from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import MachineMissingError
from volact.fleet.jobs.records import JobMissingError
from volact.fleet.keys.keys import KeyUnknownHereError
from volact.fleet.reports.catalogue import ReportUnknownError
from volact.fleet.rest import inventory, jobs, keys, reports, who
from volact.fleet.rest.models import Row
from volact.fleet.rest.office import GuardedRoute, Office, limit_headers
from volact.fleet.rest.once import ONCE
from volact.fleet.schedules.automation import Automation
from volact.fleet.schedules.runners import Program
from volact.fleet.schedules.schedule import ScheduleMissingError
from volact.web.api import problems
from volact.web.api.idempotency import PARAMETER, REPLAYED
from volact.web.api.limits import RateLimitedError
from volact.web.api.problems import BodyLimit, PathUnknownError, Statuses
from volact.web.api.tokens import (
    RoleMissingError,
    TokenEndedError,
    TokenMissingError,
    TokenNeededError,
    TokenRevokedError,
    TokenUnknownError,
)

BASE = "/api/v1"
MOST_BODY = 32 * 1024 * 1024  # a bundle of an inventory; JSON bodies have their own bounds
STATUSES = Statuses.of(
    f"{BASE}/problems",
    {
        TokenNeededError: 401,
        TokenUnknownError: 401,
        TokenEndedError: 401,
        TokenRevokedError: 401,
        RateLimitedError: 429,
        RoleMissingError: 403,
        MachineMissingError: 404,
        JobMissingError: 404,
        KeyUnknownHereError: 404,
        ReportUnknownError: 404,
        ScheduleMissingError: 404,
        TokenMissingError: 404,
    },
)
PROBLEM = {
    "description": "A problem document (RFC 9457).",
    "content": {problems.MEDIA_TYPE: {"schema": {"type": "object"}}},
}
ABOUT = """The verbs of `volact fleet` for other programs. Every request needs a token
(`Authorization: Bearer vlt_…`, made by `volact fleet token make`); what its role may do, each endpoint says.
Acts on machines answer 202 with a job, which `volact fleet serve` works through. What makes or changes something takes
an `Idempotency-Key`, and is then done once however often it is sent. Errors are problem documents (RFC 9457) with a
stable `code`."""
ROUTERS = (inventory.router, jobs.router, keys.router, reports.router, who.router)
_REPLAYED = {"description": "`true` where this answer was given before.", "schema": {"type": "string"}}


def build(fleet: Fleet, *, automation: bool = True) -> FastAPI:
    """The application; with ``automation``, schedules and jobs are worked on as long as it runs."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        work = asyncio.create_task(Automation(fleet, program=Program.SERVE).serve(stop)) if automation else None
        yield
        stop.set()
        if work is not None:
            await work

    app = FastAPI(
        title="Volact fleet",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses={"default": PROBLEM},
    )
    app.state.office = Office(fleet)
    app.router.route_class = GuardedRoute
    problems.install(app, STATUSES, limit_headers)
    app.state.routers = [*ROUTERS, _about(app)]
    for router in app.state.routers:
        app.include_router(router, prefix=BASE)
    app.add_middleware(BodyLimit, most=MOST_BODY, statuses=STATUSES)
    return app


def routes(app: FastAPI) -> list[tuple[str, APIRoute]]:
    """Every endpoint with its whole path."""
    routers: list[APIRouter] = app.state.routers
    return [(BASE + route.path, route) for one in routers for route in one.routes if isinstance(route, APIRoute)]


def description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the tokens' scheme and each endpoint's role."""
    from volact.fleet.rest.access import ENDPOINTS

    document = app.openapi()
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["token"] = {"type": "http", "scheme": "bearer", "description": "A token, vlt_…"}
    for path, route in routes(app):
        for method in route.methods or ():
            operation = document["paths"][path][method.lower()]
            role = ENDPOINTS[route.name]
            operation["operationId"] = route.name
            operation["security"] = [] if role is None else [{"token": []}]
            operation["x-role"] = None if role is None else str(role)
            if route.name in ONCE:
                operation.setdefault("parameters", []).append(dict(PARAMETER))
                success = operation["responses"][str(route.status_code or 200)]
                success["headers"] = {REPLAYED: _REPLAYED}
    document["info"]["version"] = "1"
    return document


@dataclass(frozen=True, slots=True)
class Loader:
    """Makes the application in a worker process; ``passphrase`` of the vault, where the folder does not keep it."""

    path: Path
    passphrase: bytes | None = None
    who: str = "fleet service"

    def __call__(self) -> Any:
        given: Callable[[], bytes] | None = (lambda: self.passphrase or b"") if self.passphrase else None
        return build(Fleet.open(self.path, who=self.who, passphrase=given))


def _about(app: FastAPI) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/openapi.json", tags=["about"])
    def read_description() -> Row:
        """This API's description."""
        return description(app)

    @router.get("/problems/{code}", tags=["about"])
    def show_problem(code: str) -> Row:
        """What an error's code means, and what to do."""
        kind = REGISTRY.get(code)
        if kind is None:
            raise PathUnknownError(path=f"problems/{code[:60]}")
        return _problem(kind)

    return router


def _problem(kind: type[VolactError]) -> Row:
    return {"code": kind.code, "title": problems.title(kind), "sentence": kind.fmt, "remedy": kind.remedy,
            "status": STATUSES.status(kind)}  # fmt: skip
