# SPDX-License-Identifier: Apache-2.0
"""The key vault: which keys there are and what is left of them; a key itself is never shown."""

from starlette.responses import Response

from volact.console import charts
from volact.console.pages.dashboard import foreseen
from volact.console.pages.parts import besides, counted, fleet_of
from volact.core.count import SECONDS_PER_DAY
from volact.core.errors import VolactError
from volact.fleet import figures
from volact.fleet.keys.keys import KeyUnknownHereError
from volact.sealing import verify
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

MOST_LINES = 200_000
PAST = 180 * SECONDS_PER_DAY


def keys(visit: Visit) -> Response:
    return _show(visit, Form(), None)


def add(visit: Visit) -> Response:
    form = Form(visit.form)
    lines = form.text("keys", most=MOST_LINES, lines=True).splitlines()
    if form.valid:
        try:
            new, known = fleet_of(visit).keys_add(lines)
            visit.note("fleet-keys-add", " ".join(key.partial for key in new))
            return visit.redirect("/fleet/keys", f"{counted(len(new), 'key')} added{besides(len(known))}.")
        except VolactError as exc:
            form.fail(exc)
    form.values.pop("keys", None)  # a secret is not sent back
    return _show(visit, form, "add")


def define(visit: Visit) -> Response:
    """A product's definition, which says where its publisher is."""
    form = Form(visit.form)
    root = form.text("root", most=200).lower()
    upload = visit.file("definition")
    if upload is None:
        form.errors["definition"] = "choose the file"
    if form.valid and upload is not None:
        token = upload[1].decode("ascii", "replace").strip()
        try:
            trusted = verify.verify_definition(token, root)
            fleet_of(visit).definition_add(token, trusted.trust.fingerprint)
            visit.note("fleet-definition", trusted.definition.product)
            return visit.redirect("/fleet/keys", f"The definition of {trusted.definition.product} was added.")
        except VolactError as exc:
            form.fail(exc)
    return _show(visit, form, "define")


def refresh(visit: Visit) -> Response:
    """Asks the publisher what is left of each key."""
    try:
        asked = fleet_of(visit).keys_refresh()
    except VolactError as exc:
        form = Form()
        form.fail(exc)
        return _show(visit, form, None)
    failed = [one for one in asked if one.error is not None]
    visit.note("fleet-keys-refresh", f"{len(asked)} keys", "done" if not failed else f"{len(failed)} failed")
    if failed:
        visit.flash(f"…{failed[0].key.partial}: {failed[0].error}", "warn")
    return visit.redirect(
        "/fleet/keys", f"{counted(len(asked) - len(failed), 'key', 'has', 'have')} told what is left."
    )


def key(visit: Visit) -> Response:
    fleet = fleet_of(visit)
    wanted = visit.part("key_id")
    row = next((one for one in fleet.keys_list() if one.key_id == wanted), None)
    if row is None:
        raise KeyUnknownHereError(key=wanted[:20])
    with fleet.store.read() as conn:
        pool = next((one for one in figures.pools(conn, visit.now - PAST) if one.key_id == wanted), None)
    chart = charts.pool_chart(pool) if pool else None
    return visit.render("fleet/key.html", key=row, pool=pool, chart=chart, foreseen=foreseen(pool) if pool else None)


def remove(visit: Visit) -> Response:
    removed = fleet_of(visit).keys_remove(visit.part("key_id"))
    visit.note("fleet-key-remove", removed.partial)
    return visit.redirect("/fleet/keys", f"The key ending in {removed.partial} was removed; no machine loses anything.")


def _show(visit: Visit, form: Form, opened: str | None) -> Response:
    fleet = fleet_of(visit)
    listing = visit.listing(size=100)
    listing.slice(fleet.keys_list())
    return visit.render(
        "fleet/keys.html",
        200 if form.valid else 422,
        listing=listing,
        form=form,
        opened=opened,
        definitions=fleet.definitions(),
    )
