# SPDX-License-Identifier: Apache-2.0
"""What happens to every request before its endpoint is called, and to every answer after.

(1) who calls; (2) not too often; (3) whether they may, by the table; (4) whether this very request was answered before;
only then is the body read as what it should be.  Endpoints are ordinary functions in threads: the database is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from volact.core.errors import VolactError
from volact.publisher.api import access
from volact.publisher.api.access import ENDPOINTS, Caller
from volact.publisher.api.office import Office
from volact.publisher.rows.change import Change
from volact.web.api.idempotency import HEADER, REPLAYED, Answer, Asked
from volact.web.api.limits import Decision

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the API: ``problems`` are what it can answer beside what every endpoint can."""

    method: str
    path: str
    call: Callable[..., Any]
    model: type[BaseModel] | None
    problems: Sequence[type[VolactError]] = ()
    status: int = 200
    media_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    once: bool = False  # takes an Idempotency-Key

    @property
    def name(self) -> str:
        return self.call.__name__


class GuardedRoute(APIRoute):
    """A route whose name is in the table of access."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        call = super().get_route_handler()
        rule = ENDPOINTS.get(self.name)
        if rule is None:
            raise RuntimeError(f"endpoint {self.name} has no rule in the table of access")

        async def handle(request: Request) -> Response:
            office: Office = request.app.state.office
            async with office.places:
                caller, decision = await _admit(office, request)
            access.check(rule, caller)
            request.state.caller, request.state.asked = caller, None
            await request.body()  # all of it: who sends slowly holds no place that others wait for
            async with office.places:
                return await admitted(office, request, caller, decision)

        async def admitted(office: Office, request: Request, caller: Caller, decision: Decision) -> Response:
            if request.method != "GET" and HEADER in request.headers:
                earlier = await _answered_before(office, request, caller)
                if earlier is not None:
                    return _finish(_replay(earlier), decision)
            return _finish(await call(request), decision)

        return handle


class Act:
    """The act that a request asks for, done once: see :mod:`volact.web.api.idempotency`."""

    def __init__(self, office: Office, asked: Asked | None) -> None:
        self._office, self._asked = office, asked

    def once(
        self,
        do: Callable[[Change], BaseModel | VolactError],
        status: int = 200,
        headers: Callable[[BaseModel], Mapping[str, str]] = lambda _: {},
    ) -> Response:
        """``do`` and the keeping of its answer are one transaction.  An error that it raises undoes all; one that it
        returns was written down, and is answered, not kept."""
        office, asked = self._office, self._asked
        with office.publisher.store.together() as change:
            earlier = None if asked is None else office.answers.find(change.conn, asked, office.clock())
            if earlier is not None:
                return _replay(earlier)
            made = do(change)
            if isinstance(made, BaseModel):
                answer = Answer(status, headers(made), made.model_dump_json().encode())
                if asked is not None:
                    office.answers.keep(change.conn, asked, answer, office.clock())
        if isinstance(made, VolactError):
            raise made
        return Response(answer.body, answer.status, dict(answer.headers), media_type=_JSON)


def limit_headers(request: Request, _error: VolactError) -> Mapping[str, str]:
    """Of problem documents: what every other answer has too."""
    decision: Decision | None = getattr(request.state, "decision", None)
    return {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **(decision.headers() if decision else {}),
        **_challenge(_error),
    }


def _office(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _act(request: Request) -> Act:
    return Act(request.app.state.office, request.state.asked)


TheOffice = Annotated[Office, Depends(_office)]
TheCaller = Annotated[Caller, Depends(_caller)]
TheAct = Annotated[Act, Depends(_act)]


async def _admit(office: Office, request: Request) -> tuple[Caller, Decision]:
    address = request.client.host if request.client else ""
    caller, decision = await run_in_threadpool(office.admit, request.headers.get("authorization"), address)
    request.state.decision = decision
    if not decision.allowed:
        raise decision.error()
    return caller, decision


async def _answered_before(office: Office, request: Request, caller: Caller) -> Answer | None:
    header, token = request.headers[HEADER], caller.token.id if caller.token else ""
    path = f"{request.url.path}?{request.url.query}"
    asked = office.answers.asked(token, header, request.method, path, await request.body())
    request.state.asked = asked
    return await run_in_threadpool(office.earlier, asked)


def _replay(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, REPLAYED: "true"}, media_type=_JSON)


def _finish(response: Response, decision: Decision) -> Response:
    response.headers.update(decision.headers())
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _challenge(error: VolactError) -> Mapping[str, str]:
    if error.code == "token-needed":
        return {"WWW-Authenticate": 'Bearer realm="volact"'}
    if error.code in ("token-unknown", "token-ended", "token-revoked"):
        return {"WWW-Authenticate": f'Bearer realm="volact", error="invalid_token", error_description="{error.code}"'}
    return {}
