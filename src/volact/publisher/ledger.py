# SPDX-License-Identifier: Apache-2.0
"""The ledger's hash chain: what each act leaves behind, and how a changed row is found.  Pure.
Spec: docs/spec/ledger.md.

A row's hash covers everything in it and the hash of the row before.  Whoever may rewrite the whole database may also
write a whole new chain; an export kept elsewhere shows that (:func:`check_against`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from volact.core.encoding import Fields, parse_object
from volact.core.errors import TrustError
from volact.core.licence import Checkpoint

GENESIS = "0" * 64
FORMAT = 1


class LedgerBrokenError(TrustError):
    code = "ledger-broken"
    fmt = "the ledger is not whole: {why}"
    remedy = "keep a copy of the database, restore the last backup whose ledger verifies, and find out who changed it"


class Act(StrEnum):
    """The audit vocabulary: subject, then what happened to it.  Append; a name is never given another meaning."""

    PUBLISHER_INITIALISED = "publisher-initialised"
    PRODUCT_ADDED = "product-added"
    ORGANISATION_ADDED = "organisation-added"
    KEY_ISSUED = "key-issued"
    KEY_BLOCKED = "key-blocked"
    KEY_UNBLOCKED = "key-unblocked"
    KEY_RAISED = "key-raised"
    KEY_SUPERSEDED = "key-superseded"
    AGREEMENT_ADDED = "agreement-added"
    AGREEMENT_CHANGED = "agreement-changed"
    HOST_ACTIVATED = "host-activated"
    HOST_REACTIVATED = "host-reactivated"
    HOST_RENEWED = "host-renewed"
    MACHINE_ACTIVATED = "machine-activated"
    MACHINE_REACTIVATED = "machine-reactivated"
    MACHINE_RETURNED = "machine-returned"
    PHONE_CONFIRMED = "phone-confirmed"
    ISSUER_REVOKED = "issuer-revoked"
    ORGANISATION_REVOKED = "organisation-revoked"
    ISSUING_ROTATED = "issuing-rotated"
    ROOT_ROTATED = "root-rotated"
    OEM_CERTIFIED = "oem-certified"
    FOREST_ACTIVATED = "forest-activated"
    FOREST_RENEWED = "forest-renewed"
    TPM_MAKER_ADDED = "tpm-maker-added"
    TPM_MAKER_REMOVED = "tpm-maker-removed"
    REQUEST_REFUSED = "request-refused"
    TOKEN_MADE = "token-made"  # noqa: S105 - an act, no secret
    TOKEN_REVOKED = "token-revoked"  # noqa: S105


FOREST_ACTS = (Act.FOREST_ACTIVATED, Act.FOREST_RENEWED)
HOST_ACTS = (Act.HOST_ACTIVATED, Act.HOST_REACTIVATED, Act.HOST_RENEWED)
MACHINE_ACTS = (Act.MACHINE_ACTIVATED, Act.MACHINE_REACTIVATED)


@dataclass(frozen=True, slots=True)
class Row:
    """``data`` is canonical JSON text; ``actor`` is who did it: a user of the command line, or ``service``."""

    seq: int
    at: int
    act: str
    actor: str
    key_id: str | None
    data: str
    previous: str
    hash: str

    def to_dict(self) -> dict[str, Any]:
        return {**_covered(self), "hash": self.hash}

    def to_line(self) -> str:
        """The row as a line of an export."""
        return canonical(self.to_dict())


def canonical(value: Mapping[str, Any]) -> str:
    """JSON with sorted members and no spaces: one text for one value (RFC 8785 for what we put in)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def chain(last: Row | None, at: int, act: Act, actor: str, key_id: str | None, data: Mapping[str, Any]) -> Row:
    """The row that follows ``last``."""
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    draft = Row(seq, at, str(act), actor, key_id, canonical(data), previous, "")
    return Row(seq, at, str(act), actor, key_id, draft.data, previous, _hash(draft))


def check(rows: Iterable[Row]) -> Row | None:
    """Raises :class:`LedgerBrokenError` at the first row that does not fit; returns the last row, the head."""
    last: Row | None = None
    for row in rows:
        seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
        if row.seq != seq:
            raise LedgerBrokenError(why=f"row {seq} is missing")
        if row.previous != previous or row.hash != _hash(row):
            raise LedgerBrokenError(why=f"row {row.seq} was changed, or the row before it")
        last = row
    return last


