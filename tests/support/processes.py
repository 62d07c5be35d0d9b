# SPDX-License-Identifier: Apache-2.0
"""The production commands, run in this process for an answer or as servers of their own; and a storm of requests.

``volact(...)`` is the whole command line with captured streams; :class:`Server` is a process group that ends by a
signal of the test's choice.  Nothing here sleeps for a fixed time: it waits for what it needs to see.
"""

import asyncio
import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.main import main
from volact.testing.machines import simulated_environment

START_SECONDS = 90.0
STOP_SECONDS = 60.0
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Done:
    """What a command ended with; ``hints`` and ``errors`` are its lines on stderr, without their prefix."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def errors(self) -> list[str]:
        return re.findall(r"^volact: error: (.*)$", self.err, re.MULTILINE)

    @property
    def hints(self) -> list[str]:
        return re.findall(r"^volact: hint: (.*)$", self.err, re.MULTILINE)


def volact(
    *words: object,
    machine: int = 0,
    stdin: str = "",
    clock: Callable[[], int] | None = None,
    hostname: str | None = None,
) -> Done:
    """Run a command here, as machine number ``machine`` sees it."""
    out, err = io.StringIO(), io.StringIO()
    variables = {"VOLACT_MDNS": os.environ.get("VOLACT_MDNS", "off")}
    base = Environment(out, err, io.StringIO(stdin), variables, lambda: int(time.time()), dict, lambda: "")
    env = simulated_environment(machine, base, clock)
    if hostname is not None:
        env = dataclasses.replace(env, hostname=lambda: hostname)
    return Done(main([str(word) for word in words], env), out.getvalue(), err.getvalue())


def good(*words: object, **how: Any) -> Done:
    """The same, where only success will do."""
    done = volact(*words, **how)
    assert done.code == 0, (words, done.err, done.out)
    return done


class Server:
    """A long-running command in a process group of its own, its words in a log."""

    def __init__(self, words: Sequence[object], log: Path, port: int, *, address: str = ADDRESS) -> None:
        self.port, self.address, self._log = port, address, log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "volact.cli.main", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, path: str = "/readyz", status: int = 200) -> "Server":
        """Until it answers a page with that status."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.get(path)[0] == status:
                    return self
            time.sleep(0.02)
        raise AssertionError(f"the server does not answer {path} with {status}:\n{self.log}")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def workers(self) -> list[int]:
        """The process IDs of its workers, which are those children that listen."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = [int(child) for child in path.read_text().split()]
        return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def kill(self) -> None:
        """SIGKILL to every process of it at once: nothing is said goodbye to."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM to the parent, as a service manager does; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop:\n{self.log}") from None


def host_words(folder: Path, port: int, *, workers: int = 1, listen: str = ADDRESS) -> list[object]:
    return ["host", "serve", "--dir", folder, "--listen", listen, "--port", port, "--workers", workers]


@contextmanager
def serving(folder: Path, port: int, *, workers: int = 1, ready: int = 200) -> Iterator[Server]:
    """A KMS host on ``folder``, until the block ends."""
    server = Server(host_words(folder, port, workers=workers), folder.parent / f"{folder.name}.log", port)
    try:
        yield server.wait_until("/readyz", ready)
    finally:
        if server.process.poll() is None:
            server.stop()


def wait_for(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of ``what``."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "what was waited for did not happen"
        threading.Event().wait(0.02)
    return value


@dataclass
class Storm:
    """What became of many requests that were under way at once: answers by the request's place, failures by cause."""

    answers: dict[int, bytes] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


def storm(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    on_answer: Callable[[Storm], None] = lambda _: None,
    *,
    concurrency: int = 2000,
) -> Storm:
    """POST every body over a connection of its own; ``on_answer`` is called after each whole answer."""
    return asyncio.run(_storm(port, path, bodies, on_answer, concurrency))


async def _storm(
    port: int, path: str, bodies: Sequence[bytes], on_answer: Callable[[Storm], None], concurrency: int
) -> Storm:
    done, gate = Storm(), asyncio.Semaphore(concurrency)

    async def one(place: int, body: bytes) -> None:
        async with gate:
            try:
                status, answer = await post(port, path, body)
            except (OSError, EOFError, ValueError) as exc:
                done.failures[place] = type(exc).__name__
                return
        if status != 200:
            done.failures[place] = f"{status} {answer[:200]!r}"
            return
        done.answers[place] = answer
        on_answer(done)

    await asyncio.gather(*(one(place, body) for place, body in enumerate(bodies)))
    return done


async def post(port: int, path: str, body: bytes, content_type: str = "application/proto") -> tuple[int, bytes]:
    """One POST; the answer counts only where all of it came."""
    reader, writer = await asyncio.open_connection(ADDRESS, port)
    try:
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: kms\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
        return int(head[9:12]), await reader.readexactly(length)
    finally:
        writer.close()
