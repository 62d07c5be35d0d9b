# SPDX-License-Identifier: Apache-2.0
"""The endpoints of the fleet's HTTP API: a function each, named as the method of :class:`volact.fleet.api.Fleet`.

Acts on machines make a job, which ``volact fleet serve`` works through: the answer is 202 with the job.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from volact.fleet import figures as fleet_figures
from volact.fleet.figures.forecast import Forecast
from volact.fleet.inventory.inventory import Page
from volact.fleet.jobs.records import Job
from volact.fleet.reports.catalogue import REPORTS, find_report
from volact.fleet.reports.pools import outlook
from volact.fleet.reports.render import find_format
from volact.fleet.rest import models, tokens
from volact.fleet.rest.access import Role, allowed
from volact.fleet.rest.models import Affected, Items, JobModel, Row, Rows
from volact.fleet.rest.office import GuardedRoute, TheFleet, TheToken, plain
from volact.fleet.schedules.schedule import Schedule
from volact.web.tokens import RoleMissingError

router = APIRouter(route_class=GuardedRoute)

MOST_ROWS, MOST_OFFSET = 1000, 2**31 - 1
Filter = Annotated[str, Query(max_length=4000, description="The filter language of lists.")]
Sort = Annotated[str, Query(max_length=200, description="Columns with commas, a minus for the other direction.")]
Columns = Annotated[str, Query(max_length=400, description="Columns with commas; the usual ones where none is given.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Offset = Annotated[int, Query(ge=0, le=MOST_OFFSET)]
Second = Annotated[int, Query(ge=0, le=2**40)]
Name = Annotated[str, Path(min_length=1, max_length=253)]
JobId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Bundle = Annotated[bytes, Body(media_type="application/octet-stream")]
JOB: dict[str, Any] = {"status_code": 202, "response_model": JobModel}


# ---- the inventory


@router.get("/products", tags=["inventory"])
def list(
    fleet: TheFleet, filter: Filter = "", sort: Sort = "", columns: Columns = "", limit: Limit = 100, offset: Offset = 0
) -> Rows:
    """A row for each product of each machine that fits."""
    return _rows(fleet.list(filter=filter, sort=_words(sort), columns=_words(columns), limit=limit, offset=offset))


@router.get("/machines", tags=["inventory"])
def list_machines(
    fleet: TheFleet, filter: Filter = "", sort: Sort = "", columns: Columns = "", limit: Limit = 100, offset: Offset = 0
) -> Rows:
    """A row for each machine that fits."""
    page = fleet.list_machines(filter=filter, sort=_words(sort), columns=_words(columns), limit=limit, offset=offset)
    return _rows(page)


@router.get("/groups", tags=["inventory"])
def group(fleet: TheFleet, by: Annotated[str, Query(min_length=1, max_length=200)], filter: Filter = "") -> Items:
    """How many machines and products there are with each combination of values."""
    names = _words(by)
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


# ---- acts on machines


@router.post("/refresh", tags=["acts"], **JOB)
def refresh(fleet: TheFleet, body: models.Bulk) -> Row:
    """Asks machines for their products."""
    return _job(fleet.refresh(**_bulk(body), wait=False))


@router.post("/install-key", tags=["acts"], **JOB)
def install_key(fleet: TheFleet, body: models.InstallKey) -> Row:
    """Installs a key of the vault, or the recommended ones."""
    return _job(fleet.install_key(**_bulk(body), wait=False))


@router.post("/activate", tags=["acts"], **JOB)
def activate(fleet: TheFleet, body: models.Activate) -> Row:
    """Activates each product by its own way."""
    return _job(fleet.activate(**_bulk(body), wait=False))


@router.post("/proxy/collect", tags=["acts"], **JOB)
def proxy_collect(fleet: TheFleet, body: models.Collect) -> Row:
    """Collects machines' requests, to be confirmed elsewhere."""
    return _job(fleet.proxy_collect(**_bulk(body), wait=False))


@router.post("/proxy/apply", tags=["acts"], **JOB)
def proxy_apply(fleet: TheFleet, body: models.Bulk) -> Row:
    """Brings answers that were imported to their machines."""
    return _job(fleet.proxy_apply(**_bulk(body), wait=False))


@router.post("/backup", tags=["acts"], **JOB)
def backup(fleet: TheFleet, body: models.Bulk) -> Row:
    """Lets machines seal their identity and licences to the vault."""
    return _job(fleet.backup(**_bulk(body), wait=False))


@router.post("/bootstrap", tags=["acts"], **JOB)
def bootstrap(fleet: TheFleet, body: models.Bootstrap) -> Row:
    """Installs volact on machines that have none, from a file in the ``artefacts`` folder of the fleet's."""
    given = body.model_dump()
    artefact = fleet.folder.artefact(given.pop("artefact"))
    return _job(fleet.bootstrap(artefact, **given, wait=False))


@router.post("/restore", tags=["acts"], **JOB)
def restore(fleet: TheFleet, body: models.Bulk) -> Row:
    """Re-activates reimaged machines from their backups."""
    return _job(fleet.restore(**_bulk(body), wait=False))


# ---- jobs


