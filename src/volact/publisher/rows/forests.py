# SPDX-License-Identifier: Apache-2.0
"""Forests that a KMS host key has activated: their rows.  The rule is in ``rules.forests``."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, insert, select

from volact.core.activation_object import ActivationObject, id_of
from volact.core.encoding import Fields
from volact.core.phone_site import SiteInstallationId, SiteSubject, whole_name
from volact.publisher.rows import ledger
from volact.publisher.rules.forests import (
    BY_TELEPHONE,
    object_id,
    told_confirmed,
)
from volact.publisher.schema import FOREST_ACTIVATION


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
    statement = select(row.claim).where(row.object_id.not_like(f"{BY_TELEPHONE}%")).order_by(row.id)
    if key_id is not None:
        statement = statement.where(row.key_id == key_id)
    return [made_of(json.loads(claim)) for claim in conn.execute(statement).scalars()]


def is_confirmed(conn: Connection, key_id: str, installation: SiteInstallationId) -> bool:
    """Whether this very installation ID was answered before."""
    row = FOREST_ACTIVATION.c
    statement = select(row.id).where(row.key_id == key_id, row.object_id == object_id(installation))
    return conn.execute(statement).one_or_none() is not None


def keep_confirmed(conn: Connection, subject: SiteSubject, installation: SiteInstallationId, now: int) -> None:
    conn.execute(
        insert(FOREST_ACTIVATION).values(
            key_id=subject.key_id,
            identity=f"{BY_TELEPHONE}{installation.name.hex()}",
            object_id=object_id(installation),
            machine_id=whole_name(installation.name),
            at=now,
            ends_at=installation.ends_at,
            claim=ledger.canonical(told_confirmed(subject, installation)),
        )
    )


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


def made_of(claim: Mapping[str, object]) -> ActivationObject:
    """An object from its row."""
    return ActivationObject.from_claim(Fields(dict(claim), "activation object"))
