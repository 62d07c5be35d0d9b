# SPDX-License-Identifier: Apache-2.0
"""Bulk acts: made, worked through, looked at, paused, tried again."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from volact.fleet.inventory.selection import Selection
from volact.fleet.jobs import store as job_rows
from volact.fleet.jobs.records import Job, JobState, Task
from volact.fleet.store import note
from volact.fleet.verbs.base import Base, Names


class Jobs(Base):
    def make_job(
        self, kind: str, arguments: Mapping[str, Any], *, names: Names = (), filter: str = "", all: bool = False,
        who: str | None = None, dry_run: bool = False, not_before: int | None = None,
    ) -> int:  # fmt: skip
        """A job that waits; its number."""
        desk, chosen = self.desk(who), Selection(tuple(names), filter, all)
        return desk.make(kind, chosen, arguments, dry_run=dry_run, not_before=not_before).id

    def run_job(self, job: int) -> Job:
        """Works through a job: a new one, a paused one, or one whose tool died."""
        return self.desk().run(job)

    async def run_job_async(self, job: int) -> Job:
        return await self.desk().run_async(job)

    def jobs(self, limit: int = 50, states: Names = ()) -> Sequence[Job]:
        return self.desk().jobs(limit, states)

    def job(self, job: int) -> Job:
        return self.desk().job(job)

    def job_tasks(self, job: int, *, states: Names = (), limit: int = 100, offset: int = 0) -> Sequence[Task]:
        return self._read(lambda conn: job_rows.tasks(conn, job_rows.job(conn, job).id, states, limit, offset))

    def job_pause(self, job: int) -> Job:
        return self.desk().pause(job)

    def job_resume(self, job: int) -> Job:
        """A paused job waits again; ``run_job`` or the service goes on with it."""

        def change(conn: Connection, now: int) -> Job:
            job_rows.move(conn, job, JobState.QUEUED, {JobState.PAUSED}, now)
            note(conn, now, self.who, "job-resume", f"job {job}")
            return job_rows.job(conn, job)

        return self._write(change)

    def job_cancel(self, job: int) -> Job:
        return self.desk().cancel(job)

    def job_retry(self, job: int, *, uncertain: bool = False, wait: bool = True) -> Job:
        """Tries the failed ones again."""
        self.desk().retry(job, uncertain=uncertain)
        return self.run_job(job) if wait else self.job(job)
