# SPDX-License-Identifier: Apache-2.0
"""The tables of activations, seen by one write transaction: loaded for all requests of a batch at once, changed in
memory by one decision after the other, and written back whole.

Decides nothing (``pools`` does).  What one request of a batch did is seen by the next; a batch costs the same dozen
statements whatever its size.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Connection, bindparam, func, insert, literal, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from volact.core.fingerprint import Fingerprint
from volact.core.phone import name_of
from volact.core.request import ActivationRequest
from volact.publisher.rows import ledger
from volact.publisher.rules.pools import Activation, Credit, Place
from volact.publisher.schema import ACTIVATION, ACTIVATION_REQUEST, ACTIVATION_TRAIT, PRODUCT_KEY


@dataclass(frozen=True, slots=True)
class Ask:
    """What identifies a request: whose, by which key, and its nonce."""

    key_id: str
    machine: bytes
    nonce: bytes
    fingerprint: Fingerprint

    @property
    def name(self) -> tuple[bytes, bytes, str]:
        return self.nonce, self.machine, self.key_id

    @property
    def telephone(self) -> "Ask":
        """The same, had it come by telephone, which carries less of the machine's ID."""
        return replace(self, machine=name_of(self.machine))


class Activations:
    """``load`` first, then any number of changes, then ``flush``."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._by_id: dict[int, Activation] = {}
        self._by_machine: dict[tuple[str, bytes], set[int]] = {}
        self._by_trait: dict[tuple[str, bytes], int] = {}
        self._requests: dict[tuple[bytes, bytes, str], int] = {}
        self._used: dict[str, int] = {}
        self._next = 0
        self._new: set[int] = set()
        self._changed: set[int] = set()
        self._traits: dict[tuple[str, bytes], int] = {}
        self._granted: dict[tuple[bytes, bytes, str], int] = {}

    def load(self, asks: Sequence[Ask]) -> None:
        """Everything that may matter to these requests."""
        if not asks:
            return
        self._load_requests(asks)
        traits = sorted({(ask.key_id, trait) for ask in asks for trait in ask.fingerprint.traits.values()})
        wanted = set(self._load_traits(traits)) | set(self._requests.values())
        machines = sorted({(ask.key_id, name) for ask in asks for name in (ask.machine, name_of(ask.machine))})
        for some in _chunks(machines):
            row = ACTIVATION.c
            self._keep(select(*_COLUMNS).where(_among(self._conn.dialect.name, row.key_id, row.machine_id, some)))
        for ids in _chunks(sorted(wanted - set(self._by_id))):
            self._keep(select(*_COLUMNS).where(ACTIVATION.c.id.in_(ids)))
        self._next = (self._conn.execute(select(func.max(ACTIVATION.c.id))).scalar() or 0) + 1

    def earlier(self, ask: Ask) -> Activation | None:
        """The activation that this very request was granted before; its answer was lost, or it is replayed."""
        found = self._requests.get(ask.name) or self._requests.get(ask.telephone.name)
        return None if found is None else self._by_id[found]

    def known(self, ask: Ask) -> list[Activation]:
        """Those that may be this machine's: under its ID, or with a trait of its hardware."""
        ids = set(self._by_machine.get((ask.key_id, ask.machine), ()))
        ids |= self._by_machine.get((ask.key_id, ask.telephone.machine), set())
        for trait in ask.fingerprint.traits.values():
            found = self._by_trait.get((ask.key_id, trait))
            if found is not None:
                ids.add(found)
        return [self._by_id[one] for one in sorted(ids) if one in self._by_id]

    def place(
        self, ask: Ask, request: ActivationRequest, place: Place, now: int, counter: bytes | None = None
    ) -> Activation:
        """Give a machine its place: a new activation, or the one that it holds, under its present ID and hardware.

        ``counter``: of the TPM that the licence is bound to; one licence without it, or with another, and none vouches
        for the return of the activation."""
        if place.held is None:
            made = Activation(
                self._next, ask.key_id, ask.machine, request.product, request.edition, request.name,
                ask.fingerprint, ask.nonce, now, now, 1, place.units, counter=counter,
            )  # fmt: skip
            self._next += 1
            self._new.add(made.id)
        else:
            made = _renewed(place.held, ask, request, place, now, counter)
            self._changed.add(made.id)
        self._remember(made)
        self._take(ask.key_id, place.units)
        self._requests[ask.name] = made.id
        self._granted[ask.name] = now
        for trait in ask.fingerprint.traits.values():
            self._by_trait[ask.key_id, trait] = self._traits[ask.key_id, trait] = made.id
        return made

    def unbind(self, activation: Activation) -> None:
        """A licence of it went out that is bound to no counter."""
        self._remember(replace(activation, counter=None))
        self._changed.add(activation.id)

    def give_back(self, activation: Activation, at: int, credited: Credit, proof_at: int) -> None:
        """``proof_at``: the machine's own clock, which may be ahead of what it is here."""
        self._remember(replace(activation, returned_at=at, credited=credited, proof_at=min(proof_at, at)))
        self._changed.add(activation.id)
        if credited:
            self._take(activation.key_id, -activation.used)

    def credited_since(self, key_id: str, at: int) -> int:
        """Returns of a key that gave something back under its cap, in this batch too."""
        row = ACTIVATION.c
        capped = row.credited == Credit.CAPPED
        statement = select(func.count()).where(row.key_id == key_id, row.returned_at > at, capped)
        here = sum(
            self._by_id[one].key_id == key_id and self._by_id[one].credited is Credit.CAPPED and one in self._changed
            for one in self._by_id
        )
        return int(self._conn.execute(statement).scalar_one()) + here

    def taken(self, key_id: str) -> int:
        """What the batch has taken from a key's pool so far."""
        return self._used.get(key_id, 0)

    def flush(self) -> None:
        if self._new:
            self._conn.execute(insert(ACTIVATION), [_row(self._by_id[one]) for one in sorted(self._new)])
        changed = sorted(self._changed - self._new)
        if changed:
            self._conn.execute(_UPDATE, [_renamed(_row(self._by_id[one])) for one in changed])
        if self._traits:
            rows = [{"key_id": key, "trait": trait, "activation_id": one} for (key, trait), one in self._traits.items()]
            self._conn.execute(_UPSERT_TRAIT[self._conn.dialect.name], rows)
        if self._granted:
            self._conn.execute(_UPSERT_REQUEST[self._conn.dialect.name], list(map(self._request_row, self._granted)))
        used = [{"k": key, "n": units} for key, units in self._used.items() if units]
        if used:
            self._conn.execute(_TAKE, used)

    def _request_row(self, name: tuple[bytes, bytes, str]) -> dict[str, Any]:
        nonce, machine, key_id = name
        made = {"activation_id": self._requests[name], "at": self._granted[name]}
        return {"nonce": nonce, "machine_id": machine, "key_id": key_id, **made}

    def _take(self, key_id: str, units: int) -> None:
        self._used[key_id] = self._used.get(key_id, 0) + units

    def _remember(self, activation: Activation) -> None:
        self._by_id[activation.id] = activation
        self._by_machine.setdefault((activation.key_id, activation.machine), set()).add(activation.id)

    def _load_requests(self, asks: Sequence[Ask]) -> None:
        row = ACTIVATION_REQUEST.c
        for nonces in _chunks(sorted({ask.nonce for ask in asks})):
            statement = select(row.nonce, row.machine_id, row.key_id, row.activation_id).where(row.nonce.in_(nonces))
            for nonce, machine, key_id, activation in self._conn.execute(statement):
                self._requests[bytes(nonce), bytes(machine), key_id] = activation

    def _load_traits(self, traits: Sequence[tuple[str, bytes]]) -> Iterable[int]:
        row = ACTIVATION_TRAIT.c
        for some in _chunks(traits):
            statement = select(row.key_id, row.trait, row.activation_id)
            among = _among(self._conn.dialect.name, row.key_id, row.trait, some)
            for key_id, trait, activation in self._conn.execute(statement.where(among)):
                self._by_trait[key_id, bytes(trait)] = activation
        return self._by_trait.values()

    def _keep(self, statement: Any) -> None:
        for row in self._conn.execute(statement):
            self._remember(read_activation(row))


