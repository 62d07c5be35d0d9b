# SPDX-License-Identifier: Apache-2.0
"""The endpoints of the inventory: lists, groups, history, figures, saved views, machines.

Each function is an endpoint, named as the method of :class:`volact.fleet.api.Fleet`.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from volact.fleet import figures as fleet_figures
from volact.fleet.figures.forecast import Forecast
from volact.fleet.inventory.inventory import Page
from volact.fleet.reports.pools import outlook
from volact.fleet.rest import models
from volact.fleet.rest.models import Affected, Items, Row, Rows
from volact.fleet.rest.office import GuardedRoute, TheFleet, plain
from volact.fleet.rest.parameters import Columns, Filter, Limit, Name, Offset, Second, Sort, words

router = APIRouter(route_class=GuardedRoute)


@router.get("/products", tags=["inventory"])
def list(
    fleet: TheFleet, filter: Filter = "", sort: Sort = "", columns: Columns = "", limit: Limit = 100, offset: Offset = 0
) -> Rows:
    """A row for each product of each machine that fits."""
    return _rows(fleet.list(filter=filter, sort=words(sort), columns=words(columns), limit=limit, offset=offset))


@router.get("/machines", tags=["inventory"])
def list_machines(
    fleet: TheFleet, filter: Filter = "", sort: Sort = "", columns: Columns = "", limit: Limit = 100, offset: Offset = 0
) -> Rows:
    """A row for each machine that fits."""
    page = fleet.list_machines(filter=filter, sort=words(sort), columns=words(columns), limit=limit, offset=offset)
    return _rows(page)


@router.get("/groups", tags=["inventory"])
def group(fleet: TheFleet, by: Annotated[str, Query(min_length=1, max_length=200)], filter: Filter = "") -> Items:
    """How many machines and products there are with each combination of values."""
    names = words(by)
    return Items(
        items=[
            {
                **dict(zip(names, plain(one.values), strict=True)),
                "machines": one.machines,
                "products": one.products,
                "licensed": one.licensed,
            }
            for one in fleet.group(names, filter=filter)
        ]
    )


@router.get("/history", tags=["inventory"])
def history(fleet: TheFleet, since: Second = 0, filter: Filter = "", limit: Limit = 100) -> Items:
    """What changed, the newest first."""
    return Items(items=plain(fleet.history(since=since, filter=filter, limit=limit)))


@router.get("/figures", tags=["reports"])
def figures(fleet: TheFleet) -> Row:
    """The whole fleet in numbers: states, what expires when, pools with their forecasts."""
    now = fleet.clock()
    with fleet.store.read() as conn:
        size = fleet_figures.fleet_size(conn, now)
        buckets = fleet_figures.expiry_buckets(conn, now)
        found = fleet_figures.pools(conn, 0)
    made: Row = {"size": plain(size), "expiry": plain(buckets), "pools": [_pool(one) for one in found]}
    return made


@router.get("/views", tags=["inventory"])
def views(fleet: TheFleet) -> Items:
    """Lists that were kept under a name."""
    return Items(items=plain(fleet.views()))


@router.get("/views/{name}", tags=["inventory"])
def view(fleet: TheFleet, name: Name) -> Row:
    """One of them."""
    return fleet.view(name).to_json()


@router.put("/views/{name}", tags=["inventory"])
def view_save(fleet: TheFleet, name: Name, body: models.SaveView) -> Row:
    """Keeps a list's filter, order, columns and grouping, in the place of one of that name."""
    return fleet.view_save(name, **body.model_dump()).to_json()


@router.delete("/views/{name}", tags=["inventory"], status_code=204)
def view_remove(fleet: TheFleet, name: Name) -> None:
    """Forgets a view."""
    fleet.view_remove(name)


@router.get("/machines/{machine}", tags=["inventory"])
def show(fleet: TheFleet, machine: Name) -> Row:
    """One machine in full."""
    made: Row = plain(fleet.show(machine))
    return made


@router.post("/machines", tags=["inventory"], status_code=201)
def discover(fleet: TheFleet, body: models.Discover) -> Row:
    """Adds machines by names, addresses and ranges."""
    added = fleet.discover(body.words, match=body.match, tags=body.tags)
    return {"new": [*added.new], "known": [*added.known]}


@router.post("/machines/tag", tags=["inventory"])
def tag(fleet: TheFleet, body: models.Tagging) -> Affected:
    """Adds tags to the selected machines."""
    return Affected(machines=fleet.tag(body.tags, **_chosen(body)))


@router.post("/machines/untag", tags=["inventory"])
def untag(fleet: TheFleet, body: models.Tagging) -> Affected:
    """Takes tags from the selected machines."""
    return Affected(machines=fleet.untag(body.tags, **_chosen(body)))


@router.post("/machines/set", tags=["inventory"])
def set_machine(fleet: TheFleet, body: models.SetMachine) -> Affected:
    """Sets address, port and account of the selected machines: those that are given, null to clear."""
    given = {name: getattr(body, name) for name in ("address", "port", "account") if name in body.model_fields_set}
    return Affected(machines=fleet.set_machine(**_chosen(body), **given))


@router.post("/machines/remove", tags=["inventory"])
def remove(fleet: TheFleet, body: models.Selection) -> Affected:
    """Forgets the selected machines."""
    return Affected(machines=fleet.remove(**_chosen(body)))


def _rows(page: Page) -> Rows:
    return Rows(rows=plain(page.to_dicts()), total=page.total)


def _chosen(body: models.Selection) -> dict[str, Any]:
    return {"names": body.names, "filter": body.filter, "all": body.all}


def _pool(pool: fleet_figures.Pool) -> Row:
    forecast = plain(pool.forecast) if isinstance(pool.forecast, Forecast) else None
    return {
        "key_id": pool.key_id, "partial": pool.partial, "product": pool.product, "activations": pool.activations,
        "remaining": pool.remaining, "outlook": outlook(pool.forecast), "forecast": forecast,
    }  # fmt: skip
