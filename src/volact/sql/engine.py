# SPDX-License-Identifier: Apache-2.0
"""Opening a database.  What SQLite is told, and why, stands here and nowhere else.

An engine must not cross a fork: open it in the process that uses it.
"""

import errno
import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext

from volact.core.errors import StoreError
from volact.sql.errors import DatabaseReadOnlyError, DatabaseUnavailableError, DiskFullError, named_error
from volact.sql.lock import file_lock

PRIVATE = 0o600  # machine names and licences are nobody else's business
HIDDEN = True  # the values of a statement: an unforeseen error that is logged says which statement, and no secret
# Random upserts into a million rows of 150 bytes: 4096 writes more a commit, 1024 makes the tree twice as deep.
PAGE_SIZE = 2048
CACHE_KIB = 32 * 1024  # a connection; SQLite's own 2 MiB do not hold the inner pages of a million rows
BUSY_SECONDS = 10  # for other programs; our own writers queue at the file lock
# Pages after which a commit folds the log back by itself: the limit for a service whose background checkpoint stalls.
AUTOCHECKPOINT_PAGES = 16_384

# What opening takes: the log's index, 32 KiB that SQLite maps into memory before their blocks are there, and a bit of
# log.  On a disk without that room the process ended by SIGBUS where blocks have 1 KiB, instead of with an error.
ROOM, PLENTY = 64 * 1024, 64 * 1024 * 1024  # more free than PLENTY: no look is taken (ext4 keeps 16 MiB at most)

FILE_ERRORS: dict[int, type[StoreError]] = {
    errno.ENOSPC: DiskFullError,
    errno.EROFS: DatabaseReadOnlyError,
    errno.EACCES: DatabaseReadOnlyError,
}

WRITES = "volact_writes"  # execution option that write transactions set


def open_engine(database: str | os.PathLike[str]) -> Engine:
    """Opens a SQLite file by its path, creating it, or a PostgreSQL database by its ``postgresql://`` URL."""
    text = os.fspath(database)
    engine = _postgresql(make_url(text)) if "://" in text else _sqlite(Path(text))
    event.listen(engine, "handle_error", _name_error, retval=True)
    return engine


def checkpoint(engine: Engine) -> int:
    """Folds SQLite's log into the database without waiting for anyone; returns the pages still in the log."""
    with engine.connect() as conn:
        cursor = conn.connection.cursor()  # outside of any transaction
        with closing(cursor):
            _, in_log, folded = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(in_log - folded)


def database_name(engine: Engine) -> str:
    """How errors call the database: a file's path, or a URL without its password."""
    url = engine.url
    return url.database or "" if engine.dialect.name == "sqlite" else url.render_as_string(hide_password=True)


def _sqlite(path: Path) -> Engine:
    _create_sqlite(path)
    url = URL.create("sqlite+pysqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=HIDDEN)
    event.listen(engine, "connect", _set_up_connection)
    event.listen(engine, "begin", _begin)
    return engine


def _create_sqlite(path: Path) -> None:
    """Gives a new file its page size, its journal and its mode; two processes may come here at once."""
    _check_room(path)
    try:
        with file_lock(path), closing(sqlite3.connect(_private(path), timeout=BUSY_SECONDS)) as conn:
            conn.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # of effect only in an empty file
            conn.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise named_error(error, str(path)) or error from error
    except OSError as error:
        raise _file_error(error, path) from error


def _check_room(path: Path) -> None:
    """Raises where the disk is too full to open the database; the index of one that is open has its room already.

    By taking the room and giving it back where little is free: statvfs(3) counts blocks too that a file system keeps.
    """
    if path.with_name(f"{path.name}-shm").exists():
        return
    try:
        disk = os.statvfs(path.parent)
        if disk.f_frsize * disk.f_bfree > PLENTY:
            return
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            os.posix_fallocate(probe.fileno(), 0, ROOM)
    except OSError as error:  # what else is wrong with the folder, opening says by name
        if FILE_ERRORS.get(error.errno or 0) is DiskFullError:
            raise DiskFullError(database=str(path)) from None


def _private(path: Path) -> Path:
    """Makes sure of the file; SQLite gives its log and its index the same mode.

    One that exists is not opened here: to close it again would release every lock that SQLite holds on it in this
    process (fcntl(2)), and another process could then write over the log that a connection here still reads.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
    return path


def _file_error(error: OSError, path: Path) -> StoreError:
    return FILE_ERRORS.get(error.errno or 0, DatabaseUnavailableError)(database=str(path))


def _set_up_connection(conn: sqlite3.Connection, _record: Any) -> None:
    conn.isolation_level = None  # transactions begin where we say so, see _begin
    for pragma in (
        "synchronous = FULL",  # an acknowledged commit survives power loss
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}",
    ):
        conn.execute(f"PRAGMA {pragma}")


def _begin(conn: Connection) -> None:
    """A writer takes the write lock at once: a reader that turns writer may find its snapshot outdated."""
    conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get(WRITES) else "BEGIN")


def _postgresql(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"a database is a SQLite file or a postgresql:// URL, not {url.get_backend_name()}")
    return create_engine(url.set(drivername="postgresql+psycopg"), hide_parameters=HIDDEN)


def _name_error(context: ExceptionContext) -> BaseException | None:
    engine = context.engine
    return named_error(context.original_exception, database_name(engine)) if engine is not None else None
