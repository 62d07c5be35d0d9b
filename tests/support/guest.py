# SPDX-License-Identifier: Apache-2.0
"""A site with VM hosts: publishers made by the production commands, hosts activated over files, `volact vm serve` as a
process.  Guests come from ``support.qemu`` or, many at once, from sockets that play QEMU's part.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import Done, good, volact
from volact.issuer.serving import ServedKey
from volact.sealing.certificates import YEAR, Role
from volact.sealing.envelope import OpeningKey
from volact.sealing.keys import LocalKey
from volact.testing import Site
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP, PublisherSimulator
from volact.vm.frames import MOST_REQUEST, REQUESTS, FrameReader
from volact.vm.guest import GuestChannel
from volact.vm.messages import read_request
from volact.vm.ports import SocketPort
from volact.vm.service import VmService
from volact.vm.store import VmStore

PRODUCT, EDITION, OTHER_EDITION = "acme-cad", "professional", "render-server"
GROUP, OTHER_GROUP = "acme-clients", "acme-servers"
START_SECONDS = 60.0

TOML = """\
product = "acme-cad"
name = "Acme CAD"
version = 1

[policy.guests]
nested = {nested}

[groups.acme-clients]
number = 101
parent = 102

[groups.acme-servers]
number = 102

[editions.professional]
name = "Acme CAD Professional"
group = "acme-clients"
kind = "client"
{more}
[editions.render-server]
name = "Acme CAD Render Server"
group = "acme-servers"
kind = "server"
"""


@dataclass
class Publisher:
    """A publisher's folder with one product, by the production commands."""

    folder: Path
    root: str = ""

    @classmethod
    def make(cls, folder: Path, name: str = "Acme Software", *, nested: bool = True, more: str = "") -> "Publisher":
        """``nested`` is true by default since the machines that run these tests are virtual ones themselves."""
        folder.mkdir(parents=True)
        (folder / "passphrase").write_text("a passphrase for tests\n")
        made = cls(folder)
        made.root = made.run("init", "--name", name).json["root"]
        (folder / "product.toml").write_text(TOML.format(nested=str(nested).lower(), more=more))
        made.run("product", "add", folder / "product.toml")
        made.run("product", "export", PRODUCT, "-o", made.file)
        made.run("organisation", "add", "Contoso")
        return made

    @property
    def file(self) -> Path:
        return self.folder / "acme-cad.volproduct"

    def run(self, *words: object) -> Done:
        where = ("--dir", self.folder / "publisher", "--passphrase-file", self.folder / "passphrase", "--json")
        return good("publisher", *words, *where)

    def key(self, group: str = OTHER_GROUP, kind: str = "vm-host") -> str:
        which = ("--organisation", "Contoso", "--kind", kind, "--product", PRODUCT, "--group", group)
        return str(self.run("key", "issue", *which).json["key"])

    def make_marker(self, file: Path, *words: object) -> None:
        """What a maker that this publisher certified puts into its computers' firmware."""
        maker, secret = self.folder / "maker", ("--passphrase-file", self.folder / "passphrase")
        request, answer = self.folder / "maker.csr", self.folder / "maker.pem"
        good("publisher", "oem", "request", "Acme PCs", "--dir", maker, "-o", request, *secret)
        self.run("oem", "certify", "Acme PCs", "--request", request, "--group", GROUP, "-o", answer)
        good("publisher", "oem", "install", answer, "--dir", maker, "--root", self.root, *secret)
        good("publisher", "oem", "marker", "--dir", maker, *words, "-o", file, *secret)


@dataclass
class VmHost:
    """A VM host's folder, by the production commands."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, publisher: Publisher | None = None, group: str = OTHER_GROUP) -> "VmHost":
        host = cls(folder)
        host.run("init")
        if publisher is not None:
            host.activate(publisher, group)
        return host

    def run(self, *words: object) -> Done:
        return good("vm", *words, "--dir", self.folder, "--json")

    def activate(self, publisher: Publisher, group: str = OTHER_GROUP) -> None:
        self.run("add-product", publisher.file, "--root", publisher.root)
        self.run("install-key", publisher.key(group))
        request, answer = self.folder.parent / "host.volreq", self.folder.parent / "host.volans"
        self.run("activate", "--request", request)
        publisher.run("answer", request, "-o", answer)
        self.run("activate", "--answer", answer)

    def guests(self) -> list[dict[str, Any]]:
        return list(self.run("guests").json)

    def events(self) -> list[dict[str, Any]]:
        return list(self.run("events", "--limit", 1000).json)

    def codes(self) -> list[str]:
        return [event["code"] for event in self.events()]

    @contextmanager
    def serving(self, sockets: Path, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
        """`volact vm serve`, until the block ends."""
        log = self.folder.parent / f"{self.folder.name}.log"
        command = ["vm", "serve", "--dir", self.folder, "--sockets", sockets, *words]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "volact.cli.main", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_for(log, "serves guests on", process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            assert code == 0, log.read_text()


@contextmanager
def short_folder() -> Iterator[Path]:
    """For sockets: their names have 107 bytes at most, and pytest's own folders are long."""
    with tempfile.TemporaryDirectory(prefix="vlt-", dir="/tmp") as name:
        yield Path(name)


