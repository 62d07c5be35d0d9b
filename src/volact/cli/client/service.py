# SPDX-License-Identifier: Apache-2.0
"""``install-service`` and ``remove-service``: the licensing service, as this system starts such things."""

import argparse
import subprocess
import sys
from pathlib import Path

import volact
from volact.cli.environment import Environment
from volact.cli.files import write_file
from volact.client import platform
from volact.client.platform import ServicePlan
from volact.core.errors import ConfigError

COMMAND_SECONDS = 120


class ServiceRightsError(ConfigError):
    code = "service-rights"
    fmt = "only an administrator may {what} the licensing service"
    remedy = "run the command as root, or as an administrator; --image DIR works on a mounted image instead"


class ServiceCommandError(ConfigError):
    code = "service-command"
    fmt = "{command} failed: {why}"
    remedy = "the files of the service are written: run the command by hand and see what it says"


class ServiceProgramError(ConfigError):
    code = "service-program"
    fmt = "the licensing service cannot be started from {path}: it sees no file in {folder}"
    remedy = "install volact elsewhere, as in a virtual environment in /opt/volact, or name such a one: --program PATH"


def install_service(args: argparse.Namespace, env: Environment) -> int:
    """Files first, then the system is told; in an image the links that telling would make."""
    plan = platform.here().service_plan(_program(args))
    image = None if args.image is None else Path(args.image)
    if image is None:
        _check_rights("install")
        _check_program(args, plan)
    for path, data in plan.files.items():
        _write(path if image is None else _within(image, path), data)
    if image is None:
        for command in plan.install:
            _run(command)
    else:
        _link(plan, image)
    return _show(plan, image, env, "installed")


def remove_service(args: argparse.Namespace, env: Environment) -> int:
    """What is not there is removed already: the command can be repeated."""
    plan = platform.here().service_plan(_program(args))
    image = None if args.image is None else Path(args.image)
    if image is None:
        _check_rights("remove")
    there = image is None and any(path.exists() for path in plan.files)
    for command in plan.remove if there else ():
        _run(command)
    for path in (*plan.links, *plan.files):
        (path if image is None else _within(image, path)).unlink(missing_ok=True)
    for command in plan.removed if there else ():
        _run(command)
    return _show(plan, image, env, "removed")


def _program(args: argparse.Namespace) -> tuple[str, ...]:
    """How ``volact`` is started: as named, else as it was started now."""
    if args.program:
        return (args.program,)
    beside = Path(sys.executable).with_name("volact")
    if sys.platform != "win32" and beside.is_file():
        return (str(beside),)
    return (sys.executable,) if sys.platform == "win32" else (sys.executable, "-m", "volact.cli.main")


def _check_rights(what: str) -> None:
    if not platform.here().is_administrator():
        raise ServiceRightsError(what=what)


def _check_program(args: argparse.Namespace, plan: ServicePlan) -> None:
    """Of a program that was not named, the interpreter and the package too: each can lie in somebody's home."""
    ours = () if args.program else (sys.executable, volact.__file__)
    needed = [Path(file).absolute() for file in (*_program(args)[:1], *ours)]
    for path in (*needed, *(path.resolve() for path in needed)):
        for folder in plan.unseen:
            if path.is_relative_to(folder):
                raise ServiceProgramError(path=str(path), folder=str(folder))


def _within(image: Path, path: Path) -> Path:
    return image / path.relative_to(path.anchor)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(str(path), data)


def _link(plan: ServicePlan, image: Path) -> None:
    for path, target in plan.links.items():
        place = _within(image, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)


def _run(command: tuple[str, ...]) -> None:
    text = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as exc:
        raise ServiceCommandError(command=text, why=str(exc)) from None
    if done.returncode != 0:
        raise ServiceCommandError(command=text, why=(done.stderr or done.stdout).strip().partition("\n")[0][:200])


def _show(plan: ServicePlan, image: Path | None, env: Environment, done: str) -> int:
    files = [str(path if image is None else _within(image, path)) for path in plan.files]
    if env.json:
        env.write_json({"files": files, "image": None if image is None else str(image)})
    else:
        env.say(f"{done} the licensing service: {', '.join(files)}")
    return 0
