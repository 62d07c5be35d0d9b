# SPDX-License-Identifier: Apache-2.0
"""The endpoints of acts on machines, and of the jobs they make.

Each function is an endpoint, named as the method of :class:`volact.fleet.api.Fleet`.  The answer to an act is 202
with the job, which ``volact fleet serve`` works through.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from volact.fleet.jobs.records import Job
from volact.fleet.rest import models
from volact.fleet.rest.models import Items, JobModel, Row
from volact.fleet.rest.office import GuardedRoute, TheFleet, plain
from volact.fleet.rest.parameters import JOB, JobId, Limit, Offset, words

router = APIRouter(route_class=GuardedRoute)


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


@router.get("/jobs", tags=["jobs"])
def jobs(fleet: TheFleet, limit: Limit = 50, states: Annotated[str, Query(max_length=200)] = "") -> Items:
    """The newest first."""
    return Items(items=[_job(job) for job in fleet.jobs(limit, words(states))])


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
    return Items(items=plain(fleet.job_tasks(job, states=words(states), limit=limit, offset=offset)))


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


def _job(made: Job) -> Row:
    return made.to_json()


def _bulk(body: models.Bulk) -> dict[str, Any]:
    return body.model_dump()
