# SPDX-License-Identifier: Apache-2.0
"""Agreements: what the organisation has bought, which the report on compliance holds against what is used."""

from starlette.responses import Response

from volact.console.pages.parts import counted, fleet_of
from volact.core.errors import VolactError
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit


def agreements(visit: Visit) -> Response:
    return _show(visit, Form(), None)


def take(visit: Visit) -> Response:
    """A file of them; one that was known is replaced."""
    form = Form(visit.form)
    upload = visit.file("file")
    if upload is None:
        form.errors["file"] = "choose the file"
    else:
        try:
            found = fleet_of(visit).agreements_import(upload[1], source=upload[0])
            names = sorted({one.name for one in found})
            visit.note("fleet-agreements-import", " ".join(names)[:200])
            return visit.redirect("/fleet/agreements", f"{counted(len(names), 'agreement')} taken in.")
        except VolactError as exc:
            form.fail(exc)
    return _show(visit, form, "take")


def remove(visit: Visit) -> Response:
    name = visit.form.get("name", "")
    fleet_of(visit).agreements_remove(name)
    visit.note("fleet-agreement-remove", name[:200])
    return visit.redirect("/fleet/agreements", f"The agreement {name} was removed.")


def _show(visit: Visit, form: Form, opened: str | None) -> Response:
    listing = visit.listing(size=100)
    listing.slice(fleet_of(visit).agreements())
    return visit.render("fleet/agreements.html", 200 if form.valid else 422, listing=listing, form=form, opened=opened)
