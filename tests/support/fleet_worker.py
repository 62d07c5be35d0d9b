# SPDX-License-Identifier: Apache-2.0
"""``python -m support.fleet_worker DATABASE FAR JOB``: works on a job whose far side is a folder, until it is killed.

Each machine is a file; doing the act appends the task's token to it, which may not happen twice.  As the real far side
does, it can be asked what was done.  For tests that kill the tool a hundred times over a thousand machines.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from volact.fleet.jobs.acts import Outcome, Work
from volact.fleet.jobs.engine import Engine
from volact.fleet.store import FleetStore

KIND = "count"


class CountingAct:
    """``resumable``: looks at the machine first where an earlier attempt had intended something."""

    kind = KIND

    def __init__(self, far: Path, *, resumable: bool = True) -> None:
        self._far, self._resumable = far, resumable

    @property
    def resumable(self) -> bool:
        return self._resumable

    async def run(self, work: Work) -> Outcome:
        file = self._far / work.target.name
        if work.intent is not None and work.token in done_on(file):
            return Outcome({"was": "done already"})
        await work.intend("append", token=work.token)
        await asyncio.sleep(0)  # where the network would be
        _append(file, work.token)
        await asyncio.sleep(0.001)
        return Outcome({"was": "done now"})

    async def preview(self, work: Work) -> Outcome:
        return Outcome({"would": "append"}, contacted=False)


def done_on(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def _append(file: Path, token: str) -> None:
    """One write: it happens whole or not at all, whenever the process is killed."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, f"{token}\n".encode())
    finally:
        os.close(descriptor)


def main() -> None:
    database, far, job, resumable = sys.argv[1:5]
    place = database if "://" in database else Path(database)
    with FleetStore.open(place) as store:
        print("started", flush=True)
        act = CountingAct(Path(far), resumable=resumable == "yes")
        asyncio.run(Engine(store, act, lambda: int(time.time())).run(int(job)))


if __name__ == "__main__":
    main()
