# SPDX-License-Identifier: Apache-2.0
"""The rules of pools: how MAK and retail keys are used up by machines.  Pure: rows, request and time come in.

A key has a pool of activations.  A new machine takes one; the same machine takes none when it activates again, unless
the edition's policy says that this counts too.  "The same machine" is the same machine ID, or another one whose
hardware is within the policy's tolerance of what the activation was made for: a reinstalled computer.  A copied
installation (same ID, other hardware) is another machine.  Spec: docs/guide/publisher.md §Pools.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from volact.core import phone
from volact.core.definition import ProductDefinition
from volact.core.fingerprint import Fingerprint, Tolerance, compare
from volact.core.policy import DAY, Policy
from volact.core.refusal import ActivationsExhaustedError, EditionUnknownError, KeyGroupMismatchError, Refusal
from volact.core.request import ActivationRequest
from volact.publisher.rules.issuing import IssuedKey, Kind

RETURN_PERIOD = 365 * DAY  # of the policy's cap on credited returns


class Credit(IntEnum):
    """Whether a return gave the pool its activation back, and by what; as it stands in the rows."""

    NONE = 0  # taken, and beyond the cap
    CAPPED = 1  # within the cap of its key and year
    COUNTER = 2  # the machine's TPM vouched for it: under no cap, and counted in none


@dataclass(frozen=True, slots=True)
class Activation:
    """What one machine holds of a key's pool.  ``used``: activations that it took; ``times``: how often it asked;
    ``nonce``: of the request that was granted last; ``counter``: of the TPM that every licence of it is bound to;
    ``proof_at``: when its machine gave it back, by its own clock, and no later than when the proof came here."""

    id: int
    key_id: str
    machine: bytes
    product: str
    edition: str
    name: str
    fingerprint: Fingerprint
    nonce: bytes
    first_at: int
    last_at: int
    times: int
    used: int
    returned_at: int | None = None
    credited: Credit | None = None
    counter: bytes | None = None
    proof_at: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A granted request: ``held`` is the activation that the machine has already; ``units`` are taken from the pool."""

    kind: Kind
    held: Activation | None
    units: int


def check_edition(key: IssuedKey, request: ActivationRequest, definition: ProductDefinition) -> Refusal | None:
    """Pools cover one product group and none below it."""
    edition = definition.edition(request.edition)
    if edition is None:
        return Refusal.of(EditionUnknownError, product=request.product, edition=request.edition)
    if edition.group != key.group:
        return Refusal.of(KeyGroupMismatchError, group=key.group, edition=edition.id)
    return None


def decide_activation(
    key: IssuedKey, known: Iterable[Activation], request: ActivationRequest, machine: bytes, policy: Policy
) -> Place | Refusal:
    """``known``: activations of the key that may be this machine's."""
    held = find_held(known, machine, request.product, request.fingerprint, policy.tolerance)
    units = 1 if held is None or policy.reactivation_counts else 0
    if units and key.used + units > key.activations:
        return Refusal.of(ActivationsExhaustedError, partial=key.partial, limit=key.activations)
    return Place(Kind.ACTIVATED if held is None else Kind.REACTIVATED, held, units)


def asks_the_same(earlier: Activation, request: ActivationRequest, machine: bytes) -> bool:
    """Whether a request with the nonce of ``earlier`` is that request again.  Who makes a request chooses its nonce:
    for another edition or other hardware (a copied installation) it is a new request, whatever it is named."""
    if (earlier.product, earlier.edition) != (request.product, request.edition):
        return False
    if earlier.machine == phone.name_of(machine):  # made by telephone: of its hardware only that much is known
        return phone.shows(earlier.fingerprint, phone.commit(request.fingerprint))
    return earlier.fingerprint == request.fingerprint


def find_held(
    known: Iterable[Activation], machine: bytes, product: str, fingerprint: Fingerprint, tolerance: Tolerance
) -> Activation | None:
    """The activation that this machine holds, its own ID first, then the hardware that agrees most."""
    best: tuple[int, int] | None = None
    found = None
    for one in known:
        rank = None if one.returned_at is not None else _likeness(one, machine, product, fingerprint, tolerance)
        if rank is not None and (best is None or rank > best):
            best, found = rank, one
    return found


def was_given_up(known: Iterable[Activation], request: ActivationRequest, machine: bytes, tolerance: Tolerance) -> bool:
    """Whether the machine has given an activation of the key back since it made this request, both by its own clock: a
    file that was carried late, or a message that somebody held back.  The machine can use no answer to it any more."""
    return any(
        one.proof_at is not None
        and request.at < one.proof_at
        and _likeness(one, machine, request.product, request.fingerprint, tolerance) is not None
        for one in known
    )


def _likeness(
    one: Activation, machine: bytes, product: str, fingerprint: Fingerprint, tolerance: Tolerance
) -> tuple[int, int] | None:
    """How surely an activation is this machine's; ``None`` where it is another's."""
    if one.product != product:
        return None
    if one.machine == phone.name_of(machine) and phone.shows(one.fingerprint, phone.commit(fingerprint)):
        return 2, 0  # made by telephone: of its hardware only that much is known
    match = compare(one.fingerprint, fingerprint, tolerance)
    own = one.machine == machine
    # Two machines that show nothing (containers) are not one: hardware alone must really have been compared.
    return (int(own), match.matched) if match.within and (own or match.compared >= tolerance.minimum) else None


def credit_for(credited_before: int, policy: Policy, *, vouched: bool) -> Credit:
    """Whether a return gives the pool its activation back; ``credited_before``: under the cap, of the key, in the last
    365 days.

    A machine whose key lives in a file can be rolled back to before its return, so the cap bounds what that can gain;
    where a TPM's counter vouches, rolling back gains nothing.
    """
    if vouched:
        return Credit.COUNTER
    return Credit.CAPPED if credited_before < policy.returns_per_key_year else Credit.NONE
