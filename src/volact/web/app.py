# SPDX-License-Identifier: Apache-2.0
"""A web site as one ASGI application: pages as data, static files, and what stands before them.

    app = build_app(site, [*PAGES], mounts={"/api": api})

``mounts`` are other applications (an HTTP API with tokens of its own): behind the same headers, host names and sizes,
without sessions and form tokens.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from volact.web.access.roles import ANYBODY
from volact.web.builtin.account import PAGES as ACCOUNT
from volact.web.builtin.administration import PAGES as ADMINISTRATION
from volact.web.builtin.help import PAGES as HELP
from volact.web.builtin.login import PAGES as LOGIN
from volact.web.errors import MethodNotAllowedError, PageMissingError
from volact.web.pages.gate import Gate
from volact.web.pages.renderer import OURS, Renderer, Static
from volact.web.pages.security import App, shield
from volact.web.pages.visit import Page, Visit
from volact.web.site import Site

FOR_EVER = "public, max-age=31536000, immutable"
AN_HOUR = "public, max-age=3600"


def all_pages(pages: Sequence[Page]) -> list[Page]:
    """A room's pages and those that every site has: login, one's own account, help, accounts, sessions, audit."""
    return [*LOGIN, *ACCOUNT, *HELP, *ADMINISTRATION, *pages]


def build_app(
    site: Site,
    pages: Sequence[Page],
    *,
    mounts: Mapping[str, Any] | None = None,
    on_start: Callable[[], None] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
) -> App:
    whole = all_pages(pages)
    renderer = Renderer(site, whole)
    gate = Gate(site, renderer)
    routes: list[Any] = [_route(gate, page) for page in whole]
    routes += [Mount(path, app) for path, app in (mounts or {}).items()]
    routes += [Mount("/static", KeptFiles(Static((*site.packages, OURS)))), Route("/healthz", _health)]

    @asynccontextmanager
    async def life(_app: Starlette) -> Any:
        if on_start is not None:
            on_start()
        yield
        if on_stop is not None:
            await on_stop()

    starlette = Starlette(routes=routes, lifespan=life)
    starlette.add_exception_handler(HTTPException, _missing(gate))
    return shield(starlette, site)


class KeptFiles:
    """Static files; those that are asked for by their hash are kept by the browser."""

    def __init__(self, static: Static) -> None:
        folders = static.folders()
        self._apps = StaticFiles(directory=folders[0])
        self._apps.all_directories = list(folders)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        keep = FOR_EVER if b"v=" in scope.get("query_string", b"") else AN_HOUR

        async def kept(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304):
                message["headers"] = [*message["headers"], (b"cache-control", keep.encode())]
            await send(message)

        await self._apps(scope, receive, kept)


def _route(gate: Gate, page: Page) -> Route:
    return Route(page.path, gate.endpoint(page), methods=list(page.methods), name=f"{page.methods[0]} {page.path}")


def _missing(gate: Gate) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Paths and methods that are none get a page of the site, too."""

    async def show(request: Request, exc: Exception) -> Response:
        status = exc.status_code if isinstance(exc, HTTPException) else 404

        def handler(_visit: Visit) -> Response:
            if status == 405:
                raise MethodNotAllowedError(method=request.method[:20])
            raise PageMissingError()

        page = Page("", handler, ANYBODY)
        request.scope["method"] = "GET"  # nothing was done, and no form is read
        return await gate.open(page, request)

    return show


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok\n")
