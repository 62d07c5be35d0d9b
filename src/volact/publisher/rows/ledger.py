# SPDX-License-Identifier: Apache-2.0
"""The ledger's hash chain: what each act leaves behind, and how a changed row is found.  Pure.
Spec: docs/spec/ledger.md.

A row's hash covers everything in it and the hash of the row before.  Whoever may rewrite the whole database may also
write a whole new chain; an export kept elsewhere shows that (:func:`check_against`).
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from volact.core.encoding import Fields, parse_object
from volact.core.errors import MalformedError, TrustError
from volact.core.licence import Checkpoint

GENESIS = "0" * 64
FORMAT = 1
_EXPORT = "ledger export"


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


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """An export, line by line."""
    return (f"{row.to_line()}\n" for row in rows)


def canonical(value: Mapping[str, Any]) -> str:
    """JSON with sorted members and no spaces: one text for one value (RFC 8785 for what we put in)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def chain(last: Row | None, at: int, act: Act, actor: str, key_id: str | None, data: Mapping[str, Any]) -> Row:
    """The row that follows ``last``."""
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    draft = Row(seq, at, str(act), actor, key_id, canonical(data), previous, "")
    return Row(seq, at, str(act), actor, key_id, draft.data, previous, _hash(draft))


def whole(rows: Iterable[Row], last: Row | None = None) -> Iterator[Row]:
    """The rows that follow ``last``, one by one; raises :class:`LedgerBrokenError` at the first that does not fit."""
    for row in rows:
        seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
        if row.seq != seq:
            raise LedgerBrokenError(why=f"row {seq} is missing")
        if row.previous != previous or row.hash != _hash(row):
            raise LedgerBrokenError(why=f"row {row.seq} was changed, or the row before it")
        last = row
        yield row


def check(rows: Iterable[Row]) -> Row | None:
    """Raises :class:`LedgerBrokenError` at the first row that does not fit; returns the last row, the head."""
    return next(iter(deque(whole(rows), maxlen=1)), None)


class Comparison:
    """What was kept elsewhere (sequence numbers and hashes, in their order) against the rows of this ledger: ``see``
    each of them in order, then ``finish``.  Both raise :class:`LedgerBrokenError`.  ``compared``: how many were the
    same."""

    def __init__(self, kept: Iterable[tuple[int, str]], *, missing: str, other: str) -> None:
        self._kept, self._missing, self._other = iter(kept), missing, other
        self._next = next(self._kept, None)
        self._rows = self.compared = 0

    @classmethod
    def with_export(cls, exported: Iterable[tuple[int, str]]) -> Self:
        """Whether an earlier export is part of this ledger."""
        return cls(exported, missing="row {seq} of the export is missing", other="that was exported")

    @classmethod
    def with_checkpoints(cls, checkpoints: Iterable[Checkpoint]) -> Self:
        """Whether the ledgers that receipts were signed over are the beginning of this one."""
        kept = ((one.size, one.head) for one in checkpoints)
        missing = "it has {rows} rows, the receipt was signed over {seq}"
        return cls(kept, missing=missing, other="that the receipt was signed over")

    def see(self, row: Row) -> None:
        self._rows = row.seq
        if self._next is None or self._next[0] != row.seq:
            return
        if self._next[1] != row.hash:
            raise LedgerBrokenError(why=f"row {row.seq} is not the one {self._other}")
        self.compared += 1
        self._next = next(self._kept, None)

    def finish(self) -> None:
        if self._next is not None:
            raise LedgerBrokenError(why=self._missing.format(seq=self._next[0], rows=self._rows))

    def check(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.see(row)
        self.finish()


def read_export(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Sequence numbers and hashes of an export's lines, in their order, or ``MalformedError``."""
    before = 0
    for line in lines:
        fields = Fields(parse_object(line.rstrip(b"\r\n"), _EXPORT), _EXPORT)
        seq, value = fields.integer("seq", least=1), fields.text("hash", least=64, most=64)
        if seq <= before:
            raise MalformedError(what=_EXPORT, why=f"row {seq} comes after row {before}")
        before = seq
        yield seq, value


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
