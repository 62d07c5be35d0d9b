# SPDX-License-Identifier: Apache-2.0
"""A machine whose fleet tool is not set up yet: its pages say so, and an administrator sets it up from there."""

from dataclasses import replace

from starlette.responses import Response

from volact.console.pages.parts import site_of
from volact.fleet.folder import FleetFolder
from volact.web.pages.visit import Handler, Page, Visit


def begin(visit: Visit) -> Response:
    """As `volact fleet init`; what is wrong with the folder is told by its own error."""
    site = site_of(visit)
    if site.fleet() is None:
        made = FleetFolder.create(site.folders["fleet"])
        visit.note("fleet-init", str(made.path))
    return visit.redirect("/fleet/machines", "The fleet tool is set up. Add the machines that it looks after.")


def needs_fleet(page: Page) -> Page:
    """A page to look at, which says what is missing where there is no fleet."""
    return replace(page, handler=_or_none(page.handler)) if page.methods == ("GET",) else page


def _or_none(handler: Handler) -> Handler:
    def shown(visit: Visit) -> Response:
        return handler(visit) if site_of(visit).fleet() is not None else visit.render("fleet/none.html")

    return shown
