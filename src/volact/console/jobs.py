# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's jobs, made and worked through by the console: one thread a job, beside the pages.

A job is in the database before its thread begins, so that one that the console left behind is resumed by its page, or
by ``volact fleet jobs resume``.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Any

from volact.console.site import ConsoleSite, FleetRole
from volact.core.errors import VolactError
from volact.fleet.desk import Desk, Selection
from volact.fleet.jobs.records import Job
from volact.fleet.vault import Vault, kept_passphrase, open_vault

STOP_SECONDS = 5.0

_log = logging.getLogger("volact.console")


class JobRunner:
    def __init__(self, site: ConsoleSite) -> None:
        self._site = site
        self._threads: dict[int, threading.Thread] = {}
        self._problems: dict[int, VolactError] = {}
        self._lock = threading.Lock()

    def desk(self, fleet: FleetRole, who: str) -> Desk:
        return Desk(fleet.folder, fleet.store, self._site.clock, who, vault=lambda: _vault(fleet))

    def start(
        self,
        fleet: FleetRole,
        who: str,
        kind: str,
        selection: Selection,
        arguments: Mapping[str, Any] | None = None,
        *,
        dry_run: bool = False,
    ) -> Job:
        """Makes a job and begins with it; raises the fleet tool's named errors, before anything is done."""
        desk = self.desk(fleet, who)
        job = desk.make(kind, selection, arguments, dry_run=dry_run)
        self.go_on(fleet, who, job.id)
        return job

    def go_on(self, fleet: FleetRole, who: str, job: int) -> None:
        """Works through what of a job waits; a job that this console works through already is left to it."""
        desk = self.desk(fleet, who)
        with self._lock:
            running = self._threads.get(job)
            if running is not None and running.is_alive():
                return
            self._problems.pop(job, None)
            thread = threading.Thread(target=self._run, args=(desk, job), name=f"job-{job}", daemon=True)
            self._threads[job] = thread
            thread.start()

    def is_running(self, job: int) -> bool:
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

    def _run(self, desk: Desk, job: int) -> None:
        try:
            desk.run(job)
        except VolactError as exc:
            self._problems[job] = exc
        except Exception:
            _log.exception("job %d ended by a fault", job)


def _vault(fleet: FleetRole) -> Vault:
    """Opened by the passphrase that the fleet folder keeps for services."""
    with fleet.store.read() as conn:
        return open_vault(conn, kept_passphrase(fleet.folder) or b"")
