# SPDX-License-Identifier: Apache-2.0
"""Export and import: bundles out of the fleet's database, confirmed elsewhere, and back into it.

Out go sealed requests under random references (the default), or an inventory, with or without its keys.  A connected
computer has the requests answered by their publishers; it needs no database, and learns nothing of whose they are.
Back come answers, which only their machines can open and which prove themselves there, so they are taken from anybody;
an inventory is taken from this fleet itself or from a signer that the administrator named.  In an import the file wins,
and every value that it replaced by another is listed.  Spec: docs/spec/bundle.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, MalformedError, TrustError, VolactError
from volact.core.exchange import AnswerFile
from volact.core.product_key import ProductKey
from volact.fleet import bundle, confirmations, publisher
from volact.fleet.bundle import TABLES, AnswerRow, Bundle, Kind, ProblemRow, RequestRow, Row, SecretsRow, TableRow
from volact.fleet.confirmations import KeptBackup
from volact.fleet.machines import MachineNameUnfitError, check_name
from volact.fleet.publisher import KnownDefinition, Service
from volact.fleet.schema import (
    BACKUPS,
    CONFIRMATIONS,
    DEFINITIONS,
    HISTORY,
    KEYS,
    MACHINES,
    PRODUCTS,
    SIGNERS,
    TAGS,
)
from volact.fleet.store import FleetStore, note
from volact.fleet.vault import Carrier, Vault
from volact.sealing import recipient, verify
from volact.sealing.keys import LocalKey

PARALLEL = 16
MOST_TOLD = 1000  # conflicts that are listed one by one; all are counted
_BATCH = 500
_PIECE = 1000  # keys in one encrypted row


class SignerUnknownError(TrustError):
    code = "bundle-signer-unknown"
    fmt = "this inventory was signed by another fleet, {signer}, which nobody has vouched for here"
    remedy = (
        "compare that fingerprint with `volact fleet bundle signer` where it was made, then import it with "
        "--signer {signer}"
    )


class NothingToExportError(ConfigError):
    code = "bundle-nothing-waits"
    fmt = "no request of a machine waits for an answer"
    remedy = "collect some first: `volact fleet proxy collect`"


class BundlePassphraseNeededError(InputError):
    code = "bundle-passphrase-missing"
    fmt = "the keys in the bundle are under a passphrase of its own, and it was not given"
    remedy = "give the one it was exported with: --bundle-passphrase-file FILE"


@dataclass(frozen=True, slots=True)
class Exported:
    data: bytes
    id: str
    kind: Kind
    rows: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Answers, and the requests that got none, by code."""

    data: bytes
    answered: int
    problems: Mapping[str, int]


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


# ---- out


def export_requests(
    store: FleetStore,
    key: LocalKey,
    now: int,
    who: str,
    random: Callable[[int], bytes],
    machines: Sequence[str] | None = None,
) -> Exported:
    """The requests that wait, and nothing else: references are random, and where the publisher is, its own definition
    says.  Raises :class:`NothingToExportError`."""
    id_ = random(bundle.ID_BYTES)
    with store.write() as conn:
        waiting = confirmations.waiting(conn, now, machines)
        if not waiting:
            raise NothingToExportError()
        urls = {(one.root, one.product): one.verified().definition.url for one in publisher.definitions(conn)}
        # Sorted by reference: the order in which machines were collected says nothing either.
        rows = sorted(
            (
                RequestRow(bytes.fromhex(one.reference), one.request_file, urls.get((one.root, one.product)))
                for one in waiting
            ),
            key=lambda row: row.reference,
        )
        confirmations.mark_left(conn, (one.reference for one in waiting), id_.hex())
        note(conn, now, who, "bundle-exported", id_.hex(), {"kind": str(Kind.REQUESTS), "requests": len(rows)})
    return Exported(bundle.write(Kind.REQUESTS, rows, key, id_, now), id_.hex(), Kind.REQUESTS, len(rows))


def export_inventory(
    store: FleetStore,
    key: LocalKey,
    now: int,
    who: str,
    random: Callable[[int], bytes],
    opened: Vault | None = None,
    passphrase: bytes | None = None,
) -> Exported:
    """Machines, products, history, proxies, definitions; with ``opened`` and ``passphrase``, keys and backups too."""
    id_ = random(bundle.ID_BYTES)
    kind = Kind.INVENTORY if opened is None else Kind.FULL
    with store.read() as conn:
        rows: list[Row] = list(_table_rows(conn, with_keys=opened is not None))
        if opened is not None:
            carrier = Carrier(passphrase or b"")
            rows += [SecretsRow(carrier.encrypt(piece)) for piece in _secrets(conn, opened)]
    with store.write() as conn:
        note(conn, now, who, "bundle-exported", id_.hex(), {"kind": str(kind), "rows": len(rows)})
    return Exported(bundle.write(kind, rows, key, id_, now), id_.hex(), kind, len(rows))


# ---- elsewhere


