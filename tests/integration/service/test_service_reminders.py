# SPDX-License-Identifier: Apache-2.0
"""Reminders as they really reach people: a hook that runs, notify-send and gdbus on a session bus of the test's own,
and a round of the licensing service in a session; and their schedule out of the signed policy.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.notifications import Shown, desktop
from support.processes import wait_for
from volact.client.service import reminders
from volact.client.service.events import Log
from volact.client.service.rounds import run_round
from volact.core.encoding import Fields
from volact.core.errors import MalformedError
from volact.core.evaluation import Evaluation
from volact.core.policy import DAY, HOUR, Policy, PolicyFigureError, ReminderPolicy
from volact.core.states import Enforcement, State
from volact.testing import Site

FACTS: dict[str, Any] = {
    "product": "acme-cad",
    "state": "out-of-tolerance-grace",
    "days_left": 3,
    "message": 'it\'s -- "over" <b>soon</b> \\ 100% für 1 activation\nsecond line',
    "remedy": None,
}
TITLE = "acme-cad: out-of-tolerance-grace"


@pytest.fixture
def no_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("volact.client.platform.linux.HOOK_FOLDER", tmp_path / "none")
    return tmp_path


@pytest.mark.needs("dbus", "notify-send")
def test_notify_send_shows_a_notice_on_the_desktop(no_hook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with desktop(no_hook / "session") as screen:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", screen.address)
        assert reminders.remind(no_hook, FACTS) == "desktop"
        assert screen.shown == [Shown("Volact", TITLE, FACTS["message"])]


@pytest.mark.needs("dbus", "gdbus")
def test_gdbus_does_where_there_is_no_notify_send(no_hook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = no_hook / "bin"
    tools.mkdir()
    (tools / "gdbus").symlink_to(shutil.which("gdbus") or "")
    with desktop(no_hook / "session") as screen:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", screen.address)
        monkeypatch.setenv("PATH", str(tools))
        assert reminders.remind(no_hook, FACTS) == "desktop"
        assert screen.shown == [Shown("Volact", TITLE, FACTS["message"])]


@pytest.mark.needs("dbus", "notify-send")
def test_a_session_that_nobody_answers_in_is_no_failure(no_hook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={no_hook}/nobody")
    assert reminders.remind(no_hook, FACTS) == ""
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    assert reminders.remind(no_hook, FACTS) == ""


def hook(path: Path, code: str = "exit 0") -> Path:
    path.write_text(f'#!/bin/sh\ncat >"{path}.in"\nenv >"{path}.env"\n{code}\n')
    path.chmod(0o755)
    return path


def test_the_hook_runs_with_the_facts_and_comes_before_the_desktop(no_hook: Path) -> None:
    path = hook(no_hook / "reminder-hook")
    assert reminders.remind(no_hook, FACTS) == "hook"
    assert json.loads(Path(f"{path}.in").read_text()) == FACTS
    environment = Path(f"{path}.env").read_text()
    assert "VOLACT_DAYS_LEFT=3\n" in environment
    assert "VOLACT_REMEDY" not in environment


def test_a_hook_that_fails_or_hangs_or_is_none_is_no_failure(no_hook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook(no_hook / "reminder-hook", "exit 3")
    assert reminders.remind(no_hook, FACTS) == ""
    monkeypatch.setattr(reminders, "HOOK_SECONDS", 0.2)
    hook(no_hook / "reminder-hook", "exec sleep 60")
    began = time.monotonic()
    assert reminders.remind(no_hook, FACTS) == ""
    assert time.monotonic() - began < 10
    (no_hook / "reminder-hook").write_text("no program")
    assert reminders.remind(no_hook, FACTS) == ""
    (no_hook / "reminder-hook").chmod(0o644)
    assert reminders.remind(no_hook, FACTS) == ""


@pytest.mark.needs("dbus", "notify-send")
def test_a_round_of_the_service_tells_the_people_at_the_machine(no_hook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is put in place of anything: a grace that ended, the policy, notify-send, the bus, the event."""
    site = Site.make(initial_grace_days=1)
    machine = ClientMachine.ready(no_hook / "client", site)
    site.clock.advance(days=3)
    log = Log(machine.folder, site.clock, journal=None)

    def nobody(product: str) -> Any:
        return machine.activate()

    with desktop(no_hook / "session") as screen:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", screen.address)
        run_round(machine.store, machine.local, nobody, site.clock, machine.random, log)
        assert wait_for(lambda: [one.title for one in screen.shown]) == [f"{PRODUCT}: notification"]
    (said,) = [row for row in log.read() if row["event"] == "reminder"]
    assert said["means"] == "desktop"


