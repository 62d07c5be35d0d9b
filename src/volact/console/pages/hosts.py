# SPDX-License-Identifier: Apache-2.0
"""What the hosts of this machine know: the machines that a KMS host counted, the guests that a VM host saw."""

from starlette.responses import Response

from volact.console.pages.parts import group_names, site_of
from volact.host.store import Machine
from volact.web.access.roles import VIEW
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

SIZE = 100


def machines(visit: Visit) -> Response:
    """Each product group's machines in pages; the next page goes on after the last identity."""
    host = site_of(visit).host()
    if host is None:
        return visit.render("hosts/machines.html", host=None)
    form = Form(dict(visit.query))
    scopes = host.store.scopes()
    wanted = form.integer("group", least=0, most=1 << 31, required=False)
    scope = next((one for one in scopes if wanted is None or one.product_group == wanted), None)
    found: list[Machine] = []
    if scope is not None:
        found = host.store.machines(scope.id, SIZE + 1, _after(visit.query.get("after", "")))
    more = ""
    if len(found) > SIZE and scope is not None:
        found = found[:SIZE]
        more = f"/hosts/machines?group={scope.product_group}&after={found[-1].identity.hex()}"
    names = group_names(host)
    return visit.render(
        "hosts/machines.html", host=host, rows=found, scopes=scopes, scope=scope, more=more, names=names
    )


def guests(visit: Visit) -> Response:
    role = site_of(visit).vm()
    if role is None:
        return visit.render("hosts/guests.html", listing=None)
    listing = visit.listing(size=50)
    listing.slice(role.store.guests())
    return visit.render("hosts/guests.html", listing=listing)


def _after(text: str) -> bytes:
    """The place to go on from; anything else than that is the beginning."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


PAGES = (
    Page("/hosts/machines", machines, VIEW, "Counted machines", group="Hosts", menu=True, icon="pc-display",
         help="guide/kms-host#5-watch-it"),
    Page("/hosts/guests", guests, VIEW, "Guests", help="guide/virtual-machines"),
)  # fmt: skip