class Loop:
    """An event loop on a thread of its own, for tests that are the guest."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def start(self, work: Coroutine[Any, Any, Any]) -> Callable[[], None]:
        """Run it in the background; returns what cancels it and waits for its end."""
        task = self.run(_as_task(work))

        def stop() -> None:
            self._loop.call_soon_threadsafe(task.cancel)
            self.run(_ended(task))

        return stop

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _as_task(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(work)


async def _ended(task: "asyncio.Task[Any]") -> None:
    await asyncio.wait([task])


class InMemoryVmHost:
    """The production service over a store on disk, certified by a simulated publisher, on the site's clock."""

    def __init__(
        self,
        site: Site,
        database: Path,
        loop: Loop,
        *,
        groups: Iterable[int] = (CLIENT_GROUP, SERVER_GROUP),
        nested: bool = False,
        licensed: frozenset[str] = frozenset(),
    ) -> None:
        self.site, self.loop, self.groups = site, loop, frozenset(groups)
        self.store = VmStore.open(database)
        self.service = VmService(self.store, site.clock, nested=nested, licensed=lambda root, product: self.licensed)
        self.licensed = licensed
        self.serve(site.publisher)

    def serve(self, publisher: PublisherSimulator, *, as_root: str | None = None, lifetime: int = YEAR) -> None:
        """Be activated by ``publisher``; ``as_root`` is what a liar says whose it is."""
        issuer = publisher.issuer(LocalKey.generate(), Role.VM_HOST, "Contoso", self.groups, lifetime)
        definitions = {self.site.definition.product: self.site.definition}
        root = as_root or publisher.fingerprint
        status, opening = publisher.status_token(), OpeningKey.generate()
        self.service.use([ServedKey(issuer, opening, root, "0" * 32, status, definitions, "vm1.example.test")])

    def deactivate(self) -> None:
        self.service.use([])

    def guest(self, channel: str = "guest1", os: str = "Test OS 1") -> GuestChannel:
        """A guest's production channel to this host, through memory."""
        return GuestChannel(lambda: _MemoryPort(self, channel), os=os)

    def codes(self) -> list[str]:
        return [event.code for event in self.store.events()]

    def close(self) -> None:
        self.store.close()


class _MemoryPort:
    name = "virtio-serial memory"

    def __init__(self, host: InMemoryVmHost, channel: str) -> None:
        self._host, self._channel = host, channel
        self._reader, self._answers = FrameReader(REQUESTS, MOST_REQUEST), b""

    def send(self, data: bytes, until: float) -> None:
        for frame in self._reader.receive(data):
            answer = self._host.loop.run(self._host.service.answer(read_request(frame), self._channel))
            self._answers += answer.to_frame().to_bytes()

    def receive(self, until: float) -> bytes:
        data, self._answers = self._answers, b""
        return data

    def close(self) -> None:
        pass


class QemuSocket:
    """What QEMU is to a VM host: a listening socket in a folder, one connection at a time, which outlives the guest's
    programs.  ``port`` is the guest's end; it waits for the host to come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection: socket.socket | None = None

    def connection(self, seconds: float = 15) -> socket.socket:
        if self._connection is None:
            self._listener.settimeout(seconds)
            self._connection, _ = self._listener.accept()
        return self._connection

    def port(self) -> SocketPort:
        return _Lent(self.connection(), f"virtio-serial {self.path.name}")

    def hang_up(self) -> None:
        """As when the host's service went away: the next port waits for it to come back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        self.hang_up()
        self._listener.close()
        self.path.unlink(missing_ok=True)


class _Lent(SocketPort):
    def close(self) -> None:
        """The guest's program is done; the connection stays QEMU's."""


def _wait_for(log: Path, text: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


__all__ = ["EDITION", "GROUP", "OTHER_EDITION", "OTHER_GROUP", "PRODUCT", "Publisher", "VmHost", "volact"]
