# SPDX-License-Identifier: Apache-2.0
"""What the whole ledger tells of the tables beside it, against what is in them: certificates of hosts, activation
objects, pools and who holds their activations.

Rows come one by one and are kept by nobody: what they tell lies in a database of its own, which SQLite keeps in a
temporary file.  So a ledger of ten million rows is verified in the memory of a small one.  The chain itself is
``ledger``'s.  Spec: docs/spec/ledger.md §3.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import Any, Self

from volact.publisher.rows.ledger import FOREST_ACTS, HOST_ACTS, MACHINE_ACTS, Act, LedgerBrokenError, Row
from volact.sql.errors import named_error

CACHE_KIB = 16 * 1024  # of the temporary database; beyond that it is on the disk
_FILE = "a temporary file"  # what errors call it: a full /var/tmp, say
_TABLE = "CREATE TABLE told (about TEXT, name, value, PRIMARY KEY (about, name)) WITHOUT ROWID"
_TELL = "INSERT INTO told VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
_ADD = "INSERT INTO told VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"
_DROP = "DELETE FROM told WHERE about = ? AND name = ?"
_MATCH = "DELETE FROM told WHERE about = ? AND name = ? AND value = ?"
_LEFT = "SELECT name, value FROM told WHERE about = ? ORDER BY name LIMIT 1"


class About(StrEnum):
    """What rows tell, by name: a certificate's serial, an object's ID, a key's ID, an activation's number."""

    CERTIFICATE = "certificate"
    FOREST = "forest"
    UNITS = "units"
    HOLDER = "holder"


class Tally:
    """``tell`` it every row of a whole chain, then ``compare`` each table's rows."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        try:
            with closing(sqlite3.connect("", isolation_level=None)) as scratch:
                for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                    scratch.execute(f"PRAGMA {pragma}")
                scratch.execute("BEGIN")  # a transaction for each statement takes a hundred times as long
                scratch.execute(_TABLE)
                yield cls(scratch)
        except sqlite3.Error as error:
            raise named_error(error, _FILE) or error from error

    def tell(self, row: Row) -> None:
        """Raises :class:`LedgerBrokenError` where a row does not say what its act says: a chain that was made anew."""
        try:
            self._tell(row)
        except (ValueError, TypeError, KeyError, OverflowError):
            raise LedgerBrokenError(why=f"row {row.seq} does not say what {row.act} says") from None

    def compare_certificates(self, serials: Iterable[str]) -> None:
        for serial in self._unmatched(About.CERTIFICATE, ((one, 1) for one in serials)):
            raise LedgerBrokenError(why=f"the activation with certificate {serial} was put in beside the ledger")
        for serial, _ in self._left(About.CERTIFICATE):
            raise LedgerBrokenError(why=f"the activation with certificate {serial} was removed")

    def compare_forests(self, objects: Iterable[str]) -> None:
        for one in self._unmatched(About.FOREST, ((one, 1) for one in objects)):
            raise LedgerBrokenError(why=f"activation object {one} was put in beside the ledger")
        for one, _ in self._left(About.FOREST):
            raise LedgerBrokenError(why=f"activation object {one} was removed")

    def compare_pools(self, used: Iterable[tuple[str, int]]) -> None:
        """What each key's pool has lost."""
        for key_id, have in used:
            should = self._take(About.UNITS, key_id) or 0
            if have != should:
                raise _units_error(key_id, have, should)
        self._scratch.execute("DELETE FROM told WHERE about = ? AND value = 0", (About.UNITS,))
        for key_id, should in self._left(About.UNITS):
            raise _units_error(str(key_id), 0, should)

    def compare_holders(self, machines: Iterable[tuple[int, str]]) -> None:
        """Who holds each activation that was not given back."""
        for activation in self._unmatched(About.HOLDER, machines):
            raise _holder_error(activation)
        for activation, _ in self._left(About.HOLDER):
            raise _holder_error(activation)

    def _tell(self, row: Row) -> None:
        if row.act in HOST_ACTS:
            self._scratch.execute(_TELL, (About.CERTIFICATE, str(json.loads(row.data)["serial"]), 1))
        elif row.act in FOREST_ACTS:
            self._scratch.execute(_TELL, (About.FOREST, str(json.loads(row.data)["object"]), 1))
        elif row.act in MACHINE_ACTS or row.act == Act.MACHINE_RETURNED:
            self._tell_machine(row, json.loads(row.data))

    def _tell_machine(self, row: Row, data: dict[str, Any]) -> None:
        if data["units"]:
            self._scratch.execute(_ADD, (About.UNITS, row.key_id or "", int(data["units"])))
        if row.act == Act.MACHINE_RETURNED:
            self._scratch.execute(_DROP, (About.HOLDER, int(data["activation"])))
        else:
            self._scratch.execute(_TELL, (About.HOLDER, int(data["activation"]), str(data["machine"])))

    def _unmatched(self, about: About, kept: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
        """The names in a table of which the ledger tells nothing, or something else; others are struck off."""
        for name, value in kept:
            if self._scratch.execute(_MATCH, (about, name, value)).rowcount != 1:
                yield name

    def _take(self, about: About, name: str) -> int | None:
        found = self._scratch.execute("SELECT value FROM told WHERE about = ? AND name = ?", (about, name)).fetchone()
        self._scratch.execute(_DROP, (about, name))
        return None if found is None else int(found[0])

    def _left(self, about: About) -> list[tuple[Any, Any]]:
        """The first that no table had."""
        return self._scratch.execute(_LEFT, (about,)).fetchall()


def _units_error(key_id: str, have: int, should: int) -> LedgerBrokenError:
    return LedgerBrokenError(why=f"key {key_id} has {have} activations in use, the ledger tells of {should}")


def _holder_error(activation: int) -> LedgerBrokenError:
    return LedgerBrokenError(why=f"activation {activation} is not the one that the ledger tells of")
