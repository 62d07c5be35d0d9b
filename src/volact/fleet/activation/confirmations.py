# SPDX-License-Identifier: Apache-2.0
"""Rows of proxy activation: the requests that were collected, their answers, and machines' backups.

A request stands here before anybody is asked about it, and its answer before it is brought to the machine: whoever is
interrupted finds both again, and the publisher answers the same request again for nothing.  What carries a row out of
the house is its ``reference``, which is random.  Spec: docs/spec/proxy.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from volact.core.encoding import Fields
from volact.core.errors import MalformedError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.policy import DAY
from volact.fleet.schema import BACKUPS, CONFIRMATIONS

MACHINE, FILE = "machine", "file"  # kinds: of a machine's product; from a request file that somebody handed over
OK = "ok"
# The publisher takes a carried request for 30 days.  One that leaves in a bundle needs some of them for its way.
MOST_AGE, MOST_AGE_TO_LEAVE = 30 * DAY, 25 * DAY
REFERENCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Collected:
    """What a machine gave: its request, and what may be told of it in the inventory."""

    request: RequestFile
    edition: str
    channel: str
    key_id: str
    partial_key: str
    machine_id: bytes
    traits: str

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> "Collected":
        """From ``volact client request --json``; a machine may say anything, so this is strict."""
        claim = Fields(dict(answer), "request of a machine")
        text = answer.get("request")
        request = RequestFile.from_bytes(text.encode() if isinstance(text, str) else b"")
        if (request.root, request.product) != (claim.text("root", most=80), claim.text("product", most=63)):
            raise MalformedError(what="request of a machine", why="it is of another product than it says")
        return cls(
            request,
            edition=claim.text("edition", most=63),
            channel=claim.text("channel", most=20),
            key_id=claim.text("key_id", most=64),
            partial_key=claim.text("partial_key", most=5),
            machine_id=_machine_id(claim),
            traits=json.dumps(Fingerprint.from_claim(claim.mapping("fingerprint")).to_claim(), sort_keys=True),
        )


@dataclass(frozen=True, slots=True)
class Confirmation:
    id: int
    reference: str
    machine: str
    kind: str
    root: str
    product: str
    edition: str | None
    channel: str | None
    key_id: str | None
    partial_key: str | None
    machine_id: bytes | None
    traits: str | None
    url: str | None
    request: bytes
    answer: bytes | None
    collected_at: int
    confirmed_at: int | None
    applied_at: int | None
    result: str | None
    source: str
    bundle: str | None

    @property
    def request_file(self) -> RequestFile:
        return RequestFile.from_bytes(self.request)

    @property
    def answer_file(self) -> AnswerFile | None:
        return None if self.answer is None else AnswerFile.from_bytes(self.answer)

    @property
    def state(self) -> str:
        if self.applied_at is not None:
            return "applied" if self.result == OK else "refused"
        return "waiting" if self.answer is None else "answered"

    def to_json(self) -> dict[str, Any]:
        names = ("reference", "machine", "kind", "root", "product", "edition", "channel", "partial_key", "state")
        times = ("collected_at", "confirmed_at", "applied_at", "result", "source", "bundle")
        machine = self.machine_id.hex() if self.machine_id else None
        return {**{name: getattr(self, name) for name in (*names, *times)}, "machine_id": machine}


@dataclass(frozen=True, slots=True)
class KeptBackup:
    """A machine's backup, as it was sealed to ``vault``."""

    machine_id: bytes
    machine: str
    vault: str
    products: tuple[str, ...]
    sealed: bytes
    made_at: int
    restored_at: int | None = None


def keep_request(
    conn: Connection, machine: str, collected: Collected, reference: bytes, now: int, source: str
) -> Confirmation:
    """The row of a request: the one that is there already where the machine gave the same again."""
    data = collected.request.to_bytes()
    row = CONFIRMATIONS.c
    there = _one(conn, _SELECT.where(row.machine == machine, row.request == data).order_by(row.id.desc()).limit(1))
    if there is not None:
        return there
    values = {
        "reference": reference.hex(),
        "machine": machine,
        "kind": MACHINE,
        "root": collected.request.root,
        "product": collected.request.product,
        "edition": collected.edition,
        "channel": collected.channel,
        "key_id": collected.key_id,
        "partial_key": collected.partial_key,
        "machine_id": collected.machine_id,
        "traits": collected.traits,
        "request": data,
        "collected_at": now,
        "source": source,
    }
    conn.execute(insert(CONFIRMATIONS).values(**values))
    return by_reference(conn, reference.hex())


def keep_file(conn: Connection, name: str, request: RequestFile, reference: bytes, now: int) -> Confirmation:
    """A request file that somebody handed over: of a forest, a host, or a machine that is out of reach."""
    row, data = CONFIRMATIONS.c, request.to_bytes()
    there = _one(conn, _SELECT.where(row.kind == FILE, row.request == data).limit(1))
    if there is not None:
        return there
    values = {"reference": reference.hex(), "machine": name, "kind": FILE, "request": data, "collected_at": now}
    values |= {"root": request.root, "product": request.product, "source": FILE}
    conn.execute(insert(CONFIRMATIONS).values(**values))
    return by_reference(conn, reference.hex())


def by_reference(conn: Connection, reference: str) -> Confirmation:
    found = _one(conn, _SELECT.where(CONFIRMATIONS.c.reference == reference))
    assert found is not None, "a reference is asked for where it is known"
    return found


def find_references(conn: Connection, references: Iterable[str]) -> dict[str, Confirmation]:
    wanted = sorted(set(references))
    found: dict[str, Confirmation] = {}
    for start in range(0, len(wanted), _MOST_VALUES):
        some = wanted[start : start + _MOST_VALUES]
        for row in conn.execute(_SELECT.where(CONFIRMATIONS.c.reference.in_(some))):
            found[row.reference] = _read(row)
    return found


