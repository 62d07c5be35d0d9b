# SPDX-License-Identifier: Apache-2.0
"""The endpoints of reports and schedules.

Each function is an endpoint, named as the method of :class:`volact.fleet.api.Fleet`.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from volact.fleet.reports.catalogue import REPORTS, find_report
from volact.fleet.reports.render import find_format
from volact.fleet.rest import models
from volact.fleet.rest.access import Role, allowed
from volact.fleet.rest.models import Items, Row
from volact.fleet.rest.office import GuardedRoute, TheFleet, TheToken, plain
from volact.fleet.rest.parameters import Filter, Name, Second, attachment
from volact.fleet.schedules.schedule import Schedule
from volact.web.api.tokens import RoleMissingError

router = APIRouter(route_class=GuardedRoute)


@router.get("/reports", tags=["reports"])
def reports() -> Items:
    """Which reports there are."""
    return Items(items=[{"name": one.name, "about": one.about, "takes": sorted(one.takes)} for one in REPORTS.values()])


@router.get("/reports/{name}", tags=["reports"], response_class=Response)
def report(
    fleet: TheFleet,
    name: Name,
    format: Annotated[str, Query(max_length=10, description="json, csv, xlsx, html or pdf")] = "json",
    filter: Filter = "",
    days: Annotated[int, Query(ge=1, le=3650)] = 30,
    since: Second = 0,
) -> Response:
    """A report of this moment, in one of its formats."""
    kind = find_format(format)
    find_report(name)
    made = fleet.report(name, filter=filter, days=days, since=since)
    return attachment(kind.render(made), kind.media, made.file_name(kind.ending))


@router.get("/schedules", tags=["schedules"])
def schedules(fleet: TheFleet) -> Items:
    """What runs by itself."""
    return Items(items=plain(fleet.schedules()))


@router.post("/schedules", tags=["schedules"], status_code=201)
def schedule_add(fleet: TheFleet, token: TheToken, body: models.AddSchedule) -> Row:
    """A report, a job or a refresh of keys, at cron's times.  Into a folder of the server, for an administrator."""
    if body.arguments.get("folder") and not allowed(Role.ADMINISTRATOR, token):
        raise RoleMissingError(roles=str(Role.ADMINISTRATOR))
    return _schedule(fleet.schedule_add(body.name, body.cron, body.kind, body.arguments, zone=body.zone))


@router.delete("/schedules/{name}", tags=["schedules"], status_code=204)
def schedule_remove(fleet: TheFleet, name: Name) -> None:
    """Ends a schedule."""
    fleet.schedule_remove(name)


@router.post("/schedules/{name}/enable", tags=["schedules"])
def schedule_enable(fleet: TheFleet, name: Name) -> Row:
    """It runs again, from its next time on."""
    return _schedule(fleet.schedule_enable(name))


@router.post("/schedules/{name}/disable", tags=["schedules"])
def schedule_disable(fleet: TheFleet, name: Name) -> Row:
    """It waits until it is enabled."""
    return _schedule(fleet.schedule_enable(name, enabled=False))


def _schedule(made: Schedule) -> Row:
    return made.to_json()
