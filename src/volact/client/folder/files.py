# SPDX-License-Identifier: Apache-2.0
"""The files of the client's folder: where it is, its lock, and how each file is read and written.

Every file is written whole or not at all, and what cannot be made anew twice: where it is damaged or lost it is read
from its copy, and that is noted.  Who reads, decides and writes holds the folder's lock; readers need none.  What
the files are called and mean is ``store``'s.  Spec: docs/spec/states.md §4.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from volact.client import platform
from volact.core.errors import StoreError, VolactError

SYSTEM_FOLDER = platform.here().SYSTEM_FOLDER
LOCK_SECONDS = 10.0  # what is done under the lock takes milliseconds: whoever holds it longer hangs
SECRET, PUBLIC, FOLDER = 0o600, 0o644, 0o755  # products run as any user: they read all but the two keys
PRIVATE_FOLDER = 0o700

T = TypeVar("T")


class ClientFolderError(StoreError):
    code = "client-folder"
    fmt = "cannot use {path}: {why}"
    remedy = "run the command as the user that owns the folder, check the disk, or choose another folder with --dir"


class ClientBusyError(StoreError):
    code = "client-folder-busy"
    fmt = "another command has been changing {path} for {seconds} seconds"
    remedy = "wait for the other `volact client` command to end, or end it"


class ClientFiles:
    """The files of one folder.  ``notes`` collects what was repaired or left aside while reading, a sentence each."""

    def __init__(self, folder: Path, lock_seconds: float = LOCK_SECONDS) -> None:
        self.folder = folder
        self._lock_seconds = lock_seconds
        self.notes: list[str] = []
        self._locked = 0

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands out while something is read, decided and written; may be nested."""
        if self._locked:
            self._locked += 1
            try:
                yield
            finally:
                self._locked -= 1
            return
        self._make_folder(self.folder)
        descriptor = _lock_file(self.folder / "lock", self._lock_seconds)
        self._locked = 1
        try:
            yield
        finally:
            self._locked = 0
            os.close(descriptor)

    def _load(self, path: Path, parse: Callable[[bytes], T], *, raises: bool = False) -> T | None:
        """What ``parse`` makes of a file, or of its copy where the file is damaged or lost."""
        first: VolactError | None = None
        for candidate in (path, copy_of(path)):
            data = read_file(candidate)
            if data is None:
                continue
            try:
                value = parse(data)
            except VolactError as exc:
                first = first or exc
                continue
            if candidate != path:
                self.note(f"{path} was damaged or lost ({first or 'missing'}); its copy is used")
            return value
        if first is not None:
            if raises:
                raise first
            self.note(f"{path} is left aside: {first}")
        return None

    def _save(self, path: Path, data: bytes, mode: int = PUBLIC, *, copy: bool = True) -> None:
        """Write a file, then its copy: at any moment one of them is whole, and is what the other was or will be.

        Without a copy goes what the next attempt makes anew.
        """
        with self.lock():
            self._make_folder(path.parent)
            write_whole(path, data, mode)
            if copy:
                write_whole(copy_of(path), data, mode)

    def _make_folder(self, folder: Path) -> None:
        """Open to every user from the client's folder down: an administrator's umask must not take licences away."""
        if self.folder == SYSTEM_FOLDER:
            _open(SYSTEM_FOLDER.parent)
        if folder.is_dir():
            return
        top = SYSTEM_FOLDER.parent if self.folder == SYSTEM_FOLDER else self.folder
        try:
            for one in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
                one.mkdir(exist_ok=True)
                if one.is_relative_to(top):
                    one.chmod(FOLDER)
        except OSError as exc:
            raise folder_error(folder, exc) from None

    def _remove(self, path: Path) -> None:
        with self.lock():
            remove(copy_of(path))
            remove(path)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def find_folder(variables: Mapping[str, str], given: str | os.PathLike[str] | None = None) -> Path:
    """The client's folder: the one given, else ``VOLACT_CLIENT_DIR``, else the system's, else the user's own.

    The system's is taken by every user once it exists, so that products see what an administrator activated.
    """
    if given:
        return Path(given)
    if variables.get("VOLACT_CLIENT_DIR"):
        return Path(variables["VOLACT_CLIENT_DIR"])
    system = platform.here()
    if system.is_administrator() or platform.has_folder(SYSTEM_FOLDER):
        return SYSTEM_FOLDER
    return system.user_folder(variables)


def _open(folder: Path) -> None:
    """What an earlier version's host made for itself alone is the way to the client's folder, which is everybody's."""
    with suppress(OSError):  # another's, or not there yet, or a service's that may not change it
        if stat.S_IMODE(folder.stat().st_mode) == PRIVATE_FOLDER:
            folder.chmod(FOLDER)


# ---- the two ways in which this room changes files; each leaves the old or the new state, nothing between


def write_whole(path: Path, data: bytes, mode: int) -> None:
    from volact.sealing import keys

    try:
        keys.write_file(path, data, mode, platform.here().protect if mode == SECRET else None)
    except OSError as exc:
        raise folder_error(path, exc) from None


def remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise folder_error(path, exc) from None


def copy_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.copy")


def exists(path: Path) -> bool:
    return path.exists() or copy_of(path).exists()


def read_file(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise folder_error(path, exc) from None


def folder_error(path: Path, exc: OSError) -> ClientFolderError:
    return ClientFolderError(path=str(path), why=exc.strerror or str(exc))


def _lock_file(path: Path, seconds: float) -> int:
    """An open descriptor that holds the lock; closing it, or the process's end, gives the lock back."""
    system = platform.here()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), SECRET)
    except OSError as exc:
        raise folder_error(path, exc) from None
    ends = time.monotonic() + seconds
    while True:
        if system.try_lock(descriptor):
            return descriptor
        if time.monotonic() > ends:
            os.close(descriptor)
            raise ClientBusyError(path=str(path.parent), seconds=int(seconds))
        time.sleep(0.01)
