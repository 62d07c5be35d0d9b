# SPDX-License-Identifier: Apache-2.0
"""The one way to a page: session, form token, stage, role, form; then the handler, in a thread; then the audit.

No page can forget a check, since no page makes one.  A request that changes something (any method but GET and HEAD)
must come from a page of this site, by ``Sec-Fetch-Site`` or ``Origin``, and carry the token of its session.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from volact.core.errors import StoreError, VolactError
from volact.web.access import credentials
from volact.web.access.accounts import LONGEST_SECONDS, Caller
from volact.web.access.records import Session, Stage
from volact.web.errors import (
    FormForgedError,
    FormMalformedError,
    InternalError,
    RequestTooLargeError,
    RoleMissingError,
    status_of,
)
from volact.web.pages.visit import SAFE, Page, Visit, local_path
from volact.web.site import Site

TOKEN_FIELD: Final = "form_token"  # noqa: S105 - the name of a field
TOKEN_HEADER: Final = "x-form-token"  # noqa: S105
UNATTENDED_HEADER: Final = "x-unattended"  # of what a page asks by itself, every few seconds
MOST_FIELDS = 20_000  # a selection of ten thousand rows
MOST_FILES = 20
STAGE_PAGES: Final = {Stage.CODE: "/login/code", Stage.PASSWORD: "/login/password", Stage.ENROL: "/login/enrol"}
LOGIN = "/login"

_log = logging.getLogger("volact.web")


class Gate:
    """Makes Starlette endpoints of pages."""

    def __init__(self, site: Site, renderer: object) -> None:
        self._site, self._renderer = site, renderer

    def endpoint(self, page: Page) -> Callable[[Request], object]:
        async def open_page(request: Request) -> Response:
            return await self.open(page, request)

        return open_page

    async def open(self, page: Page, request: Request) -> Response:
        sent = FormData()
        error: VolactError | None = None
        if request.method not in SAFE:
            try:
                sent = await request.form(max_fields=MOST_FIELDS, max_files=MOST_FILES)
            except RequestTooLargeError as exc:
                error = exc
            except (HTTPException, ValueError, KeyError):
                error = FormMalformedError()
        try:
            return await run_in_threadpool(self._open, page, request, sent, error)
        finally:
            await sent.close()

    # ---- private: all that follows runs in a thread

    def _open(self, page: Page, request: Request, sent: FormData, error: VolactError | None) -> Response:
        caller = Caller(request.client.host if request.client else "", request.headers.get("user-agent", ""))
        visit = Visit(request, self._site, page, caller, None, sent, "", renderer=self._renderer)
        try:
            self._recognise(visit)
            response = self._admit(visit, error) or page.handler(visit)
            self._audit(visit, _result(response))
        except VolactError as exc:
            self._audit_failure(visit, exc)
            response = self._show(visit, exc)
        except Exception as exc:
            _log.error("no error was foreseen for this", exc_info=exc)
            self._audit_failure(visit, InternalError())
            response = self._show(visit, InternalError())
        self._set_cookies(visit, response)
        return response

    def _recognise(self, visit: Visit) -> None:
        """The session, or what stands for one before the login; and the token that goes with it."""
        cookies = visit.request.cookies
        token = cookies.get(self._cookie(visit, "session"))
        attended = visit.request.headers.get(UNATTENDED_HEADER) is None
        visit.session = self._site.accounts.find(token, attended=attended) if token else None
        if visit.session is not None and token:
            visit.csrf = form_token(token)
            return
        known = cookies.get(self._cookie(visit, "visitor"))
        visit.nonce_cookie = None if known and len(known) < 100 else credentials.new_token()
        visit.csrf = form_token(visit.nonce_cookie or known or "")

    def _admit(self, visit: Visit, error: VolactError | None) -> Response | None:
        """``None`` lets the visit in; an answer leads elsewhere; an error refuses."""
        if error is not None:
            raise error
        if visit.request.method not in SAFE:
            self._check_form(visit)
        session, page = visit.session, visit.page
        if page.open_to_all:
            return None
        if session is None:
            return self._to(visit, f"{LOGIN}?next={_quoted(visit)}")
        if session.stage not in page.stages:
            return self._to(visit, STAGE_PAGES.get(session.stage, "/"))
        if not self._site.accounts.roles.allows(session.account.role, page.needs):
            raise RoleMissingError(account=session.account.name, role=session.account.role)
        return None

    def _check_form(self, visit: Visit) -> None:
        """Raises :class:`FormForgedError` unless the request comes from this site and from this session."""
        headers = visit.request.headers
        fetched = headers.get("sec-fetch-site")
        if fetched is not None and fetched != "same-origin":
            raise FormForgedError()
        origin = headers.get("origin")
        if origin is not None and not _same_origin(origin, visit.request):
            raise FormForgedError()
        given = visit.sent.get(TOKEN_FIELD) or headers.get(TOKEN_HEADER) or ""
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), visit.csrf.encode()):
            raise FormForgedError()

    def _to(self, visit: Visit, path: str) -> Response:
        if visit.request.headers.get("hx-request") == "true":  # a part of a page cannot become the login
            return Response(status_code=204, headers={"HX-Redirect": path})
        return RedirectResponse(path, 303)

    def _show(self, visit: Visit, error: VolactError) -> Response:
        response = visit.render("web/error.html", status_of(error), error=error)
        seconds = error.fields.get("seconds") or error.fields.get("retry_after")
        if isinstance(seconds, int):
            response.headers["Retry-After"] = str(seconds)
        return response

    # ---- audit

    def _audit(self, visit: Visit, result: str) -> None:
        """Whatever changes something and did not say so itself."""
        if visit.request.method in SAFE or visit.noted or visit.page.open_to_all:  # logins note themselves
            return
        visit.note(visit.page.acts or visit.page.path, _subject(visit.request), result)

    def _audit_failure(self, visit: Visit, error: VolactError) -> None:
        if isinstance(error, StoreError) or visit.page.open_to_all:
            return  # the database cannot be written, or the login has noted it; and a link is a secret
        if visit.session is None:
            return  # whoever is nobody could fill the audit, and says nothing by it
        refused = isinstance(error, RoleMissingError)
        if refused or visit.request.method not in SAFE:
            visit.note(visit.page.acts or visit.page.path, _subject(visit.request), error.code or "internal-error")

    # ---- cookies

    def _cookie(self, visit: Visit, kind: str) -> str:
        name = f"volact-{self._site.name}-{kind}"
        return f"__Host-{name}" if _is_secure(visit.request) else name

    def _set_cookies(self, visit: Visit, response: Response) -> None:
        if visit.logged_out:
            response.delete_cookie(self._cookie(visit, "session"), path="/", secure=_is_secure(visit.request))
        if visit.login is not None:
            self._set(visit, response, "session", visit.login.token, LONGEST_SECONDS)
        if visit.nonce_cookie is not None and "text/html" in response.headers.get("content-type", ""):
            self._set(visit, response, "visitor", visit.nonce_cookie, None)

    def _set(self, visit: Visit, response: Response, kind: str, value: str, seconds: int | None) -> None:
        secure = _is_secure(visit.request)
        response.set_cookie(
            self._cookie(visit, kind), value, seconds, path="/", secure=secure, httponly=True, samesite="lax"
        )


def form_token(secret: str) -> str:
    """The token of the forms of whoever holds ``secret`` in a cookie; only its browser can know the two."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"volact form token", hashlib.sha256).hexdigest()


def is_full(session: Session | None) -> bool:
    return session is not None and session.stage is Stage.FULL


def _same_origin(origin: str, request: Request) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.netloc.lower() == request.headers.get("host", "").lower() and parts.scheme == request.url.scheme


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _quoted(visit: Visit) -> str:
    """Where to go on after the login; of a part, that is the page which it belongs to."""
    from urllib.parse import quote

    whole = visit.request.headers.get("hx-current-url", "/") if visit.live else str(visit.request.url)
    try:
        url = urlsplit(whole)
    except ValueError:
        return quote("/", safe="")
    wanted = url.path + (f"?{url.query}" if url.query else "")
    return quote(local_path(wanted) if visit.request.method in SAFE else "/", safe="")


def _subject(request: Request) -> str:
    return " ".join(str(value) for value in request.path_params.values())


def _result(response: Response) -> str:
    return "done" if response.status_code < 400 else f"refused ({response.status_code})"
