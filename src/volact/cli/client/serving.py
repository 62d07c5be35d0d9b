# SPDX-License-Identifier: Apache-2.0
"""``serve`` and ``events``: the licensing service, and what it noted.

The service's own process imports no cryptography, to stay small; what needs it runs in ``child``.
"""

import argparse
import os
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.client import platform
from volact.client.service import systemd
from volact.client.service.events import Log
from volact.client.service.process import Commands, Service
from volact.core.errors import ConfigError

SOCKET = "api.sock"
FOR_EVERYONE = 0o666  # products run as any user, and nothing is told that files in the folder do not tell
CHILD = "volact.cli.client.child"


class SocketError(ConfigError):
    code = "socket-unusable"
    fmt = "cannot listen on {path}: {why}"
    remedy = "stop the other service, or choose another place with --socket PATH; --no-api runs without it"


class NoResidentServiceError(ConfigError):
    code = "no-resident-service"
    fmt = "there is no resident service on this system"
    remedy = "`volact client install-service` makes a scheduled task that does the same"


def serve(args: argparse.Namespace, env: Environment) -> int:
    if platform.here().SYSTEM_SOCKET is None:
        raise NoResidentServiceError()
    folder = _folder(args, env)
    folder.mkdir(parents=True, exist_ok=True) if os.access(folder.parent, os.W_OK) else None
    listener, path = _listener(args, env, folder)
    child = [sys.executable, "-m", CHILD]
    commands = Commands([*child, "round", "--dir", str(folder)], [*child, "api", "--dir", str(folder)])
    log = Log(folder)
    service = Service(folder, commands, log, env.variables, listener=listener, say=env.say)
    env.say(f"the licensing service looks after {folder}" + (f", its API is at {path}" if path else ""))
    env.stderr.flush()
    try:
        return service.run()
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def events(args: argparse.Namespace, env: Environment) -> int:
    rows = [row for row in Log(_folder(args, env)).read() if args.product in (None, row.get("product"))]
    rows = rows[-args.last :]
    if env.json:
        env.write_json({"events": [{**row, "at": env.json_time(row.get("at"))} for row in rows]})
        return 0
    if not rows:
        of = f" of {args.product}" if args.product else ""
        env.say(f"no events{of} yet: the licensing service and `volact client activate` write them")
    for row in rows:
        env.write(f"{env.show_time(row.get('at'))}  {row.get('id')}  {row.get('level')}  {_clean(row['message'])}")
    return 0


def _folder(args: argparse.Namespace, env: Environment) -> Path:
    """As ``client.folder`` finds it, which is not imported here: it brings cryptography along."""
    if args.dir:
        return Path(args.dir)
    if env.variables.get("VOLACT_CLIENT_DIR"):
        return Path(env.variables["VOLACT_CLIENT_DIR"])
    system = platform.here()
    if system.is_administrator() or platform.has_folder(system.SYSTEM_FOLDER):
        return system.SYSTEM_FOLDER
    return system.user_folder(env.variables)


def _listener(args: argparse.Namespace, env: Environment, folder: Path) -> tuple[socket.socket | None, Path | None]:
    """systemd's socket where it gave one; else one of our own, and its path, to be removed at the end."""
    given = systemd.given_socket(env.variables)
    if given is not None or args.no_api:
        return given, None
    path = Path(args.socket) if args.socket else _usual_socket(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _listen(path), path
    except OSError as exc:
        raise SocketError(path=str(path), why=exc.strerror or str(exc)) from None


def _usual_socket(folder: Path) -> Path:
    system = platform.here()
    return system.SYSTEM_SOCKET if system.SYSTEM_SOCKET and folder == system.SYSTEM_FOLDER else folder / SOCKET


def _listen(path: Path) -> socket.socket:
    """A socket that a dead service left behind is replaced, one that answers is not."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(FOR_EVERYONE)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _clean(text: Any) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