def confirm(
    requests: Bundle,
    service: Callable[[RequestRow], Service],
    key: LocalKey,
    now: int,
    random: Callable[[int], bytes],
    *,
    parallel: int = PARALLEL,
    progress: Callable[[int], None] = lambda _: None,
) -> Confirmed:
    """Have each request answered by its publisher.  One that gets no answer is named by its problem, and does not keep
    the others; confirming the same bundle again costs nothing, since the same requests get the same answers."""
    requests.require(Kind.REQUESTS)
    asked = [row for row in requests.rows if isinstance(row, RequestRow)]
    rows: list[AnswerRow | ProblemRow] = []
    problems: dict[str, int] = {}
    with ThreadPoolExecutor(max(1, min(parallel, len(asked) or 1))) as pool:
        for future in as_completed([pool.submit(_answer, row, service) for row in asked]):
            made = future.result()
            rows.append(made)
            if isinstance(made, ProblemRow):
                problems[made.code] = problems.get(made.code, 0) + 1
            progress(len(rows))
    rows.sort(key=lambda row: row.reference)
    data = bundle.write(Kind.ANSWERS, rows, key, random(bundle.ID_BYTES), now, requests.manifest.id)
    return Confirmed(data, len(rows) - sum(problems.values()), problems)


# ---- back


def import_bundle(
    store: FleetStore,
    carried: Bundle,
    now: int,
    who: str,
    own: str,
    *,
    signer: str | None = None,
    opened: Vault | None = None,
    passphrase: bytes | None = None,
    dry_run: bool = False,
) -> Imported:
    """Take a bundle in, whole or not at all.  ``own``: the fingerprint of this fleet's key; ``signer``: one that the
    administrator vouches for from now on.  Raises :class:`SignerUnknownError`, ``BundleKindError``."""
    carried.require(Kind.ANSWERS, Kind.INVENTORY, Kind.FULL)
    manifest = carried.manifest
    made = Imported(manifest.kind, manifest.signer)
    try:
        with store.write() as conn:
            if manifest.kind is Kind.ANSWERS:
                _take_answers(conn, carried, made, now)
            else:
                _check_signer(conn, manifest.signer, own, signer, now, who)
                _Inventory(conn, made, now, opened, passphrase).take(carried.rows)
            told = {"kind": str(manifest.kind), "signer": manifest.signer, "added": made.added, "changed": made.changed}
            note(conn, now, who, "bundle-imported", manifest.id.hex(), {**told, "conflicts": made.conflict_count})
            _take_back(dry_run)
    except _DryRunError:
        pass
    except (IntegrityError, DataError):  # a row that stands there twice, a text or a number that no column takes
        raise MalformedError(what="bundle", why="its rows fit neither each other nor a database") from None
    return made


class _DryRunError(Exception):
    """Takes the transaction back, and never leaves this module."""


def _take_back(dry_run: bool) -> None:
    if dry_run:
        raise _DryRunError


def _answer(row: RequestRow, service: Callable[[RequestRow], Service]) -> AnswerRow | ProblemRow:
    try:
        answer = publisher.confirm(row.request, service(row))
    except VolactError as exc:
        return ProblemRow(row.reference, exc.code, "".join(c for c in str(exc) if c.isprintable())[:2000])
    return AnswerRow(row.reference, answer.issuer, answer.sealed)


def _take_answers(conn: Connection, carried: Bundle, made: Imported, now: int) -> None:
    """By their references.  An answer to a request that this database does not have belongs to another one."""
    known = confirmations.find_references(conn, (_reference(row) for row in carried.rows))
    source = carried.manifest.id.hex()
    for row in carried.rows:
        there = known.get(_reference(row))
        if there is None:
            made.unknown += 1
        elif isinstance(row, ProblemRow):
            made.count(made.problems, row.code)
            confirmations.keep_problem(conn, there.reference, row.code)
        elif isinstance(row, AnswerRow):
            _take_answer(conn, row, there, made, now, source)


def _take_answer(
    conn: Connection, row: AnswerRow, there: confirmations.Confirmation, made: Imported, now: int, source: str
) -> None:
    if row.issuer != there.request_file.issuer:
        made.count(made.problems, "answer-to-another-request")
        return
    data = AnswerFile(row.issuer, row.sealed).to_bytes()
    if there.answer == data:
        return
    if there.answer is not None:
        made.conflict("confirmations", f"{there.machine}/{there.product}", "answer", there.answer, data)
    made.count(made.added if there.answer is None else made.changed, "answers")
    confirmations.keep_answer(conn, there.reference, data, now, source)


def _check_signer(conn: Connection, signer: str, own: str, vouched: str | None, now: int, who: str) -> None:
    known = signer == own or conn.execute(select(SIGNERS).where(SIGNERS.c.fingerprint == signer)).first() is not None
    if known:
        return
    if vouched != signer:
        raise SignerUnknownError(signer=signer)
    conn.execute(insert(SIGNERS).values(fingerprint=signer, added_at=now, added_by=who))
    note(conn, now, who, "bundle-signer-added", signer)


