# SPDX-License-Identifier: Apache-2.0
"""A fleet behind one real sshd: every machine is an address of the loopback (127.1.x.y) with a state folder of its own.

sshd runs each machine's own ``shell``, which finds out by the address that was connected to whose it is, and there the
command that came over SSH, by a real ``sh`` with that machine's PATH.  ``volact`` in it is the production client as
that simulated machine; ``sudo`` is a script that speaks as sudo does.  The account is this process's own.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import asyncssh

from support.processes import good, volact, wait_for

SRC = Path(__file__).resolve().parents[2] / "src"
# What a far machine has, beside Python, sudo and volact: what bringing volact needs.
PROGRAMS = (
    "sh", "env", "cat", "sleep", "mkdir", "rm", "rmdir", "mv", "ln", "cut", "dirname", "chmod", "sha256sum", "tar",
    "gzip",
)  # fmt: skip


class Kind(StrEnum):
    GOOD = "good"
    DEAD = "dead"  # nothing listens
    MUTE = "mute"  # takes connections and says nothing
    SLOW = "slow"  # its command does not end in time
    OTHER_KEY = "other-key"  # known_hosts has another host key
    UNKNOWN_KEY = "unknown-key"  # known_hosts has none
    NO_SUDO = "no-sudo"
    NO_VOLACT = "no-volact"
    NOISY = "noisy"  # prints what is no JSON
    LOCKED_OUT = "locked-out"  # another account, which has no key there


@dataclass(frozen=True)
class FarMachine:
    name: str
    number: int
    kind: Kind
    address: str
    port: int
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "client"

    @property
    def word(self) -> str:
        """As ``volact fleet discover`` takes it."""
        return f"{self.address}:{self.port}"

    def client(self, *words: object) -> Any:
        """The same client, without SSH, to see what became of it."""
        return volact("client", *words, "--dir", self.state, "--json", machine=self.number).json


@dataclass(frozen=True)
class Far:
    folder: Path
    machines: Sequence[FarMachine]
    port: int

    @property
    def identity(self) -> Path:
        return self.folder / "id"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def settings(self) -> dict[str, Any]:
        """Of a fleet folder that reaches these machines."""
        return {
            "account": getpass.getuser(),
            "identities": (str(self.identity),),
            "known_hosts": (str(self.known_hosts),),
            "ssh_config": (str(self.folder / "ssh_config"),),
            "sudo": "always",
        }

    def set_words(self) -> list[object]:
        """The same as options of ``volact fleet set``."""
        words: list[object] = ["--account", getpass.getuser(), "--identity", self.identity, "--sudo", "always"]
        return [*words, "--known-hosts", self.known_hosts, "--ssh-config", self.folder / "ssh_config"]

    def of(self, kind: Kind) -> list[FarMachine]:
        return [machine for machine in self.machines if machine.kind == kind]


@contextmanager
def far_side(
    folder: Path, kinds: Sequence[Kind], pick_port: Callable[[], int], max_startups: str = "1000", log: str = "ERROR"
) -> Iterator[Far]:
    """A machine for each of ``kinds``, behind one sshd; they have no product yet (:func:`give_product`).
    ``log``: how much sshd tells in ``Far.log``."""
    folder.mkdir(parents=True)
    port, closed, mute = pick_port(), pick_port(), socket.create_server(("0.0.0.0", 0))
    ports = {Kind.DEAD: closed, Kind.MUTE: mute.getsockname()[1]}
    machines = [
        FarMachine(f"127.1.{n // 200}.{n % 200 + 1}", n + 1, kind, f"127.1.{n // 200}.{n % 200 + 1}",
                   ports.get(kind, port), folder / "machines" / f"127.1.{n // 200}.{n % 200 + 1}")
        for n, kind in enumerate(kinds)
    ]  # fmt: skip
    for machine in machines:
        _make_machine(machine)
    process = _start(folder, port, machines, max_startups, log)
    try:
        wait_for(lambda: _takes_connections(port))
        yield Far(folder, machines, port)
    finally:
        mute.close()
        process.terminate()
        process.wait(20)


def _takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def give_product(machine: FarMachine, definition: Path, root: str, edition: str = "client") -> None:
    where = ("--dir", machine.state)
    good("client", "add-product", definition, "--root", root, *where, machine=machine.number)
    good("client", "install-key", "acme-cad", "--generic", "--edition", edition, *where, machine=machine.number)


def _make_machine(machine: FarMachine) -> None:
    bin_ = machine.folder / "bin"
    bin_.mkdir(parents=True)
    for name in PROGRAMS:
        (bin_ / name).symlink_to(str(shutil.which(name)))
    (bin_ / "python3").symlink_to(sys.executable)
    _script(bin_ / "sudo", _SUDO_REFUSES if machine.kind == Kind.NO_SUDO else _SUDO)
    client = f'exec {sys.executable} -m volact.testing --machine {machine.number} -- "$@"'
    volact = {Kind.SLOW: "exec sleep 20", Kind.NOISY: "echo 'Welcome to db7'; echo 'disk full' >&2; exit 3"}
    if machine.kind != Kind.NO_VOLACT:
        _script(bin_ / "volact", volact.get(machine.kind, client))
    shell = f"""
export PATH={bin_} HOME={machine.folder} VOLACT_CLIENT_DIR={machine.state} PYTHONPATH={SRC}
exec {bin_}/sh -c "$SSH_ORIGINAL_COMMAND"
"""
    _script(machine.folder / "shell", shell)


_SUDO = """
[ "$1" = -n ] || exit 9
shift
command -v "$1" >/dev/null || { echo "sudo: $1: command not found" >&2; exit 1; }
exec "$@"
"""
_SUDO_REFUSES = 'echo "sudo: a password is required" >&2\nexit 1'


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text.strip()}\n")
    path.chmod(0o755)


def _start(
    folder: Path, port: int, machines: Sequence[FarMachine], max_startups: str, log: str
) -> "subprocess.Popen[bytes]":
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host_key", "id", "other")}
    for name, key in keys.items():
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
    (folder / "authorized_keys").write_bytes(keys["id"].export_public_key())
    public = {name: key.export_public_key().decode().strip() for name, key in keys.items()}
    known = [
        f"[{m.address}]:{m.port} {public['other' if m.kind == Kind.OTHER_KEY else 'host_key']}"
        for m in machines
        if m.kind != Kind.UNKNOWN_KEY
    ]
    (folder / "known_hosts").write_text("\n".join(known) + "\n")
    (folder / "ssh_config").touch()
    _script(folder / "far", f"set -- $SSH_CONNECTION\nexec {folder}/machines/$3/shell")
    config = folder / "sshd_config"
    config.write_text(f"""
ListenAddress 0.0.0.0:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
MaxStartups {max_startups}
LogLevel {log}
SetEnv HOME={folder}
ForceCommand {folder}/far
""")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    return subprocess.Popen([program, "-D", "-E", str(folder / "sshd.log"), "-f", str(config)])
