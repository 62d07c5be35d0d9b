# SPDX-License-Identifier: Apache-2.0
"""A network of its own for a test: a bridge, and hosts in network namespaces with addresses, names and DNS settings.

Servers with well-known ports (53, 88, 389) run side by side there, and nothing of it is seen outside.  Needs root.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes import Done

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = Path("/etc/netns")  # `ip netns exec NAME` shows what lies in NAME there as /etc
STOP_SECONDS = 15.0
_NUMBERS = itertools.count()


@dataclass
class Network:
    """10.77.0.0/24, seen by its hosts alone."""

    prefix: str = field(default_factory=lambda: f"vt{os.getpid() % 100_000}x{next(_NUMBERS)}")
    hosts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        ip("netns", "add", self.name("sw"))
        ip("-n", self.name("sw"), "link", "add", "br0", "type", "bridge")
        ip("-n", self.name("sw"), "link", "set", "br0", "up")

    def name(self, host: str) -> str:
        return f"{self.prefix}{host}"

    def add(self, host: str, last: int, resolv: str = "", hosts: str = "") -> None:
        """A host at 10.77.0.``last``, with these files as its resolv.conf and hosts."""
        name, link = self.name(host), f"{self.prefix[2:]}h{last}"
        ip("netns", "add", name)
        self.hosts.append(host)
        ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", link, "netns", self.name("sw"), "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", self.name("sw"), "link", "set", link, "master", "br0", "up")
        ip("-n", name, "addr", "add", f"10.77.0.{last}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        folder = SYSTEM / name
        folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text(resolv)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")

    def command(self, host: str, words: Sequence[object]) -> list[str]:
        return ["ip", "netns", "exec", self.name(host), *map(str, words)]

    def run(self, host: str, *words: object, **how: Any) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            self.command(host, words), capture_output=True, text=True, check=False, **how
        )
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def start(self, host: str, words: Sequence[object], log: Path, **how: Any) -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command(host, words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **how,
            )

    def close(self) -> None:
        for host in self.hosts:
            for pid in ip("netns", "pids", self.name(host)).split():
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(int(pid), signal.SIGKILL)
            ip("netns", "delete", self.name(host))
            shutil.rmtree(SYSTEM / self.name(host), ignore_errors=True)
        ip("netns", "delete", self.name("sw"))


class Shell:
    """The command line of one host of a network: one process that runs command after command there."""

    def __init__(self, network: Network, host: str, variables: Mapping[str, str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), **variables}
        self._process = subprocess.Popen(
            network.command(host, [sys.executable, "-m", "support.netns"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def volact(self, *words: object, machine: int = 0, stdin: str = "", at: int | None = None) -> Done:
        """A command there, as machine number ``machine``; ``at``: as if it were that second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"words": [str(word) for word in words], "machine": machine, "stdin": stdin, "at": at}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the shell has ended"
        return Done(**json.loads(answer))

    def good(self, *words: object, **how: Any) -> Done:
        done = self.volact(*words, **how)
        assert done.code == 0, (words, done.err, done.out)
        return done

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)
        self._process.stdout.close()


@contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.close()


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the group, as a service manager does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def _serve() -> None:
    """The other end of :class:`Shell`."""
    from support.processes import volact

    for line in sys.stdin:
        asked = json.loads(line)
        at = asked["at"]
        clock = None if at is None else (lambda at=at: at)
        done = volact(*asked["words"], machine=asked["machine"], stdin=asked["stdin"], clock=clock)
        answer = {"code": done.code, "out": done.out, "err": done.err}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
