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
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volact.core.errors import ConfigError, InputError, TransportError, VolactError
from volact.fleet.activation.acting import NoAnswerError
from volact.fleet.desk import CHANGING
from volact.fleet.figures import samples
from volact.fleet.figures.forecast import DAY
from volact.fleet.inventory.selection import Selection
from volact.fleet.jobs import store as job_rows
from volact.fleet.jobs.engine import is_dead, worker_name
from volact.fleet.jobs.records import Job, JobState
from volact.fleet.reports import changing
from volact.fleet.reports.asked import DEFAULT_DAYS
from volact.fleet.reports.catalogue import REPORTS, find_report
from volact.fleet.reports.render import FORMATS, find_format
from volact.fleet.schedules import mail, runners, schedule
from volact.fleet.schedules.runners import Program
from volact.fleet.schedules.schedule import Schedule
from volact.sealing import keys

if TYPE_CHECKING:
    from volact.fleet.api import Fleet

REPORT, KEYS_REFRESH = "report", "keys-refresh"
JOB_KINDS = ("refresh", "activate", "install-key", "proxy-collect", "proxy-apply", "backup")
KINDS = (REPORT, KEYS_REFRESH, *JOB_KINDS)
DEFAULT_FORMATS = ("html", "pdf")
LOOK_SECONDS = 15.0  # how late a run may be that another process's change made due
BEAT_SECONDS = 30.0
KEPT_SAMPLES = 3 * 365 * DAY
TEXT, NUMBER, TEXTS, VALUES = "a text", "a number", "a list of texts", "names with values that are texts or flags"
FLAG = "true or false"
TAKES = {
    "filter": TEXT, "mail_to": TEXTS, "formats": TEXTS, "folder": TEXT, "report": TEXT, "days": NUMBER,
    "since_days": NUMBER, "arguments": VALUES, "all": FLAG,
}  # fmt: skip

_log = logging.getLogger("volact.fleet")


class ScheduleKindError(InputError):
    code = "schedule-kind-unknown"
    fmt = "nothing of the kind {kind} can be scheduled"
    remedy = "choose one of: {known}"


class ScheduleArgumentError(InputError):
    code = "schedule-argument-unfit"
    fmt = "{name} is not {expected}"
    remedy = "see `volact fleet schedule add --help`; nothing was changed"


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


def check(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as they are stored; raises :class:`ScheduleKindError`, :class:`ScheduleArgumentError`, and
    :class:`~volact.fleet.inventory.selection.WholeFleetError` for an act on every machine that does not say so."""
    if kind not in KINDS:
        raise ScheduleKindError(kind=repr(kind[:60]), known=", ".join(KINDS))
    given = {name: value for name, value in arguments.items() if value not in (None, "", [], (), {}, False)}
    for name, value in given.items():
        if name not in TAKES:
            raise ScheduleArgumentError(name=name[:60], expected="an argument of a schedule")
        if not _is(TAKES[name], value):
            raise ScheduleArgumentError(name=name, expected=TAKES[name])
    if kind == REPORT:
        _check_report(given)
    elif given.keys() & {"mail_to", "folder", "formats", "report", "days", "since_days"}:
        raise ScheduleArgumentError(name=f"a report's argument with {kind}", expected="possible: schedule a report")
    if "all" in given and kind not in JOB_KINDS:
        raise ScheduleArgumentError(name="all", expected=f"possible with {kind}")
    if kind in CHANGING:
        Selection(filter=given.get("filter", ""), all="all" in given).check()
    return given


@dataclass
class Automation:
    """One process's part.  ``worker`` names it in the tables, ``program`` says which it is to people."""

    fleet: "Fleet"
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


def take_daily_samples(fleet: "Fleet") -> int:
    """The day's figures, and an end to those of three years ago."""
    now = fleet.clock()
    with fleet.store.write() as conn:
        samples.forget_samples(conn, now - KEPT_SAMPLES)
        return samples.take_samples(conn, now)


def _is(kind: str, value: Any) -> bool:
    """What comes over HTTP can be anything that JSON says."""
    if kind == TEXT:
        return isinstance(value, str)
    if kind == NUMBER:
        return type(value) is int
    if kind == FLAG:
        return type(value) is bool
    if kind == TEXTS:
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return isinstance(value, Mapping) and all(isinstance(one, str | bool | None) for one in value.values())


def _check_report(given: Mapping[str, Any]) -> None:
    if "report" not in given:
        raise ScheduleArgumentError(name="report", expected="one of " + ", ".join(REPORTS))
    takes = find_report(str(given["report"])).takes
    for name in given.get("formats", ()):
        find_format(name)
    if "mail_to" in given:
        mail.check_recipients(given["mail_to"])
    for name, fits, expected in (
        ("mail-to or folder", bool(given.keys() & {"mail_to", "folder"}), "given: a report goes somewhere"),
        ("folder", Path(given.get("folder", "/")).is_absolute(), "an absolute path"),
        ("filter", "machines" in takes or "filter" not in given, "heeded by this report"),
        ("arguments", "arguments" not in given, "an argument of a report"),
        ("formats", set(given.get("formats", ())) <= set(FORMATS), "known"),
    ):
        if not fits:
            raise ScheduleArgumentError(name=name, expected=expected)
    for name in ("days", "since_days"):
        if not 0 < int(given.get(name, 1)) <= 3650:
            raise ScheduleArgumentError(name=name.replace("_", "-"), expected="from 1 to 3650")


def _keep(path: Path, data: bytes) -> None:
    try:
        keys.write_file(path, data, 0o640)
    except OSError as exc:
        raise ReportFolderError(path=str(path.parent), why=exc.strerror or str(exc)) from None


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
