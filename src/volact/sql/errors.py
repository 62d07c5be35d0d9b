# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a database, by name, and the one table that says so for each driver.

    StoreError
    ├── DatabaseBusyError         database-busy         someone else holds it
    ├── DatabaseCorruptError      database-corrupt      its bytes are damaged, or it is no database
    ├── DiskFullError             disk-full
    ├── DatabaseReadOnlyError     database-read-only
    ├── DatabaseUnavailableError  database-unavailable  it cannot be opened or reached
    ├── DatabaseDiskError         database-disk-failed  the operating system reported an I/O error
    └── DatabaseTooNewError       database-too-new      written by a later version of the program

Broken constraints and wrong SQL are not in the table: they are faults of the calling code and stay what they are.
"""

import sqlite3

from volact.core.errors import StoreError


class DatabaseBusyError(StoreError):
    code = "database-busy"
    fmt = "database {database} is locked by another program"
    remedy = "find what else has {database} open (a backup, a database shell), end it and try again"


class DatabaseCorruptError(StoreError):
    code = "database-corrupt"
    fmt = "database {database} is damaged or is not a database"
    remedy = "stop the service, keep a copy of {database}, and restore the last backup"


class DiskFullError(StoreError):
    code = "disk-full"
    fmt = "the disk of database {database} is full"
    remedy = "free space on the disk that holds {database}; nothing that was acknowledged is lost"


class DatabaseReadOnlyError(StoreError):
    code = "database-read-only"
    fmt = "database {database} cannot be written"
    remedy = "give the service's user write access to {database} and to its folder"


class DatabaseUnavailableError(StoreError):
    code = "database-unavailable"
    fmt = "database {database} cannot be opened"
    remedy = "check that {database} exists, can be reached, and admits this user"


class DatabaseDiskError(StoreError):
    code = "database-disk-failed"
    fmt = "the disk of database {database} reported an error"
    remedy = "look into the system's log for the disk that holds {database}, and check it before going on"


class DatabaseTooNewError(StoreError):
    code = "database-too-new"
    fmt = "database {database} has version {version}, this program knows versions up to {known}"
    remedy = "run the version of volact that wrote {database}, or a later one"


SQLITE_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: DatabaseBusyError,
    sqlite3.SQLITE_LOCKED: DatabaseBusyError,
    sqlite3.SQLITE_CORRUPT: DatabaseCorruptError,
    sqlite3.SQLITE_NOTADB: DatabaseCorruptError,
    sqlite3.SQLITE_FULL: DiskFullError,
    sqlite3.SQLITE_READONLY: DatabaseReadOnlyError,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnavailableError,
    sqlite3.SQLITE_PERM: DatabaseUnavailableError,
    sqlite3.SQLITE_IOERR: DatabaseDiskError,
}

# By SQLSTATE, or its first two characters where the whole class means one thing.
POSTGRESQL_ERRORS: dict[str, type[StoreError]] = {
    "40001": DatabaseBusyError,  # serialization_failure
    "40P01": DatabaseBusyError,  # deadlock_detected
    "55P03": DatabaseBusyError,  # lock_not_available
    "53100": DiskFullError,
    "25006": DatabaseReadOnlyError,
    "08": DatabaseUnavailableError,  # connection exceptions
    "28": DatabaseUnavailableError,  # the server does not admit this user
    "3D": DatabaseUnavailableError,  # no such database
    "53": DatabaseUnavailableError,  # out of connections or memory
    "57": DatabaseUnavailableError,  # shutting down, starting up
    "58": DatabaseDiskError,
    "XX": DatabaseCorruptError,
}


def named_error(error: BaseException | None, database: str) -> StoreError | None:
    """The named error for a driver's exception; ``None`` where it is not the database's fault."""
    if isinstance(error, sqlite3.Error):
        kind = SQLITE_ERRORS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)  # the low byte is the primary code
    else:
        kind = _postgresql_error(error)
    return kind(database=database) if kind else None


def _postgresql_error(error: BaseException | None) -> type[StoreError] | None:
    state = getattr(error, "sqlstate", None)
    if state:
        return POSTGRESQL_ERRORS.get(state) or POSTGRESQL_ERRORS.get(state[:2])
    # Without a server there is no SQLSTATE; drivers report this one as their OperationalError.
    return DatabaseUnavailableError if type(error).__name__ == "OperationalError" else None
