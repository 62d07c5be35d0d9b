# SPDX-License-Identifier: Apache-2.0
"""What has happened: activations of machines, hosts and forests, and the ledger with its verification."""

from starlette.responses import Response, StreamingResponse

from volact.core.errors import TrustError
from volact.publisher.desk import lists
from volact.publisher.desk.state import desk_of
from volact.publisher.rows import listing as publisher_listing
from volact.publisher.rows.ledger import Act, lines
from volact.web.access.roles import ADMINISTER, VIEW
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

GROUP, HELP = "Records", "guide/desk#ledger"
MOST_FORESTS = 1000


def machines(visit: Visit) -> Response:
    listing = visit.listing(sorts=lists.MACHINE_SORTS, start="-first_at")
    with desk_of(visit).publisher.store.look() as conn:
        lists.fill_machines(conn, listing)
    return visit.render("machines.html", listing=listing)


def hosts(visit: Visit) -> Response:
    listing = visit.listing(sorts=lists.HOST_SORTS, start="-at")
    with desk_of(visit).publisher.store.look() as conn:
        lists.fill_hosts(conn, listing)
    return visit.render("hosts.html", listing=listing)


def forests(visit: Visit) -> Response:
    listing = visit.listing()
    with desk_of(visit).publisher.store.look() as conn:
        listing.slice(publisher_listing.forest_objects(conn, None, None, None, MOST_FORESTS)[::-1])
    return visit.render("forests.html", listing=listing)


def ledger(visit: Visit) -> Response:
    form, listing = Form(dict(visit.query)), visit.listing()
    since, until = form.day("since", required=False), form.day("until", required=False)
    with desk_of(visit).publisher.store.look() as conn:
        lists.fill_ledger(conn, listing, since, until)
        teller = lists.teller(conn, desk_of(visit), listing.rows)
    acts = [(str(act), act.replace("-", " ")) for act in Act]
    return visit.render("ledger.html", listing=listing, acts=acts, teller=teller)


def verify_ledger(visit: Visit) -> Response:
    """Every row, against the one before it and against the tables beside."""
    try:
        last = desk_of(visit).publisher.store.check_ledger()
    except TrustError as exc:
        return visit.render("ledger_checked.html", last=None, error=exc)
    return visit.render("ledger_checked.html", last=last, error=None)


def export_ledger(visit: Visit) -> Response:
    store = desk_of(visit).publisher.store
    last = store.check_ledger()
    number = last.seq if last else 0
    visit.note("ledger-exported", f"{number} rows")
    headers = {"Content-Disposition": 'attachment; filename="ledger.jsonl"'}
    return StreamingResponse(lines(store.ledger_rows(1, number)), media_type="application/jsonl", headers=headers)


PAGES = [
    Page("/activations", machines, VIEW, "Activations", group=GROUP, menu=True, icon="pc-display", help=HELP),
    Page("/activations/hosts", hosts, VIEW, "Hosts", help=HELP),
    Page("/activations/forests", forests, VIEW, "Forests", help=HELP),
    Page("/ledger", ledger, VIEW, "Ledger", group=GROUP, menu=True, icon="journal-text", help=HELP),
    Page("/ledger/check", verify_ledger, VIEW, "Ledger", help=HELP),
    Page("/ledger/export", export_ledger, ADMINISTER, "Ledger", ("POST",), acts="ledger-exported", help=HELP),
]
