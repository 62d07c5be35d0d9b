# SPDX-License-Identifier: Apache-2.0
"""``check``: what the product itself sees, as an exit code, as a readiness probe, or in front of a command."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from volact.cli.client.shared import machine_of, open_store
from volact.cli.environment import Environment
from volact.client.check import Check, World, check
from volact.core.errors import ConfigError
from volact.core.states import Enforcement

LICENSED, NOT_LICENSED = 0, 1
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells say it
LOOK_SECONDS = 0.5  # between two looks while waiting: microseconds each
STOPS = (Enforcement.LIMIT, Enforcement.BLOCK)


class CommandError(ConfigError):
    code = "command-unusable"
    fmt = "cannot run {command}: {why}"
    remedy = "give the command with its path, after --"


def check_product(args: argparse.Namespace, env: Environment) -> int:
    folder = open_store(args, env).folder
    world = World(env.clock, machine_of(env))
    found = _wait(args, folder, world)
    command = getattr(args, "command", None)
    if command:
        return _launch(found, command, env)
    _show(found, env)
    return LICENSED if found else NOT_LICENSED


def _wait(args: argparse.Namespace, folder: Path, world: World) -> Check:
    """Until it is licensed, for so many seconds at most."""
    ends = time.monotonic() + args.wait
    while True:
        found = check(args.product, root=args.root, min_version=args.min_version, dir=folder, _world=world)
        left = ends - time.monotonic()
        if found or left <= 0:
            return found
        time.sleep(min(LOOK_SECONDS, left))


def _launch(found: Check, command: list[str], env: Environment) -> int:
    """In the place of this process, unless the policy stops it; the command sees its licence in variables."""
    if found.enforcement in STOPS:
        _say(found, env)
        return NOT_LICENSED
    if not found and found.enforcement is Enforcement.WARN:
        _say(found, env)
    path = shutil.which(command[0])
    if path is None:
        env.error(CommandError(command=command[0], why="it is not there, or cannot be executed"))
        return NOT_EXECUTABLE if Path(command[0]).exists() else NOT_FOUND
    variables = {
        "VOLACT_PRODUCT": found.product,
        "VOLACT_STATE": str(found.state),
        "VOLACT_LICENSED": "1" if found else "0",
        "VOLACT_ENFORCEMENT": str(found.enforcement),
        "VOLACT_EDITION": found.edition or "",
        "VOLACT_UNTIL": "" if found.until is None else str(found.until),
    }
    sys.stdout.flush()
    env.stderr.flush()
    try:
        os.execve(path, command, {**os.environ, **variables})  # noqa: S606 - the very command that was typed
    except OSError as exc:
        env.error(CommandError(command=command[0], why=exc.strerror or str(exc)))
    return NOT_EXECUTABLE


def _show(found: Check, env: Environment) -> None:
    reason = found.reason
    if env.json:
        shown = {"code": reason.code, "message": reason.sentence, "remedy": reason.remedy} if reason else None
        env.write_json(
            {
                "product": found.product,
                "state": found.state,
                "licensed": found.licensed,
                "enforcement": found.enforcement,
                "until": env.json_time(found.until),
                "days_left": found.days_left,
                "edition": found.edition,
                "count": found.count,
                "threshold": found.threshold,
                "reason": shown,
            }
        )
    else:
        env.write(f"{found.product}: {found.state}, {found.enforcement}")
    _say(found, env)


def _say(found: Check, env: Environment) -> None:
    if found.reason is not None:
        env.say(f"{found.product} is not licensed: {found.reason.sentence}")
        env.hint(found.reason.remedy)
