# SPDX-License-Identifier: Apache-2.0
"""Forests that a KMS host key has activated: the rule, and the rows that it is decided by.

A key serves so many forests as the least generous edition that it covers allows.  A forest that has a place already is
renewed as often as it is asked for, and a request that comes again gets the same object again.
Spec: docs/spec/activation-object.md §1; functional facts C.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from volact.core.activation_object import LIFETIME, ActivationObject, id_of
from volact.core.definition import ProductDefinition
from volact.core.encoding import Fields
from volact.core.forest import Forest
from volact.core.phone_site import SiteInstallationId, SiteSubject, name_of_forest, name_of_identity, whole_name
from volact.core.refusal import ForestLimitError, Refusal
from volact.publisher import ledger
from volact.publisher.issuing import IssuedKey, Kind
from volact.publisher.schema import FOREST_ACTIVATION


@dataclass(frozen=True, slots=True)
class BoundForest:
    """A forest that was granted an object; to be signed as it is here."""

    kind: Kind
    key: IssuedKey
    object: ActivationObject


def forest_limit(group: int, definition: ProductDefinition) -> int:
    """Forests of a key: no more than any edition that the key covers allows."""
    covered = definition.covered_by(group)
    policies = [edition.policy for edition in definition.editions if edition.group in covered]
    policies = policies or [edition.policy for edition in definition.editions]
    return min(policy.forests_per_key for policy in policies)


def decide_forest(key: IssuedKey, known: Sequence[str], forest: Forest, limit: int) -> Kind | Refusal:
    """``known``: the identities of the forests that have a place."""
    return decide_named(key, known, name_of_forest(forest), limit)


def decide_named(key: IssuedKey, known: Sequence[str], name: bytes, limit: int) -> Kind | Refusal:
    """The same for a forest of which no more is known than what was read out at the telephone."""
    if has_place(known, name):
        return Kind.RENEWED
    if count_places(known) >= limit:
        return Refusal.of(ForestLimitError, partial=key.partial, limit=limit)
    return Kind.ACTIVATED


def has_place(known: Sequence[str], name: bytes) -> bool:
    return name in map(_name_of, known)


def count_places(known: Sequence[str]) -> int:
    return len({_name_of(identity) for identity in known})


def made_of(claim: Mapping[str, object]) -> ActivationObject:
    """An object from its row."""
    return ActivationObject.from_claim(Fields(dict(claim), "activation object"))


def lifetime_end(now: int) -> int:
    return now + LIFETIME


def known_forests(conn: Connection, key_id: str) -> list[str]:
    """In the order in which they were activated."""
    row = FOREST_ACTIVATION.c
    found = conn.execute(select(row.identity).where(row.key_id == key_id).order_by(row.id)).scalars()
    return list(dict.fromkeys(found))


def earlier_object(conn: Connection, key_id: str, nonce: bytes) -> ActivationObject | None:
    """What this very request was granted before; its answer was lost."""
    row = FOREST_ACTIVATION.c
    found = conn.execute(select(row.claim).where(row.key_id == key_id, row.object_id == id_of(nonce))).scalar()
    return None if found is None else made_of(json.loads(found))


def objects_of(conn: Connection, key_id: str | None = None) -> list[ActivationObject]:
    """Those that were signed; what was confirmed by telephone, administrators make themselves."""
    row = FOREST_ACTIVATION.c
    statement = select(row.claim).where(row.object_id.not_like(f"{_TELEPHONE}%")).order_by(row.id)
    if key_id is not None:
        statement = statement.where(row.key_id == key_id)
    return [made_of(json.loads(claim)) for claim in conn.execute(statement).scalars()]


def is_confirmed(conn: Connection, key_id: str, installation: SiteInstallationId) -> bool:
    """Whether this very installation ID was answered before."""
    row = FOREST_ACTIVATION.c
    statement = select(row.id).where(row.key_id == key_id, row.object_id == object_id(installation))
    return conn.execute(statement).one_or_none() is not None


def object_id(installation: SiteInstallationId) -> str:
    """Of what was confirmed; no online request's nonce can be the same."""
    return f"{_TELEPHONE}{id_of(installation.nonce)}"


def keep_confirmed(conn: Connection, subject: SiteSubject, installation: SiteInstallationId, now: int) -> None:
    conn.execute(
        insert(FOREST_ACTIVATION).values(
            key_id=subject.key_id,
            identity=f"{_TELEPHONE}{installation.name.hex()}",
            object_id=object_id(installation),
            machine_id=whole_name(installation.name),
            at=now,
            ends_at=installation.ends_at,
            claim=ledger.canonical(told_confirmed(subject, installation)),
        )
    )


def told_confirmed(subject: SiteSubject, installation: SiteInstallationId) -> dict[str, object]:
    """What the ledger says of a forest that was read out."""
    return {
        "object": object_id(installation),
        "forest": installation.name.hex(),
        "product": subject.product,
        "groups": sorted(subject.groups),
        "ends_at": installation.ends_at,
        "revocation_id": installation.revocation_id,
    }


def keep(conn: Connection, made: ActivationObject, machine: bytes) -> None:
    conn.execute(
        insert(FOREST_ACTIVATION).values(
            key_id=made.key_id,
            identity=made.forest.identity,
            object_id=made.id,
            machine_id=machine,
            at=made.issued_at,
            ends_at=made.expires_at,
            claim=ledger.canonical(made.to_claim()),
        )
    )


def told(made: ActivationObject, machine: bytes, computer: str) -> dict[str, object]:
    """What the ledger says of it."""
    return {
        "object": made.id,
        "forest": made.forest.to_claim(),
        "name": made.name,
        "product": made.product,
        "groups": sorted(made.groups),
        "ends_at": made.expires_at,
        "machine": machine.hex(),
        "computer": computer,
    }


_TELEPHONE = "telephone:"


def _name_of(identity: str) -> bytes:
    """An identity as the telephone names it: a forest that came by both ways is one."""
    if identity.startswith(_TELEPHONE):
        return bytes.fromhex(identity.removeprefix(_TELEPHONE))
    return name_of_identity(identity)
