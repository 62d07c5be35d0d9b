# SPDX-License-Identifier: Apache-2.0
"""The site that the console shows: the roles' folders on this machine, opened when a page first asks for them.

A role that is not set up here, or in a folder that is closed to the console, is ``None``, and its pages say how to set
it up.  Stores stay open: a page has milliseconds.  What is read of each role is in ``snapshots``.
"""

import functools
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event

from volact.console.folder import ConsoleFolder
from volact.console.targets import ThisMachine
from volact.fleet.api import Fleet
from volact.fleet.folder import FILE as FLEET_FILE
from volact.fleet.folder import FleetFolder
from volact.fleet.store import FleetStore
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.host.store import HostStore
from volact.sealing import keys
from volact.vm.application import VmFolder
from volact.vm.application import open_store as open_vm_store
from volact.vm.store import VmStore

T = TypeVar("T")
CACHE_KIB = 64 * 1024
MMAP_BYTES = 512 * 1024 * 1024  # address space, not memory


@dataclass(frozen=True, slots=True)
class HostRole:
    folder: HostFolder
    store: HostStore


@dataclass(frozen=True, slots=True)
class VmRole:
    folder: VmFolder
    store: VmStore


@dataclass(frozen=True, slots=True)
class FleetRole:
    folder: FleetFolder
    store: FleetStore


@dataclass(slots=True)
class ConsoleSite:
    """``folders``: where each role's folder is; ``program``: what runs ``volact``; ``vault``: the file with the
    passphrase of the fleet's key vault, where its folder does not keep it."""

    folder: ConsoleFolder
    folders: Mapping[str, Path]
    program: tuple[str, ...]
    clock: Callable[[], int]
    vault: Path | None = None
    _opened: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def here(self) -> ThisMachine:
        return ThisMachine(self.program, self.folders)

    def host(self) -> HostRole | None:
        return self._role("host", _open_host)

    def vm(self) -> VmRole | None:
        return self._role("vm", _open_vm)

    def fleet(self) -> FleetRole | None:
        return self._role("fleet", _open_fleet)

    def fleet_tool(self, role: FleetRole, who: str) -> Fleet:
        """The fleet tool, acting as somebody."""
        passphrase = None if self.vault is None else functools.partial(keys.read_passphrase, self.vault)
        return Fleet(role.folder, role.store, who, self.clock, passphrase)

    def close(self) -> None:
        for role in self._opened.values():
            role.store.close()
        self._opened.clear()

    def _role(self, name: str, open_role: Callable[[Path], T | None]) -> T | None:
        """Opened once; a folder that is not there yet is looked for each time."""
        with self._lock:
            if name not in self._opened:
                opened = open_role(self.folders[name])
                if opened is None:
                    return None
                self._opened[name] = opened
            found: T = self._opened[name]
            return found


def _open_host(path: Path) -> HostRole | None:
    folder = HostFolder(path)
    if not _is_there(path / "keys"):
        return None
    folder.check()
    return HostRole(folder, open_store(folder))


def _open_vm(path: Path) -> VmRole | None:
    folder = VmFolder(path)
    if not _is_there(path / "keys"):
        return None
    folder.check()
    return VmRole(folder, open_vm_store(folder))


def _open_fleet(path: Path) -> FleetRole | None:
    if not _is_there(path / FLEET_FILE):
        return None
    folder = FleetFolder.open(path)
    store = folder.store()
    event.listen(store.engine, "connect", _read_ahead)
    store.engine.dispose()  # its first connection was made before
    return FleetRole(folder, store)


def _is_there(path: Path) -> bool:
    """A folder of another user, as a VM host's can be, is none that this console manages."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _read_ahead(connection: Any, _record: object) -> None:
    """Lists over a whole inventory wait for the disk's pages more than for anything else; PostgreSQL sees to that."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