@router.get("/jobs", tags=["jobs"])
def jobs(fleet: TheFleet, limit: Limit = 50, states: Annotated[str, Query(max_length=200)] = "") -> Items:
    """The newest first."""
    return Items(items=[_job(job) for job in fleet.jobs(limit, _words(states))])


@router.get("/jobs/{job}", tags=["jobs"], response_model=JobModel)
def job(fleet: TheFleet, job: JobId) -> Row:
    """One job."""
    return _job(fleet.job(job))


@router.get("/jobs/{job}/tasks", tags=["jobs"])
def job_tasks(
    fleet: TheFleet,
    job: JobId,
    states: Annotated[str, Query(max_length=200)] = "",
    limit: Limit = 100,
    offset: Offset = 0,
) -> Items:
    """What became of each machine."""
    return Items(items=plain(fleet.job_tasks(job, states=_words(states), limit=limit, offset=offset)))


@router.post("/jobs/{job}/pause", tags=["jobs"], response_model=JobModel)
def job_pause(fleet: TheFleet, job: JobId) -> Row:
    """Nothing more is begun."""
    return _job(fleet.job_pause(job))


@router.post("/jobs/{job}/resume", tags=["jobs"], response_model=JobModel)
def job_resume(fleet: TheFleet, job: JobId) -> Row:
    """A paused job waits to be worked on again."""
    return _job(fleet.job_resume(job))


@router.post("/jobs/{job}/cancel", tags=["jobs"], response_model=JobModel)
def job_cancel(fleet: TheFleet, job: JobId) -> Row:
    """For good."""
    return _job(fleet.job_cancel(job))


@router.post("/jobs/{job}/retry", tags=["jobs"], **JOB)
def job_retry(fleet: TheFleet, job: JobId, body: models.Retry) -> Row:
    """Tries the failed machines again."""
    return _job(fleet.job_retry(job, uncertain=body.uncertain, wait=False))


# ---- keys, definitions, agreements


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


# ---- bundles


@router.post("/bundles/export", tags=["bundles"], response_class=Response)
def export(fleet: TheFleet, body: models.Export) -> Response:
    """The requests that wait, or the inventory without keys, as a bundle."""
    made = fleet.export(body.kind, machines=body.machines)
    return _file(made.data, "application/octet-stream", f"{made.kind}.volbundle")


@router.post("/bundles/confirm", tags=["bundles"], response_class=Response)
def proxy_confirm(fleet: TheFleet, body: Bundle) -> Response:
    """Has the requests of a bundle answered by their publishers."""
    return _file(fleet.proxy_confirm(body).data, "application/octet-stream", "answers.volbundle")


@router.post("/bundles/import", tags=["bundles"])
def import_bundle(
    fleet: TheFleet, body: Bundle, dry_run: bool = False, signer: Annotated[str | None, Query(max_length=100)] = None
) -> Row:
    """Takes a bundle in; the file wins."""
    made: Row = plain(fleet.import_bundle(body, signer=signer, dry_run=dry_run))
    return made


# ---- reports and schedules


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
    return _file(kind.render(made), kind.media, made.file_name(kind.ending))


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


# ---- who


@router.get("/whoami", tags=["tokens"])
def whoami(token: TheToken) -> Row:
    """Whose token this is, and what it may do."""
    return tokens.told(token)


@router.get("/audit", tags=["tokens"])
def audit(
    fleet: TheFleet,
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    who: Annotated[str | None, Query(max_length=200)] = None,
) -> Items:
    """Who did what, the newest first."""
    return Items(items=plain(fleet.audit(limit, before, who)))


@router.get("/tokens", tags=["tokens"], name="tokens")
def list_tokens(fleet: TheFleet) -> Items:
    """The tokens, without their secrets."""
    return Items(items=[tokens.told(one) for one in tokens.listed(fleet)])


@router.post("/tokens", tags=["tokens"], status_code=201)
def token_make(fleet: TheFleet, body: models.MakeToken) -> Row:
    """A new token; its secret is shown this once."""
    token, secret = tokens.make(fleet, body.label, body.role, body.days)
    return {**tokens.told(token), "secret": secret}


@router.delete("/tokens/{id}", tags=["tokens"])
def token_revoke(fleet: TheFleet, id: Name) -> Row:
    """At once and for good."""
    return tokens.told(tokens.revoke(fleet, id))


def _rows(page: Page) -> Rows:
    return Rows(rows=plain(page.to_dicts()), total=page.total)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _job(made: Job) -> Row:
    return made.to_json()


def _schedule(made: Schedule) -> Row:
    return made.to_json()


def _chosen(body: models.Selection) -> dict[str, Any]:
    return {"names": body.names, "filter": body.filter, "all": body.all}


def _bulk(body: models.Bulk) -> dict[str, Any]:
    return body.model_dump()


def _pool(pool: fleet_figures.Pool) -> Row:
    forecast = plain(pool.forecast) if isinstance(pool.forecast, Forecast) else None
    return {
        "key_id": pool.key_id, "partial": pool.partial, "product": pool.product, "activations": pool.activations,
        "remaining": pool.remaining, "outlook": outlook(pool.forecast), "forecast": forecast,
    }  # fmt: skip


def _file(data: bytes, media: str, name: str) -> Response:
    return Response(data, media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'})
