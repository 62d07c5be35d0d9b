# SPDX-License-Identifier: Apache-2.0
"""``volact fleet report``, ``agreements``, ``schedule`` and ``token``: what they print, write and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.fleet_rows import NOW, fill
from support.processes import Done, volact
from volact.fleet.folder import FleetFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = FleetFolder.create(tmp_path / "fleet")
    with made.store() as store:
        fill(store, 120)
    return made.path


def fleet(folder: Path, *words: object, **how: Any) -> Done:
    return volact("fleet", *words, "--dir", folder, clock=lambda: NOW, **how)


def test_without_a_name_the_reports_are_listed(folder: Path) -> None:
    done = fleet(folder, "report")
    assert done.code == 0
    assert "consumption" in done.out
    assert "--days --filter" in done.out


def test_a_report_is_a_table_on_stdout_and_json_where_asked(folder: Path) -> None:
    done = fleet(folder, "report", "overview")
    assert (done.code, done.err) == (0, "")
    assert "120 machines run 2 products" in done.out
    assert "installations" in done.out
    shown = json.loads(fleet(folder, "report", "overview", "--json").out)
    assert shown["facts"]["machines"] == 120
    assert {"product", "edition", "channel", "state", "installations", "share"} == set(shown["rows"][0])


def test_a_file_has_the_format_of_its_ending(folder: Path, tmp_path: Path) -> None:
    for ending, begin in (("pdf", b"%PDF"), ("html", b"<!doctype html>"), ("xlsx", b"PK"), ("csv", b"\xef\xbb\xbf")):
        path = tmp_path / f"out.{ending}"
        assert fleet(folder, "report", "expiring", "-o", path).code == 0
        assert path.read_bytes().startswith(begin)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["report", "profit"], "report-unknown"),
        (["report", "clones", "--days", "3"], "report-argument-unfit"),
        (["report", "compliance", "--filter", "tag=x"], "report-argument-unfit"),
        (["report", "overview", "-o", "report.docx"], "report-format-unknown"),
        (["report", "overview", "--filter", "(("], "filter-unfit"),
        (["schedule", "add", "x", "refresh", "--cron", "whenever"], "cron-unfit"),
        (["schedule", "add", "x", "report", "--cron", "@daily", "--mail-to", "a@b.example"], "schedule-argument-unfit"),
        (["schedule", "add", "x", "refresh", "overview", "--cron", "@daily"], "schedule-argument-unfit"),
        (["schedule", "remove", "x"], "schedule-missing"),
        (["token", "revoke", "x"], "token-missing"),
        (["agreements", "remove", "x"], "agreement-not-here"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    folder: Path, words: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = fleet(folder, *words, "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["code"] == code
    assert not (tmp_path / "report.docx").exists()


def test_agreements_come_from_a_file_and_show_in_the_report(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bought.csv"
    path.write_text("agreement,group,quantity,product\nEA-9,10,1,acme-cad\n")
    done = fleet(folder, "agreements", "import", path)
    assert "took 1 agreement with 1 licence" in done.err
    listed = json.loads(fleet(folder, "agreements", "list", "--json").out)
    assert "EA-9" in [one["agreement"] for one in listed]
    rows = json.loads(fleet(folder, "report", "compliance", "--json").out)["rows"]
    assert [row["agreements"] for row in rows] == [3, 1]


def test_a_schedule_is_added_listed_run_and_removed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = ["schedule", "add", "weekly", "report", "overview", "--cron", "0 7 * * 1", "--time-zone", "UTC"]
    made = json.loads(fleet(folder, *words, "--folder", out, "--format", "csv", "--json").out)
    assert (made["cron"], made["time_zone"], made["arguments"]["report"]) == ("0 7 * * 1", "UTC", "overview")
    assert fleet(folder, "schedule", "run-due").err == "volact: nothing is due\n"
    done = fleet(folder, "schedule", "run", "weekly")
    assert (done.code, done.err) == (0, "volact: weekly ran well\n")
    assert [path.suffix for path in out.iterdir()] == [".csv"]
    assert "weekly" in fleet(folder, "schedule", "list").out
    assert fleet(folder, "schedule", "disable", "weekly").err == "volact: weekly is disabled\n"
    assert fleet(folder, "schedule", "remove", "weekly").code == 0


def test_a_run_that_fails_says_so_in_its_code_and_with_its_remedy(folder: Path) -> None:
    fleet(folder, "schedule", "add", "mails", "report", "clones", "--cron", "@daily", "--mail-to", "it@example.com")
    done = fleet(folder, "schedule", "run", "mails")
    assert done.code == 1
    assert "mails failed: no mail server is set" in done.err
    assert "volact fleet set-mail" in done.err


def test_a_token_is_shown_once(folder: Path) -> None:
    secret = fleet(folder, "token", "make", "ticket system", "--role", "viewer").out.strip()
    assert secret.startswith("vlt_")
    listed = fleet(folder, "token", "list", "--json").out
    assert secret not in listed
    (token,) = json.loads(listed)
    revoked = json.loads(fleet(folder, "token", "revoke", token["id"], "--json").out)
    assert revoked["revoked_at"] is not None


def test_the_api_does_not_listen_in_clear_text_where_others_hear(folder: Path) -> None:
    done = fleet(folder, "serve", "--listen", "192.0.2.1", "--json")
    assert json.loads(done.out)["error"]["code"] == "fleet-api-needs-tls"
