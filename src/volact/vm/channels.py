# SPDX-License-Identifier: Apache-2.0
"""The host's ends of the channels: watches folders for guests' sockets, listens on vsock, and keeps guests apart.

Each channel is a task of its own with a reader of its own, one request under way and budgets for requests and bytes;
what a guest sends beyond them waits in its own socket.  A channel that ends is forgotten with all that it held.
Nothing here knows what a request means.  Spec: docs/spec/vm-channel.md §6.
"""

import asyncio
import contextlib
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volact.core.errors import ConfigError, MalformedError
from volact.vm.frames import MOST_REQUEST, REQUESTS, Frame, FrameReader
from volact.vm.messages import PORT_NAME, Answer, Request, read_request

LOOK_SECONDS = 0.5
CHUNK = 16 * 1024
MOST_CHANNELS = 4096  # of one host; the largest hypervisors run some thousand guests
SEND_SECONDS = 20.0  # a guest that does not take its answer is hung up on
QUIET_SECONDS = 60.0  # between two complaints about one channel


class NoSocketFolderError(ConfigError):
    code = "socket-folder-missing"
    fmt = "there is no folder {path} to find guests' sockets in"
    remedy = "make it, or name the folder where the hypervisor puts its channels' sockets: --sockets DIR"


class NoVsockError(ConfigError):
    code = "vsock-missing"
    fmt = "cannot listen on vsock port {port}: {why}"
    remedy = "load the kernel's vhost_vsock module, or serve virtio-serial sockets only"


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one channel.  A guest asks twice a product a week; an administrator who tries asks some more."""

    burst_requests: int = 40
    seconds_per_request: float = 2.0
    burst_bytes: int = 1024 * 1024
    bytes_per_second: int = 32 * 1024


class Budget:
    """A bucket that fills with time: ``take`` says how long to wait before going on."""

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst, self._rate = burst, per_second
        self._left, self._at = burst, now

    def take(self, amount: float, now: float) -> float:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - amount
        self._at = now
        return max(0.0, -self._left / self._rate)


Handler = Callable[[Request, str], Awaitable[Answer]]
Complain = Callable[[str, str, str], None]  # channel, code, sentence


class Channels:
    """All channels of a host.  ``complain`` is told of what a guest did wrong, now and then."""

    def __init__(self, handle: Handler, complain: Complain, limits: Limits | None = None) -> None:
        self._handle, self._complain, self._limits = handle, complain, limits or Limits()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._complained: dict[tuple[str, str], float] = {}

    @property
    def open(self) -> list[str]:
        return sorted(self._tasks)

    async def watch(self, folders: Sequence[Path]) -> None:
        """Serve every socket that is or comes to be in the folders; until cancelled."""
        try:
            while True:
                for name, path in _sockets(folders):
                    if name not in self._tasks and len(self._tasks) < MOST_CHANNELS:
                        self._start(name, self._connect(name, path))
                self._forget_complaints()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self.close()

    async def listen(self, sock: socket.socket, name: Callable[[object], str]) -> None:
        """Serve each connection to a listening socket; ``name`` names it by its peer's address; until cancelled."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = name(writer.get_extra_info("peername"))
            if channel in self._tasks or len(self._tasks) >= MOST_CHANNELS:
                writer.close()
                return
            self._start(channel, self.serve(channel, reader, writer))

        server = await asyncio.start_server(connected, sock=sock, limit=CHUNK)
        async with server:
            await server.serve_forever()

    async def serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One channel, until its guest is gone."""
        try:
            await _Channel(name, self._handle, self._say, self._limits).run(reader, writer)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()  # answers were waited for; what a deaf guest has not taken is nobody's

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, name: str, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _connect(self, name: str, path: Path) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(str(path), limit=CHUNK)
        except ConnectionRefusedError:  # left behind by a guest that is off
            return
        except OSError as exc:
            self._say(name, "guest-socket-unusable", exc.strerror or str(exc))
            return
        await self.serve(name, reader, writer)

    def _say(self, channel: str, code: str, sentence: str) -> None:
        """At most once a minute for each channel and code: a guest must not fill the host's log."""
        now = asyncio.get_running_loop().time()
        if now - self._complained.get((channel, code), -QUIET_SECONDS) >= QUIET_SECONDS:
            self._complained[channel, code] = now
            self._complain(channel, code, sentence)

    def _forget_complaints(self) -> None:
        now = asyncio.get_running_loop().time()
        self._complained = {key: at for key, at in self._complained.items() if now - at < QUIET_SECONDS}


class _Channel:
    def __init__(self, name: str, handle: Handler, say: Complain, limits: Limits) -> None:
        self._name, self._handle, self._say = name, handle, say
        now = asyncio.get_running_loop().time()
        self._requests = Budget(limits.burst_requests, 1 / limits.seconds_per_request, now)
        self._bytes = Budget(limits.burst_bytes, limits.bytes_per_second, now)
        self._reader = FrameReader(REQUESTS, MOST_REQUEST)

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            skipped = self._reader.skipped
            for frame in self._reader.receive(data):
                await self._answer(frame, writer)
            if self._reader.skipped > skipped:
                self._say(self._name, "guest-bytes-skipped", f"{self._reader.skipped} bytes belonged to no frame")
            await self._wait(self._bytes, len(data))

    async def _answer(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        """The next request is not looked at before this one is answered."""
        await self._wait(self._requests, 1)
        try:
            request = read_request(frame)
        except MalformedError as exc:  # nobody to answer: the exchange's ID is in what cannot be read
            self._say(self._name, exc.code, str(exc))
            return
        answer = await self._handle(request, self._name)
        writer.write(answer.to_frame().to_bytes())
        async with asyncio.timeout(SEND_SECONDS):
            await writer.drain()

    async def _wait(self, budget: Budget, amount: float) -> None:
        seconds = budget.take(amount, asyncio.get_running_loop().time())
        if seconds > 0:
            self._say(self._name, "guest-slowed-down", "it sends more than a guest has to")
            await asyncio.sleep(seconds)


def _sockets(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Every socket in a folder, and in its subfolders those named for our port, as libvirt lays them out."""
    for folder in folders:
        for path in _entries(folder):
            mode = _mode(path)
            if stat.S_ISSOCK(mode):
                yield path.name.removesuffix(".sock"), path
            elif stat.S_ISDIR(mode) and stat.S_ISSOCK(_mode(path / PORT_NAME)):
                yield path.name, path / PORT_NAME


def _entries(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _mode(path: Path) -> int:
    """Of the entry itself: a link in the folder could lead anywhere."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mode
    return 0


def check_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise NoSocketFolderError(path=str(folder))


def vsock_listener(port: int) -> socket.socket:
    """A socket that guests reach through vsock."""
    try:
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        sock.bind((socket.VMADDR_CID_ANY, port))
        sock.listen(64)
    except (OSError, AttributeError) as exc:
        raise NoVsockError(port=port, why=getattr(exc, "strerror", None) or str(exc)) from None
    sock.setblocking(False)
    return sock


def vsock_name(peer: object) -> str:
    """``vsock-CID``: the hypervisor vouches for the number."""
    return f"vsock-{peer[0]}" if isinstance(peer, tuple) else "vsock"
