# SPDX-License-Identifier: Apache-2.0
"""A consistent copy of a database while it is in use, and the way back.

SQLite is copied by its own backup API in one step, under one read transaction of its write-ahead log: writers go on
and are not in the copy.  PostgreSQL is copied by ``pg_dump``, which does the same in its way, and filled by
``pg_restore`` in one transaction.  What goes with it, and whether that is whole, is the matter of ``archive``.
"""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, inspect, make_url

from volact.core.errors import ConfigError, StoreError
from volact.sql.engine import BUSY_SECONDS, PRIVATE, open_engine
from volact.sql.errors import DatabaseCorruptError, DatabaseUnavailableError, named_error

SQLITE_NAME, POSTGRESQL_NAME = "database.sqlite", "database.dump"
MOST_MESSAGE = 300


class DumpProgramMissingError(ConfigError):
    code = "database-program-missing"
    fmt = "{program} is needed to back up or restore a PostgreSQL database, and is not installed"
    remedy = "install PostgreSQL's client programs, of the server's version or newer (Debian: postgresql-client)"


class DumpFailedError(StoreError):
    code = "database-dump-failed"
    fmt = "{program} failed: {why}"
    remedy = "nothing was changed: see what it says, then run the command again"


class DatabaseNotEmptyError(ConfigError):
    code = "database-not-empty"
    fmt = "database {database} has tables already"
    remedy = "restore into an empty database: `createdb NAME`, then --database postgresql://USER@HOST/NAME"


def copy_database(database: Path | str, folder: Path) -> Path:
    """Copy a database into a new file of ``folder``; its name says which kind it is of."""
    if isinstance(database, str):
        return _dump_postgresql(database, folder / POSTGRESQL_NAME)
    return _copy_sqlite(database, folder / SQLITE_NAME)


def put_back(copy: Path, database: Path | str) -> None:
    """Make a database from a copy: a SQLite file that does not exist, or a PostgreSQL database without tables."""
    if isinstance(database, str):
        _check_empty(database)
        address, password = _apart(database)
        _run(password, "pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges",
             f"--dbname={address}", copy)  # fmt: skip
        return
    copy.replace(database)
    database.chmod(PRIVATE)
    _check_sqlite(database)


def _copy_sqlite(database: Path, target: Path) -> Path:
    try:
        with closing(_open(database)) as source, closing(sqlite3.connect(target)) as copy:
            target.chmod(PRIVATE)
            source.backup(copy, pages=-1)
    except sqlite3.Error as exc:
        raise named_error(exc, str(database)) or exc from exc
    _check_sqlite(target)
    return target


def _open(database: Path) -> sqlite3.Connection:
    """Never made by looking at it."""
    if not database.is_file():
        raise DatabaseUnavailableError(database=str(database))
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)


def _check_sqlite(database: Path) -> None:
    try:
        with closing(_open(database)) as conn:
            (answer,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as exc:
        raise named_error(exc, str(database)) or exc from exc
    if answer != "ok":
        raise DatabaseCorruptError(database=str(database))


def _dump_postgresql(database: str, target: Path) -> Path:
    target.touch(PRIVATE)
    address, password = _apart(database)
    _run(password, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}", address)
    return target


def _apart(database: str) -> tuple[str, str | None]:
    """An address without its password, and that: every user of a computer sees the arguments of its programs."""
    url = make_url(database)
    inside = url.query.get("password")
    password = url.password or (inside if isinstance(inside, str) else None)
    query = {name: value for name, value in url.query.items() if name != "password"}
    plain = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return plain.render_as_string(hide_password=False), password


def _check_empty(database: str) -> None:
    engine = open_engine(database)
    try:
        with engine.connect() as conn:
            tables = inspect(conn).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise DatabaseNotEmptyError(database=engine.url.render_as_string(hide_password=True))


def _run(password: str | None, program: str, *arguments: str | Path) -> None:
    path = shutil.which(program)
    if path is None:
        raise DumpProgramMissingError(program=program)
    command = [path, "--no-password", *map(str, arguments)]
    variables = {**os.environ, "PGPASSWORD": password} if password else None
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False, env=variables)
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[:MOST_MESSAGE]
        raise DumpFailedError(program=program, why=said or f"exit code {done.returncode}")
