# SPDX-License-Identifier: Apache-2.0
"""Jobs and tasks as values, their states, and which state follows which.

    job    queued ─ running ─ done            paused and cancelled from each of the first two; paused ─ running
    task   queued ─ running ─ done | skipped | failed | uncertain      failed, uncertain ─ queued by a retry

``uncertain``: it was begun, nobody knows how it ended, and its act cannot find out.  A job is done when no task of it
waits or runs, however they ended.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from volact.core.errors import ConfigError, InputError


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class TaskState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


OPEN = (TaskState.QUEUED, TaskState.RUNNING)
TROUBLED = (TaskState.FAILED, TaskState.UNCERTAIN)


class JobMissingError(InputError):
    code = "job-missing"
    fmt = "there is no job {job}"
    remedy = "`volact fleet jobs list` shows them"


class JobStateError(ConfigError):
    code = "job-state-unfit"
    fmt = "job {job} is {state}: it cannot be {wanted}"
    remedy = "`volact fleet jobs show {job}` tells how it stands"


class JobEndedError(ConfigError):
    code = "job-ended"
    fmt = "job {job} is {state} and has nothing left to do: it cannot be {wanted}"
    remedy = (
        "`volact fleet jobs retry {job}` tries the machines again that failed in a job which is done; "
        "for anything else make a new job"
    )


class JobEmptyError(InputError):
    code = "selection-empty"
    fmt = "no machine fits the selection"
    remedy = "`volact fleet list` with the same --filter shows what there is; `volact fleet discover` finds machines"


class JobActMissingError(ConfigError):
    code = "job-kind-unknown"
    fmt = "this program cannot do jobs of the kind {kind}"
    remedy = "run the version of volact that made the job, or a later one"


@dataclass(frozen=True, slots=True)
class Job:
    id: int
    kind: str
    arguments: dict[str, Any]
    selection: dict[str, Any]
    state: JobState
    dry_run: bool
    parallel: int
    timeout: int
    made_at: int
    made_by: str
    not_before: int | None
    started_at: int | None
    ended_at: int | None
    counts: dict[str, int]

    @classmethod
    def of_row(cls, row: Row[Any], counts: dict[str, int]) -> "Job":
        return cls(
            row.id,
            row.kind,
            json.loads(row.arguments),
            json.loads(row.selection),
            JobState(row.state),
            bool(row.dry_run),
            row.parallel,
            row.timeout,
            row.made_at,
            row.made_by,
            row.not_before,
            row.started_at,
            row.ended_at,
            counts,
        )

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        return self.total - sum(self.counts.get(state, 0) for state in OPEN)

    @property
    def well(self) -> bool:
        """Whether every task ended, and none in trouble."""
        return self.finished == self.total and not any(self.counts.get(state) for state in TROUBLED)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "arguments": self.arguments,
            "selection": self.selection,
            "state": str(self.state),
            "dry_run": self.dry_run,
            "parallel": self.parallel,
            "timeout": self.timeout,
            "made_at": self.made_at,
            "made_by": self.made_by,
            "not_before": self.not_before,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "tasks": {str(state): self.counts.get(state, 0) for state in TaskState},
        }


@dataclass(frozen=True, slots=True)
class Task:
    """``machine``: its name.  ``intent``: what it was about to do when it was last heard of."""

    id: int
    job: int
    machine_id: int
    machine: str
    state: TaskState
    step: str | None
    attempt: int
    intent: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str | None
    error_text: str | None
    started_at: int | None
    ended_at: int | None
    worker: str | None

    @classmethod
    def of_row(cls, row: Row[Any]) -> "Task":
        return cls(
            row.id,
            row.job_id,
            row.machine_id,
            row.name,
            TaskState(row.state),
            row.step,
            row.attempt,
            json.loads(row.intent) if row.intent else None,
            json.loads(row.result) if row.result else None,
            row.error,
            row.error_text,
            row.started_at,
            row.ended_at,
            row.worker,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "machine": self.machine,
            "state": str(self.state),
            "step": self.step,
            "attempt": self.attempt,
            "result": self.result,
            "error": self.error,
            "error_text": self.error_text,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }
