# SPDX-License-Identifier: Apache-2.0
"""The doctor: why a product of a machine is not licensed, and what to do; on this machine, or on one of the fleet."""

from typing import Any

from starlette.responses import Response

from volact.console.pages.setup import frame
from volact.console.setup.state import SetupState
from volact.console.targets import Command, Ended
from volact.core.errors import VolactError
from volact.web.access.roles import OPERATE, VIEW
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

COMMAND = Command(("doctor", "--json"))
HELP = "guide/doctor"


def doctor(visit: Visit) -> Response:
    return _show(visit, Form(machine=visit.query.get("machine", "")), None)


def examine(visit: Visit) -> Response:
    """It asks and changes nothing, but it may take seconds, and goes over SSH."""
    form = Form(visit.form)
    name = form.text("machine", most=253, required=False).lower()
    products: list[dict[str, Any]] | None = None
    if form.valid:
        try:
            target = frame.target_of(visit, SetupState(target=name))
            products = _products(target.run(COMMAND))
            visit.note("doctor", target.name)
        except VolactError as exc:
            form.fail(exc)
    return _show(visit, form, products)


def _products(ended: Ended) -> list[dict[str, Any]]:
    """Its exit code says whether something is wrong, not whether it worked."""
    told = ended.value
    if not isinstance(told, dict) or not isinstance(told.get("products"), list):
        raise ended.error()
    return [one for one in told["products"] if isinstance(one, dict)]


def _show(visit: Visit, form: Form, products: list[dict[str, Any]] | None) -> Response:
    fleet = frame.site_of(visit).fleet() is not None
    line = str(COMMAND)
    return visit.render("doctor.html", 200 if form.valid else 422, form=form, products=products, fleet=fleet, line=line)


PAGES = (
    Page("/doctor", doctor, VIEW, "Doctor", group="Hosts", menu=True, icon="heart-pulse", help=HELP),
    Page("/doctor", examine, OPERATE, "Doctor", ("POST",), help=HELP, acts="doctor"),
)
