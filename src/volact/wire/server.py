# SPDX-License-Identifier: Apache-2.0
"""An issuer behind the Connect protocol, as an ASGI application.

The library (connectrpc) speaks the protocol in its forms: Connect in JSON and binary, gRPC-Web, compressed bodies,
deadlines; over HTTP/1.1 and HTTP/2.  Plain gRPC needs HTTP trailers, which granian does not send.  One form goes past
the library, because a host's whole load is in it: an uncompressed binary unary ``Activate``, which in Connect is a
plain POST of the message (see :func:`_is_plain`).  Both ways end in the same :class:`IssuerService`.  Pages for people
and probes (``/healthz`` …) are given as ``pages``.  Spec: docs/spec/rpc.md.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from volact.core.errors import ConfigError, InputError, StoreError, TransportError, TrustError, VolactError
from volact.wire import ERROR_HEADER, MAX_BODY, SERVICE
from volact.wire.gen.volact.v1.activation_connect import ActivationService, ActivationServiceASGIApplication
from volact.wire.gen.volact.v1.activation_pb import (
    ActivateRequest,
    ActivateResponse,
    GetIssuerRequest,
    GetIssuerResponse,
)
from volact.wire.patience import Patience, PatienceEndedError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 10.0  # a client on a 64 kbit/s line sends the largest body in 8 s
ACTIVATE = f"{SERVICE}/Activate"

_log = logging.getLogger("volact.wire")


class IssuerUnknownError(InputError):
    code = "issuer-unknown"
    fmt = "no issuer {issuer} is served here"
    remedy = "nothing to do: the machine asks for the issuer's current descriptor and tries again"


class BusyError(TransportError):
    code = "server-busy"
    fmt = "the server has too many requests waiting"
    remedy = "nothing to do: the machine tries again by itself after {retry_after} seconds"


class IssuerService(Protocol):
    """What the adapter needs of an issuer.  Whatever it raises as ``VolactError`` is shown by its code; a refusal of
    an opened request is no error but a sealed answer."""

    async def descriptor(self, root: str, product: str, group: int, nonce: bytes) -> str: ...

    async def activate(self, issuer: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Page:
    """One plain HTTP answer."""

    status: int
    content_type: str
    body: bytes


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
# Which family of error becomes which Connect code; everything else is "internal" and shows nothing.
_CODES: tuple[tuple[type[VolactError], Code], ...] = (
    (BusyError, Code.UNAVAILABLE),
    (IssuerUnknownError, Code.NOT_FOUND),
    (InputError, Code.INVALID_ARGUMENT),
    (TrustError, Code.INVALID_ARGUMENT),
    (ConfigError, Code.FAILED_PRECONDITION),
    (StoreError, Code.UNAVAILABLE),
)
_HTTP = {
    Code.INVALID_ARGUMENT: 400,
    Code.UNIMPLEMENTED: 501,
    Code.FAILED_PRECONDITION: 400,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
    Code.DEADLINE_EXCEEDED: 504,
}
_PROTO = [(b"content-type", b"application/proto")]
_ANSWERED: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": _PROTO}
_JSON = [(b"content-type", b"application/json")]


class IssuerApplication:
    """ASGI 3: ``app(scope, receive, send)``; ``lifespan`` hooks run when a worker starts and stops."""

    def __init__(
        self,
        service: IssuerService,
        pages: Pages,
        *,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._service = service
        self._patience = Patience(body_seconds)
        self._too_long = f"the body took longer than {body_seconds:g} seconds"
        self._pages = pages
        self._on_start, self._on_stop = on_start, on_stop
        self._library = ActivationServiceASGIApplication(_Adapter(service), read_max_bytes=MAX_BODY)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """What answers, to be awaited: no coroutine stands around the hot one."""
        if scope["type"] == "http" and scope["path"] == ACTIVATE and _is_plain(scope):
            return self._activate(receive, send)
        return self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        path = scope["path"]
        if path.startswith(SERVICE):
            if _is_grpc(scope):
                return await _send_error(send, Code.UNIMPLEMENTED, "gRPC is not served here: use Connect or gRPC-Web")
            return await self._library(scope, _Timed(receive, self._patience.seconds), send)
        return await self._page(scope, path, send)

    async def _activate(self, receive: Receive, send: Send) -> None:
        try:
            message = ActivateRequest.from_binary(await self._patience.wait(_body(receive)))
        except ValueError:
            return await _send_error(send, Code.INVALID_ARGUMENT, "malformed: the body is not an ActivateRequest")
        except ConnectError as exc:
            return await _send_error(send, exc.code, exc.message)
        except PatienceEndedError:
            return await _send_error(send, Code.DEADLINE_EXCEEDED, self._too_long)
        except _GoneError:
            return None
        try:
            sealed = await self._service.activate(message.issuer, message.sealed)
        except Exception as exc:
            error = _connect_error(exc)
            return await _send_error(send, error.code, error.message, _extra_headers(exc))
        await send(_ANSWERED)
        return await send({"type": "http.response.body", "body": ActivateResponse(sealed=sealed).to_binary()})

    async def _page(self, scope: Scope, path: str, send: Send) -> None:
        handler = self._pages.get(path)
        if handler is None:
            page = Page(404, "text/plain; charset=utf-8", b"not found\n")
        elif scope.get("method") not in ("GET", "HEAD"):
            page = Page(405, "text/plain; charset=utf-8", b"only GET\n")
        else:
            page = await handler()
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": page.body if scope.get("method") != "HEAD" else b""})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    if self._on_start:
                        await self._on_start()
                except Exception as exc:
                    # Raised through, servers take it for "no lifespan here" and serve an application that never began.
                    _log.exception("the application did not start")
                    return await send({"type": "lifespan.startup.failed", "message": str(exc)})
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._on_stop:
                    await self._on_stop()
                return await send({"type": "lifespan.shutdown.complete"})


class _Adapter(ActivationService):
    """The generated service's interface over an :class:`IssuerService`."""

    def __init__(self, service: IssuerService) -> None:
        self._service = service

    async def get_issuer(
        self, request: GetIssuerRequest, _ctx: RequestContext[GetIssuerRequest, GetIssuerResponse], /
    ) -> GetIssuerResponse:
        try:
            token = await self._service.descriptor(request.root, request.product, request.group, request.nonce)
        except Exception as exc:
            raise _connect_error(exc) from None
        return GetIssuerResponse(descriptor=token)

    async def activate(
        self, request: ActivateRequest, _ctx: RequestContext[ActivateRequest, ActivateResponse], /
    ) -> ActivateResponse:
        try:
            sealed = await self._service.activate(request.issuer, request.sealed)
        except Exception as exc:
            raise _connect_error(exc) from None
        return ActivateResponse(sealed=sealed)