def read_activation(row: Sequence[Any]) -> Activation:
    """A row of ``COLUMNS``."""
    values = dict(zip(_NAMES, row, strict=True))
    values["machine"], values["nonce"] = bytes(values.pop("machine_id")), bytes(values["nonce"])
    values["fingerprint"] = Fingerprint.from_claim(json.loads(values["fingerprint"]))
    values["counter"] = None if values["counter"] is None else bytes(values["counter"])
    values["credited"] = None if values["credited"] is None else Credit(values["credited"])
    return Activation(**values)


_NAMES = (
    "id", "key_id", "machine_id", "product", "edition", "name", "fingerprint", "nonce",
    "first_at", "last_at", "times", "used", "returned_at", "credited", "counter",
    "proof_at",
)  # fmt: skip
_COLUMNS = COLUMNS = tuple(ACTIVATION.c[name] for name in _NAMES)
_MOST_VALUES = 500  # two parameters each: SQLite takes 32,766 of them, PostgreSQL 65,535
_UPDATE = (
    update(ACTIVATION)
    .where(ACTIVATION.c.id == bindparam("b_id"))
    .values({name: bindparam(f"b_{name}") for name in _NAMES if name not in ("id", "key_id", "product", "first_at")})
)


def _upsert_trait(insert_of_dialect: Any) -> Any:
    statement = insert_of_dialect(ACTIVATION_TRAIT)
    return statement.on_conflict_do_update(
        index_elements=["key_id", "trait"], set_={"activation_id": statement.excluded.activation_id}
    )


