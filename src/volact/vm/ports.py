# SPDX-License-Identifier: Apache-2.0
"""The guest's ends of the channel: a virtio-serial port found by its name, or a vsock to the computer below.

Linux.  Nothing is opened before it is asked for; a port takes one program at a time.  Spec: docs/spec/vm-channel.md §1.
"""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from volact.core.errors import TransportError
from volact.vm.messages import PORT_NAME, VSOCK_PORT

SYSFS = Path("/sys/class/virtio-ports")
DEV = Path("/dev")
CHUNK = 64 * 1024
BUSY_SECONDS = 15.0  # another Volact command on the same guest is done by then
_HOST = 2  # VMADDR_CID_HOST, vsock(7)


class NoVmHostError(TransportError):
    code = "no-vm-host"
    fmt = "this computer has no channel to a VM host: {why}"
    remedy = "give the guest a virtio-serial port named org.volact.activation.0 (docs/guide/virtual-machines.md)"


class VmChannelError(TransportError):
    code = "vm-channel-failed"
    fmt = "the channel {channel} to the VM host does not work: {why}"
    remedy = "look whether `volact vm serve` runs on the host and watches this guest's socket"


class Port(Protocol):
    """One open end; ``name`` is for people.  ``receive`` gives nothing where nothing came in time."""

    name: str

    def send(self, data: bytes, until: float) -> None: ...

    def receive(self, until: float) -> bytes: ...

    def close(self) -> None: ...


class SerialPort:
    """A virtio-serial port, opened without blocking; ``until`` is on the monotonic clock."""

    def __init__(self, path: Path) -> None:
        self.name = f"virtio-serial {path.name}"
        self._fd = _open_alone(path, self.name)

    def send(self, data: bytes, until: float) -> None:
        left = memoryview(data)
        while left:
            self._wait(select.POLLOUT, until)
            with contextlib.suppress(BlockingIOError), _named(self.name):
                left = left[os.write(self._fd, left[:CHUNK]) :]
            if left and time.monotonic() >= until:
                raise VmChannelError(channel=self.name, why="nobody on the host takes what the guest sends")

    def receive(self, until: float) -> bytes:
        if not self._wait(select.POLLIN, until):
            return b""
        with contextlib.suppress(BlockingIOError), _named(self.name):
            return os.read(self._fd, CHUNK)
        return b""

    def close(self) -> None:
        os.close(self._fd)

    def _wait(self, event: int, until: float) -> bool:
        """Whether it can be read or written.  While nobody holds the host's end a port reports a hang-up at once: the
        host's service may be on its way back, so that is slept over."""
        poll = select.poll()
        poll.register(self._fd, event)
        while (left := until - time.monotonic()) > 0:
            for _, events in poll.poll(min(left, 1.0) * 1000):
                if events & event:
                    return True
                if events & select.POLLHUP:
                    time.sleep(min(left, 0.1))
        return False


class SocketPort:
    """A connected stream socket: vsock, and in tests one end of a pair."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name, self._sock = name, sock

    def send(self, data: bytes, until: float) -> None:
        with _named(self.name):
            self._sock.settimeout(max(until - time.monotonic(), 0.001))
            self._sock.sendall(data)

    def receive(self, until: float) -> bytes:
        left = until - time.monotonic()
        if left <= 0:
            return b""
        with _named(self.name):
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(CHUNK)
            except TimeoutError:
                return b""
        if not data:
            raise VmChannelError(channel=self.name, why="the host closed it")
        return data

    def close(self) -> None:
        self._sock.close()


@dataclass(frozen=True, slots=True)
class Finder:
    """Where to look; the defaults are the system's places."""

    sysfs: Path = SYSFS
    dev: Path = DEV
    vsock: bool = True

    def present(self) -> bool:
        """Whether a channel can be expected, without opening one."""
        return self.serial_port() is not None or self._has_vsock()

    def serial_port(self) -> Path | None:
        """The device of the port with our name."""
        with contextlib.suppress(OSError):
            for port in sorted(self.sysfs.iterdir()):
                with contextlib.suppress(OSError):
                    if (port / "name").read_text().strip() == PORT_NAME:
                        return self.dev / port.name
        return None

    def open(self) -> Port:
        """The virtio-serial port where there is one, else a vsock to the host."""
        path = self.serial_port()
        if path is not None:
            return SerialPort(path)
        if self._has_vsock():
            return _open_vsock()
        raise NoVmHostError(why="neither a virtio-serial port of that name nor vsock is there")

    def _has_vsock(self) -> bool:
        return self.vsock and hasattr(socket, "AF_VSOCK") and (self.dev / "vsock").exists()


def _open_vsock() -> Port:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.settimeout(5.0)
        sock.connect((_HOST, VSOCK_PORT))
    except OSError as exc:
        sock.close()
        raise NoVmHostError(why=f"no virtio-serial port, and vsock says: {exc.strerror or exc}") from None
    return SocketPort(sock, f"vsock {VSOCK_PORT}")


def _open_alone(path: Path, name: str) -> int:
    """The kernel lets one program open a port; another Volact command may be talking just now."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno != errno.EBUSY or time.monotonic() >= end:
                raise VmChannelError(channel=name, why=exc.strerror or str(exc)) from None
        time.sleep(0.1)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except TimeoutError:
        raise VmChannelError(channel=name, why="nobody on the host takes what the guest sends") from None
    except OSError as exc:
        raise VmChannelError(channel=name, why=exc.strerror or str(exc)) from None