def _is_plain(scope: Scope) -> bool:
    """An uncompressed binary unary call, the one form that goes past the library."""
    if scope["method"] != "POST":
        return False
    plain = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            plain = value == b"application/proto"
        elif name in (b"content-encoding", b"connect-timeout-ms"):
            return False
    return plain


class _GoneError(Exception):
    """The client hung up before its body was there: nobody is left to answer."""


class _Timed:
    """A request's ``receive`` that gives its body ``seconds`` in all, the first byte included."""

    __slots__ = ("_ends", "_receive", "_seconds")

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive, self._seconds = receive, seconds
        self._ends: float | None = asyncio.get_running_loop().time() + seconds

    async def __call__(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise ConnectError(Code.DEADLINE_EXCEEDED, f"the body took longer than {self._seconds:g} seconds") from None
        if not message.get("more_body"):
            self._ends = None  # what comes now is the client hanging up, whenever it does
        return message


def _is_grpc(scope: Scope) -> bool:
    """Plain gRPC: ``application/grpc``, alone or with ``+proto``; not ``application/grpc-web``."""
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return bool(kind.split(b"+")[0].split(b";")[0].strip() == b"application/grpc")


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise ConnectError(Code.RESOURCE_EXHAUSTED, f"message is larger than {MAX_BODY} bytes")
    return body


def _connect_error(exc: Exception) -> ConnectError:
    for family, code in _CODES:
        if isinstance(exc, family):
            return ConnectError(code, f"{exc.code}: {exc}")
    _log.error("unexpected error while answering", exc_info=exc)
    return ConnectError(Code.INTERNAL, "internal: see the server's log")


def _extra_headers(exc: Exception) -> list[tuple[bytes, bytes]]:
    headers = [(ERROR_HEADER.encode(), exc.code.encode())] if isinstance(exc, VolactError) else []
    if isinstance(exc, BusyError):
        headers.append((b"retry-after", str(exc.retry_after).encode()))
    return headers


async def _send_error(send: Send, code: Code, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"code": code.value, "message": message}).encode()
    await send({"type": "http.response.start", "status": _HTTP.get(code, 500), "headers": [*_JSON, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
