# SPDX-License-Identifier: Apache-2.0
"""Export and import: bundles out of the fleet's database, confirmed elsewhere, and back into it.

Out go sealed requests under random references (the default), or an inventory, with or without its keys.  A connected
computer has the requests answered by their publishers; it needs no database, and learns nothing of whose they are.
Back come answers, which only their machines can open and which prove themselves there, so they are taken from anybody;
an inventory is taken from this fleet itself or from a signer that the administrator named.  In an import the file wins,
and every value that it replaced by another is listed.  Spec: docs/spec/bundle.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DataError, IntegrityError

from volact.core.errors import ConfigError, MalformedError, TrustError, VolactError
from volact.core.exchange import AnswerFile
from volact.fleet.activation import confirmations
from volact.fleet.exchange import bundle
from volact.fleet.exchange.bundle import (
    TABLES,
    AnswerRow,
    Bundle,
    Kind,
    ProblemRow,
    RequestRow,
    Row,
    SecretsRow,
    TableRow,
)
from volact.fleet.exchange.carried import secrets
from volact.fleet.exchange.intake import BundlePassphraseNeededError, Conflict, Imported, Inventory, plain
from volact.fleet.keys import publisher
from volact.fleet.keys.publisher import KnownDefinition, Service
from volact.fleet.keys.vault import Carrier, Vault
from volact.fleet.schema import (
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
from volact.sealing.keys import LocalKey

__all__ = [
    "BundlePassphraseNeededError", "Confirmed", "Conflict", "Exported", "Imported", "NothingToExportError",
    "SignerUnknownError", "confirm", "export_inventory", "export_requests", "import_bundle", "known_service",
]  # fmt: skip
PARALLEL = 16


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
            rows += [SecretsRow(carrier.encrypt(piece)) for piece in secrets(conn, opened)]
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
                Inventory(conn, made, now, opened, passphrase).take(carried.rows)
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
            values = {column.name: plain(row[column.name]) for column in columns}
            if of_machine:
                values = {"machine": names[row["_machine"]], **values}
            yield TableRow(name, values)


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
