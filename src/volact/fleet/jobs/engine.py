# SPDX-License-Identifier: Apache-2.0
"""Works through a job: so many machines at once, each within its time, every step written down before and after.

Several engines may work on one job, on one computer or on several with one PostgreSQL: a task is one worker's at a
time.  One that dies leaves its tasks marked as running; they are taken over at once where it was a process of this
computer that is gone, and when its lease ends where it was not.  Writes of tasks that end together are one commit.

Not here: what a job does (``acts``), what it is called (``records``).
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from volact.core.errors import TransportError, VolactError
from volact.fleet.jobs import store as rows
from volact.fleet.jobs.acts import Act, Outcome, Work
from volact.fleet.jobs.records import Job, JobState, TaskState
from volact.fleet.jobs.store import Ended, Taken
from volact.fleet.reach.errors import MachineTimedOutError, code_of
from volact.fleet.store import FleetStore
from volact.wire.batching import Batcher

LEASE_SECONDS = 60  # a worker that was not heard of for so long is taken for dead
BEAT_SECONDS = 10.0
POLL_SECONDS = 0.5  # how soon a pause is noticed
MOST_BATCH = 200

_log = logging.getLogger("volact.fleet")


@dataclass(frozen=True, slots=True)
class Progress:
    """After each task: how many of the job's have ended, and how this one did."""

    job: int
    finished: int
    total: int
    machine: str
    state: TaskState
    error: str | None


class LeaseLostError(TransportError):
    """Never shown: whoever has the task now goes on with it."""

    code = "task-lease-lost"
    fmt = "task {task} is another worker's by now"
    remedy = "nothing is to be done; look at the clocks of the computers that work on this job"


