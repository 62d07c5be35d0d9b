# SPDX-License-Identifier: Apache-2.0
"""The console runs the fleet's schedules by itself, each run once, and its page says who runs them."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from support.console import PROGRAM, Console, log_in
from support.web_client import WebClient
from volact.console.application import load_application
from volact.console.automation import ScheduleRunner
from volact.console.folder import ROLES, ConsoleFolder
from volact.console.site import ConsoleSite
from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import Found
from volact.fleet.schedules import runners
from volact.fleet.schedules.runners import Program
from volact.fleet.schema import JOBS, SCHEDULES, TASKS

PATIENCE = 30.0


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def site(folder: Path) -> ConsoleSite:
    roles = {role: folder / role for role in ROLES}
    return ConsoleSite(ConsoleFolder.open(folder / "console"), roles, PROGRAM, lambda: int(time.time()))


def overdue(fleet: Fleet, folder: Path) -> None:
    """A schedule whose time has come."""
    folder.mkdir()
    fleet.schedule_add(
        "nightly", "@nightly", "report", {"report": "overview", "folder": str(folder), "formats": ["csv"]}
    )
    with fleet.store.write() as conn:
        conn.execute(update(SCHEDULES).values(next_at=int(time.time()) - 60))


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ScheduleRunner]]:
    """Those of two consoles over one fleet."""
    for module in ("volact.console.automation", "volact.fleet.schedules.automation"):
        monkeypatch.setattr(f"{module}.LOOK_SECONDS", 0.05)
    sites = [site(tmp_path) for _ in range(2)]
    made = [ScheduleRunner(one) for one in sites]
    yield made
    for one in made:
        one.stop()
        assert not one.is_running
    for opened in sites:
        opened.close()


def test_what_is_due_is_run_by_one_of_two_consoles(running: list[ScheduleRunner], tmp_path: Path) -> None:
    with Fleet.init(tmp_path / "fleet") as fleet:
        overdue(fleet, tmp_path / "reports")
        for one in running:
            one.start()
        until(lambda: fleet.schedules()[0].last_result is not None)
        assert fleet.schedules()[0].last_result == "ok"
        assert len(list((tmp_path / "reports").iterdir())) == 1
        assert [row.act for row in fleet.audit()].count("scheduled-report") == 1
        assert [one.program for one in fleet.runners()] == [Program.CONSOLE]
        for one in running:
            one.stop()
        assert fleet.runners() == []


def test_a_fleet_that_is_made_later_is_found(running: list[ScheduleRunner], tmp_path: Path) -> None:
    running[0].start()
    with Fleet.init(tmp_path / "fleet") as fleet:
        overdue(fleet, tmp_path / "reports")
        until(lambda: fleet.schedules()[0].last_result == "ok")


def test_a_console_that_stops_leaves_a_run_that_is_under_way_to_the_next_one(
    running: list[ScheduleRunner], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Fleet.init(tmp_path / "fleet") as fleet:
        fleet.discover(found=[Found("pc1", "test", *silent.getsockname())])
        fleet.schedule_add("nightly", "@nightly", "refresh")
        with fleet.store.write() as conn:
            conn.execute(update(SCHEDULES).values(next_at=int(time.time()) - 60))
        running[0].start()
        until(lambda: any(job.state == "running" for job in fleet.jobs()))
        running[0].stop()
        (left,), (job,) = fleet.schedules(), fleet.jobs()
        assert (left.running, left.last_result) == (True, None)
        assert (job.made_by, job.finished) == (left.run, 0)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.init(tmp_path / "fleet") as made:
        made.schedule_add("nightly", "@nightly", "refresh")
        yield made


@pytest.fixture
def client(fleet: Fleet, tmp_path: Path) -> Iterator[WebClient]:
    """Of a console that leaves schedules to others."""
    console = Console(tmp_path)
    with WebClient(load_application(replace(console.run, schedules=False))) as client:
        log_in(client, console.link("victor"))
        yield client


def words(client: WebClient) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", client.get("/fleet/schedules").text))


def test_the_page_says_where_nobody_runs_schedules(client: WebClient) -> None:
    assert "Nobody runs these schedules" in words(client)


def test_the_page_says_who_else_runs_schedules_and_what_is_next(client: WebClient, fleet: Fleet) -> None:
    with fleet.store.write() as conn:
        runners.sign(conn, Program.SERVE, int(time.time()))
    assert re.search(r"Run by volact fleet serve on \S+. Next is nightly, \d{4}-", words(client))


def test_the_page_says_when_cron_came_last(client: WebClient, fleet: Fleet) -> None:
    with fleet.store.write() as conn:
        runners.sign(conn, Program.RUN_DUE, int(time.time()) - 600)
    assert re.search(r"Run by volact fleet schedule run-due on \S+, which came last at \d{4}-", words(client))


def test_a_job_that_somebody_else_works_on_is_not_offered_to_be_gone_on_with(fleet: Fleet, tmp_path: Path) -> None:
    fleet.discover(["pc1"])
    job = fleet.refresh(wait=False)
    now = int(time.time())
    with Console(tmp_path).client("admin") as client:
        for ends, offered in ((now + 600, False), (now - 1, True)):
            held = {"state": "running", "worker": "elsewhere:1:2:3", "leased_until": ends}
            with fleet.store.write() as conn:
                conn.execute(update(TASKS).values(**held))
                conn.execute(update(JOBS).values(state="running"))
            assert (">Go on<" in client.get(f"/fleet/jobs/{job.id}").text) is offered


def test_who_ran_what_is_told_in_words(fleet: Fleet, tmp_path: Path) -> None:
    fleet.discover(["pc1"])
    fleet.as_("schedule nightly 1795522101").refresh(names=["pc1"], wait=False)
    fleet.note(
        "scheduled-refresh", "nightly", {"planned": 1_795_522_101, "selection": {"names": [], "filter": "tag=x"}}
    )
    with Console(tmp_path).client("victor") as client:
        for path in ("/fleet/jobs", "/fleet/jobs/1", "/events?source=fleet"):
            shown = re.sub(r"<[^>]*>", "", client.get(path).text)
            assert "schedule nightly" in shown, path
            assert "1795522101" not in shown, path
        assert "nightly planned 2026-11-24T12:08:21Z, selection filter tag=x" in shown
