# SPDX-License-Identifier: Apache-2.0
"""Pages that every site has: one's own account."""

from typing import Final

from starlette.responses import Response

from volact.web.access.accounts import BY_LINK
from volact.web.access.roles import LOGGED_IN
from volact.web.builtin.login import chosen_password, enrol
from volact.web.errors import LoginDelayedError, LoginFailedError, PasswordUnfitError
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

HELP: Final = "guide/web-accounts#authenticator"


def own_account(visit: Visit) -> Response:
    return _show_account(visit, Form())


def own_password(visit: Visit) -> Response:
    accounts, form = visit.site.accounts, Form(visit.form)
    assert visit.session is not None
    old = form.secret("old") if _asks_old(visit) else None
    new = chosen_password(form)
    if form.valid:
        try:
            visit.login = accounts.set_own_password(visit.session, old, new, visit.caller)
        except LoginFailedError:
            form.errors["old"] = "this is not your password"
        except LoginDelayedError as exc:
            form.fail(exc, "old")
        except PasswordUnfitError as exc:
            form.fail(exc, "password")
    if visit.login is None:
        return _show_account(visit, form, 422)
    visit.session, visit.noted = visit.login.session, True
    return visit.redirect("/account", "The password was changed; other sessions of yours have ended.")


def _asks_old(visit: Visit) -> bool:
    """Whoever has none yet, or came by a link because it was forgotten, is not asked for it."""
    return visit.account.password is not None and not visit.recall(BY_LINK)


def _show_account(visit: Visit, form: Form, status: int = 200) -> Response:
    sessions = visit.site.accounts.store.sessions(visit.now, visit.account.name)
    return visit.render("web/account.html", status, sessions=sessions, form=form, asks_old=_asks_old(visit))


def end_own_session(visit: Visit) -> Response:
    for session in visit.site.accounts.store.sessions(visit.now, visit.account.name):
        if session.id_hash == visit.part("id_hash"):
            visit.site.accounts.end_session(session.id_hash, visit.account.name, visit.account.name, visit.caller)
            visit.noted = True
    return visit.redirect("/account", "The session was ended.")


PAGES: Final = [
    Page("/account", own_account, LOGGED_IN, "Your account", help=HELP),
    Page(
        "/account/password",
        own_password,
        LOGGED_IN,
        "Your account",
        ("POST",),
        acts="password",
        help=HELP,
    ),
    Page("/account/authenticator", enrol, LOGGED_IN, "Authenticator", ("GET", "POST"), acts="enrol"),
    Page("/account/sessions/{id_hash}/end", end_own_session, LOGGED_IN, methods=("POST",), acts="session-ended"),
]
