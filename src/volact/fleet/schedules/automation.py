# SPDX-License-Identifier: Apache-2.0
"""What schedules do, and the loop that does it: reports by mail or into a folder, jobs, refreshing keys, daily figures.

    volact fleet schedule run-due      once, from cron or a systemd timer
    volact fleet serve                 as long as it runs, beside the REST interface
    volact console serve               as long as it runs, beside the pages

All may run at once, and on several computers with one PostgreSQL: a run is one process's at a time (``schedule``); who
is there to run them stands in ``runners``.  A run that its process did not survive is taken up again: its job is found
by the run's name, its mail has the same Message-ID.  Jobs that were queued, or whose tool died, are worked on by
``volact fleet serve`` too.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from volact.core.errors import ConfigError, TransportError, VolactError
from volact.fleet.activation.proxy import NoAnswerError
from volact.fleet.figures.forecast import DAY
from volact.fleet.folder import FleetFolder
from volact.fleet.jobs import store as job_rows
from volact.fleet.jobs.engine import is_dead, worker_name
from volact.fleet.jobs.records import Job, JobState
from volact.fleet.keys.keys import Asked
from volact.fleet.reports import changing
from volact.fleet.reports.asked import DEFAULT_DAYS
from volact.fleet.reports.render import find_format
from volact.fleet.reports.report import Report
from volact.fleet.schedules import mail, runners, schedule
from volact.fleet.schedules.kinds import KEYS_REFRESH, REPORT
from volact.fleet.schedules.runners import Program
from volact.fleet.schedules.schedule import Schedule
from volact.fleet.store import FleetStore
from volact.sealing import keys

DEFAULT_FORMATS = ("html", "pdf")
LOOK_SECONDS = 15.0  # how late a run may be that another process's change made due
BEAT_SECONDS = 30.0

_log = logging.getLogger("volact.fleet")


class ScheduledJobError(TransportError):
    """A job ended, and not well; which machines, it says itself."""

    code = "scheduled-job-failed"
    fmt = "job {job} failed on {failed} of {total} machines"
    remedy = "`volact fleet jobs show {job}` tells where and why; `volact fleet jobs retry {job}` tries those again"


class ReportFolderError(ConfigError):
    code = "report-folder-unwritable"
    fmt = "cannot write reports to {path}: {why}"
    remedy = "make the folder, writable for the account that runs the fleet tool"


class ScheduleFaultError(ConfigError):
    code = "schedule-fault"
    fmt = "the run of {name} ended by a fault"
    remedy = "the log of the process that ran it says more; `volact fleet schedule add --help` tells what it takes"


class KeysRefreshError(TransportError):
    code = "keys-refresh-failed"
    fmt = "the publisher told nothing of {failed} of {total} keys: {first}"
    remedy = "`volact fleet keys refresh` tells of each; the others have their new figures"


class Verbs(Protocol):
    """What schedules are carried out by: :class:`volact.fleet.api.Fleet`, as far as the loop calls it."""

    @property
    def folder(self) -> FleetFolder: ...

    @property
    def store(self) -> FleetStore: ...

    @property
    def clock(self) -> Callable[[], int]: ...

    @property
    def mail_tls(self) -> ssl.SSLContext | None: ...

    @property
    def poll_seconds(self) -> float: ...

    def report(self, name: str, *, filter: str, days: int, since: int) -> Report: ...

    def keys_refresh(self, *, who: str | None) -> Sequence[Asked]: ...

    def take_samples(self) -> int: ...

    def make_job(self, kind: str, arguments: Mapping[str, Any], *, filter: str, all: bool, who: str | None) -> int: ...

    async def run_job_async(self, job: int) -> Job: ...


@dataclass
class Automation:
    """One process's part.  ``worker`` names it in the tables, ``program`` says which it is to people."""

    fleet: Verbs
    worker: str = ""
    program: Program = Program.RUN_DUE

    def __post_init__(self) -> None:
        self.worker = self.worker or worker_name()

    async def run_due(self, name: str | None = None) -> list[tuple[Schedule, VolactError | None]]:
        """Everything that is due now (or the one that is named), one after the other; how each went."""
        done = []
        if name is None:
            await asyncio.to_thread(self._sign)
        while taken := await self._take(name):
            error = await self._run(taken)
            done.append((taken, error))
            if name is not None:
                break
        await asyncio.to_thread(self.fleet.take_samples)
        return done

    async def serve(self, stop: asyncio.Event) -> None:
        """Until ``stop``: schedules when they are due, and jobs that wait or were left behind."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.serve_schedules(stop))
            group.create_task(self._jobs(stop))

    async def serve_schedules(self, stop: asyncio.Event) -> None:
        """Until ``stop``, or until it is cancelled: then a run that is under way is another's to take up."""
        signs = asyncio.create_task(self._signs())
        try:
            while not stop.is_set():
                try:
                    await self.run_due()
                except VolactError as exc:  # the database is away: it comes back
                    _log.warning("schedules: %s", exc)
                await _wait(stop, LOOK_SECONDS)
        finally:
            signs.cancel()
            with suppress(asyncio.CancelledError):
                await signs
            with suppress(VolactError):
                self._leave()

    async def _jobs(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                for job in await asyncio.to_thread(self._waiting_jobs):
                    await self._stoppable(self.fleet.run_job_async(job.id), stop)
            except VolactError as exc:
                _log.warning("jobs: %s", exc)
            except Exception:  # one job's, which is taken up again when its lease has ended
                _log.exception("jobs")
            await _wait(stop, self.fleet.poll_seconds)

    async def _stoppable(self, work: Awaitable[Any], stop: asyncio.Event) -> None:
        """A job is stopped with the process, as by Ctrl-C: what it had in hand is taken up later."""
        running, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not running.done():
            running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    def _waiting_jobs(self) -> list[Job]:
        """Queued ones whose time has come, and running ones whose workers are all gone; the oldest first."""
        now = self.fleet.clock()
        with self.fleet.store.read() as conn:
            found = job_rows.jobs(conn, 500, (JobState.QUEUED, JobState.RUNNING))
            return sorted(
                (
                    job
                    for job in found
                    if (job.not_before or 0) <= now and self._is_free(job_rows.workers(conn, job.id), job)
                ),
                key=lambda job: job.id,
            )

    def _is_free(self, workers: set[str], job: Job) -> bool:
        return job.state == JobState.QUEUED or all(is_dead(one) for one in workers)

    async def _take(self, name: str | None) -> Schedule | None:
        def take() -> Schedule | None:
            with self.fleet.store.write() as conn:
                return schedule.take(conn, self.worker, self.fleet.clock(), is_dead, name)

        return await asyncio.to_thread(take)

    async def _run(self, taken: Schedule) -> VolactError | None:
        """One run to its end, with signs of life; whatever happens is its result."""
        beat = asyncio.create_task(self._beat(taken))
        error: VolactError | None = None
        try:
            await self._do(taken)
        except VolactError as exc:
            error = exc
        except Exception:  # its result, and not the end of everything else that is scheduled
            _log.exception("schedule %s", taken.name)
            error = ScheduleFaultError(name=taken.name)
        finally:
            beat.cancel()
            with suppress(asyncio.CancelledError):
                await beat
        await asyncio.to_thread(self._finish, taken, error)
        return error

    async def _do(self, taken: Schedule) -> None:
        if taken.kind == REPORT:
            await self._report(taken)
        elif taken.kind == KEYS_REFRESH:
            await asyncio.to_thread(self._refresh_keys, taken)
        else:
            await self._job(taken)

    async def _report(self, taken: Schedule) -> None:
        arguments, fleet, now = taken.arguments, self.fleet, self.fleet.clock()
        since = now - int(arguments.get("since_days", changing.DEFAULT_DAYS)) * DAY
        name = str(arguments["report"])
        make = partial(
            fleet.report,
            name,
            filter=str(arguments.get("filter", "")),
            days=int(arguments.get("days", DEFAULT_DAYS)),
            since=since if "since_days" in arguments or name == "changes" else 0,
        )
        report = await asyncio.to_thread(make)
        formats = tuple(arguments.get("formats", DEFAULT_FORMATS))
        if folder := arguments.get("folder"):
            for one in formats:
                data = await asyncio.to_thread(find_format(one).render, report)
                await asyncio.to_thread(_keep, Path(folder) / report.file_name(find_format(one).ending), data)
        if to := arguments.get("mail_to"):
            settings = mail.MailSettings.load(fleet.folder.path)
            id_ = f"{taken.name}.{taken.next_at}.{taken.made_at}@{settings.sender.rpartition('@')[2]}"
            message = await asyncio.to_thread(mail.compose, report, formats, settings.sender, to, id_)
            await mail.send(settings, message, fleet.mail_tls)

    def _refresh_keys(self, taken: Schedule) -> None:
        asked = self.fleet.keys_refresh(who=taken.run)
        failed = [one.error for one in asked if one.error is not None]
        if failed:
            raise KeysRefreshError(failed=len(failed), total=len(asked), first=str(failed[0]))

    async def _job(self, taken: Schedule) -> None:
        try:
            job = await asyncio.to_thread(self._job_of, taken)
        except NoAnswerError:  # nothing was imported since: a run with nothing to do went well
            return
        ended = await self.fleet.run_job_async(job)
        if not ended.well:
            failed = ended.counts.get("failed", 0) + ended.counts.get("uncertain", 0)
            raise ScheduledJobError(job=ended.id, failed=failed, total=ended.total)

    def _job_of(self, taken: Schedule) -> int:
        """The run's job: the one it made before its process died, or a new one."""
        with self.fleet.store.read() as conn:
            known = next((job for job in job_rows.jobs(conn, 1000) if job.made_by == taken.run), None)
        if known is not None:
            return known.id
        arguments, filter_ = taken.arguments.get("arguments", {}), str(taken.arguments.get("filter", ""))
        # What it is for was said, and checked, when it was added.
        return self.fleet.make_job(taken.kind, arguments, filter=filter_, all=not filter_.strip(), who=taken.run)

    async def _beat(self, taken: Schedule) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with suppress(VolactError):
                await asyncio.to_thread(self._hold, taken)

    def _hold(self, taken: Schedule) -> None:
        with self.fleet.store.write() as conn:
            schedule.beat(conn, taken, self.worker, self.fleet.clock())

    async def _signs(self) -> None:
        """Also while a run takes hours."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with suppress(VolactError):
                await asyncio.to_thread(self._sign)

    def _sign(self) -> None:
        with self.fleet.store.write() as conn:
            runners.sign(conn, self.program, self.fleet.clock())

    def _leave(self) -> None:
        with self.fleet.store.write() as conn:
            runners.leave(conn, self.program)

    def _finish(self, taken: Schedule, error: VolactError | None) -> None:
        with self.fleet.store.write() as conn:
            schedule.finish(conn, taken, self.worker, self.fleet.clock(), error)


def _keep(path: Path, data: bytes) -> None:
    try:
        keys.write_file(path, data, 0o640)
    except OSError as exc:
        raise ReportFolderError(path=str(path.parent), why=exc.strerror or str(exc)) from None


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
