# SPDX-License-Identifier: Apache-2.0
"""What an administrator mistypes at the fleet tool is refused before anything is done, and told in its own words."""

from pathlib import Path
from typing import Any

import pytest

from support.processes import volact
from volact.fleet.api import Fleet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Fleet.init(tmp_path / "fleet") as fleet:
        fleet.discover(["pc1"])
    return tmp_path / "fleet"


def refused(folder: Path, *words: object) -> Any:
    done = volact("fleet", *words, "--dir", folder, "--json")
    assert done.code == 1, done.out
    return done.json["error"]


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("domain:", "the domain's name is missing"),
        ("domain", "the domain's name is missing"),
        ("domain:a b", "that is not a DNS domain"),
        ("domain:-x.example", "that is not a DNS domain"),
        ("", "the host's name is missing"),
        (":1688", "that is not a host's name or address"),
        ("host:", "that is not a host's name or address"),
        ("kms1:99999", "a port is 1 to 65535, not 99999"),
        ("https://kms1", "that is not a host's name or address"),
        ("2001:db8::1", "that is not a host's name or address"),
    ],
)
def test_where_kms_hosts_are_is_looked_at_before_a_job_is_made(where: str, why: str, folder: Path) -> None:
    error = refused(folder, "activate", "--all", "--kms", where)
    assert (error["code"], error["fields"]["why"]) == ("fleet-kms-unfit", why)
    assert "domain:NAME such as domain:example.com" in error["remedy"]
    with Fleet.open(folder) as fleet:
        assert fleet.jobs() == []


@pytest.mark.parametrize("where", ["auto", "domain:example.com", "kms1", "kms1.example.com:1688", "[2001:db8::1]:1700"])
def test_where_kms_hosts_are_is_said_in_these_ways(where: str, folder: Path) -> None:
    done = volact("fleet", "activate", "--all", "--kms", where, "--no-wait", "--dir", folder, "--json")
    assert done.json["state"] == "queued"


@pytest.mark.parametrize("verb", ["run", "resume", "pause", "cancel"])
def test_a_job_that_is_done_says_so_and_what_else_there_is(verb: str, folder: Path) -> None:
    with Fleet.open(folder) as fleet:
        job = fleet.refresh(wait=False).id
        fleet.job_cancel(job)
    if verb == "cancel":
        assert volact("fleet", "jobs", "cancel", job, "--dir", folder).code == 0  # it is so already
        return
    error = refused(folder, "jobs", verb, job)
    assert error["code"] == "job-ended"
    done = {"run": "resumed", "resume": "resumed", "pause": "paused"}[verb]
    assert error["message"] == f"job {job} is cancelled and has nothing left to do: it cannot be {done}"
    assert f"`volact fleet jobs retry {job}`" in error["remedy"]
    assert refused(folder, "jobs", "retry", job)["code"] == "job-ended"


def test_a_file_that_is_not_there_is_brought_to_no_machine(folder: Path, tmp_path: Path) -> None:
    error = refused(folder, "bootstrap", "--artefact", tmp_path / "volact.whl", "--all")
    assert (error["code"], error["message"]) == (
        "artefact-missing",
        f"there is no file {tmp_path / 'volact.whl'} to bring to machines",
    )
    assert refused(folder, "bootstrap", "--artefact", tmp_path, "--all")["code"] == "artefact-unfit"


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ("nonsense", "there is 1 of the five fields"),
        ("0 2 * *", "there are 4 of the five fields"),
        ("0 2 a.txt b.txt c.txt * *", "there are 7 of the five fields"),  # as a shell makes it of a bare *
        ("@never", "there is no @never"),
        ("61 2 * * *", "the minute is '61', and can be 0 to 59"),
        ("0 24 * * *", "the hour is '24', and can be 0 to 23"),
        ("0 2 32 * *", "the day of the month is '32', and can be 1 to 31"),
        ("0 2 * foo *", "the month is 'foo', and can be 1 to 12"),
        ("0 2 * * foo", "the weekday is 'foo', and can be 0 to 7, or sun to sat"),
        ("*/0 2 * * *", "'0' is no step of the minute"),
        ("*/60 2 * * *", "'60' is no step of the minute"),
        ("0 17-8 * * *", "the hour runs backwards in '17-8'"),
        ("0 2 1, * *", "the day of the month is '', and can be 1 to 31"),
        ("0 2 1 * mon", "day of the month and weekday cannot both be given"),
    ],
)
def test_times_that_are_none_say_which_part_is_wrong(times: str, why: str, folder: Path) -> None:
    error = refused(folder, "schedule", "add", "nightly", "--cron", times, "refresh")
    assert (error["code"], error["fields"]["why"]) == ("cron-unfit", why)
    assert "'0 2 * * mon-fri'" in error["remedy"]


def test_times_that_never_come_are_refused(folder: Path) -> None:
    error = refused(folder, "schedule", "add", "nightly", "--cron", "0 2 31 feb *", "refresh")
    assert (error["code"], error["message"]) == ("cron-never", "the times '0 2 31 feb *' of a schedule never come")
    assert volact("fleet", "schedule", "add", "nightly", "--cron", "0 2 last * *", "refresh", "--dir", folder).code == 0
