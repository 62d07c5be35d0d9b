# SPDX-License-Identifier: Apache-2.0
"""What a bulk act is to the engine, and the rules that make it safe to kill at any point.

1. An act works on one machine at a time, in :meth:`Act.run`, and changes the database only through its
   :class:`Outcome`: that is written in the same transaction as the task's end.
2. Before it does what must not be done twice, it calls :meth:`Work.intend`, which returns when the intent is on disk.
3. If the tool dies, the task is run again, with that intent in :attr:`Work.intent`.  An act that is ``resumable`` then
   finds out what came of it (the machine knows, or the publisher answers the same request the same way), or does what
   can be done again without harm.  A task of an act that is not becomes ``uncertain``, for the administrator to settle.
4. Arguments and intents are rows of the database: they hold no secrets.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from volact.fleet.jobs.records import Job, TaskState
from volact.fleet.reach import Target

Changes = Callable[[Connection, int], None]  # in the transaction of the task's end, at that second


@dataclass(frozen=True, slots=True)
class Outcome:
    """``state``: done, skipped, or failed where the act itself says that it did not succeed.

    ``error``: the code and the sentence of a failure.  ``contacted``: whether the machine gave a sign of life.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    state: TaskState = TaskState.DONE
    error: tuple[str, str] | None = None
    changes: Changes | None = None
    contacted: bool = True


def skipped(why: str, **result: Any) -> Outcome:
    """Nothing was to be done."""
    return Outcome({"why": why, **result}, TaskState.SKIPPED, contacted=False)


@dataclass(frozen=True, slots=True)
class Work:
    """One machine's part of a job.  ``token``: the same at every attempt, and no other task's."""

    job: Job
    task: int
    machine_id: int
    target: Target
    attempt: int
    step: str | None
    intent: dict[str, Any] | None
    _intend: Callable[[str, str], Awaitable[None]] = field(repr=False)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self.job.arguments

    @property
    def token(self) -> str:
        return f"{self.job.made_at}-{self.job.id}-{self.task}"

    async def intend(self, step: str, **intent: Any) -> None:
        """Returns when it is on disk what is about to be done."""
        await self._intend(step, json.dumps(intent, ensure_ascii=False))


class Act(Protocol):
    """``kind``: the job's.  ``resumable``: rule 3 above."""

    @property
    def kind(self) -> str: ...

    @property
    def resumable(self) -> bool: ...

    async def run(self, work: Work) -> Outcome:
        """Do it.  What it raises of the named errors fails this task only."""
        ...

    async def preview(self, work: Work) -> Outcome:
        """Say what it would do, for a dry run: nothing is changed anywhere."""
        ...
