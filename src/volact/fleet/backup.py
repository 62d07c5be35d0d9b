# SPDX-License-Identifier: Apache-2.0
"""Backup and restore of the fleet tool: its folder, and its database of one moment, while it is serving.

Not the backups of machines, which these seal to the vault (``confirmations``); they are rows of this database.
Product keys go in as they lie there, encrypted; the vault's passphrase, where the folder keeps it, only when asked for.
Guide: docs/guide/backup.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import func, select

from volact.core.errors import ConfigError
from volact.fleet.exchange import bundle
from volact.fleet.folder import DATABASE, KEYS, FleetFolder, check_database
from volact.fleet.keys import vault
from volact.fleet.schedules import mail
from volact.fleet.schema import KEYS as KEY_ROWS
from volact.fleet.schema import MACHINES
from volact.sql import archive
from volact.sql.archive import Contents

KIND = "fleet"


class RestoreFleetDatabaseError(ConfigError):
    code = "restore-fleet-database"
    fmt = "the backup holds a SQLite database, and --database names a PostgreSQL one"
    remedy = "restore it without --database"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored; ``opened``: whether the vault was, which needs its passphrase."""

    contents: Contents
    folder: FleetFolder
    machines: int
    keys: int
    opened: bool


def backup(path: Path, target: Path, now: int, version: str, *, with_passphrase: bool = False) -> Contents:
    folder = FleetFolder.open(path)
    secret = frozenset() if with_passphrase else frozenset({f"{KEYS}/{vault.PASSPHRASE_FILE}"})
    return archive.write(target, path, folder.database, KIND, now, version, leave_out=secret | _password_file(folder))


def restore(source: Path, path: Path, database: str | None = None, passphrase: bytes | None = None) -> Restored:
    """Into a folder that is empty or does not exist; ``database``: an empty PostgreSQL one, if not the same as before.

    Raises what :func:`archive.restore` raises, and what a vault that does not open raises; then there is no folder.
    """
    if database is not None:
        check_database(database)
    seen: list[tuple[int, int, bool]] = []

    def place(contents: Contents, folder: Path) -> Path | str:
        return _place(contents, folder, database)

    def check(folder: Path) -> None:
        seen.append(_check(FleetFolder.open(folder), passphrase))

    contents = archive.restore(source, path, KIND, place, check)
    return Restored(contents, FleetFolder.open(path), *seen[0])


def _place(contents: Contents, path: Path, database: str | None) -> Path | str:
    if not contents.is_postgresql:
        if database is not None:
            raise RestoreFleetDatabaseError()
        return path / DATABASE
    folder = FleetFolder.open(path)
    return (folder if database is None else replace(folder, address=database).change({})).database


def _check(folder: FleetFolder, passphrase: bytes | None) -> tuple[int, int, bool]:
    """The database opens and is of this version, and so do the signing key and, with its passphrase, the vault."""
    bundle.signing_key(folder.keys)  # made now where there was none yet
    _mail(folder)
    with folder.store() as store:
        with store.read() as conn:
            machines = int(conn.execute(select(func.count()).select_from(MACHINES)).scalar_one())
            rows = int(conn.execute(select(func.count()).select_from(KEY_ROWS)).scalar_one())
            there = vault.exists(conn)
        given = (passphrase or vault.kept_passphrase(folder)) if there else None
        if given is not None:
            with store.read() as conn:
                vault.open_vault(conn, given)
        store.checkpoint()
    return machines, rows, given is not None


def _mail(folder: FleetFolder) -> mail.MailSettings | None:
    return mail.MailSettings.load(folder.path) if (folder.path / mail.FILE).is_file() else None


def _password_file(folder: FleetFolder) -> frozenset[str]:
    """The mail server's password, where somebody put it into the folder."""
    settings, root = _mail(folder), folder.path.absolute()
    file = Path(settings.password_file) if settings else root
    inside = file != root and file.is_relative_to(root)
    return frozenset({file.relative_to(root).as_posix()}) if inside else frozenset()
