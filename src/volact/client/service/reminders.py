# SPDX-License-Identifier: Apache-2.0
"""Reminders: when a product that is not licensed tells the people at the machine, and by which means.

The schedule is the edition's policy: what it wants a product to do in a state (its *enforcement*) says how often
people are told, and the days that are left say when.  ``count-only`` tells nobody.  Means: the executable
``reminder-hook`` in the client's folder or the system's, where there is one, else a notification on the desktop.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volact.client import platform
from volact.core.evaluation import Evaluation
from volact.core.policy import DAY, HOUR, ReminderPolicy
from volact.core.states import Enforcement, State

HOOK_SECONDS = 20  # a hook that hangs is ended; the service does not wait for people

_QUIET = (State.LICENSED, State.UNLICENSED)


def next_reminder(evaluation: Evaluation, policy: ReminderPolicy, reminded_at: int, now: int) -> int | None:
    """When people are to be told: ``now`` or earlier means that it is due; ``None``, not in this state."""
    hours = _hours(policy, evaluation.enforcement)
    if not hours or evaluation.state in _QUIET:
        return None
    if evaluation.until is None:
        return now if reminded_at > now else reminded_at + hours * HOUR
    return _before_end(evaluation.until, policy.days_before, reminded_at, now)


def remind(folder: Path, facts: Mapping[str, Any], *, hooks: Sequence[Path] | None = None) -> str:
    """Tell people; returns by which means, "" for none.  Never raises: nobody may be there to be told."""
    for hook in hooks_of(folder) if hooks is None else hooks:
        if os.access(hook, os.X_OK) and hook.is_file():
            return "hook" if _run([str(hook)], facts) else ""
    title, text = f"{facts['product']}: {facts['state']}", str(facts["message"])
    command = platform.here().notifier(title, text, os.environ)
    return "desktop" if command is not None and _run(command, facts) else ""


def hooks_of(folder: Path) -> list[Path]:
    """Where an executable may be that tells people: the client's folder, then the system's."""
    system = platform.here()
    return [where / name for where in (folder, system.HOOK_FOLDER) for name in system.HOOKS]


def _hours(policy: ReminderPolicy, enforcement: Enforcement) -> int:
    every = {
        Enforcement.WARN: policy.warn_hours,
        Enforcement.LIMIT: policy.limit_hours,
        Enforcement.BLOCK: policy.block_hours,
    }
    return every.get(enforcement, 0)


def _before_end(until: int, days_before: Sequence[int], reminded_at: int, now: int) -> int | None:
    """The first step of the schedule that nobody was told of yet; of several that have passed, the last."""
    steps = sorted(until - days * DAY for days in days_before)
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