@dataclass(slots=True)
class _Write:
    change: Callable[[Connection], Any]
    future: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Engine:
    """``run`` one job to its end, its pause, or its cancellation."""

    def __init__(
        self,
        store: FleetStore,
        act: Act,
        clock: Callable[[], int],
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        worker: str | None = None,
    ) -> None:
        self._store, self._act, self._clock, self._progress = store, act, clock, progress
        self.worker = worker or worker_name()
        self._writes: Batcher[_Write] = Batcher(self._write_batch, MOST_BATCH)
        self._active: set[asyncio.Task[None]] = set()
        self._finished = 0

    async def run(self, id_: int) -> Job:
        """The job as it stands afterwards."""
        job = await self._write(lambda conn: _begin(conn, id_, self._clock()))
        self._finished = job.finished
        beat = asyncio.create_task(self._beat(id_))
        try:
            await self._work_through(job)
            await self._write(lambda conn: rows.finish(conn, id_, self._clock()))
        except BaseException:
            await self._stop()
            raise
        finally:
            beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beat
            await self._writes.finish()
        ended: Job = await self._write(lambda conn: rows.job(conn, id_))
        return ended

    async def _work_through(self, job: Job) -> None:
        """Until there is nothing left to take and nothing in hand."""
        while True:
            free = job.parallel - len(self._active)
            taken = await self._take(job.id, free) if free else []
            for one in taken:
                work = asyncio.create_task(self._one(job, one))
                self._active.add(work)
            if not self._active:
                return
            done, self._active = await asyncio.wait(
                self._active, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            for work in done:
                work.result()  # a fault of the database ends the run

    async def _take(self, id_: int, most: int) -> list[Taken]:
        def change(conn: Connection) -> list[Taken]:
            if rows.state(conn, id_) != JobState.RUNNING:
                return []
            now = self._clock()
            dead = {one for one in rows.workers(conn, id_) if one != self.worker and is_dead(one)}
            return rows.take(conn, id_, self.worker, dead, most, now, now + LEASE_SECONDS)

        taken: list[Taken] = await self._write(change)
        return taken

    async def _one(self, job: Job, taken: Taken) -> None:
        """One machine, whatever happens: its task ends, and no other is touched."""
        try:
            outcome = await self._attempt(job, taken)
        except LeaseLostError:
            return
        await self._end(job, taken, _previewed(outcome) if job.dry_run else outcome)

    async def _attempt(self, job: Job, taken: Taken) -> Outcome:
        begun = taken.intent is not None

        async def intend(step: str, intent: str) -> None:
            nonlocal begun
            if not await self._write(lambda conn: rows.intend(conn, taken.id, self.worker, step, intent)):
                raise LeaseLostError(task=taken.id)
            begun = True

        work = Work(job, taken.id, taken.machine_id, taken.target, taken.attempt, taken.step, taken.intent, intend)
        if begun and taken.orphaned and not self._act.resumable:
            return _uncertain("interrupted", "it was begun when the tool ended, and how it went is not known")
        try:
            async with asyncio.timeout(job.timeout):
                return await (self._act.preview(work) if job.dry_run else self._act.run(work))
        except LeaseLostError:
            raise
        except TimeoutError:
            return _failed(MachineTimedOutError(machine=taken.target.name, seconds=job.timeout), begun, self._act)
        except VolactError as exc:
            return _failed(exc, begun, self._act)
        except ExceptionGroup as group:
            return _failed(_first(group), begun, self._act)
        except Exception as exc:
            _log.exception("job %d, %s", job.id, taken.target.name)
            text = f"{type(exc).__name__}: {exc}".partition("\n")[0]
            return Outcome({}, TaskState.FAILED, ("internal-error", text), contacted=False)

    async def _end(self, job: Job, taken: Taken, outcome: Outcome) -> None:
        code, text = outcome.error or (None, None)
        ended = Ended(outcome.state, outcome.result, code, text, outcome.contacted)

        def change(conn: Connection) -> bool:
            now = self._clock()
            if not rows.end(conn, job.kind, taken, self.worker, ended, now):
                return False
            if outcome.changes is not None:
                outcome.changes(conn, now)
            return True

        if await self._write(change):
            self._finished += 1
            self._progress(Progress(job.id, self._finished, job.total, taken.target.name, ended.state, code))

    async def _beat(self, id_: int) -> None:
        """Signs of life, as long as this process lives; a database that is away for a moment costs nothing."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._write(lambda conn: rows.extend(conn, id_, self.worker, self._clock() + LEASE_SECONDS))
            except VolactError as exc:
                _log.warning("cannot give a sign of life: %s", exc)

    async def _stop(self) -> None:
        """Stopped by hand: what had not begun waits again, the rest is taken up at the next start."""
        for work in self._active:
            work.cancel()
        if self._active:
            await asyncio.wait(self._active)
        with contextlib.suppress(VolactError):
            await self._write(lambda conn: rows.give_back(conn, self.worker, self._clock()))

    async def _write(self, change: Callable[[Connection], Any]) -> Any:
        one = _Write(change)
        self._writes.add(one)
        return await one.future

    async def _write_batch(self, batch: list[_Write]) -> None:
        """One commit for all that wait.  Where one of them fails, each gets a transaction of its own."""
        try:
            results = await asyncio.to_thread(self._commit, batch)
        except Exception as exc:
            if len(batch) == 1:
                _settle(batch[0], exc)
                return
            for one in batch:
                await self._write_batch([one])
            return
        for one, result in zip(batch, results, strict=True):
            _settle(one, result)

    def _commit(self, batch: list[_Write]) -> list[Any]:
        with self._store.write() as conn:
            return [one.change(conn) for one in batch]


def worker_name() -> str:
    """This process, so that another of this computer can see that it is gone: its number may be used again, but not
    with the same start."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}:{secrets.token_hex(4)}"


def is_dead(worker: str) -> bool:
    """Whether that was a process of this computer that is gone; of others nothing is known here."""
    host, pid, started = [*worker.split(":"), "", "", ""][:3]
    if host != socket.gethostname() or not pid.isdecimal() or not started:
        return False
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process began, as the kernel counts (proc(5), field 22); nothing where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _begin(conn: Connection, id_: int, now: int) -> Job:
    rows.move(conn, id_, JobState.RUNNING, {JobState.QUEUED, JobState.PAUSED}, now)
    return rows.job(conn, id_)


def _previewed(outcome: Outcome) -> Outcome:
    """A dry run leaves no trace but its own rows."""
    state = TaskState.SKIPPED if outcome.state == TaskState.DONE else outcome.state
    return replace(outcome, state=state, changes=None)


def _uncertain(code: str, text: str) -> Outcome:
    return Outcome({}, TaskState.UNCERTAIN, (code, text), contacted=False)


def _failed(error: VolactError, begun: bool, act: Act) -> Outcome:
    """An error after something was begun is not known to have changed nothing, unless the machine itself said so."""
    contacted = bool(getattr(type(error), "contacted", False))
    code, text = code_of(error), str(error)
    unknown = begun and not act.resumable and isinstance(error, TransportError) and not error.fields.get("remote")
    state = TaskState.UNCERTAIN if unknown else TaskState.FAILED
    return Outcome({"remedy": error.hint}, state, (code, text), contacted=contacted)


def _first(group: ExceptionGroup[Exception]) -> VolactError:
    """The named error of a group of tasks that failed together; anything else in it is a fault of ours."""
    named, rest = group.split(VolactError)
    if rest is not None or named is None:
        raise group
    error: BaseException = named
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, VolactError), "split by that"
    return error


def _settle(one: _Write, result: Any) -> None:
    if one.future.done():
        return
    if isinstance(result, Exception):
        one.future.set_exception(result)
    else:
        one.future.set_result(result)
