# SPDX-License-Identifier: Apache-2.0
"""The endpoints of the vault's keys, product definitions, agreements, and of bundles.

Each function is an endpoint, named as the method of :class:`volact.fleet.api.Fleet`.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from volact.fleet.rest import models
from volact.fleet.rest.models import Items, Row
from volact.fleet.rest.office import GuardedRoute, TheFleet, plain
from volact.fleet.rest.parameters import Bundle, Name, attachment

router = APIRouter(route_class=GuardedRoute)


@router.get("/keys", tags=["keys"])
def keys_list(
    fleet: TheFleet,
    product: Annotated[str | None, Query(max_length=253)] = None,
    channel: Annotated[str | None, Query(max_length=20)] = None,
) -> Items:
    """The keys of the vault, as far as they may be seen."""
    return Items(items=plain(fleet.keys_list(product, channel)))


@router.post("/keys", tags=["keys"], status_code=201)
def keys_add(fleet: TheFleet, body: models.AddKeys) -> Row:
    """Adds keys to the vault."""
    added, known = fleet.keys_add(body.lines)
    return {"new": plain(added), "known": plain(known)}


@router.delete("/keys/{key}", tags=["keys"])
def keys_remove(fleet: TheFleet, key: Name) -> Row:
    """From the vault; no machine loses anything."""
    made: Row = plain(fleet.keys_remove(key))
    return made


@router.post("/keys/refresh", tags=["keys"])
def keys_refresh(fleet: TheFleet, body: models.RefreshKeys) -> Items:
    """Asks the publisher what is left of keys."""
    asked = fleet.keys_refresh(body.names)
    return Items(items=[{**plain(one.key), "error": one.error.to_dict() if one.error else None} for one in asked])


@router.get("/definitions", tags=["keys"])
def definitions(fleet: TheFleet) -> Items:
    """The product definitions that the fleet has."""
    return Items(items=plain(fleet.definitions()))


@router.post("/definitions", tags=["keys"], status_code=201)
def definition_add(fleet: TheFleet, body: models.AddDefinition) -> Row:
    """A signed definition, under the root that came with the product."""
    made: Row = plain(fleet.definition_add(body.token, body.root))
    return made


@router.get("/agreements", tags=["keys"])
def agreements(fleet: TheFleet) -> Items:
    """What was bought."""
    return Items(items=plain(fleet.agreements()))


@router.post("/agreements", tags=["keys"], status_code=201)
def agreements_import(fleet: TheFleet, body: models.Agreements) -> Items:
    """What was bought, from CSV or the publisher's JSON."""
    return Items(items=plain(fleet.agreements_import(body.data.encode(), body.source)))


@router.delete("/agreements/{name}", tags=["keys"], status_code=204)
def agreements_remove(fleet: TheFleet, name: Name) -> None:
    """Forgets an agreement."""
    fleet.agreements_remove(name)


@router.post("/bundles/export", tags=["bundles"], response_class=Response)
def export(fleet: TheFleet, body: models.Export) -> Response:
    """The requests that wait, or the inventory without keys, as a bundle."""
    made = fleet.export(body.kind, machines=body.machines)
    return attachment(made.data, "application/octet-stream", f"{made.kind}.volbundle")


@router.post("/bundles/confirm", tags=["bundles"], response_class=Response)
def proxy_confirm(fleet: TheFleet, body: Bundle) -> Response:
    """Has the requests of a bundle answered by their publishers."""
    return attachment(fleet.proxy_confirm(body).data, "application/octet-stream", "answers.volbundle")


@router.post("/bundles/import", tags=["bundles"])
def import_bundle(
    fleet: TheFleet, body: Bundle, dry_run: bool = False, signer: Annotated[str | None, Query(max_length=100)] = None
) -> Row:
    """Takes a bundle in; the file wins."""
    made: Row = plain(fleet.import_bundle(body, signer=signer, dry_run=dry_run))
    return made
