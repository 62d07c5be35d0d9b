# SPDX-License-Identifier: Apache-2.0
"""Organisations and their agreements: what was bought, and what of it is in use."""

from urllib.parse import quote

from starlette.responses import Response

from volact.core.errors import VolactError
from volact.publisher.administration.opened import MAX_REASON, MOST_LIMIT
from volact.publisher.desk import lists
from volact.publisher.desk.state import desk_of, to_choose
from volact.publisher.folder.files import MAX_NAME
from volact.publisher.rows import listing as publisher_listing
from volact.publisher.rows.records import Organisation, OrganisationMissingError
from volact.web.access.roles import ADMINISTER, OPERATE, VIEW
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

GROUP = "Customers"
HELP = "guide/desk#organisations-and-agreements"


# Names go behind the question mark: they may hold anything, a slash or two dots too.
def organisations(visit: Visit) -> Response:
    return _list(visit, Form(None, name=""))


def add_organisation(visit: Visit) -> Response:
    form = Form(visit.form)
    name = form.text("name", most=MAX_NAME)
    if form.valid:
        try:
            desk_of(visit).publisher.add_organisation(name, visit.now, visit.actor)
        except VolactError as exc:
            form.fail(exc, "name")
        else:
            visit.note("organisation-added", name)
            return visit.redirect(f"/organisations/show?name={quote(name, safe='')}", f"{name} was added.")
    return _list(visit, form, 422)


def organisation(visit: Visit) -> Response:
    found = _find(visit, visit.query["name"])
    return _show(visit, found, Form())


def revoke_organisation(visit: Visit) -> Response:
    """All of its hosts and keys, from now on."""
    form = Form(visit.form)
    found = _find(visit, form.text("name", most=MAX_NAME))
    reason = form.text("reason", most=MAX_REASON)
    if not form.valid:
        return _show(visit, found, form, 422)
    desk_of(visit).publisher.revoke_organisation(found.name, visit.now, reason, visit.now, visit.actor)
    visit.note("organisation-revoked", found.name)
    return visit.redirect(f"/organisations/show?name={quote(found.name, safe='')}", f"{found.name} was revoked.")


def agreements(visit: Visit) -> Response:
    desk = desk_of(visit)
    with desk.publisher.store.look() as conn:
        usage = publisher_listing.usage(conn, None)
    found = desk.publisher.store.agreements()
    text = visit.query["text"].strip().lower()
    listing = visit.listing()
    listing.slice([one for one in found if text in one.name.lower() or text in one.organisation.lower()])
    return visit.render(
        "agreements.html", listing=listing, groups=desk.group_names(),
        usage={name: [use for use in usage if use.agreement == name] for name in (one.name for one in listing.rows)},
    )  # fmt: skip


def new_agreement(visit: Visit) -> Response:
    return _ask(visit, Form(None, organisation=visit.query["organisation"]))


def add_agreement(visit: Visit) -> Response:
    desk, form = desk_of(visit), Form(visit.form)
    name, organisation = form.text("name", most=MAX_NAME), form.text("organisation", most=MAX_NAME)
    starts_at, ends_at = form.day("starts_at"), form.day("ends_at", required=False)
    numbers = {
        group: form.integer(f"group_{group}", least=1, most=MOST_LIMIT, required=False) for group in desk.group_names()
    }
    quantities = {group: number for group, number in numbers.items() if number is not None}
    if form.valid and not quantities:
        form.errors[f"group_{next(iter(numbers), 0)}"] = "give at least one quantity"
    if form.valid:
        assert starts_at is not None
        try:
            desk.publisher.add_agreement(
                name, organisation, starts_at, ends_at, quantities, visit.now, visit.actor
            )  # fmt: skip
        except VolactError as exc:
            form.fail(exc)
        else:
            visit.note("agreement-added", name)
            return visit.redirect("/agreements", f"The agreement {name} was added.")
    return _ask(visit, form, 422)


def change_agreement(visit: Visit) -> Response:
    """Extends or ends it."""
    form = Form(visit.form)
    name, ends_at = form.text("name", most=MAX_NAME), form.day("ends_at", required=False)
    if not form.valid:
        visit.flash("; ".join(form.errors.values()), "bad")
        return visit.redirect("/agreements")
    desk_of(visit).publisher.change_agreement(name, ends_at, visit.now, visit.actor)
    visit.note("agreement-changed", name)
    return visit.redirect("/agreements", f"The end of {name} was changed.")


def _find(visit: Visit, name: str) -> Organisation:
    found = next((one for one in desk_of(visit).publisher.store.organisations() if one.name == name), None)
    if found is None:
        raise OrganisationMissingError(name=name[:MAX_NAME])
    return found


def _list(visit: Visit, form: Form, status: int = 200) -> Response:
    listing = visit.listing()
    text = visit.query["text"].strip().lower()
    listing.slice([one for one in desk_of(visit).publisher.store.organisations() if text in one.name.lower()])
    return visit.render("organisations.html", status, listing=listing, form=form)


def _show(visit: Visit, found: Organisation, form: Form, status: int = 200) -> Response:
    desk, listing = desk_of(visit), visit.listing(sorts=lists.KEY_SORTS, start="-issued_at", size=25)
    with desk.publisher.store.look() as conn:
        usage = publisher_listing.usage(conn, found.name)
        lists.fill_keys(conn, listing, organisation=found.name)
        used = publisher_listing.hosts_used(conn, [one.key_id for one in listing.rows])
    listing.path, listing.query = "/organisations/show", {**listing.query, "name": found.name}
    owned = [one for one in desk.publisher.store.agreements() if one.organisation == found.name]
    return visit.render(
        "organisation.html", status, organisation=found, usage=usage, listing=listing, agreements=owned, form=form,
        groups=desk.group_names(), products=desk.product_names(), used=used,
    )  # fmt: skip


def _ask(visit: Visit, form: Form, status: int = 200) -> Response:
    desk = desk_of(visit)
    names = [one.name for one in desk.publisher.store.organisations() if one.blocked_at is None]
    return visit.render(
        "agreement_new.html",
        status,
        form=form,
        organisations=to_choose(names, form.values.get("organisation")),
        groups=desk.group_names(),
    )


PAGES = [
    Page("/organisations", organisations, VIEW, "Organisations", group=GROUP, menu=True, icon="building", help=HELP),
    Page("/organisations", add_organisation, OPERATE, "Organisations", ("POST",), acts="organisation-added", help=HELP),
    Page("/organisations/show", organisation, VIEW, "Organisation", help=HELP),
    Page("/organisations/revoke", revoke_organisation, ADMINISTER, methods=("POST",), acts="organisation-revoked"),
    Page("/agreements", agreements, VIEW, "Agreements", group=GROUP, menu=True, icon="file-earmark-text", help=HELP),
    Page("/agreements/new", new_agreement, OPERATE, "New agreement", help=HELP),
    Page("/agreements/new", add_agreement, OPERATE, "New agreement", ("POST",), acts="agreement-added", help=HELP),
    Page("/agreements/change", change_agreement, OPERATE, methods=("POST",), acts="agreement-changed"),
]
