# SPDX-License-Identifier: Apache-2.0
"""Backups: a role's folder and a copy of its database in one file.

A gzip-compressed tar archive that any tool can read: ``backup.json`` first, then the files it lists, each with its
SHA-256.  Keys go in as they lie in the folder, encrypted.  Reading is strict: a file that is not exactly what the list
says fails, before anything is put anywhere.  Guide: docs/guide/backup.md.
"""

import gzip
import hashlib
import io
import os
import re
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, MalformedError, StoreError
from volact.sql.backup import POSTGRESQL_NAME, SQLITE_NAME, copy_database, put_back

FORMAT = 1
LIST = "backup.json"
MOST_LIST = 1024 * 1024
MOST_FILES = 20_000
TRIES = 5  # a rotation of keys between the first look and the last makes one more necessary
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
COMPRESSION = 1  # tables of licences shrink to a third at once; more takes long and gains little

# SQLite's own files beside the database, lock files, and what a command has in hand at the moment.
_LEFT_OUT = re.compile(r"(?:\..*|.*-wal|.*-shm|.*-journal|.*\.lock|.*\.tmp|.*\.sock)\Z")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_BLOCK = 1024 * 1024


class BackupDamagedError(InputError):
    code = "backup-damaged"
    fmt = "{path} is not a whole backup: {why}"
    remedy = "take another backup; nothing was restored"


class BackupKindError(InputError):
    code = "backup-other-kind"
    fmt = "{path} is a backup of a {kind}, not of a {wanted}"
    remedy = "restore it with the command of its own kind"


class BackupTakenError(ConfigError):
    code = "backup-exists"
    fmt = "{path} exists"
    remedy = "choose another name: a backup never overwrites another"


class BackupUnwritableError(StoreError):
    code = "backup-unwritable"
    fmt = "cannot write {path}: {why}"
    remedy = "choose another place, or make room there; nothing is left behind"


class BackupRestlessError(StoreError):
    code = "backup-restless"
    fmt = "the files of {path} kept changing while they were copied"
    remedy = "wait for the other command to end, then run this one again"


class RestoreTakenError(ConfigError):
    code = "restore-not-empty"
    fmt = "{path} exists and is not empty"
    remedy = "restore into a folder that does not exist, with --dir; then move it into its place"


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, path: Path) -> Self:
        with path.open("rb") as file:
            return cls(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True, slots=True)
