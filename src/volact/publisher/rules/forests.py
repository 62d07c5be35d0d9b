# SPDX-License-Identifier: Apache-2.0
"""The rule of forests that a KMS host key has activated.

A key serves so many forests as the least generous edition that it covers allows.  A forest that has a place already is
renewed as often as it is asked for, and a request that comes again gets the same object again.
Spec: docs/spec/activation-object.md §1; functional facts C.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from volact.core.activation_object import LIFETIME, ActivationObject, id_of
from volact.core.definition import ProductDefinition
from volact.core.forest import Forest
from volact.core.phone_site import SiteInstallationId, SiteSubject, name_of_forest, name_of_identity
from volact.core.refusal import ForestLimitError, Refusal
from volact.publisher.rules.issuing import IssuedKey, Kind

BY_TELEPHONE = "telephone:"  # before the name of a forest that is known from there alone


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


def lifetime_end(now: int) -> int:
    return now + LIFETIME


def object_id(installation: SiteInstallationId) -> str:
    """Of what was confirmed; no online request's nonce can be the same."""
    return f"{BY_TELEPHONE}{id_of(installation.nonce)}"


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


def _name_of(identity: str) -> bytes:
    """An identity as the telephone names it: a forest that came by both ways is one."""
    if identity.startswith(BY_TELEPHONE):
        return bytes.fromhex(identity.removeprefix(BY_TELEPHONE))
    return name_of_identity(identity)
