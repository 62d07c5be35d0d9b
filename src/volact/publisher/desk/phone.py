# SPDX-License-Identifier: Apache-2.0
"""The phone desk: digits are typed along as a caller reads them, each group is checked at once by the page's script and
again here, the customer is shown, and the confirmation ID is read out.
"""

from starlette.responses import Response

from volact.core.errors import InputError, VolactError
from volact.core.phone import INSTALLATION_GROUPS
from volact.core.phone_site import parse_installation_id
from volact.publisher.administration.opened import MAX_REASON
from volact.publisher.answering.phone import AnyCall, Call, CallerKeyError, GuessesError
from volact.publisher.answering.phone_sites import SiteConfirmed
from volact.publisher.desk.state import PHONE, desk_of
from volact.publisher.rows import listing as publisher_listing
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

HELP = "guide/desk#the-phone-desk"
MOST_KEY = 60


def phone(visit: Visit) -> Response:
    """An empty desk; or the call whose digits were sent."""
    if not visit.posted:
        return _show(visit, Form(None, digits=""))
    form = Form(visit.form)
    call = _look_up(visit, form)
    visit.note("phone-looked-up", call.key.partial if call else "", "done" if call else "refused")
    return _show(visit, form, call, status=200 if call else 422)


def confirm(visit: Visit) -> Response:
    desk, form = desk_of(visit), Form(visit.form)
    call = _look_up(visit, form)
    key, reason = form.text("key", most=MOST_KEY), form.text("reason", most=MAX_REASON)
    if call is None or not form.valid:
        return _show(visit, form, call, status=422)
    try:
        confirmed = desk.phone.confirm(call, key, reason, visit.now, visit.actor)
    except VolactError as exc:
        form.fail(exc, "key" if isinstance(exc, CallerKeyError | GuessesError | InputError) else None)
        visit.note("phone-confirmed", call.key.partial, exc.code)
        return _show(visit, form, call, status=422)
    visit.note("phone-confirmed", call.key.partial)
    return visit.render(
        "phone_answer.html", call=call, confirmed=confirmed, is_site=isinstance(confirmed, SiteConfirmed),
        groups=confirmed.confirmation.groups, digits="".join(confirmed.confirmation.groups),
    )  # fmt: skip


def look_up_key(visit: Visit) -> Response:
    """What a caller may be told of a key: whose it is, and what is left.  By its last five symbols."""
    wanted = visit.query["key"].strip()
    found, used = [], {}
    if wanted:
        with desk_of(visit).publisher.store.look() as conn:
            found = publisher_listing.key_by_name(conn, wanted[-5:] if len(wanted) > 5 else wanted, None)
            used = publisher_listing.hosts_used(conn, [key.key_id for key in found])
    return visit.render("phone_key.html", wanted=wanted, found=found, used=used, groups=desk_of(visit).group_names())


def _look_up(visit: Visit, form: Form) -> AnyCall | None:
    typed = "".join(str(form.values.get(f"g{number}", "")) for number in range(1, INSTALLATION_GROUPS + 1))
    if typed:
        form.values["digits"] = typed[:400]
    digits = form.text("digits", most=400, lines=True)
    if not form.valid:
        return None
    try:
        return desk_of(visit).phone.look_up(parse_installation_id(digits))
    except InputError as exc:
        form.fail(exc, "digits")
    except VolactError as exc:
        form.fail(exc)
    return None


def _show(visit: Visit, form: Form, call: AnyCall | None = None, status: int = 200) -> Response:
    machine = call if isinstance(call, Call) else None
    shown = {"call": call, "machine": machine, "count": INSTALLATION_GROUPS, "groups": desk_of(visit).group_names()}
    return visit.render("phone.html", status, form=form, **shown)


PAGES = [
    Page("/phone", phone, PHONE, "Phone desk", menu=True, icon="telephone", help=HELP),
    Page("/phone", phone, PHONE, "Phone desk", ("POST",), acts="phone-looked-up", help=HELP),
    Page("/phone/confirm", confirm, PHONE, "Phone desk", ("POST",), acts="phone-confirmed", help=HELP),
    Page("/phone/key", look_up_key, PHONE, "Look up a key", menu=True, icon="search", help=HELP),
]
