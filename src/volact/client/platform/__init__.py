# SPDX-License-Identifier: Apache-2.0
"""What differs between operating systems, one small module each; chosen here and nowhere else.

Linux is where the client runs and is tested.  The code for Windows and macOS is complete and tested against what such
systems print and store; it has not run there (docs/guide/licensing-service.md says what that means).
``traits``, ``endorsement`` and ``firmware`` read the hardware of a computer under Linux.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from volact.core.errors import StoreError
from volact.core.fingerprint import Trait


class ClientFolderClosedError(StoreError):
    code = "client-folder-closed"
    fmt = "{folder} cannot be entered, and the licences of this computer are in it"
    remedy = "open it to everybody as root: `chmod 755 {folder}`; its secrets are in files that only root reads"


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """How the licensing service is installed: files to write, links to them (for images, where no command can run),
    then commands; and the commands that undo it, before the files go and after.  A program in one of the ``unseen``
    folders cannot be started as this service."""

    files: Mapping[Path, bytes]
    install: tuple[tuple[str, ...], ...]
    remove: tuple[tuple[str, ...], ...]
    links: Mapping[Path, str] = field(default_factory=dict)
    removed: tuple[tuple[str, ...], ...] = ()
    unseen: tuple[Path, ...] = ()


class Platform(Protocol):
    """A module of this package."""

    SYSTEM_FOLDER: Path
    SYSTEM_SOCKET: Path | None  # of the system's service; ``None`` where the local API does not exist
    HOOKS: tuple[str, ...]  # names of the executable that reminds people
    HOOK_FOLDER: Path

    def user_folder(self, variables: Mapping[str, str]) -> Path:
        """Where the client's folder of one user is."""

    def is_administrator(self) -> bool: ...

    def collect(self, root: Path = ...) -> dict[Trait, str]:
        """The raw values of the machine's traits; never raises."""

    def protect(self, path: Path) -> None:
        """Leave a file of the system's folder to administrators, before anything is in it.  Raises ``OSError``."""

    def try_lock(self, descriptor: int) -> bool:
        """Lock an open file against every other process until it is closed; whether that was possible now."""

    def write_event(self, level: int, number: int, message: str) -> None:
        """Into the system's own log, by syslog's levels.  Raises ``OSError``."""

    def notifier(self, title: str, text: str, variables: Mapping[str, str]) -> list[str] | None:
        """The command that shows people a notice; ``None`` where nobody would see it."""

    def service_plan(self, program: tuple[str, ...]) -> ServicePlan:
        """``program`` is how ``volact`` is started."""


def has_folder(path: Path) -> bool:
    """Whether the system's folder is there; raises :class:`ClientFolderClosedError` where that cannot be seen."""
    try:
        return path.is_dir()
    except PermissionError:
        raise ClientFolderClosedError(folder=str(path.parent)) from None


def here() -> Platform:
    """The system's that this process runs on."""
    return of(sys.platform)


def of(name: str) -> Platform:
    """By :data:`sys.platform`; whatever is not Windows or macOS is taken for a Unix like Linux."""
    if name == "win32":
        from volact.client.platform import windows

        return windows
    if name == "darwin":
        from volact.client.platform import macos

        return macos
    from volact.client.platform import linux

    return linux
