# SPDX-License-Identifier: Apache-2.0
"""What stands before every page: host names, proxies, sizes, headers; plain ASGI, in the order of ``shield``.

Sessions, form tokens and roles are ``gate``'s.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from volact.web.errors import HostHeaderError, RequestTooLargeError
from volact.web.site import Site

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # Bootstrap's own small pictures are data: URLs in its style sheet
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HSTS: Final = "max-age=31536000"
NO_STORE: Final = "no-store"
_HOST: Final = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:@/\\\s]*))(?::[0-9]{1,5})?")


def shield(app: App, site: Site) -> App:
    """``app`` behind everything here."""
    return FromProxy(WithHeaders(KnownHost(SmallBody(app, site.max_body), site.hosts)), site.proxies)


class WithHeaders:
    """Security headers on every answer, errors too; pages are kept by no cache unless they say otherwise."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", NO_STORE)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", HSTS)
            await send(message)

        await self._app(scope, receive, with_headers)


class FromProxy:
    """Believes ``X-Forwarded-For``, ``-Proto`` and ``-Host`` of the proxies that were named, and of nobody else."""

    def __init__(self, app: App, proxies: Iterable[str]) -> None:
        self._app, self._proxies = app, frozenset(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client and client[0] in self._proxies:
            scope = dict(scope)
            headers = Headers(scope=scope)
            # Each proxy appends whom it heard: the last one that is no proxy of ours is the client.
            # Some append to the header, others add a line of their own below the client's.
            lines = ",".join(headers.getlist("x-forwarded-for"))
            heard = [part.strip() for part in lines.split(",") if part.strip()]
            strangers = [address for address in reversed(heard) if address not in self._proxies]
            if strangers:
                scope["client"] = (strangers[0][:64], 0)
            protocols, hosts = headers.getlist("x-forwarded-proto"), headers.getlist("x-forwarded-host")
            if protocols and protocols[-1] in ("http", "https"):
                scope["scheme"] = protocols[-1]
            if hosts:
                scope["headers"] = _with_host(scope["headers"], hosts[-1])
        await self._app(scope, receive, send)


class KnownHost:
    """Refuses a ``Host`` that is not ours: no link is made from it, and no rebound name reaches a page."""

    def __init__(self, app: App, hosts: Iterable[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host(scope) not in self._hosts:
            error = HostHeaderError(name=ascii(_host(scope))[:80])
            await PlainTextResponse(f"{error}\n{error.hint}\n", 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class SmallBody:
    """A body beyond ``most`` bytes is refused: at once where its length is told, else where it is read."""

    def __init__(self, app: App, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or len(length) > 15 or int(length) > self._most:
            error = RequestTooLargeError(most=self._most)
            await PlainTextResponse(f"{error}\n", 413, {"Connection": "close"})(scope, receive, send)
            return
        left = self._most

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise RequestTooLargeError(most=self._most)
            return message

        await self._app(scope, counted, send)


def _host(scope: Scope) -> str:
    """The name without the port, in lower case; all of it, where it is no name with a port: links are made from it."""
    host = Headers(scope=scope).get("host", "").lower()
    found = _HOST.fullmatch(host)
    return (found["address"] or found["name"]) if found else host


def _with_host(headers: Iterable[tuple[bytes, bytes]], host: str) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name != b"host"] + [(b"host", host.encode("latin-1"))]
