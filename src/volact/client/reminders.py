# SPDX-License-Identifier: Apache-2.0
"""Reminders: when a product that is not licensed tells the people at the machine, and by which means.

The schedule follows the edition's policy: what it wants a product to do in a state (its *enforcement*) says how often
people are told, and the days that are left say when.  ``count-only`` tells nobody.  Means: the executable
``reminder-hook`` in the client's folder or /etc/volact, where there is one, else a notification on the desktop.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volact.core.evaluation import Evaluation
from volact.core.policy import DAY, HOUR
from volact.core.states import Enforcement, State

HOOK = "reminder-hook"
HOOK_FOLDER = Path("/etc/volact")
HOOK_SECONDS = 20  # a hook that hangs is ended; the service does not wait for people
DAYS_BEFORE = (14, 7, 3, 2, 1)  # while a grace runs: when so many days of it are left
EVERY = {Enforcement.WARN: DAY, Enforcement.LIMIT: 8 * HOUR, Enforcement.BLOCK: 4 * HOUR}  # once grace is over

_QUIET = (State.LICENSED, State.UNLICENSED)


def next_reminder(evaluation: Evaluation, reminded_at: int, now: int) -> int | None:
    """When people are to be told: ``now`` or earlier means that it is due; ``None``, not in this state."""
    every = EVERY.get(evaluation.enforcement)
    if every is None or evaluation.state in _QUIET:
        return None
    if evaluation.until is None:
        return now if reminded_at > now else reminded_at + every
    return _before_end(evaluation.until, reminded_at, now)


def remind(folder: Path, facts: Mapping[str, Any], *, hooks: Sequence[Path] | None = None) -> str:
    """Tell people; returns by which means, "" for none.  Never raises: nobody may be there to be told."""
    candidates = [folder / HOOK, HOOK_FOLDER / HOOK] if hooks is None else list(hooks)
    for hook in candidates:
        if os.access(hook, os.X_OK) and hook.is_file():
            return "hook" if _run([str(hook)], facts) else ""
    command = _notifier(facts)
    return "desktop" if command is not None and _run(command, facts) else ""


def _before_end(until: int, reminded_at: int, now: int) -> int | None:
    """The first step of the schedule that nobody was told of yet; of several that have passed, the last."""
    steps = [until - days * DAY for days in DAYS_BEFORE]
    passed = [step for step in steps if reminded_at < step <= now]
    if passed:
        return passed[-1]
    return next((step for step in steps if step > now), None)


def _run(command: list[str], facts: Mapping[str, Any]) -> bool:
    """The facts as JSON on standard input, and the plain ones as variables."""
    variables = {f"VOLACT_{name.upper()}": str(value) for name, value in facts.items() if value is not None}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(facts).encode(),
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=HOOK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _notifier(facts: Mapping[str, Any]) -> list[str] | None:
    """A freedesktop notification, where this process belongs to somebody's session."""
    if not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return None
    title, text = f"{facts['product']}: {facts['state']}", str(facts["message"])
    if (send := shutil.which("notify-send")) is not None:
        return [send, "--app-name=Volact", "--urgency=normal", title, text]
    if (gdbus := shutil.which("gdbus")) is not None:
        where = ["--dest=org.freedesktop.Notifications", "--object-path=/org/freedesktop/Notifications"]
        method = "--method=org.freedesktop.Notifications.Notify"
        return [gdbus, "call", "--session", *where, method, "Volact", "0", "", title, text, "[]", "{}", "-1"]
    return None