class Contents:
    """The list at the beginning of a backup.  ``database``: the file among ``files`` that is the copy, by its kind."""

    kind: str
    made_at: int
    version: str
    files: tuple[Entry, ...]

    @property
    def is_postgresql(self) -> bool:
        return any(entry.name == POSTGRESQL_NAME for entry in self.files)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)

    def to_bytes(self) -> bytes:
        files = [{"name": one.name, "size": one.size, "sha256": one.sha256} for one in self.files]
        about = {"format": "volact-backup", "v": FORMAT, "kind": self.kind, "made_at": self.made_at}
        return dump_object({**about, "version": self.version, "files": files}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        claim = Fields(parse_object(data, LIST), LIST)
        claim.integer("v", least=FORMAT, most=FORMAT)
        files = tuple(_entry(Fields(item, LIST)) for item in claim.items("files", most=MOST_FILES))
        names = [entry.name for entry in files]
        if len(set(names)) != len(names) or len({SQLITE_NAME, POSTGRESQL_NAME} & set(names)) != 1:
            claim.fail("files", "different names, and one copy of a database among them")
        return cls(claim.text("kind", most=40), claim.integer("made_at"), claim.text("version", most=40), files)


def write(
    target: Path, folder: Path, database: Path | str, kind: str, now: int, version: str, *, leave_out: frozenset[str]
) -> Contents:
    """Back up ``folder`` and its database into a new file, readable by its owner only.

    ``leave_out``: files of the folder that do not go in, by name.
    """
    if target.exists():
        raise BackupTakenError(path=str(target))
    if isinstance(database, Path):
        leave_out |= {database.name}
    try:
        with _beside(target) as work:
            entries = _copy(folder, database, leave_out, work / "files")
            contents = Contents(kind, now, version, entries)
            _write_archive(work / "archive", contents, work / "files")
            (work / "archive").replace(target)
    except OSError as exc:
        raise BackupUnwritableError(path=str(target), why=exc.strerror or str(exc)) from None
    return contents


def restore(
    source: Path, folder: Path, kind: str, place: Callable[[Contents, Path], Path | str], check: Callable[[Path], None]
) -> Contents:
    """Make a new folder from a backup: whole, or not at all.

    ``place`` says where the database belongs, given the list and the folder as it is unpacked, beside its place to be;
    ``check`` looks at the finished folder there, and what it raises takes everything back but a PostgreSQL database.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RestoreTakenError(path=str(folder))
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as work:
            contents = _unpack(source, work / "folder", kind)
            copy = work / "folder" / (POSTGRESQL_NAME if contents.is_postgresql else SQLITE_NAME)
            copy.replace(work / "copy")
            put_back(work / "copy", place(contents, work / "folder"))
            check(work / "folder")
            (work / "folder").rename(folder)
    except OSError as exc:
        raise BackupUnwritableError(path=str(folder), why=exc.strerror or str(exc)) from None
    return contents


def _copy(folder: Path, database: Path | str, leave_out: frozenset[str], target: Path) -> tuple[Entry, ...]:
    """Files and database of one moment: keys, certificates and the rows that tell of them change together."""
    for _ in range(TRIES):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=PRIVATE_FOLDER)
        try:
            entries = [_copy_one(name, path, target) for name, path in _files(folder, leave_out)]
            copied = copy_database(database, target)
            again = [Entry.of(name, path) for name, path in _files(folder, leave_out)]
        except FileNotFoundError:
            continue
        if entries == again:
            return (Entry.of(copied.name, copied), *entries)
    raise BackupRestlessError(path=str(folder))


def _copy_one(name: str, path: Path, target: Path) -> Entry:
    copy = target.joinpath(*name.split("/"))
    copy.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
    return Entry.of(name, copy)


def _files(folder: Path, leave_out: frozenset[str]) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        name = "/".join(parts)
        if path.is_file() and not path.is_symlink() and not any(map(_LEFT_OUT.match, parts)) and name not in leave_out:
            yield name, path


def _write_archive(target: Path, contents: Contents, folder: Path) -> None:
    with target.open("xb") as raw:
        target.chmod(PRIVATE)
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=COMPRESSION, mtime=0)
        with packed, tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            data = contents.to_bytes()
            archive.addfile(_member(LIST, len(data), contents.made_at), io.BytesIO(data))
            for entry in contents.files:
                with folder.joinpath(*entry.name.split("/")).open("rb") as file:
                    archive.addfile(_member(entry.name, entry.size, contents.made_at), file)
        raw.flush()
        os.fsync(raw.fileno())


def _member(name: str, size: int, at: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, at, PRIVATE
    return member


def _unpack(source: Path, folder: Path, kind: str) -> Contents:
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            contents = _read_list(archive)
            if contents.kind != kind:
                raise BackupKindError(path=str(source), kind=contents.kind, wanted=kind)
            folder.mkdir(mode=PRIVATE_FOLDER)
            for entry in contents.files:
                _unpack_one(archive, entry, folder)
            _check_ended(archive)
    except MalformedError as exc:
        raise BackupDamagedError(path=str(source), why=str(exc)) from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as exc:
        raise BackupDamagedError(path=str(source), why=f"{exc or type(exc).__name__}") from None
    return contents


def _read_list(archive: tarfile.TarFile) -> Contents:
    member = archive.next()
    if member is None or member.name != LIST or not member.isreg() or member.size > MOST_LIST:
        raise MalformedError(what="backup", why=f"it does not begin with {LIST}")
    file = archive.extractfile(member)
    assert file is not None, "a regular file"
    return Contents.from_bytes(file.read())


def _unpack_one(archive: tarfile.TarFile, entry: Entry, folder: Path) -> None:
    """The next file of the archive, which must be exactly this one: no name of the archive's own becomes a path."""
    member = archive.next()
    if member is None or member.name != entry.name or not member.isreg() or member.size != entry.size:
        raise MalformedError(what="backup", why=f"{entry.name} is not where its list says")
    file = archive.extractfile(member)
    assert file is not None, "a regular file"
    path = folder.joinpath(*entry.name.split("/"))
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as target:
        path.chmod(PRIVATE)
        while block := file.read(_BLOCK):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != entry.sha256:
        raise MalformedError(what="backup", why=f"{entry.name} was changed")


def _check_ended(archive: tarfile.TarFile) -> None:
    if archive.next() is not None:
        raise MalformedError(what="backup", why="it holds more than its list says")
    assert archive.fileobj is not None, "it is open"
    while archive.fileobj.read(_BLOCK):  # to the end, where gzip has a checksum of its own
        pass


def _entry(claim: Fields) -> Entry:
    name = claim.text("name", most=400)
    if not all(_PART.match(part) for part in name.split("/")) or name == LIST:
        claim.fail("name", "a path of plain names")
    digest = claim.text("sha256", most=64)
    if not _DIGEST.match(digest):
        claim.fail("sha256", "64 hexadecimal digits")
    return Entry(name, claim.integer("size"), digest)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the same file system, gone when the block ends."""
    work = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    work.mkdir(mode=PRIVATE_FOLDER)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
