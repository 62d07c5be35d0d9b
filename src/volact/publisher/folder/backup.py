# SPDX-License-Identifier: Apache-2.0
"""Backup and restore of a publisher: its folder, and its database of one moment, while it is serving.

Encrypted keys go in as they are; the passphrase is not in the folder, and a PIN file that lies there is left out.  What
was restored is looked at before it takes its place: the ledger is whole, and it is this root's.
Guide: docs/guide/backup.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from volact.core.encoding import dump_object, parse_object
from volact.core.errors import ConfigError, TrustError
from volact.publisher.folder.files import DATABASE
from volact.publisher.folder.making import check_database
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.rows.ledger import Row
from volact.sealing import keys
from volact.sql import archive
from volact.sql.archive import Contents

KIND = "publisher"
ABOUT = "publisher.json"


class RestoreDatabaseError(ConfigError):
    code = "restore-database"
    fmt = "the backup holds a SQLite database, and --database names a PostgreSQL one"
    remedy = "restore it without --database"


class RestoreLedgerError(TrustError):
    code = "restore-ledger"
    fmt = "the ledger in the backup is not one of this publisher's root"
    remedy = "the backup was put together from several: restore another one"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored; ``head`` is the hash of the ledger's last row."""

    contents: Contents
    folder: PublisherFolder
    rows: int
    head: str


def backup(path: Path, target: Path, now: int, version: str) -> Contents:
    folder = PublisherFolder.open(path)
    return archive.write(target, path, folder.database, KIND, now, version, leave_out=_pin_files(folder))


def restore(source: Path, path: Path, database: str | None = None) -> Restored:
    """Into a folder that is empty or does not exist; ``database``: an empty PostgreSQL one, if not the same as before.

    Raises what :func:`archive.restore` raises, and ``LedgerBrokenError``; then there is no folder.
    """
    if database is not None:
        check_database(database)
    last: list[Row] = []

    def place(contents: Contents, folder: Path) -> Path | str:
        return _place(contents, folder, database)

    def check(folder: Path) -> None:
        last.append(_check(folder))

    contents = archive.restore(source, path, KIND, place, check)
    return Restored(contents, PublisherFolder.open(path), last[0].seq, last[0].hash)


def _place(contents: Contents, folder: Path, database: str | None) -> Path | str:
    if not contents.is_postgresql:
        if database is not None:
            raise RestoreDatabaseError()
        return folder / DATABASE
    if database is not None:
        about = parse_object(keys.read_file(folder / ABOUT), ABOUT)
        keys.write_file(folder / ABOUT, dump_object({**about, "database": database}) + b"\n")
    return PublisherFolder.open(folder).database


def _check(path: Path) -> Row:
    folder = PublisherFolder.open(path)
    with folder.store() as store:
        last = store.check_ledger()
        first = next(store.ledger_rows(1, 1), None)
    if last is None or first is None or json.loads(first.data).get("root") != folder.fingerprint:
        raise RestoreLedgerError()
    return last


def _pin_files(folder: PublisherFolder) -> frozenset[str]:
    references = (state.reference for state, _ in folder.signing_keys())
    pins = (Path(one.place.pin_file) for one in references if one is not None)
    root = folder.path.absolute()
    return frozenset(pin.relative_to(root).as_posix() for pin in pins if pin.is_relative_to(root))
