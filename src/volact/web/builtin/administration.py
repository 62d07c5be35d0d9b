# SPDX-License-Identifier: Apache-2.0
"""Pages by which an administrator looks after a site's accounts, their sessions and the audit."""

from typing import Final

from starlette.responses import Response

from volact.core.errors import VolactError
from volact.core.spreadsheet import as_text
from volact.web.access.roles import ADMINISTER
from volact.web.pages.form import Form
from volact.web.pages.renderer import iso
from volact.web.pages.visit import Page, Visit

GROUP: Final = "Administration"
HELP: Final = "guide/web-accounts"


def accounts(visit: Visit) -> Response:
    return _show_accounts(visit, Form(name="", full_name="", role=visit.site.accounts.roles.names[0]))


def add_account(visit: Visit) -> Response:
    """With a login link as its way in: no password has to be handed on."""
    form, roles = Form(visit.form), visit.site.accounts.roles
    name, role = form.text("name", most=64), form.choice("role", roles.names)
    full_name = form.text("full_name", most=200, required=False)
    if form.valid:
        try:
            account = visit.site.accounts.add(
                name, role, visit.account.name, visit.caller, full_name=full_name, password=None
            )
        except VolactError as exc:
            form.fail(exc, "name")
        else:
            visit.noted = True
            return _show_link(visit, account.name, f"The account {account.name} was added.")
    return _show_accounts(visit, form, 422)


def change_account(visit: Visit) -> Response:
    """One act of the list's menu: its name is the button's value."""
    name, act, actor, caller = visit.part("name"), visit.form.get("act", ""), visit.account.name, visit.caller
    keeper = visit.site.accounts
    if act == "link":
        return _show_link(visit, name, "")
    if act == "role":
        keeper.set_role(name, visit.form.get("role", ""), actor, caller)
    elif act == "disable":
        keeper.disable(name, actor, caller)
    elif act == "enable":
        keeper.enable(name, actor, caller)
    elif act == "reset-totp":
        keeper.reset_totp(name, actor, caller)
    elif act == "remove":
        keeper.remove(name, actor, caller)
    else:
        visit.found(None)
    visit.noted = True
    return visit.redirect("/administration/accounts", f"{name}: {_DONE[act]}.")


_DONE: Final = {
    "role": "the role was changed, and its sessions have ended",
    "disable": "the account is disabled, and its sessions have ended",
    "enable": "the account is enabled",
    "reset-totp": "the next login sets up another authenticator",
    "remove": "the account was removed",
}


def sessions(visit: Visit) -> Response:
    found = visit.site.accounts.store.sessions(visit.now)
    return visit.render("web/sessions.html", sessions=found)


def end_session(visit: Visit) -> Response:
    for session in visit.site.accounts.store.sessions(visit.now):
        if session.id_hash == visit.part("id_hash"):
            visit.site.accounts.end_session(session.id_hash, session.account.name, visit.account.name, visit.caller)
            visit.noted = True
    return visit.redirect("/administration/sessions", "The session was ended.")


def audit(visit: Visit) -> Response:
    listing, store = visit.listing(), visit.site.accounts.store
    account, act, text = (visit.query[name].strip() for name in ("account", "act", "text"))
    listing.rows, listing.total = store.audit(
        account=account, act=act, text=text, limit=listing.size, offset=listing.offset
    )
    return visit.render("web/audit.html", listing=listing, acts=store.audit_acts())


def audit_file(visit: Visit) -> Response:
    """All of it as CSV, the latest first."""
    rows, _ = visit.site.accounts.store.audit(limit=1_000_000)
    lines = ["time,account,address,session,act,subject,result"]
    lines += [
        ",".join(map(_cell, (iso(row.at), row.account, row.address, row.session, row.act, row.subject, row.result)))
        for row in rows
    ]
    return visit.download("audit.csv", ("\r\n".join(lines) + "\r\n").encode(), "text/csv; charset=utf-8")


def _cell(text: str) -> str:
    """RFC 4180, and no text that a spreadsheet takes for a formula."""
    return '"' + as_text(text).replace('"', '""') + '"'


def _show_accounts(visit: Visit, form: Form, status: int = 200) -> Response:
    found = visit.site.accounts.store.accounts()
    return visit.render("web/accounts.html", status, accounts=found, form=form, roles=visit.site.accounts.roles.names)


def _show_link(visit: Visit, name: str, said: str) -> Response:
    token = visit.site.accounts.make_link(name, visit.account.name, visit.caller)
    visit.noted = True
    address = f"{visit.request.url.scheme}://{visit.request.headers['host']}/login/link/{token}"
    return visit.render("web/link_made.html", name=name, address=address, said=said)


PAGES: Final = [
    Page(
        "/administration/accounts", accounts, ADMINISTER, "Accounts", group=GROUP, menu=True, icon="people", help=HELP
    ),
    Page("/administration/accounts", add_account, ADMINISTER, "Accounts", ("POST",), acts="account-added", help=HELP),
    Page("/administration/accounts/{name}", change_account, ADMINISTER, methods=("POST",), acts="account-changed"),
    Page(
        "/administration/sessions", sessions, ADMINISTER, "Sessions", group=GROUP, menu=True, icon="person-circle",
        help=f"{HELP}#sessions",
    ),
    Page("/administration/sessions/{id_hash}/end", end_session, ADMINISTER, methods=("POST",), acts="session-ended"),
    Page(
        "/administration/audit", audit, ADMINISTER, "Audit", group=GROUP, menu=True, icon="clock-history",
        help=f"{HELP}#audit",
    ),
    Page("/administration/audit.csv", audit_file, ADMINISTER),
]  # fmt: skip