def newest(conn: Connection, machine: str, root: str, product: str) -> Confirmation | None:
    """The last request of a machine's product, whatever became of it."""
    row = CONFIRMATIONS.c
    where = (row.machine == machine, row.root == root, row.product == product)
    return _one(conn, _SELECT.where(*where).order_by(row.id.desc()).limit(1))


def waiting(conn: Connection, now: int, machines: Sequence[str] | None = None) -> list[Confirmation]:
    """The newest request of each product that has no answer and is young enough for one."""
    row = CONFIRMATIONS.c
    query = _SELECT.where(row.answer.is_(None), row.collected_at > now - MOST_AGE_TO_LEAVE).order_by(row.id)
    return _newest_of_each(map(_read, conn.execute(query)), machines)


def answered(conn: Connection, machines: Sequence[str] | None = None) -> list[Confirmation]:
    """Answers that were not brought to their machines yet."""
    row = CONFIRMATIONS.c
    query = _SELECT.where(row.answer.is_not(None), row.applied_at.is_(None), row.kind == MACHINE).order_by(row.id)
    return _newest_of_each(map(_read, conn.execute(query)), machines)


def listed(conn: Connection, machine: str | None = None, limit: int = 1000) -> list[Confirmation]:
    query = _SELECT.order_by(CONFIRMATIONS.c.id.desc()).limit(limit)
    query = query if machine is None else query.where(CONFIRMATIONS.c.machine == machine)
    return [_read(row) for row in conn.execute(query)]


def keep_answer(conn: Connection, reference: str, answer: bytes, now: int, source: str | None = None) -> None:
    """Another answer than the one that is there has to be brought to the machine anew."""
    row = CONFIRMATIONS.c
    values: dict[str, Any] = {"answer": answer, "confirmed_at": now, "applied_at": None, "result": None}
    if source is not None:
        values["source"] = source
    changed = (row.answer.is_(None)) | (row.answer != answer)
    conn.execute(update(CONFIRMATIONS).where(row.reference == reference, changed).values(**values))


def keep_result(conn: Connection, reference: str, result: str, now: int) -> None:
    row = CONFIRMATIONS.c
    conn.execute(update(CONFIRMATIONS).where(row.reference == reference).values(applied_at=now, result=result))


def keep_problem(conn: Connection, reference: str, code: str) -> None:
    """Why the publisher has not answered; the request waits on."""
    row = CONFIRMATIONS.c
    conn.execute(update(CONFIRMATIONS).where(row.reference == reference, row.answer.is_(None)).values(result=code))


def mark_left(conn: Connection, references: Iterable[str], bundle: str) -> None:
    wanted = sorted(references)
    for start in range(0, len(wanted), _MOST_VALUES):
        some = wanted[start : start + _MOST_VALUES]
        conn.execute(update(CONFIRMATIONS).where(CONFIRMATIONS.c.reference.in_(some)).values(bundle=bundle))


def keep_backup(conn: Connection, made: KeptBackup) -> None:
    """The newest backup of each identity; a machine that was set up anew has several."""
    values = {
        "machine": made.machine,
        "vault": made.vault,
        "products": json.dumps(list(made.products)),
        "sealed": made.sealed,
        "made_at": made.made_at,
    }
    where = BACKUPS.c.machine_id == made.machine_id
    if conn.execute(update(BACKUPS).where(where).values(**values)).rowcount == 0:
        conn.execute(insert(BACKUPS).values(machine_id=made.machine_id, **values))


def backups(conn: Connection, machine: str | None = None) -> list[KeptBackup]:
    """The newest first."""
    query = select(*_BACKUP).order_by(BACKUPS.c.made_at.desc(), BACKUPS.c.machine)
    query = query if machine is None else query.where(BACKUPS.c.machine == machine)
    return [_read_backup(row) for row in conn.execute(query)]


def note_restored(conn: Connection, machine_id: bytes, now: int) -> None:
    conn.execute(update(BACKUPS).where(BACKUPS.c.machine_id == machine_id).values(restored_at=now))


_MOST_VALUES = 500
_SELECT: Select[Any] = select(*(CONFIRMATIONS.c[name] for name in Confirmation.__dataclass_fields__))
_BACKUP = tuple(BACKUPS.c[name] for name in KeptBackup.__dataclass_fields__)


def _newest_of_each(rows: Iterable[Confirmation], machines: Sequence[str] | None) -> list[Confirmation]:
    wanted = None if machines is None else set(machines)
    found: dict[tuple[str, str, str, str], Confirmation] = {}
    for one in rows:
        if wanted is None or one.machine in wanted:
            found[one.kind, one.machine, one.root, one.product if one.kind == MACHINE else one.reference] = one
    return list(found.values())


def _one(conn: Connection, query: Select[Any]) -> Confirmation | None:
    row = conn.execute(query).first()
    return None if row is None else _read(row)


def _read(row: Any) -> Confirmation:
    values = dict(row._mapping)
    for name in ("request", "answer", "machine_id"):
        values[name] = None if values[name] is None else bytes(values[name])
    return Confirmation(**values)


def _read_backup(row: Any) -> KeptBackup:
    values = dict(row._mapping)
    values["products"] = tuple(json.loads(values["products"]))
    return KeptBackup(**{**values, "machine_id": bytes(values["machine_id"]), "sealed": bytes(values["sealed"])})


def _machine_id(claim: Fields) -> bytes:
    text = claim.text("machine_id", least=64, most=64)
    if not set(text) <= set("0123456789abcdef"):
        claim.fail("machine_id", "64 hexadecimal digits")
    return bytes.fromhex(text)
