# SPDX-License-Identifier: Apache-2.0
"""Jobs and tasks in the database: made, taken by a worker, written on, ended.  Every function is part of a transaction.

A task that runs belongs to the worker that took it, until its lease ends; what a worker writes is written only while
the task is its own, so that one that was thought dead and is not cannot overwrite its successor's word.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from volact.fleet.jobs.records import (
    OPEN,
    TROUBLED,
    Job,
    JobEmptyError,
    JobEndedError,
    JobMissingError,
    JobState,
    JobStateError,
    Task,
    TaskState,
)
from volact.fleet.reach import Target
from volact.fleet.schema import JOBS, MACHINES, TASKS
from volact.fleet.store import note

BATCH = 500  # values of one statement, below every database's limit on parameters
MOST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that a worker took.  ``orphaned``: it was running, and its worker is gone."""

    id: int
    machine_id: int
    target: Target
    attempt: int
    step: str | None
    intent: dict[str, Any] | None
    orphaned: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a task ended."""

    state: TaskState
    result: Mapping[str, Any]
    error: str | None = None
    error_text: str | None = None
    contacted: bool = False


def make(
    conn: Connection,
    kind: str,
    arguments: Mapping[str, Any],
    machines: Collection[int],
    selection: Mapping[str, Any],
    now: int,
    who: str,
    *,
    parallel: int,
    timeout: int,
    dry_run: bool = False,
    not_before: int | None = None,
) -> int:
    """A job with a task for each machine, queued; raises :class:`JobEmptyError`."""
    if not machines:
        raise JobEmptyError()
    values = {
        "kind": kind,
        "arguments": json.dumps(arguments, ensure_ascii=False),
        "selection": json.dumps(selection, ensure_ascii=False),
        "state": JobState.QUEUED,
        "dry_run": int(dry_run),
        "parallel": parallel,
        "timeout": timeout,
        "made_at": now,
        "made_by": who,
        "not_before": not_before,
    }
    made = conn.execute(insert(JOBS).values(values)).inserted_primary_key
    assert made is not None, "a row has a key"
    job = int(made[0])
    rows = [{"job_id": job, "machine_id": machine, "state": TaskState.QUEUED, "attempt": 0} for machine in machines]
    conn.execute(insert(TASKS), rows)
    if not dry_run:
        note(conn, now, who, kind, f"job {job}", {**arguments, "machines": len(machines), "selection": selection})
    return job


def job(conn: Connection, id_: int) -> Job:
    row = conn.execute(select(JOBS).where(JOBS.c.id == id_)).first()
    if row is None:
        raise JobMissingError(job=id_)
    return Job.of_row(row, counts(conn, [id_]).get(id_, {}))


def state(conn: Connection, id_: int) -> str:
    found: str | None = conn.execute(select(JOBS.c.state).where(JOBS.c.id == id_)).scalar()
    if found is None:
        raise JobMissingError(job=id_)
    return found


def jobs(conn: Connection, limit: int = 50, states: Sequence[str] = ()) -> list[Job]:
    """The newest first."""
    query = select(JOBS).order_by(JOBS.c.id.desc()).limit(limit)
    rows = conn.execute(query.where(JOBS.c.state.in_(states)) if states else query).all()
    numbers = counts(conn, [row.id for row in rows])
    return [Job.of_row(row, numbers.get(row.id, {})) for row in rows]


def counts(conn: Connection, ids: Iterable[int]) -> dict[int, dict[str, int]]:
    """How many tasks of each job are in which state."""
    found: dict[int, dict[str, int]] = {}
    query = (
        select(TASKS.c.job_id, TASKS.c.state, func.count())
        .where(TASKS.c.job_id.in_(list(ids)))
        .group_by(TASKS.c.job_id, TASKS.c.state)
    )
    for id_, state, number in conn.execute(query):
        found.setdefault(id_, {})[state] = number
    return found


def tasks(conn: Connection, id_: int, states: Sequence[str] = (), limit: int = 100, offset: int = 0) -> list[Task]:
    query = (
        select(TASKS, MACHINES.c.name)
        .join(MACHINES, MACHINES.c.id == TASKS.c.machine_id)
        .where(TASKS.c.job_id == id_)
        .order_by(TASKS.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [Task.of_row(row) for row in conn.execute(query.where(TASKS.c.state.in_(states)) if states else query)]


def move(conn: Connection, id_: int, wanted: JobState, allowed: Collection[JobState], now: int) -> None:
    """A job to another state; raises :class:`JobStateError` from one that does not allow it, :class:`JobEndedError`
    from one that is over."""
    found = state(conn, id_)
    if found == wanted:
        return
    if found not in allowed:
        ended = found in (JobState.DONE, JobState.CANCELLED)
        raise (JobEndedError if ended else JobStateError)(job=id_, state=found, wanted=_WORDS.get(wanted, wanted))
    values: dict[str, Any] = {"state": wanted}
    if wanted == JobState.RUNNING:
        values |= {"started_at": func.coalesce(JOBS.c.started_at, now), "ended_at": None}
    if wanted in (JobState.DONE, JobState.CANCELLED):
        values["ended_at"] = now
    conn.execute(update(JOBS).where(JOBS.c.id == id_).values(values))


def retry(conn: Connection, id_: int, now: int, who: str, *, uncertain: bool = False, error: str | None = None) -> int:
    """Puts the failed (and the uncertain) tasks back into the queue, with what they had intended; how many.
    ``error``: only those that failed with this code."""
    found = job(conn, id_)
    if found.state == JobState.CANCELLED:
        raise JobEndedError(job=id_, state=found.state, wanted="retried")
    states = TROUBLED if uncertain else (TaskState.FAILED,)
    again = update(TASKS).where(TASKS.c.job_id == id_, TASKS.c.state.in_(states))
    again = again if error is None else again.where(TASKS.c.error == error)
    number = conn.execute(again.values(state=TaskState.QUEUED, error=None, error_text=None, ended_at=None)).rowcount
    if number:
        if found.state == JobState.DONE:
            conn.execute(update(JOBS).where(JOBS.c.id == id_).values(state=JobState.QUEUED, ended_at=None))
        note(conn, now, who, "job-retry", f"job {id_}", {"tasks": number})
    return number


def cancel_queued(conn: Connection, id_: int) -> int:
    """What has not begun never will."""
    query = update(TASKS).where(TASKS.c.job_id == id_, TASKS.c.state == TaskState.QUEUED)
    return conn.execute(query.values(state=TaskState.SKIPPED, error="cancelled")).rowcount


def take(
    conn: Connection, id_: int, worker: str, dead: Collection[str], most: int, now: int, until: int
) -> list[Taken]:
    """Up to ``most`` tasks that wait, or whose worker is dead or has not been heard of; they are this worker's now."""
    lost = and_(TASKS.c.state == TaskState.RUNNING, or_(TASKS.c.leased_until < now, TASKS.c.worker.in_(list(dead))))
    query = (
        select(TASKS.c.id, TASKS.c.state)
        .where(TASKS.c.job_id == id_, or_(TASKS.c.state == TaskState.QUEUED, lost))
        .order_by(TASKS.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    found = {row.id: row.state == TaskState.RUNNING for row in conn.execute(query)}
    if not found:
        return []
    conn.execute(
        update(TASKS)
        .where(TASKS.c.id.in_(found))
        .values(
            state=TaskState.RUNNING,
            worker=worker,
            leased_until=until,
            attempt=TASKS.c.attempt + 1,
            started_at=now,
            ended_at=None,
        )
    )
    return _taken(conn, found)


def workers(conn: Connection, id_: int) -> set[str]:
    """Who works on a job, or did when it died."""
    query = select(TASKS.c.worker).where(TASKS.c.job_id == id_, TASKS.c.state == TaskState.RUNNING).distinct()
    return {worker for worker in conn.execute(query).scalars() if worker}


def at_work(conn: Connection, id_: int, now: int) -> set[str]:
    """Who has given signs of life of working on a job."""
    alive = (TASKS.c.state == TaskState.RUNNING) & (TASKS.c.leased_until > now)
    query = select(TASKS.c.worker).where(TASKS.c.job_id == id_, alive).distinct()
    return {worker for worker in conn.execute(query).scalars() if worker}


def extend(conn: Connection, id_: int, worker: str, until: int) -> None:
    """A sign of life."""
    query = update(TASKS).where(TASKS.c.job_id == id_, TASKS.c.state == TaskState.RUNNING, TASKS.c.worker == worker)
    conn.execute(query.values(leased_until=until))


def intend(conn: Connection, task: int, worker: str, step: str, intent: str) -> bool:
    """Whether the task is still this worker's."""
    return conn.execute(_own(task, worker).values(step=step, intent=intent)).rowcount == 1


def end(conn: Connection, kind: str, taken: Taken, worker: str, ended: Ended, now: int) -> bool:
    """Writes how a task ended, on its machine's row too; ``False`` where it is another's by now."""
    values = {
        "state": ended.state,
        "result": json.dumps(dict(ended.result), ensure_ascii=False),
        "error": ended.error,
        "error_text": ended.error_text and ended.error_text[:MOST_TEXT],
        "ended_at": now,
        "leased_until": None,
    }
    if conn.execute(_own(taken.id, worker).values(values)).rowcount != 1:
        return False
    if ended.state != TaskState.SKIPPED:
        mine = update(MACHINES).where(MACHINES.c.id == taken.machine_id)
        conn.execute(mine.values(_on_machine(kind, ended, now)))
    return True


def give_back(conn: Connection, worker: str, now: int) -> None:
    """What a worker had in hand when it was stopped waits again, with what it intended."""
    query = update(TASKS).where(TASKS.c.worker == worker, TASKS.c.state == TaskState.RUNNING)
    conn.execute(query.where(TASKS.c.intent.is_(None)).values(state=TaskState.QUEUED, leased_until=None))
    conn.execute(query.values(leased_until=now - 1))


def finish(conn: Connection, id_: int, now: int) -> None:
    """A running job without open tasks is done."""
    left = select(TASKS.c.id).where(TASKS.c.job_id == id_, TASKS.c.state.in_(OPEN)).limit(1)
    if conn.execute(left).first() is None:
        query = update(JOBS).where(JOBS.c.id == id_, JOBS.c.state.in_((JobState.RUNNING, JobState.QUEUED)))
        conn.execute(query.values(state=JobState.DONE, ended_at=now))


def _own(task: int, worker: str) -> Any:
    return update(TASKS).where(TASKS.c.id == task, TASKS.c.worker == worker, TASKS.c.state == TaskState.RUNNING)


def _on_machine(kind: str, ended: Ended, now: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "last_action": kind,
        "last_action_at": now,
        "last_result": ended.error or "ok",
        "last_error": ended.error_text and ended.error_text[:MOST_TEXT],
    }
    if ended.contacted:
        return values | {"contacted_at": now, "reach_state": "reached"}
    return values | {"reach_state": "failed"}


def _taken(conn: Connection, found: Mapping[int, bool]) -> list[Taken]:
    query = (
        select(TASKS, MACHINES.c.name, MACHINES.c.address, MACHINES.c.port, MACHINES.c.account)
        .join(MACHINES, MACHINES.c.id == TASKS.c.machine_id)
        .where(TASKS.c.id.in_(found))
        .order_by(TASKS.c.id)
    )
    return [
        Taken(
            row.id,
            row.machine_id,
            Target(row.name, row.address, row.port, row.account),
            row.attempt,
            row.step,
            json.loads(row.intent) if row.intent else None,
            found[row.id],
        )
        for row in conn.execute(query)
    ]


_WORDS = {JobState.RUNNING: "resumed", JobState.QUEUED: "resumed"}  # as people say it