def _upsert_request(insert_of_dialect: Any) -> Any:
    """A nonce that its machine has used again names the newest of its requests."""
    statement = insert_of_dialect(ACTIVATION_REQUEST)
    changed = {"activation_id": statement.excluded.activation_id, "at": statement.excluded.at}
    return statement.on_conflict_do_update(index_elements=["nonce", "machine_id", "key_id"], set_=changed)


_UPSERT_REQUEST = {"sqlite": _upsert_request(sqlite.insert), "postgresql": _upsert_request(postgresql.insert)}
_UPSERT_TRAIT = {"sqlite": _upsert_trait(sqlite.insert), "postgresql": _upsert_trait(postgresql.insert)}
_TAKE = (
    update(PRODUCT_KEY).where(PRODUCT_KEY.c.key_id == bindparam("k")).values(used=PRODUCT_KEY.c.used + bindparam("n"))
)


def _row(activation: Activation) -> dict[str, Any]:
    credited = activation.credited
    return {
        "id": activation.id,
        "key_id": activation.key_id,
        "machine_id": activation.machine,
        "product": activation.product,
        "edition": activation.edition,
        "name": activation.name,
        "fingerprint": ledger.canonical(activation.fingerprint.to_claim()),
        "nonce": activation.nonce,
        "first_at": activation.first_at,
        "last_at": activation.last_at,
        "times": activation.times,
        "used": activation.used,
        "returned_at": activation.returned_at,
        "credited": None if credited is None else int(credited),
        "counter": activation.counter,
        "proof_at": activation.proof_at,
    }


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"b_{name}": value for name, value in row.items()}


def _among(
    dialect: str, first: ColumnElement[Any], second: ColumnElement[Any], pairs: Sequence[tuple[str, bytes]]
) -> ColumnElement[bool]:
    """Whether two columns are one of the pairs.  PostgreSQL takes a list of pairs for hundreds of alternatives, and
    plans them for longer than it looks them up: it is given arrays."""
    pair = tuple_(first, second)
    if dialect != "postgresql":
        return pair.in_(pairs)
    columns = zip((first, second), zip(*pairs, strict=True), strict=True)
    return pair.in_(select(*(func.unnest(literal(list(values), ARRAY(column.type))) for column, values in columns)))


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), _MOST_VALUES):
        yield values[start : start + _MOST_VALUES]


def _renewed(
    held: Activation, ask: Ask, request: ActivationRequest, place: Place, now: int, counter: bytes | None
) -> Activation:
    """The activation that a machine holds, under its present ID and hardware."""
    return replace(
        held,
        machine=ask.machine,
        edition=request.edition,
        name=request.name,
        fingerprint=ask.fingerprint,
        nonce=ask.nonce,
        last_at=now,
        times=held.times + 1,
        used=held.used + place.units,
        counter=counter if counter == held.counter else None,
    )
