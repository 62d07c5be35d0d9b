# SPDX-License-Identifier: Apache-2.0
"""A fleet behind one real sshd: each machine a port of it, whose forced command is the production client in a folder.

What logs in at a machine's port can run ``volact …`` there and nothing else.  The account is this process's own.
"""

import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from support.processes import ADDRESS, START_SECONDS, volact

_CONFIG = """\
ListenAddress 127.0.0.1
{ports}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 1000:30:2000
LogLevel ERROR
SetEnv HOME={folder}
{machines}
"""
# bash reads a root's profile under sshd where it finds one: HOME leads it elsewhere.
_RUN = """\
#!/bin/sh
eval "set -- $SSH_ORIGINAL_COMMAND"
shift
PYTHONPATH={path} exec {python} -m volact.testing --machine {number} -- "$@" --dir {state}
"""


@dataclass(frozen=True)
class SshMachine:
    name: str
    number: int
    port: int
    state: Path


@dataclass(frozen=True)
class Sshd:
    folder: Path
    machines: Mapping[str, SshMachine]
    process: "subprocess.Popen[bytes]"

    @property
    def identity(self) -> Path:
        return self.folder / "id"


@contextmanager
def sshd(folder: Path, numbers: Mapping[str, int], pick_port: Callable[[], int]) -> Iterator[Sshd]:
    """``numbers``: of each machine's hardware."""
    folder.mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    machines = {n: SshMachine(n, number, pick_port(), folder / "state" / n) for n, number in numbers.items()}
    for name in ("host_key", "id"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
    (folder / "authorized_keys").write_text(key.export_public_key().decode())
    for one in machines.values():
        script = folder / f"run-{one.name}"
        path = os.pathsep.join(part for part in sys.path if part.endswith("src"))
        script.write_text(_RUN.format(path=path, python=sys.executable, number=one.number, state=one.state))
        script.chmod(0o755)
    matches = [f"Match LocalPort {one.port}\n  ForceCommand {folder}/run-{one.name}" for one in machines.values()]
    ports = "\n".join(f"Port {one.port}" for one in machines.values())
    (folder / "nothing").touch()
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(folder=folder, ports=ports, machines="\n".join(matches)))
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE)
    try:
        _wait(process, next(iter(machines.values())).port)
        yield Sshd(folder, machines, process)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def settings(server: Sshd) -> dict[str, object]:
    """Of a fleet folder that reaches these machines."""
    return {
        "account": getpass.getuser(),
        "identities": (str(server.identity),),
        "ssh_config": (str(server.folder / "nothing"),),
        "known_hosts": (str(server.folder / "nothing"),),
        "sudo": "never",
    }


def client(machine: SshMachine, *words: object) -> object:
    """The same client, without SSH, to see what became of it."""
    return volact("client", *words, "--dir", machine.state, "--json", machine=machine.number).json


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    import socket

    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("sshd did not start: " + (process.stderr.read().decode() if process.stderr else ""))
