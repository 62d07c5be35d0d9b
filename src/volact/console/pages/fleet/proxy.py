# SPDX-License-Identifier: Apache-2.0
"""Proxy activation: requests that wait, bundles down and up, and confirming where the publisher can be reached."""

from starlette.responses import Response

from volact.console.pages.parts import fleet_of, runner_of
from volact.core.errors import VolactError
from volact.fleet.activation import confirmations
from volact.fleet.exchange import bundle
from volact.web.access.roles import ADMINISTER
from volact.web.errors import RoleMissingError
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

BUNDLE = "application/vnd.volact.bundle"


def proxy(visit: Visit) -> Response:
    return _show(visit, Form())


def export(visit: Visit) -> Response:
    """Without keys and names; whoever carries it learns nothing of the machines."""
    try:
        made = fleet_of(visit).export("requests")
    except VolactError as exc:
        return _failed(visit, exc)
    visit.note("fleet-proxy-export", f"{made.rows} requests, bundle {made.id}")
    return visit.download(f"requests-{made.id[:8]}.volbundle", made.data, BUNDLE)


def confirm(visit: Visit) -> Response:
    """On a console that reaches the publisher: requests in, answers out."""
    upload = visit.file("bundle")
    form = Form(visit.form)
    url = form.text("publisher", most=400, required=False) or None
    if upload is None:
        form.errors["bundle"] = "choose the file"
        return _show(visit, form)
    try:
        done = fleet_of(visit).proxy_confirm(upload[1], url)
    except VolactError as exc:
        return _failed(visit, exc)
    visit.note("fleet-proxy-confirm", f"{done.answered} answered", "done" if not done.problems else "partly")
    return visit.download(upload[0].replace("requests", "answers") or "answers.volbundle", done.data, BUNDLE)


def take(visit: Visit) -> Response:
    """Answers, or another fleet's inventory: that one brings machines and whom to trust, and is an administrator's."""
    upload = visit.file("bundle")
    form = Form(visit.form)
    signer = form.text("signer", most=200, required=False) or None
    if upload is None:
        form.errors["bundle"] = "choose the file"
        return _show(visit, form)
    try:
        _check_role(visit, upload[1])
        made = fleet_of(visit).import_bundle(upload[1], signer=signer)
    except RoleMissingError:
        raise
    except VolactError as exc:
        return _failed(visit, exc)
    told = ", ".join(f"{number} {name}" for name, number in {**made.added, **made.changed}.items()) or "nothing new"
    visit.note("fleet-bundle-import", f"{made.kind}: {told}")
    return visit.redirect("/fleet/proxy", f"The bundle was taken in: {told}.")


def apply(visit: Visit) -> Response:
    """Brings the answers to their machines, as a job."""
    fleet = fleet_of(visit)
    try:
        job = runner_of(visit).start(fleet, lambda fleet: fleet.proxy_apply(wait=False))
    except VolactError as exc:
        return _failed(visit, exc)
    visit.note("fleet-proxy-apply", f"job {job.id}, {job.total} machines")
    return visit.redirect(f"/fleet/jobs/{job.id}")


def _check_role(visit: Visit, data: bytes) -> None:
    if bundle.parse_manifest(data).kind is not bundle.Kind.ANSWERS and not visit.allows(ADMINISTER):
        raise RoleMissingError(account=visit.account.name, role=visit.account.role)


def _failed(visit: Visit, exc: VolactError) -> Response:
    form = Form(visit.form)
    form.fail(exc)
    return _show(visit, form)


def _show(visit: Visit, form: Form) -> Response:
    fleet = fleet_of(visit)
    listing = visit.listing(size=50)
    with fleet.store.read() as conn:
        waiting = confirmations.waiting(conn, visit.now)
        answered = confirmations.answered(conn)
        listing.slice(confirmations.listed(conn))
    return visit.render(
        "fleet/proxy.html",
        200 if form.valid else 422,
        form=form,
        listing=listing,
        waiting=len(waiting),
        answered=len(answered),
    )
