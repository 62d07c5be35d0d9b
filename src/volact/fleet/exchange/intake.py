# SPDX-License-Identifier: Apache-2.0
"""An inventory's rows into the tables of this database, and what became of them.

The file wins: every value that it replaced by another is listed.  Whose inventory is taken, ``transfer`` decides.
Spec: docs/spec/bundle.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from volact.core.errors import InputError, MalformedError
from volact.fleet.activation import confirmations
from volact.fleet.activation.confirmations import KeptBackup
from volact.fleet.exchange.bundle import Kind, Row, SecretsRow, TableRow
from volact.fleet.exchange.carried import Secrets, read_secrets
from volact.fleet.inventory.machines import MachineNameUnfitError, check_name
from volact.fleet.keys.vault import Carrier, Vault
from volact.fleet.schema import BACKUPS, CONFIRMATIONS, DEFINITIONS, HISTORY, KEYS, MACHINES, PRODUCTS, TAGS
from volact.sealing import verify

MOST_TOLD = 1000  # conflicts that are listed one by one; all are counted
_BATCH = 500


class BundlePassphraseNeededError(InputError):
    code = "bundle-passphrase-missing"
    fmt = "the keys in the bundle are under a passphrase of its own, and it was not given"
    remedy = "give the one it was exported with: --bundle-passphrase-file FILE"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A value that was replaced: the file's won."""

    table: str
    row: str
    column: str
    was: str
    became: str


@dataclass
class Imported:
    """What an import did, or would do."""

    kind: Kind
    signer: str
    added: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    conflict_count: int = 0
    unknown: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def count(self, where: dict[str, int], name: str) -> None:
        where[name] = where.get(name, 0) + 1

    def conflict(self, table: str, row: str, column: str, was: object, became: object) -> None:
        self.conflict_count += 1
        if len(self.conflicts) < MOST_TOLD:
            self.conflicts.append(Conflict(table, row, column, _shown(was), _shown(became)))

    def to_json(self) -> dict[str, Any]:
        shown = {**asdict(self), "kind": str(self.kind)}
        shown["conflicts"] = [asdict(one) for one in self.conflicts]
        return shown


