# SPDX-License-Identifier: Apache-2.0
"""Pages that every site has: the steps of a login."""

from typing import Any, Final

from starlette.responses import Response

from volact.web.access import credentials
from volact.web.access.records import Stage
from volact.web.access.roles import ANYBODY, LOGGED_IN
from volact.web.errors import (
    AccessError,
    LoginCodeError,
    LoginDelayedError,
    LoginFailedError,
    LoginRefusedError,
    PasswordUnfitError,
    status_of,
)
from volact.web.pages.form import Form
from volact.web.pages.gate import STAGE_PAGES, is_full
from volact.web.pages.visit import Page, Visit, local_path
from volact.web.sign_on.oidc import PAGES as SINGLE_SIGN_ON

ENROLMENT: Final = "_enrolment"
NEXT: Final = "_next"


def login(visit: Visit) -> Response:
    if visit.session is not None:
        return visit.redirect(STAGE_PAGES.get(visit.session.stage, "/"))
    form = Form(visit.form if visit.posted else None, name="", next=visit.query.get("next", "/"))
    if not visit.posted:
        return visit.render("web/login.html", form=form)
    name, password = form.text("name", most=64), form.secret("password")
    if not form.valid:
        return visit.render("web/login.html", 422, form=form)
    try:
        visit.login = visit.site.accounts.log_in(name, password, visit.caller)
    except (LoginFailedError, LoginDelayedError, LoginRefusedError) as exc:
        return _refuse(visit, "web/login.html", form, exc)
    return _onwards(visit, str(form.values.get("next", "/")))


def login_link(visit: Visit) -> Response:
    """A page first and the login by its form: whoever only looks at a link (a mail scanner) does not use it up."""
    if not visit.posted:
        return visit.render("web/link.html")
    visit.login = visit.site.accounts.use_link(visit.part("token"), visit.caller)
    return _onwards(visit, "/")


def code(visit: Visit) -> Response:
    form = Form(visit.form if visit.posted else None, code="")
    if not visit.posted:
        return visit.render("web/code.html", form=form)
    assert visit.session is not None
    try:
        visit.login = visit.site.accounts.give_code(visit.session, form.text("code", most=40), visit.caller)
    except (LoginCodeError, LoginDelayedError) as exc:
        visit.noted = True
        form.values["code"] = ""
        return _refuse(visit, "web/code.html", form, exc)
    return _onwards(visit)


def new_password(visit: Visit) -> Response:
    """Within a login: a password that somebody else had set is changed."""
    form = Form(visit.form if visit.posted else None)
    if not visit.posted:
        return visit.render("web/password.html", form=form, asks_old=False)
    assert visit.session is not None
    new = chosen_password(form)
    if form.valid:
        try:
            visit.login = visit.site.accounts.set_own_password(visit.session, None, new, visit.caller)
        except PasswordUnfitError as exc:
            form.fail(exc, "password")
    if not form.valid:
        return visit.render("web/password.html", 422, form=form, asks_old=False)
    visit.noted = True
    return _onwards(visit)


def enrol(visit: Visit) -> Response:
    """An authenticator is set up, in a login that needs one or from one's own account."""
    session, accounts = visit.session, visit.site.accounts
    assert session is not None
    assert accounts.key is not None
    accounts.check_own_factor(visit.account)
    form = Form(visit.form if visit.posted else None, code="")
    kept = visit.recall(ENROLMENT)
    secret = credentials.decrypt(accounts.key, visit.account.name, bytes.fromhex(kept)) if kept else None
    if secret is None:
        secret = credentials.new_totp()
        visit.remember(ENROLMENT, credentials.encrypt(accounts.key, visit.account.name, secret).hex())
    shown: dict[str, Any] = {
        "secret": secret,
        "uri": credentials.totp_uri(secret, visit.account.name, visit.site.title),
    }
    if not visit.posted:
        return visit.render("web/enrol.html", form=form, **shown)
    try:
        visit.remember(ENROLMENT, None)
        visit.login, codes = accounts.enrol(visit.session or session, secret, form.text("code", most=10), visit.caller)
    except LoginCodeError as exc:
        visit.remember(ENROLMENT, credentials.encrypt(accounts.key, visit.account.name, secret).hex())
        form.values["code"] = ""
        form.fail(exc, "code")
        return visit.render("web/enrol.html", status_of(exc), form=form, **shown)
    visit.noted = True
    return visit.render("web/recovery.html", codes=codes, onwards=_next(visit))


def logout(visit: Visit) -> Response:
    if visit.session is not None:
        visit.site.accounts.log_out(visit.session, visit.caller)
    visit.logged_out = visit.noted = True
    return visit.redirect("/login")


def _refuse(visit: Visit, template: str, form: Form, error: AccessError) -> Response:
    form.fail(error)
    response = visit.render(template, status_of(error), form=form)
    if isinstance(error, LoginDelayedError):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def _onwards(visit: Visit, wanted: str | None = None) -> Response:
    """To the next step of the login, or to where the visitor wanted to go."""
    assert visit.login is not None
    visit.session = visit.login.session
    if wanted is not None and not is_full(visit.session):
        visit.remember(NEXT, local_path(wanted))
    return visit.redirect(STAGE_PAGES.get(visit.session.stage) or _next(visit, wanted))


def _next(visit: Visit, wanted: str | None = None) -> str:
    if visit.login is not None:
        visit.session = visit.login.session
    kept = visit.recall(NEXT)
    if kept:
        visit.remember(NEXT, None)
    return local_path(wanted or kept)


def chosen_password(form: Form) -> str:
    """A new password, typed twice."""
    new, again = form.secret("password"), form.secret("again")
    if form.valid and new != again:
        form.errors["again"] = "this is not the same"
    return new


_BOTH = ("GET", "POST")

PAGES: Final = [
    Page("/login", login, ANYBODY, "Log in", _BOTH, acts="login"),
    *SINGLE_SIGN_ON,
    Page("/login/link/{token}", login_link, ANYBODY, "Log in", _BOTH, acts="login"),
    Page("/login/code", code, LOGGED_IN, "Authenticator", _BOTH, acts="login", stages=(Stage.CODE,)),
    Page("/login/password", new_password, LOGGED_IN, "New password", _BOTH, acts="password", stages=(Stage.PASSWORD,)),
    Page("/login/enrol", enrol, LOGGED_IN, "Authenticator", _BOTH, acts="enrol", stages=(Stage.ENROL,)),
    Page("/logout", logout, ANYBODY, "Log out", ("POST",), acts="logout"),
]
