# SPDX-License-Identifier: Apache-2.0
"""Jobs: all of them, and one with its live progress."""

from collections.abc import Callable

from starlette.responses import Response

from volact.console.pages.parts import by_whom, fleet_of, runner_of
from volact.core.errors import VolactError
from volact.fleet.api import Fleet
from volact.fleet.jobs import store as job_rows
from volact.fleet.jobs.engine import is_dead
from volact.fleet.jobs.records import OPEN, TROUBLED, Job, JobMissingError, JobState, TaskState
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

MOST_JOBS = 500
MOST_TASKS = 100


def jobs(visit: Visit) -> Response:
    listing = visit.listing(size=50)
    listing.slice(fleet_of(visit).jobs(MOST_JOBS))
    return visit.render("fleet/jobs.html", listing=listing, by_whom=by_whom)


def job(visit: Visit) -> Response:
    return _show(visit, Form())


def part(visit: Visit) -> Response:
    """What the page asks for every two seconds, until the job is done."""
    fleet, number = fleet_of(visit), _number(visit)
    found = fleet.job(number)
    return visit.render_part("fleet/job_parts.html", "progress", found, *_state(visit, fleet, found))


def pause(visit: Visit) -> Response:
    return _move(visit, lambda fleet, number: fleet.job_pause(number), "It pauses after the machines in hand.")


def cancel(visit: Visit) -> Response:
    return _move(visit, lambda fleet, number: fleet.job_cancel(number), "Machines that waited are skipped.")


def resume(visit: Visit) -> Response:
    def go_on(fleet: Fleet, number: int) -> None:
        fleet.job(number)
        runner_of(visit).go_on(fleet, number)

    return _move(visit, go_on, "It goes on.")


def retry(visit: Visit) -> Response:
    def again(fleet: Fleet, number: int) -> None:
        fleet.job_retry(number, uncertain=bool(visit.form.get("uncertain")), wait=False)
        runner_of(visit).go_on(fleet, number)

    return _move(visit, again, "What failed is tried again.")


def _move(visit: Visit, act: Callable[[Fleet, int], object], done: str) -> Response:
    number = _number(visit)
    try:
        act(fleet_of(visit), number)
    except VolactError as exc:
        form = Form()
        form.fail(exc)
        return _show(visit, form)
    return visit.redirect(f"/fleet/jobs/{number}", done)


def _show(visit: Visit, form: Form) -> Response:
    fleet = fleet_of(visit)
    found = fleet.job(_number(visit))
    shown = {"job": found, "form": form, "live": _state(visit, fleet, found), "by_whom": by_whom}
    return visit.render("fleet/job.html", 200 if form.valid else 422, **shown)


def _state(visit: Visit, fleet: Fleet, found: Job) -> tuple[object, ...]:
    """Whether to ask again, what keeps it, the tasks in trouble, and those that ended last."""
    runner = runner_of(visit)
    worked_on = runner.is_running(found.id) or _elsewhere(fleet, found, visit.now)
    asks = worked_on or (
        found.state in (JobState.QUEUED, JobState.RUNNING) and any(found.counts.get(state) for state in OPEN)
    )
    troubled = fleet.job_tasks(found.id, states=[str(state) for state in TROUBLED], limit=MOST_TASKS)
    states = [str(state) for state in TaskState if state not in TROUBLED]
    others = fleet.job_tasks(found.id, states=states, limit=MOST_TASKS)
    return asks, runner.problem(found.id), troubled, others, worked_on


def _elsewhere(fleet: Fleet, found: Job, now: int) -> bool:
    """Whether a schedule, a command line or another computer works on it: then nobody need go on with it."""
    with fleet.store.read() as conn:
        return any(not is_dead(one) for one in job_rows.at_work(conn, found.id, now))


def _number(visit: Visit) -> int:
    text = visit.part("number")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise JobMissingError(job=text[:20])
    return int(text)
