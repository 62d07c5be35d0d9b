# SPDX-License-Identifier: Apache-2.0
"""Bringing a room's tables to the version of the program.

Each room keeps numbered Alembic migrations, ``0001_….py``, ``0002_….py`` …, in its own package (revision = number,
forward only) and has its own version table, so that rooms may share a database.  All missing steps run in one write
transaction: two processes that start at once queue up, and one that dies leaves the old version.  Alembic is
imported only when there is something to do.
"""

import re
from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from volact.sql import environment
from volact.sql.engine import database_name
from volact.sql.errors import DatabaseTooNewError
from volact.sql.transaction import read, write

NO_VERSION = "0000"
_MIGRATION = re.compile(r"(\d{4})_\w+\.py")


def upgrade(engine: Engine, package: str) -> None:
    """Runs the migrations of ``package`` that the database lacks.  Raises :class:`DatabaseTooNewError`."""
    known, table = latest(package), version_table(package)
    with read(engine) as conn:
        if _is_current(conn, table, known):
            return
    with write(engine) as conn:
        _queue(conn)
        if not _is_current(conn, table, known):
            _run(conn, package)


def latest(package: str) -> str:
    """The version that this program's own tables have."""
    names = (entry.name for entry in files(package).iterdir())
    return max((found[1] for name in names if (found := _MIGRATION.fullmatch(name))), default=NO_VERSION)


def version_table(package: str) -> str:
    """``volact.host.migrations`` keeps its version in ``host_version``."""
    return f"{package.split('.')[-2]}_version"


def version(conn: Connection, table: str) -> str:
    """The version that a database's tables have."""
    if not inspect(conn).has_table(table):
        return NO_VERSION
    stored: str | None = conn.execute(text(f"SELECT version_num FROM {table}")).scalar()  # noqa: S608 - our own name
    return stored or NO_VERSION


def _is_current(conn: Connection, table: str, known: str) -> bool:
    stored = version(conn, table)
    if stored > known:
        raise DatabaseTooNewError(database=database_name(conn.engine), version=stored, known=known)
    return stored == known


def _queue(conn: Connection) -> None:
    """SQLite's writers are in a queue already; elsewhere the first one to start migrates, the others wait."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext('volact migrations'))"))


def _run(conn: Connection, package: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": conn, "version_table": version_table(package)})
    config.set_main_option("path_separator", "newline")
    config.set_main_option("script_location", _folder(environment.__name__))
    config.set_main_option("version_locations", _folder(package))
    command.upgrade(config, "head")


def _folder(package: str) -> str:
    """A package's folder, as an option of an ini file."""
    return str(Path(str(files(package)))).replace("%", "%%")
