# SPDX-License-Identifier: Apache-2.0
"""Where jobs are made and worked through: what the command line, the Python API and REST do it by.

It joins store, reach, acts and engine for one caller.  A job that was made is in the database before anything is done,
and any desk on the same database can go on with it.  What the acts are is in ``acts_of``.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from volact.core.errors import ConfigError
from volact.fleet.activation import confirmations, counting
from volact.fleet.activation.acting import Activate, InstallKeys
from volact.fleet.activation.activate import ACTIVATE
from volact.fleet.activation.backups import KEEP, RESTORE, Keep, Restore
from volact.fleet.activation.install import INSTALL
from volact.fleet.activation.proxy import APPLY, COLLECT, Apply, Collect, NoAnswerError
from volact.fleet.acts import refresh
from volact.fleet.acts.bootstrap import BOOTSTRAP, Bootstrap
from volact.fleet.acts.context import Context
from volact.fleet.folder import FleetFolder
from volact.fleet.inventory import inventory
from volact.fleet.inventory.selection import Selection
from volact.fleet.jobs import store as rows
from volact.fleet.jobs.acts import Act
from volact.fleet.jobs.engine import Engine, Progress
from volact.fleet.jobs.records import Job, JobActMissingError, JobState
from volact.fleet.keys.vault import Vault
from volact.fleet.reach.ssh import SshReach
from volact.fleet.store import FleetStore, note

REFRESH = "refresh"
MOST_TASKS = 1_000_000
ACTS: dict[str, Callable[[Context], Act]] = {
    REFRESH: lambda context: refresh.RefreshAct(context.reach),
    BOOTSTRAP: lambda context: Bootstrap(context.reach),
    INSTALL: InstallKeys,
    ACTIVATE: Activate,
    COLLECT: Collect,
    APPLY: Apply,
    KEEP: Keep,
    RESTORE: Restore,
}
CHANGING = frozenset({BOOTSTRAP, INSTALL, ACTIVATE, RESTORE})  # for no machine that was not selected


class VaultClosedError(ConfigError):
    """For callers that gave no way to open it."""

    code = "vault-closed"
    fmt = "this job needs the key vault, and nothing was given that opens it"
    remedy = "give the vault's passphrase, with --passphrase-file"


@dataclass(frozen=True, slots=True)
class SshOptions:
    """For this time.  ``changes``: settings of the folder, see :class:`~volact.fleet.folder.Settings`."""

    accept_new: bool = False
    passphrase: str | None = field(default=None, repr=False)
    changes: Mapping[str, Any] = field(default_factory=dict)


def _no_vault() -> Vault:
    raise VaultClosedError()


@dataclass
class Desk:
    """``vault`` opens the key vault where an act needs a key; ``open_reach`` is SSH but in tests."""

    folder: FleetFolder
    store: FleetStore
    clock: Callable[[], int]
    who: str
    ssh: SshOptions = field(default_factory=SshOptions)
    vault: Callable[[], Vault] = _no_vault
    progress: Callable[[Progress], None] = lambda _: None
    open_reach: Callable[[], Any] | None = None  # an async context manager that gives a Reach

    def make(
        self,
        kind: str,
        selection: Selection,
        arguments: Mapping[str, Any] | None = None,
        *,
        dry_run: bool = False,
        not_before: int | None = None,
    ) -> Job:
        """A job for the machines that are selected now, waiting to be worked through.

        Raises :class:`~volact.fleet.inventory.selection.WholeFleetError`; bringing answers is for the machines that
        have one."""
        if kind not in ACTS:
            raise JobActMissingError(kind=kind)
        if kind in CHANGING:
            selection.check()
        settings = self.folder.settings
        limits = {name: self.ssh.changes.get(name) or getattr(settings, name) for name in ("parallel", "timeout")}
        with self.store.write() as conn:
            now = self.clock()
            if kind == APPLY and not selection.narrow:
                selection = _with_answers(conn)
            machines = inventory.select_machines(conn, selection.filter, selection.names, now)
            made = rows.make(
                conn,
                kind,
                arguments or {},
                machines,
                selection.to_json(),
                now,
                self.who,
                dry_run=dry_run,
                not_before=not_before,
                **limits,
            )
            return rows.job(conn, made)

    def run(self, job: int) -> Job:
        """Work through a job: a new one, a paused one, or one whose tool died.  Ctrl-C leaves it to be resumed."""
        return asyncio.run(self.run_async(job))

    async def run_async(self, job: int) -> Job:
        with self.store.read() as conn:
            found = rows.job(conn, job)
        if found.kind not in ACTS:
            raise JobActMissingError(kind=found.kind)
        async with self._reach() as reach:
            context = Context(self.store, reach, self.clock, self.vault)
            try:
                act = ACTS[found.kind](context)
                done = await self._work_through(act, job)
                return await self._work_through(act, job) if self._ask_again(done) else done
            finally:
                context.close()

    async def _work_through(self, act: Act, job: int) -> Job:
        return await Engine(self.store, act, self.clock, progress=self.progress).run(job)

    def _ask_again(self, job: Job) -> bool:
        """Puts machines back into the queue that asked a KMS host too early.  Once: a count only rises."""
        if job.kind != ACTIVATE or job.dry_run or job.state != JobState.DONE:
            return False
        with self.store.write() as conn:
            if not counting.worth_another_round(rows.tasks(conn, job.id, limit=MOST_TASKS)):
                return False
            return rows.retry(conn, job.id, self.clock(), self.who, error=counting.BELOW) > 0

    def retry(self, job: int, *, uncertain: bool = False) -> int:
        """Puts failed tasks into the queue again; how many.  ``run`` then works through them."""
        with self.store.write() as conn:
            return rows.retry(conn, job, self.clock(), self.who, uncertain=uncertain)

    def pause(self, job: int) -> Job:
        """What is in hand is finished; nothing more is begun, here and wherever else it is worked on."""
        return self._move(job, JobState.PAUSED, {JobState.QUEUED, JobState.RUNNING}, "job-pause")

    def cancel(self, job: int) -> Job:
        """For good: tasks that wait are skipped."""
        allowed = {JobState.QUEUED, JobState.RUNNING, JobState.PAUSED}
        return self._move(job, JobState.CANCELLED, allowed, "job-cancel")

    def job(self, job: int) -> Job:
        with self.store.read() as conn:
            return rows.job(conn, job)

    def jobs(self, limit: int = 50, states: Sequence[str] = ()) -> list[Job]:
        with self.store.read() as conn:
            return rows.jobs(conn, limit, states)

    def _move(self, job: int, wanted: JobState, allowed: set[JobState], act: str) -> Job:
        with self.store.write() as conn:
            now = self.clock()
            rows.move(conn, job, wanted, allowed, now)
            if wanted == JobState.CANCELLED:
                rows.cancel_queued(conn, job)
            note(conn, now, self.who, act, f"job {job}")
            return rows.job(conn, job)

    def _reach(self) -> Any:
        if self.open_reach is not None:
            return self.open_reach()
        ssh = self.ssh
        changes = {name: value for name, value in ssh.changes.items() if value is not None}
        return SshReach(self.folder, accept_new=ssh.accept_new, passphrase=ssh.passphrase, **changes)


def _with_answers(conn: Connection) -> Selection:
    """The machines whose answers wait to be brought to them."""
    names = sorted({row.machine for row in confirmations.answered(conn)})
    if not names:
        raise NoAnswerError(machine="any machine")
    return Selection(names)