def check_against(rows: Sequence[Row], exported: Mapping[int, str]) -> None:
    """Whether an earlier export (sequence number to hash) is the beginning of this ledger."""
    hashes = {row.seq: row.hash for row in rows}
    for seq, value in exported.items():
        if seq not in hashes:
            raise LedgerBrokenError(why=f"row {seq} of the export is missing")
        if hashes[seq] != value:
            raise LedgerBrokenError(why=f"row {seq} is not the one that was exported")


def check_activations(rows: Iterable[Row], serials: Iterable[str]) -> None:
    """Whether the certificates that the ledger tells of are those in the table of activations, each once."""
    told = {_serial(row) for row in rows if row.act in HOST_ACTS}
    kept = set(serials)
    for serial in sorted(told - kept):
        raise LedgerBrokenError(why=f"the activation with certificate {serial} was removed")
    for serial in sorted(kept - told):
        raise LedgerBrokenError(why=f"the activation with certificate {serial} was put in beside the ledger")


def check_forests(rows: Iterable[Row], objects: Iterable[str]) -> None:
    """Whether the activation objects that the ledger tells of are those in the table beside it, each once."""
    told = {str(json.loads(row.data)["object"]) for row in rows if row.act in FOREST_ACTS}
    kept = set(objects)
    for one in sorted(told ^ kept):
        what = "was removed" if one in told else "was put in beside the ledger"
        raise LedgerBrokenError(why=f"activation object {one} {what}")


def check_pools(rows: Iterable[Row], used: Mapping[str, int], machines: Mapping[int, str]) -> None:
    """Whether what the keys' pools have lost, and who holds activations (ID to machine), is what the ledger tells."""
    told: dict[str, int] = {}
    holders: dict[int, str] = {}
    for row in rows:
        if row.act not in MACHINE_ACTS and row.act != Act.MACHINE_RETURNED:
            continue
        data, key_id = json.loads(row.data), row.key_id or ""
        told[key_id] = told.get(key_id, 0) + data["units"]
        if row.act == Act.MACHINE_RETURNED:
            holders.pop(data["activation"], None)
        else:
            holders[data["activation"]] = data["machine"]
    for key_id in sorted(used.keys() | told.keys()):
        have, should = used.get(key_id, 0), told.get(key_id, 0)
        if have != should:
            raise LedgerBrokenError(why=f"key {key_id} has {have} activations in use, the ledger tells of {should}")
    for activation in sorted(machines.keys() | holders.keys()):
        if machines.get(activation) != holders.get(activation):
            raise LedgerBrokenError(why=f"activation {activation} is not the one that the ledger tells of")


def check_checkpoint(rows: Sequence[Row], checkpoint: Checkpoint) -> None:
    """Whether the ledger that a receipt was signed over is the beginning of this one."""
    if checkpoint.size > len(rows):
        raise LedgerBrokenError(why=f"it has {len(rows)} rows, the receipt was signed over {checkpoint.size}")
    if rows[checkpoint.size - 1].hash != checkpoint.head:
        raise LedgerBrokenError(why=f"row {checkpoint.size} is not the one that the receipt was signed over")


def read_export(data: bytes) -> dict[int, str]:
    """Sequence numbers and hashes of an export, or ``MalformedError``."""
    lines = (Fields(parse_object(line, "ledger export"), "ledger export") for line in data.splitlines())
    return {line.integer("seq", least=1): line.text("hash", least=64, most=64) for line in lines}


def _hash(row: Row) -> str:
    return hashlib.sha256(canonical(_covered(row)).encode()).hexdigest()


def _covered(row: Row) -> dict[str, Any]:
    """What the hash covers: every column; ``data`` as the text that is stored, so that its spelling counts too."""
    return {
        "v": FORMAT,
        "seq": row.seq,
        "at": row.at,
        "act": row.act,
        "actor": row.actor,
        "key_id": row.key_id,
        "data": row.data,
        "previous": row.previous,
    }


def _serial(row: Row) -> str:
    return str(json.loads(row.data).get("serial", ""))
