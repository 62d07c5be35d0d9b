# SPDX-License-Identifier: Apache-2.0
"""Cuts off connections on which nothing arrives any more.

The HTTP server's own limits begin with a connection's first bytes: one that never sends any, or whose answer came
before its body, would be kept for ever, and enough of them use up the file descriptors.  A thread in each worker asks
the kernel how long ago data last arrived on each connection of the port.  Linux only; elsewhere it does nothing.
"""

import os
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

IDLE_SECONDS = 12.0  # more than the ten that a header or a body may take; a client waits ten for its answer
LOOK_SECONDS = 1.0  # between two looks at all connections, 10 µs each

_DESCRIPTORS = Path("/proc/self/fd")
_ESTABLISHED = 1
_TCP_INFO = struct.Struct("B51xI")  # struct tcp_info: the state, and at byte 52 the milliseconds since data arrived


class IdleCutter:
    """Watches the connections that this process has accepted on ``port``."""

    def __init__(self, port: int, idle_seconds: float = IDLE_SECONDS, look_seconds: float = LOOK_SECONDS) -> None:
        self._port, self._idle, self._look = port, idle_seconds, look_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="volact-idle", daemon=True)

    def start(self) -> None:
        if hasattr(socket, "TCP_INFO") and _DESCRIPTORS.exists():
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def cut(self) -> int:
        """One look; returns how many were cut off."""
        return sum(self._cut(descriptor) for descriptor in _open_descriptors())

    def _run(self) -> None:
        while not self._stopping.wait(self._look):
            self.cut()

    def _cut(self, descriptor: int) -> bool:
        """On a duplicate of the descriptor: the original may be closed, and its number used again, at any moment."""
        try:
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                if not self._is_idle(connection):
                    return False
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # no socket, or gone by now
            return False
        return True

    def _is_idle(self, connection: socket.socket) -> bool:
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
            return False
        if connection.getsockname()[1] != self._port:
            return False
        state, silent = _TCP_INFO.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
        return bool(state == _ESTABLISHED and silent > self._idle * 1000)


def _open_descriptors() -> list[int]:
    """Those that lead to sockets, so that no file is duplicated: closing a copy of one would drop its locks."""
    found = []
    for entry in _DESCRIPTORS.iterdir():
        with suppress(OSError):
            if str(entry.readlink()).startswith("socket:"):
                found.append(int(entry.name))
    return found
