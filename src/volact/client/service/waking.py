# SPDX-License-Identifier: Apache-2.0
"""What wakes the service: a time on the wall clock, the clock being set, the network changing, a file being changed.

Each is a file descriptor of the kernel's, so that a sleeping service costs nothing and misses nothing.  What the system
lacks (another system than Linux) is ``None``, and the service looks more often instead.  Standard library only.
"""

import ctypes
import errno
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

_CLOCK_REALTIME = 0
_ABSOLUTE, _CANCEL_ON_SET = 1, 2  # TFD_TIMER_…
_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK if hasattr(os, "O_CLOEXEC") else 0
_FAR = 1 << 40  # a second that never comes: the alarm still notices that the clock was set

_ROUTE = 0  # NETLINK_ROUTE
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links, addresses and routes of IPv4 and IPv6 (RTMGRP_…)

_MOVED_TO, _CREATED, _DELETED, _WRITTEN = 0x80, 0x100, 0x200, 0x8
_EVENT = struct.Struct("iIII")


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """A timer on the wall clock (timerfd): readable when its time has come, and at once when the clock is set, in
    either direction, also while the computer was asleep."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.timerfd_create(_CLOCK_REALTIME, _CLOEXEC_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    @classmethod
    def open(cls) -> "Alarm | None":
        try:
            return cls()
        except (OSError, AttributeError, TypeError):
            return None

    def fileno(self) -> int:
        return self._descriptor

    def set(self, at: int | None) -> None:
        spec = _TimerSpec(_Timespec(0, 0), _Timespec(_FAR if at is None else max(at, 1), 0))
        flags = _ABSOLUTE | _CANCEL_ON_SET
        if self._libc.timerfd_settime(self._descriptor, flags, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clock_was_set(self) -> bool:
        """To be called when it is readable."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return False
        except OSError as exc:
            return exc.errno == errno.ECANCELED
        return False

    def close(self) -> None:
        os.close(self._descriptor)


class Network:
    """The kernel's news of links, addresses and routes (netlink)."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _ROUTE)
        self._socket.bind((0, _GROUPS))

    @classmethod
    def open(cls) -> "Network | None":
        try:
            return cls()
        except (OSError, AttributeError):
            return None

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        with suppress(OSError):
            while self._socket.recv(65536):
                pass

    def close(self) -> None:
        self._socket.close()


class Changes:
    """Files of the client's folder that others change: keys, products, settings (inotify)."""

    WATCHED = frozenset({"product.json", "trust.json", "settings.json", "key", "products"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(_CLOEXEC_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.watch()

    @classmethod
    def open(cls, folder: Path) -> "Changes | None":
        try:
            return cls(folder)
        except (OSError, AttributeError, TypeError):
            return None

    def fileno(self) -> int:
        return self._descriptor

    def watch(self) -> None:
        """The folder, the products' folder, and each product's own: watching twice is watching once."""
        products = self._folder / "products"
        folders = [self._folder, products]
        with suppress(OSError):
            folders += [entry for entry in products.iterdir() if entry.is_dir()]
        for folder in folders:
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _MOVED_TO | _CREATED | _DELETED)

    def drain(self) -> bool:
        """Whether something was changed that the service has to look at."""
        found = False
        with suppress(OSError):
            while data := os.read(self._descriptor, 65536):
                found = self._concerns(data) or found
        return found

    def close(self) -> None:
        os.close(self._descriptor)

    def _concerns(self, data: bytes) -> bool:
        offset, found = 0, False
        while offset + _EVENT.size <= len(data):
            _, mask, _, length = _EVENT.unpack_from(data, offset)
            name = data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0").decode("utf-8", "replace")
            offset += _EVENT.size + length
            is_folder = bool(mask & 0x40000000)
            found = found or is_folder or (name in self.WATCHED and bool(mask & (_MOVED_TO | _DELETED)))
        return found
