# SPDX-License-Identifier: Apache-2.0
"""What came of an act on keys or licences, as its task's end says it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from volact.core.errors import VolactError
from volact.fleet.activation.activate import Done, Way
from volact.fleet.jobs.acts import Changes, Outcome
from volact.fleet.jobs.records import TaskState


def activated(results: Sequence[Done], changes: Sequence[Changes]) -> Outcome:
    """Failed where one product was not licensed, skipped where none of them was to be."""
    told = [done.to_json() for done in results]
    bad = next((done for done in results if done.error is not None and done.way is not Way.NONE), None)
    error = None if bad is None else (str(bad.error), bad.message or str(bad.error))
    state = TaskState.DONE if error is None else TaskState.FAILED
    if error is None and all(done.way is Way.NONE for done in results):
        state = TaskState.SKIPPED
    return Outcome({"products": told}, state, error, _all(changes))


def outcome(
    results: Sequence[Mapping[str, Any]], error: VolactError | None, changes: Changes | None, *, nothing: bool
) -> Outcome:
    """``error``: the first product's that failed.  ``nothing``: there was nothing to do for any."""
    if error is not None:
        return Outcome({"products": list(results)}, TaskState.FAILED, (code_of(error), str(error)), changes)
    state = TaskState.SKIPPED if nothing else TaskState.DONE
    return Outcome({"products": list(results)}, state, None, changes)


def code_of(error: VolactError) -> str:
    """The machine's own code, where it was the machine that refused."""
    return str(error.fields.get("remote") or error.code)


def _all(changes: Sequence[Changes]) -> Changes | None:
    if not changes:
        return None

    def apply(conn: Connection, now: int) -> None:
        for change in changes:
            change(conn, now)

    return apply
