# SPDX-License-Identifier: Apache-2.0
"""What every request of the fleet's HTTP API needs: the fleet, the tokens, the limits; and the route that asks them.

(1) who calls; (2) not too often; (3) whether they may, by the table; then the body is read; (4) whether this very
request was answered before (``once``).  Endpoints are ordinary functions in threads: the database is.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from starlette.responses import Response

from volact.core.errors import TrustError, VolactError
from volact.fleet.api import Fleet
from volact.fleet.rest import access, once
from volact.fleet.schema import API_TOKENS
from volact.web.api import tokens
from volact.web.api.idempotency import HEADER, Answers, Asked
from volact.web.api.limits import Decision, Limit, Limiter
from volact.web.api.tokens import LAST_USE_SECONDS, Token, TokenNeededError, Tokens

TOKENS = Tokens(API_TOKENS)
KNOWN = Limit("token", 600, 60)  # requests of one token
UNKNOWN = Limit("address", 60, 60)  # of one address that has none, or a wrong one


@dataclass
class Office:
    fleet: Fleet
    limiter: Limiter = field(default_factory=Limiter)

    @cached_property
    def answers(self) -> Answers:
        return once.answers_of(self.fleet)

    def admit(self, header: str | None, address: str) -> tuple[Token | None, Decision]:
        """Whose request it is, and whether it comes too often.  Guessing at tokens is slow for everybody."""
        if header is None:
            return None, self.limiter.spend(("address", address), time.monotonic(), UNKNOWN)
        now = self.fleet.clock()
        try:
            digest = tokens.read_header(header)
            with self.fleet.store.read() as conn:
                token = TOKENS.find(conn, digest)
            token.check(now)
        except TrustError:
            decision = self.limiter.spend(("address", address), time.monotonic(), UNKNOWN)
            if not decision.allowed:
                raise decision.error() from None
            raise
        if now - (token.last_used_at or 0) >= LAST_USE_SECONDS:
            with self.fleet.store.write() as conn:
                TOKENS.touch(conn, [(token.id, now)])
        return token, self.limiter.spend(("token", token.id), time.monotonic(), KNOWN)


class GuardedRoute(APIRoute):
    """A route whose name is in the table of access, and whose act is done once where it can be sent again."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **how: Any) -> None:
        name = how.get("name") or endpoint.__name__
        if name in once.ONCE:
            model = how.get("response_model")
            chosen = None if isinstance(model, DefaultPlaceholder) else model
            endpoint = once.once(endpoint, how.get("status_code") or 200, chosen)
        super().__init__(path, endpoint, **how)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        call = super().get_route_handler()
        if self.name not in access.ENDPOINTS:
            raise RuntimeError(f"endpoint {self.name} has no rule in the table of access")

        async def handle(request: Request) -> Response:
            office: Office = request.app.state.office
            address = request.client.host if request.client else ""
            token, decision = await run_in_threadpool(office.admit, request.headers.get("authorization"), address)
            request.state.decision = decision
            if not decision.allowed:
                raise decision.error()
            access.check(self.name, token)
            request.state.token = token
            if self.name not in once.ONCE or HEADER not in request.headers:
                return _finish(await call(request), decision)
            with once.asking(office.answers, await _asked(office, request, token)):
                return _finish(await call(request), decision)

        return handle


async def _asked(office: Office, request: Request, token: Token | None) -> Asked:
    path = f"{request.url.path}?{request.url.query}"
    body = await request.body()
    return office.answers.asked(token.id if token else "", request.headers[HEADER], request.method, path, body)


def limit_headers(request: Request, error: VolactError) -> Mapping[str, str]:
    """Of problem documents: what every other answer has too."""
    decision: Decision | None = getattr(request.state, "decision", None)
    challenge = {"WWW-Authenticate": "Bearer"} if isinstance(error, TokenNeededError) else {}
    return {"Cache-Control": "no-store", **(decision.headers() if decision else {}), **challenge}


def _fleet(request: Request) -> Fleet:
    """For the caller: the audit trail names the token."""
    office: Office = request.app.state.office
    token: Token | None = request.state.token
    return office.fleet.as_(token.actor if token else "nobody")


def _token(request: Request) -> Token:
    token: Token | None = request.state.token
    if token is None:
        raise TokenNeededError()
    return token


TheFleet = Annotated[Fleet, Depends(_fleet)]
TheToken = Annotated[Token, Depends(_token)]


def plain(value: Any) -> Any:
    """What JSON can say: bytes in hexadecimal."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return value


def _finish(response: Response, decision: Decision) -> Response:
    response.headers.update(decision.headers())
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
