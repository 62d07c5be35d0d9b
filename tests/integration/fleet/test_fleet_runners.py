# SPDX-License-Identifier: Apache-2.0
"""Whoever runs schedules is known by its signs of life, and no longer than it gives them."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.clock import Clock
from volact.fleet.api import Fleet
from volact.fleet.schedules import runners
from volact.fleet.schedules.automation import Automation
from volact.fleet.schedules.runners import Program

NOW = 1_900_000_000
HERE = socket.gethostname()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def fleet(tmp_path: Path, clock: Clock, databases: Callable[[], str | None]) -> Iterator[Fleet]:
    with Fleet.init(tmp_path / "fleet", databases(), who="tester", clock=clock) as made:
        yield made


def seen(fleet: Fleet) -> list[tuple[str, str]]:
    return [(one.program, one.computer) for one in fleet.runners()]


def test_nobody_runs_the_schedules_of_a_new_fleet(fleet: Fleet) -> None:
    assert seen(fleet) == []


def test_who_serves_is_seen_while_it_serves_and_says_when_it_ends(fleet: Fleet) -> None:
    async def serve() -> list[tuple[str, str]]:
        stop = asyncio.Event()
        work = asyncio.create_task(Automation(fleet, program=Program.CONSOLE).serve_schedules(stop))
        while not (found := seen(fleet)):  # noqa: ASYNC110 - another thread writes it
            await asyncio.sleep(0.01)
        stop.set()
        await work
        return found

    assert asyncio.run(serve()) == [("console", HERE)]
    assert seen(fleet) == []


def test_two_programs_of_a_kind_on_one_computer_may_begin_at_once(fleet: Fleet, clock: Clock) -> None:
    def sign(_: int) -> None:
        with fleet.store.write() as conn:
            runners.sign(conn, Program.CONSOLE, clock())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sign, range(40)))
    assert seen(fleet) == [("console", HERE)]


def test_who_died_is_not_believed_to_live(fleet: Fleet, clock: Clock) -> None:
    with fleet.store.write() as conn:
        runners.sign(conn, Program.SERVE, clock())
    clock.now += runners.ALIVE_SECONDS
    assert seen(fleet) == [("serve", HERE)]
    clock.now += 1
    assert seen(fleet) == []


def test_cron_is_remembered_until_it_should_have_come_again(fleet: Fleet, clock: Clock) -> None:
    asyncio.run(fleet.schedule_run())
    clock.now += runners.ALIVE_SECONDS + 1
    assert seen(fleet) == [("run-due", HERE)]
    clock.now += runners.LATELY_SECONDS
    assert seen(fleet) == []