# ---- the schedule


def evaluation(enforcement: Enforcement, until: int | None) -> Evaluation:
    state = State.NOTIFICATION if until is None else State.OUT_OF_TOLERANCE_GRACE
    return Evaluation(state, enforcement, until, None, None, None)


def test_the_schedule_is_the_signed_policy_s() -> None:
    policy = ReminderPolicy(days_before=(30, 1), warn_hours=6, limit_hours=0)
    ending = evaluation(Enforcement.WARN, 100 * DAY)
    assert reminders.next_reminder(ending, policy, 0, 0) == 70 * DAY
    assert reminders.next_reminder(ending, policy, 70 * DAY, 70 * DAY) == 99 * DAY
    assert reminders.next_reminder(ending, policy, 99 * DAY, 99 * DAY) is None
    assert reminders.next_reminder(evaluation(Enforcement.WARN, None), policy, DAY, DAY) == DAY + 6 * HOUR
    assert reminders.next_reminder(evaluation(Enforcement.LIMIT, None), policy, DAY, DAY) is None
    assert reminders.next_reminder(evaluation(Enforcement.COUNT_ONLY, None), policy, DAY, DAY) is None


def test_a_policy_s_schedule_goes_through_the_definition_and_its_default_is_left_out() -> None:
    plain = Policy()
    assert "reminders" not in plain.to_claim()
    assert Policy.from_claim(Fields(plain.to_claim(), "policy")).reminders == ReminderPolicy()
    changed = plain.with_changes({"reminders": {"days_before": [5, 2], "block_hours": 1}})
    assert changed.reminders == ReminderPolicy(days_before=(5, 2), block_hours=1)
    assert Policy.from_claim(Fields(changed.to_claim(), "policy")) == changed


@pytest.mark.parametrize(
    "table",
    [{"days": [1]}, {"days_before": [1, 1]}, {"days_before": [-1]}, {"days_before": [400]}, {"warn_hours": "often"},
     {"warn_hours": -1}, {"block_hours": 9000}, {"days_before": 3}, [], {"days_before": list(range(17))}],
)  # fmt: skip
def test_a_schedule_that_is_none_is_refused_by_name(table: Any) -> None:
    with pytest.raises(PolicyFigureError, match="reminders"):
        Policy().with_changes({"reminders": table})


@pytest.mark.parametrize(
    "change", [{"days_before": [1, 1]}, {"days_before": [400]}, {"warn_hours": 9000}, {"limit_hours": -1}]
)
def test_a_signed_schedule_that_is_none_is_malformed(change: dict[str, Any]) -> None:
    claim = {**ReminderPolicy().to_claim(), **change}
    with pytest.raises(MalformedError):
        ReminderPolicy.from_claim(Fields(claim, "reminders"))


def test_two_processes_that_write_events_lose_none_while_the_file_is_cut(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from volact.client.service.events import Event, Log\n"
        "log = Log(Path(sys.argv[1]), lambda: 0, journal=None)\n"
        "for n in range(400): log.write(Event.FOLDER_REPAIRED, message=sys.argv[2] + str(n) + 'x' * 900)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, f"{name}-"]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    rows = [row["message"].rstrip("x") for row in Log(tmp_path).read()]
    for name in ("a", "b"):  # whatever is left has no holes: old lines were cut off, and no new one was lost
        numbers = [int(row[2:]) for row in rows if row.startswith(name)]
        assert numbers == list(range(400 - len(numbers), 400))
    assert (tmp_path / "events.jsonl").stat().st_size < 300_000