class _Inventory:
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

    def _open(self, sealed: Sequence[bytes]) -> "_Secrets":
        found = _Secrets({}, [])
        if sealed and self._passphrase is None:
            raise BundlePassphraseNeededError()
        carrier = Carrier(self._passphrase or b"")
        for piece in sealed:
            _read_secrets(carrier.decrypt(piece), self._opened, found)
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


@dataclass(frozen=True, slots=True, repr=False)
class _Secrets:
    keys: dict[str, ProductKey]
    backups: list[KeptBackup]


def _secrets(conn: Connection, opened: Vault) -> Iterator[bytes]:
    """Keys and backups, opened by the vault, for the bundle's own passphrase: some in each piece."""
    rows = conn.execute(select(KEYS.c.key_id, KEYS.c.sealed).order_by(KEYS.c.id)).all()
    for start in range(0, len(rows), _PIECE):
        found = [
            {"key_id": row.key_id, "key": str(opened.open(row.key_id, bytes(row.sealed)))}
            for row in rows[start : start + _PIECE]
        ]
        yield dump_object({"keys": found, "backups": []})
    for one in confirmations.backups(conn):
        if one.vault != opened.recipient.text:
            continue
        kept = {"machine_id": one.machine_id.hex(), "machine": one.machine, "products": list(one.products)}
        plain = b64encode(opened.open_backup(one.sealed, _PURPOSE))
        yield dump_object({"keys": [], "backups": [{**kept, "made_at": one.made_at, "opened": plain}]})


def _read_secrets(data: bytes, opened: Vault | None, found: _Secrets) -> None:
    claim = Fields(parse_object(data, "bundle's secrets"), "bundle's secrets")
    for item in claim.items("keys", most=_PIECE):
        key = _read_key(Fields(item, "key of a bundle"))
        found.keys[key.key_id] = key
    for item in claim.items("backups", most=_PIECE):
        if opened is not None:
            found.backups.append(_read_backup(Fields(item, "backup of a bundle"), opened))


def _read_key(fields: Fields) -> ProductKey:
    try:
        key = ProductKey.strict(fields.text("key", most=29))
    except MalformedError:
        raise
    except InputError:  # nothing of it is repeated
        fields.fail("key", "a product key in its canonical spelling")
    if key.key_id != fields.text("key_id", most=64):
        fields.fail("key_id", "the ID of its key")
    return key


def _read_backup(fields: Fields, opened: Vault) -> KeptBackup:
    """Sealed anew, to the vault of this database."""
    to = opened.recipient.text
    return KeptBackup(
        machine_id=_bytes(fields, fields.text("machine_id", least=64, most=64)),
        machine=fields.text("machine", most=253),
        vault=to,
        products=fields.texts("products", most=1000),
        sealed=recipient.seal(to, _PURPOSE, fields.octets("opened", most=1024 * 1024)),
        made_at=fields.integer("made_at"),
    )


_PURPOSE = "machine backup"


def _bytes(fields: Fields, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        fields.fail("machine_id", "64 hexadecimal digits")


def _table_rows(conn: Connection, *, with_keys: bool) -> Iterator[TableRow]:
    names = {row.id: row.name for row in conn.execute(select(MACHINES.c.id, MACHINES.c.name))}
    sources = {"machines": MACHINES, "tags": TAGS, "products": PRODUCTS, "history": HISTORY}
    sources |= {"confirmations": CONFIRMATIONS, "definitions": DEFINITIONS}
    if with_keys:
        sources["keys"] = KEYS
    for name, table in sources.items():
        shape = TABLES[name]
        columns = [table.c[column] for column in shape if column != "machine" or name == "confirmations"]
        of_machine = "machine" in shape and name != "confirmations"
        extra = [table.c.machine_id.label("_machine")] if of_machine else []
        for row in conn.execute(select(*columns, *extra).order_by(*table.primary_key)).mappings():
            values = {column.name: _plain(row[column.name]) for column in columns}
            if of_machine:
                values = {"machine": names[row["_machine"]], **values}
            yield TableRow(name, values)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _same(one: Any, other: Any) -> bool:
    return bool(_plain(one) == other)


def _shown(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return f"{len(bytes(value))} bytes"
    return str(value)[:200]


def _reference(row: Row) -> str:
    return row.reference.hex() if isinstance(row, AnswerRow | ProblemRow | RequestRow) else ""


def known_service(definitions: Sequence[KnownDefinition], given: str | None) -> Callable[[RequestRow], Service]:
    """Where a request goes: to the address given, else the publisher's by a definition here, else by the bundle."""
    urls = {(one.root, one.product): one.url for one in definitions}

    def service(row: RequestRow) -> Service:
        request = row.request
        url = given or urls.get((request.root, request.product)) or row.url
        return publisher.service_of(KnownDefinition(request.root, request.product, 0, url, ""))

    return service
