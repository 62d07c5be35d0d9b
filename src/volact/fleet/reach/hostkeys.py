# SPDX-License-Identifier: Apache-2.0
"""Whether a machine's SSH host key is the known one: OpenSSH's known_hosts files, read once, and the fleet's own.

There is no way to switch the check off.  A key that is accepted at the first contact is written to the fleet folder's
file before the connection goes on, and is a known one from then on.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh

from volact.fleet.reach.errors import SshSettingsError

SSH_PORT = 22
SYSTEM_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


class HostKeys:
    """``files``: the administrator's, OpenSSH's own where none are named.  ``own``: the fleet folder's."""

    def __init__(self, files: Sequence[str], own: Path, *, accept_new: bool = False) -> None:
        self.accept_new = accept_new
        self._own = own
        self._lock = threading.Lock()
        named = [Path(file).expanduser() for file in files]
        for path in named:
            if not path.is_file():
                raise SshSettingsError(path=str(path), why="it is not a file")
        places = named or [Path(file).expanduser() for file in SYSTEM_FILES]
        self._known = _read([path for path in [*places, own] if path.is_file()])

    def match(self, host: str, _address: str, port: int | None) -> Any:
        """What asyncssh asks: host keys, authorities and revoked keys of a host.

        By the name only, as OpenSSH does: were the address enough, whoever answers for a name could send its
        connections to any machine that is known by address.
        """
        return self._known.match(host, "", port)

    def is_known(self, host: str, port: int | None) -> bool:
        """Whether there is any key to compare with."""
        return any(self.match(host, "", None if port == SSH_PORT else port)[:2])

    def accept(self, host: str, port: int | None, key: asyncssh.SSHKey) -> None:
        name = host if port in (None, SSH_PORT) else f"[{host}]:{port}"
        line = name.encode() + b" " + key.export_public_key().strip() + b"\n"
        with self._lock:
            descriptor = os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._known.load(line.decode())


def _read(paths: Sequence[Path]) -> asyncssh.SSHKnownHosts:
    known = asyncssh.SSHKnownHosts()
    for path in paths:
        try:
            known.load(path.read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError) as exc:
            raise SshSettingsError(path=str(path), why=str(exc)) from None
    return known
