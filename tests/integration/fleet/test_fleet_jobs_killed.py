# SPDX-License-Identifier: Apache-2.0
"""Jobs over a thousand machines whose tool is killed at random points: nothing done twice, nothing lost."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from support.fleet_worker import KIND, done_on
from volact.fleet.inventory import machines
from volact.fleet.inventory.machines import Found
from volact.fleet.jobs import store as rows
from volact.fleet.jobs.records import Job, TaskState
from volact.fleet.store import FleetStore

MACHINES = 1000
MOST_KILLS = 15  # then it may come to the end
NOW = 1_800_000_000
TESTS = Path(__file__).resolve().parents[2]


def _make(database: Path | str, number: int = MACHINES, parallel: int = 16) -> int:
    with FleetStore.open(database) as store, store.write() as conn:
        names = [f"m{n:04d}" for n in range(number)]
        machines.add(conn, [Found(name, "test") for name in names], NOW, "test")
        ids = list(machines.ids(conn, names).values())
        return rows.make(conn, KIND, {}, ids, {}, NOW, "test", parallel=parallel, timeout=30)


def _start(database: Path | str, far: Path, job: int, *, resumable: bool = True) -> "subprocess.Popen[bytes]":
    words = [
        sys.executable,
        "-m",
        "support.fleet_worker",
        str(database),
        str(far),
        str(job),
        "yes" if resumable else "",
    ]
    variables = {**os.environ, "PYTHONPATH": str(TESTS)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _kill_until_done(database: Path | str, far: Path, job: int, seed: int, *, resumable: bool = True) -> int:
    """How often it was killed before it got to the end."""
    chance, kills = random.Random(seed), 0
    while True:
        process = _start(database, far, job, resumable=resumable)
        reached = _begun(far) + chance.randint(10, 90)
        while process.poll() is None and (kills >= MOST_KILLS or _begun(far) < reached):
            threading.Event().wait(0.002)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if _job(database, job).state == "done":  # it may be killed between its last commit and its end
            return kills


def _begun(far: Path) -> int:
    """Machines that were reached so far: it is killed at random points of the work, however quick the computer is."""
    return sum(1 for _ in far.iterdir())


def _job(database: Path | str, job: int) -> Job:
    with FleetStore.open(database) as store, store.read() as conn:
        return rows.job(conn, job)


def test_a_tool_killed_at_random_points_does_nothing_twice_and_loses_nothing(
    fleet_database: str | Path, tmp_path: Path
) -> None:
    far = tmp_path / "far"
    far.mkdir()
    job = _make(fleet_database)
    kills = _kill_until_done(fleet_database, far, job, seed=7)
    print(f"{kills} kills")
    assert kills >= 3
    found = _job(fleet_database, job)
    assert (found.state, found.counts) == ("done", {TaskState.DONE: MACHINES})
    assert all(len(done_on(far / f"m{n:04d}")) == 1 for n in range(MACHINES))


def test_what_cannot_be_asked_is_uncertain_and_never_done_twice(tmp_path: Path) -> None:
    far, database = tmp_path / "far", tmp_path / "fleet.sqlite"
    far.mkdir()
    job = _make(database, 400)
    _kill_until_done(database, far, job, seed=3, resumable=False)
    found = _job(database, job)
    assert found.state == "done"
    assert found.counts.get(TaskState.UNCERTAIN, 0) > 0
    assert found.counts[TaskState.DONE] + found.counts[TaskState.UNCERTAIN] == 400
    assert all(len(done_on(far / f"m{n:04d}")) <= 1 for n in range(400))


def test_two_tools_share_a_job_and_no_machine(fleet_database: str | Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    job = _make(fleet_database, 300, parallel=4)
    both = [_start(fleet_database, far, job) for _ in range(2)]
    end = time.monotonic() + 60
    for process in both:
        process.wait(end - time.monotonic())
        assert process.stdout is not None
        process.stdout.close()
    assert _job(fleet_database, job).counts == {TaskState.DONE: 300}
    assert all(len(done_on(far / f"m{n:04d}")) == 1 for n in range(300))
