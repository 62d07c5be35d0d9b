# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's jobs, made and worked through by the console: one thread a job, beside the pages.

A job is in the database before its thread begins, so that one that the console left behind is resumed by its page, or
by ``volact fleet jobs run``.
"""

import asyncio
import logging
import threading
from collections.abc import Callable

from volact.core.errors import VolactError
from volact.fleet.api import Fleet
from volact.fleet.jobs.records import Job

STOP_SECONDS = 5.0

_log = logging.getLogger("volact.console")


class JobRunner:
    def __init__(self) -> None:
        self._threads: dict[int | str, threading.Thread] = {}
        self._problems: dict[int, VolactError] = {}
        self._lock = threading.Lock()

    def start(self, fleet: Fleet, make: Callable[[Fleet], Job]) -> Job:
        """Makes a job and begins with it; raises the fleet tool's named errors, before anything is done."""
        job = make(fleet)
        self.go_on(fleet, job.id)
        return job

    def go_on(self, fleet: Fleet, job: int) -> None:
        """Works through what of a job waits; a job that this console works through already is left to it."""
        with self._lock:
            running = self._threads.get(job)
            if running is not None and running.is_alive():
                return
            self._problems.pop(job, None)
            thread = threading.Thread(target=self._run, args=(fleet, job), name=f"job-{job}", daemon=True)
            self._threads[job] = thread
            thread.start()

    def run_schedule(self, fleet: Fleet, name: str) -> None:
        """Runs a schedule now; how it went is written beside it."""
        with self._lock:
            running = self._threads.get(name)
            if running is not None and running.is_alive():
                return
            thread = threading.Thread(target=self._schedule, args=(fleet, name), name=f"schedule-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()

    def is_running(self, job: int | str) -> bool:
        with self._lock:
            thread = self._threads.get(job)
            return thread is not None and thread.is_alive()

    def problem(self, job: int) -> VolactError | None:
        """What kept this console from working through a job: a vault that is closed, SSH settings that are wrong."""
        return self._problems.get(job)

    def stop(self) -> None:
        """Jobs that are under way are left; their tasks are leased for seconds and taken over by whoever goes on."""
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(STOP_SECONDS if thread.is_alive() else 0)

    def _schedule(self, fleet: Fleet, name: str) -> None:
        try:
            asyncio.run(fleet.schedule_run(name))
        except VolactError as exc:
            _log.warning("schedule %s: %s", name, exc)
        except Exception:
            _log.exception("schedule %s ended by a fault", name)

    def _run(self, fleet: Fleet, job: int) -> None:
        try:
            fleet.run_job(job)
        except VolactError as exc:
            self._problems[job] = exc
        except Exception:
            _log.exception("job %d ended by a fault", job)
