# SPDX-License-Identifier: Apache-2.0
"""Every error of an HTTP API as one kind of answer: a problem document (RFC 9457), made here from ``VolactError``.

``type`` is the path under which the same API explains the code; ``code``, ``detail``, ``remedy`` and ``fields`` are the
error's own.  What a framework raises (a body that is not what the API's description says, an unknown path) is turned
into an error of ours first, so that a client reads one form.  An exception that nobody foresaw shows nothing of itself.
Spec: docs/guide/publisher-api.md §Problems.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from volact.core.errors import ConfigError, InputError, StoreError, TransportError, TrustError, VolactError
from volact.core.refusal import RefusedError
from volact.web.errors import InternalError, RequestTooLargeError

MEDIA_TYPE = "application/problem+json"
MOST_FAULTS = 20  # of one request, in its problem document; who sends more has enough to do with these
MOST_TEXT = 300  # of what somebody sent, as a document repeats it

_log = logging.getLogger("volact.web")


class RequestInvalidError(InputError):
    """The request is not what the API's description says; ``faults`` says where and why, one for each place."""

    code = "request-invalid"
    fmt = "the request is not as the API describes it: {first}"
    remedy = "compare the request with the API's description, openapi.json; `faults` names each place"

    def __init__(self, *, faults: Iterable[Mapping[str, str]]) -> None:
        listed = [dict(fault) for fault in faults][:MOST_FAULTS]
        first = f"{listed[0]['where']}: {listed[0]['why']}" if listed else "it cannot be read"
        super().__init__(first=first, faults=listed)


class PathUnknownError(InputError):
    code = "web-path-unknown"
    fmt = "there is nothing at {path}"
    remedy = "compare the path with the API's description, openapi.json"


class MethodUnfitError(InputError):
    code = "method-unfit"
    fmt = "{method} is not possible here"
    remedy = "compare method and path with the API's description, openapi.json; the Allow header lists what is possible"


class PreconditionFailedError(ConfigError):
    code = "precondition-failed"
    fmt = "it has been changed since it was read: its ETag is {etag} now"
    remedy = "read it again, and send the change with the new ETag in If-Match"


# The status of an error by the most derived class that is listed; an API adds its own (`Statuses.of`).
DEFAULTS: Mapping[type[VolactError], int] = {
    VolactError: 500,
    InputError: 422,
    TrustError: 422,
    ConfigError: 409,
    RefusedError: 409,
    TransportError: 503,
    StoreError: 503,
    PathUnknownError: 404,
    MethodUnfitError: 405,
    RequestTooLargeError: 413,
    PreconditionFailedError: 412,
}


@dataclass(frozen=True, slots=True)
class Statuses:
    """Which HTTP status an error has; ``base`` is the path below which its code is explained."""

    base: str
    table: Mapping[type[VolactError], int] = field(default_factory=lambda: DEFAULTS)

    @classmethod
    def of(cls, base: str, more: Mapping[type[VolactError], int]) -> "Statuses":
        return cls(base, {**DEFAULTS, **more})

    def status(self, kind: type[VolactError]) -> int:
        return next(self.table[one] for one in kind.__mro__ if one in self.table)

    def type_of(self, code: str) -> str:
        return f"{self.base}/{code}"

    def document(self, error: VolactError) -> dict[str, Any]:
        shown = error.to_dict()
        return {
            "type": self.type_of(error.code or InternalError.code),
            "title": title(type(error)),
            "status": self.status(type(error)),
            "detail": _plain(shown["message"]),
            "code": error.code or InternalError.code,
            "remedy": _plain(shown["remedy"]),
            "fields": {name: _plain(value) for name, value in shown["fields"].items()},
        }


def title(kind: type[VolactError]) -> str:
    """One short text for all errors of a code, as RFC 9457 asks for: the code in words."""
    return kind.code.replace("-", " ").capitalize() or "Service fault"


def answer(error: VolactError, statuses: Statuses, headers: Mapping[str, str] | None = None) -> Response:
    document = statuses.document(error)
    more = dict(headers or {})
    retry_after = error.fields.get("retry_after")
    if isinstance(retry_after, int):
        more["Retry-After"] = str(retry_after)
    return JSONResponse(document, document["status"], more, media_type=MEDIA_TYPE)


def install(
    app: FastAPI, statuses: Statuses, headers: Callable[[Request, VolactError], Mapping[str, str]] = lambda *_: {}
) -> None:
    """From here on whatever goes wrong in ``app`` is a problem document; ``headers`` adds to each."""

    def respond(request: Request, error: VolactError, more: Mapping[str, str] | None = None) -> Response:
        return answer(error, statuses, {**headers(request, error), **(more or {})})

    async def ours(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, VolactError)
        if not exc.code:
            _log.error("an error without a code", exc_info=exc)
            return respond(request, InternalError())
        return respond(request, exc)

    async def invalid(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        return respond(request, RequestInvalidError(faults=map(_fault, exc.errors())))

    async def framework(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        if isinstance(exc.__cause__, VolactError):  # raised by whoever gave it the body
            return respond(request, exc.__cause__)
        return respond(request, _of_framework(request, exc), exc.headers)

    async def unforeseen(request: Request, exc: Exception) -> Response:
        _log.error("no error was foreseen for this", exc_info=exc)
        return respond(request, InternalError())

    app.add_exception_handler(VolactError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(Exception, unforeseen)


class BodyLimit:
    """ASGI middleware: a body beyond ``most`` bytes is refused unread, and cut off where no length announced it."""

    def __init__(self, app: Any, most: int, statuses: Statuses) -> None:
        self._app, self._most, self._statuses = app, most, statuses

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced(scope) > self._most:
            await self._refusal()(scope, receive, send)
            return
        body = _Counted(receive, self._most)
        try:
            await self._app(scope, body, send)
        except RequestTooLargeError:  # raised into whoever read the body, and not caught there
            await self._refusal()(scope, receive, send)

    def _refusal(self) -> Response:
        return answer(RequestTooLargeError(most=self._most), self._statuses, {"Connection": "close"})


class _Counted:
    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], most: int) -> None:
        self._receive, self._left, self._most = receive, most, most

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise RequestTooLargeError(most=self._most)
        return message


def _announced(scope: Any) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) < 20:
            return int(value)
    return 0


def _fault(error: Mapping[str, Any]) -> dict[str, str]:
    """What pydantic says, without what was sent: that may be a secret, or no text at all."""
    where = ".".join(_plain(part) if isinstance(part, str) else str(part) for part in error["loc"])
    return {"where": where[:MOST_TEXT], "why": _plain(str(error["msg"]))[:MOST_TEXT]}


def _of_framework(request: Request, exc: HTTPException) -> VolactError:
    if exc.status_code == 404:
        return PathUnknownError(path=_plain(request.url.path)[:MOST_TEXT])
    if exc.status_code == 405:
        return MethodUnfitError(method=_plain(request.method)[:20])
    if exc.status_code < 500:  # a body whose bytes are no text
        return RequestInvalidError(faults=[{"where": "body", "why": "it cannot be read"}])
    return InternalError()


def _plain(value: Any) -> Any:
    """What can be written as JSON in UTF-8: no lone surrogates, nothing that is no JSON."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else _plain(str(value))
