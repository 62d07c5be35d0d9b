# SPDX-License-Identifier: Apache-2.0
"""The inventory: its two lists with filter, order and pages; adding machines; one machine in full."""

from typing import Any

from starlette.responses import Response

from volact.console.pages.parts import besides, counted, fleet_of
from volact.core.errors import VolactError
from volact.fleet.inventory import filters
from volact.fleet.keys.keys import KeyRow
from volact.web.pages.form import Form
from volact.web.pages.listing import Listing
from volact.web.pages.visit import Visit

PRODUCT_VIEW = ("name", "product", "edition", "channel", "key", "state", "expires", "grace-ends", "host", "contacted")
MACHINE_VIEW = ("name", "address", "os", "volact", "reach", "products", "licensed", "contacted", "action", "result")
QUICK = (
    ("not licensed", "state=unlicensed-any"),
    ("in grace", "state=grace"),
    ("ends in 30 days", "expires<+30d"),
    ("not reached", "reach=failed"),
    ("never refreshed", "refreshed=none"),
)
MOST_NAMES = 20_000


def inventory(visit: Visit) -> Response:
    return show(visit, Form(parallel=""), None)


def show(visit: Visit, form: Form, opened: str | None) -> Response:
    """``opened``: the dialog whose form was sent and has something wrong."""
    fleet = fleet_of(visit)
    machines = visit.query.get("view") == "machines"
    columns = MACHINE_VIEW if machines else PRODUCT_VIEW
    listing = visit.listing(sorts=columns, start="name")
    problem: VolactError | None = None
    try:
        _fill(visit, listing, machines)
    except VolactError as exc:
        problem = exc
    return visit.render(
        "fleet/list.html",
        200 if form.valid and problem is None else 422,
        listing=listing,
        machines=machines,
        problem=problem,
        filter=visit.query.get("filter", ""),
        quick=QUICK,
        fields=sorted((name, field.about) for name, field in filters.FIELDS.items()),
        form=form,
        opened=opened,
        key_choices=[(key.key_id, _named(key)) for key in fleet.keys_list()],
    )


def _named(key: KeyRow) -> str:
    left = "" if key.remaining is None else f", {key.remaining} left"
    return f"…{key.partial} {key.channel} {key.product or ''} {key.description}".strip() + left


def _fill(visit: Visit, listing: Listing, machines: bool) -> None:
    fleet = fleet_of(visit)
    columns = MACHINE_VIEW if machines else PRODUCT_VIEW
    sort = (f"-{listing.sort}" if listing.descending else listing.sort,)
    ask = fleet.list_machines if machines else fleet.list
    page = ask(
        filter=visit.query.get("filter", ""), sort=sort, columns=columns, limit=listing.size, offset=listing.offset
    )
    listing.rows, listing.total = page.to_dicts(), page.total


def add(visit: Visit) -> Response:
    """By names, addresses and ranges; refreshing them follows as a job."""
    form = Form(visit.form)
    words = form.text("names", most=MOST_NAMES, lines=True).split()
    tags = form.text("tags", most=400, required=False).split()
    if form.valid:
        try:
            added = fleet_of(visit).discover(words, tags=tags)
            visit.note("fleet-add", f"{len(added.new)} machines")
            return visit.redirect(
                "/fleet/machines?view=machines",
                f"{counted(len(added.new), 'machine')} added{besides(len(added.known))}.",
            )
        except VolactError as exc:
            form.fail(exc)
    return show(visit, form, "add")


def machine(visit: Visit) -> Response:
    found = fleet_of(visit).show(visit.part("name"))
    return visit.render("fleet/machine.html", machine=found, events=_timeline(found))


def _timeline(found: Any) -> list[dict[str, Any]]:
    """What became of its products, and what was done to it, the newest first."""
    events = [
        {
            "at": row["at"], "kind": row["state"], "text": row["product"],
            "more": row["reason"] or "", "link": "", "key": row["partial_key"],
        }
        for row in found.history
    ] + [
        {
            "at": row["ended_at"], "kind": str(row["state"]), "text": str(row["kind"]).replace("-", " "),
            "more": row["error_text"] or "", "link": f"/fleet/jobs/{row['job_id']}", "key": None,
        }
        for row in found.tasks
        if row["ended_at"] is not None
    ]  # fmt: skip
    return sorted(events, key=lambda event: -event["at"])[:60]