class Inventory:
    """The rows of an inventory, into the tables: natural keys decide what is the same row."""

    def __init__(
        self, conn: Connection, made: Imported, now: int, opened: Vault | None, passphrase: bytes | None
    ) -> None:
        self._conn, self._made, self._now, self._opened, self._passphrase = conn, made, now, opened, passphrase
        self._ids: dict[str, int] = {}

    def take(self, rows: Iterable[Row]) -> None:
        by_table: dict[str, list[Mapping[str, Any]]] = {}
        secrets: list[bytes] = []
        for row in rows:
            if isinstance(row, TableRow):
                by_table.setdefault(row.table, []).append(row.values)
            elif isinstance(row, SecretsRow):
                secrets.append(row.sealed)
        self._take_machines(by_table.get("machines", []))
        self._take_tags(by_table.get("tags", []))
        self._merge("products", PRODUCTS, ("machine_id", "root", "product"), self._named(by_table.get("products", [])))
        self._take_history(by_table.get("history", []))
        self._merge("confirmations", CONFIRMATIONS, ("reference",), by_table.get("confirmations", []))
        self._take_definitions(by_table.get("definitions", []))
        self._take_keys(by_table.get("keys", []), secrets)

    def _take_machines(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._merge("machines", MACHINES, ("name",), list(map(_machine, rows)), {"reach_state": "new"})
        self._ids = {row.name: row.id for row in self._conn.execute(select(MACHINES.c.name, MACHINES.c.id))}

    def _named(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of machines by their number here; one whose machine is in neither is left out."""
        found = []
        for row in rows:
            machine = self._ids.get(str(row["machine"]).lower())
            if machine is None:
                self._made.count(self._made.left_out, "of no machine")
                continue
            found.append({"machine_id": machine, **{n: v for n, v in row.items() if n != "machine"}})
        return found

    def _take_tags(self, rows: Sequence[Mapping[str, Any]]) -> None:
        there = {tuple(row) for row in self._conn.execute(select(TAGS.c.machine_id, TAGS.c.tag))}
        new = [row for row in self._named(rows) if (row["machine_id"], row["tag"]) not in there]
        self._insert("tags", TAGS, new)

    def _take_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """What happened is added where it is not known; it has no conflicts."""
        names = ("machine_id", "root", "product", "at")
        there = {tuple(row) for row in self._conn.execute(select(*(HISTORY.c[name] for name in names)))}
        self._insert("history", HISTORY, [r for r in self._named(rows) if tuple(r[n] for n in names) not in there])

    def _take_definitions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Each is verified under its root; the newer one stays, whichever that is."""
        there = {
            (row.root, row.product): row.version
            for row in self._conn.execute(select(DEFINITIONS.c.root, DEFINITIONS.c.product, DEFINITIONS.c.version))
        }
        good = []
        for row in rows:
            found = verify.verify_definition(
                str(row["token"]), str(row["root"]), product=str(row["product"])
            ).definition
            if there.get((row["root"], row["product"]), 0) < found.version:
                good.append({**row, "version": found.version, "url": found.url})
        self._merge("definitions", DEFINITIONS, ("root", "product"), good)

    def _take_keys(self, rows: Sequence[Mapping[str, Any]], sealed: Sequence[bytes]) -> None:
        """A key that is new here needs the vault, which seals it anew; what is known of the others is merged."""
        there = set(self._conn.execute(select(KEYS.c.key_id)).scalars())
        secrets = self._open(sealed)
        new, known = [], []
        for row in rows:
            if row["key_id"] in there:
                known.append(row)
                continue
            key = secrets.keys.get(str(row["key_id"]))
            if key is None or self._opened is None:
                self._made.count(self._made.left_out, "keys without their secret")
                continue
            new.append({**row, "sealed": self._opened.seal(key)})
        self._insert("keys", KEYS, new)
        self._merge("keys", KEYS, ("key_id",), known)
        self._take_backups(secrets.backups)

    def _take_backups(self, found: Sequence[KeptBackup]) -> None:
        there = set(map(bytes, self._conn.execute(select(BACKUPS.c.machine_id)).scalars()))
        for one in found:
            if one.machine_id not in there:
                confirmations.keep_backup(self._conn, one)
                self._made.count(self._made.added, "backups")

    def _open(self, sealed: Sequence[bytes]) -> "Secrets":
        found = Secrets({}, [])
        if sealed and self._passphrase is None:
            raise BundlePassphraseNeededError()
        carrier = Carrier(self._passphrase or b"")
        for piece in sealed:
            read_secrets(carrier.decrypt(piece), self._opened, found)
        return found

    def _merge(
        self,
        name: str,
        table: Table,
        key: tuple[str, ...],
        rows: Iterable[Mapping[str, Any]],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """New rows are added.  In one that is there the file's values win; each that differed is a conflict."""
        rows = list(rows)
        if not rows:
            return
        columns = [column.name for column in table.c if column.name in rows[0]]
        there = {
            tuple(row[part] for part in key): row
            for row in self._conn.execute(select(*(table.c[one] for one in {*columns, *key}))).mappings()
        }
        new = []
        for row in rows:
            identity = tuple(row[part] for part in key)
            known = there.get(identity)
            if known is None:
                new.append({**(defaults or {}), **row})
                continue
            differs = {c: row[c] for c in columns if row[c] is not None and not _same(known[c], row[c])}
            for column, value in differs.items():
                if known[column] is not None:
                    self._made.conflict(name, self._name(row, identity), column, known[column], value)
            if differs:
                where = [table.c[part] == value for part, value in zip(key, identity, strict=True)]
                self._conn.execute(update(table).where(*where).values(**differs))
                self._made.count(self._made.changed, name)
        self._insert(name, table, new)

    def _insert(self, name: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(rows), _BATCH):
            self._conn.execute(insert(table), [dict(row) for row in rows[start : start + _BATCH]])
        if rows:
            self._made.added[name] = self._made.added.get(name, 0) + len(rows)

    def _name(self, row: Mapping[str, Any], identity: tuple[Any, ...]) -> str:
        """How a conflict calls a row."""
        if "machine_id" in row and isinstance(row["machine_id"], int):
            machine = next((name for name, id_ in self._ids.items() if id_ == row["machine_id"]), "?")
            return "/".join([machine, *(str(part) for part in identity[2:])])
        return "/".join(str(part) for part in identity)


def _machine(row: Mapping[str, Any]) -> dict[str, Any]:
    """Where it is reached may become a word of a command line: by the same rules as what somebody types."""
    try:
        name, address = check_name(str(row["name"])), row.get("address")
        if address is not None:
            check_name(str(address))
    except MachineNameUnfitError as exc:
        raise MalformedError(what="bundle", why=str(exc)) from None
    port = row.get("port")
    if port is not None and not 0 < port < 1 << 16:
        raise MalformedError(what="bundle", why="a machine's port is from 1 to 65535")
    return {**row, "name": name}


def _same(one: Any, other: Any) -> bool:
    return bool(plain(one) == other)


def _shown(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return f"{len(bytes(value))} bytes"
    return str(value)[:200]


def plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
