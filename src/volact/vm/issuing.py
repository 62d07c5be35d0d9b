# SPDX-License-Identifier: Apache-2.0
"""What a VM host answers to a guest's proven request: the rules, without store, clock or keys.

Spec: docs/spec/vm-channel.md §5.  Nothing is counted towards a threshold: a guest is licensed because its host is.
How many guests one host may have is decided by the store, in the transaction that takes the place.
"""

from collections.abc import Set
from dataclasses import dataclass

from volact.core.definition import Edition, ProductDefinition
from volact.core.licence import Licence
from volact.core.refusal import HostUnlicensedError, NestedHostError, Refusal
from volact.core.request import ActivationRequest
from volact.issuer import rules
from volact.issuer.kind import VM_HOST


@dataclass(frozen=True, slots=True)
class HostState:
    """``nested``: this host is a virtual machine itself; ``editions``: those of the product that its computer is
    licensed for at the moment."""

    nested: bool
    editions: Set[str]


def decide(
    request: ActivationRequest,
    *,
    issuer: str,
    definition: ProductDefinition | None,
    groups: frozenset[int],
    host: HostState,
    now: int,
) -> Edition | Refusal:
    """The edition to license, where the host and its key may license the guest."""
    found = rules.check_request(
        request, serves=VM_HOST.serves, issuer=issuer, definition=definition, groups=groups, now=now
    )
    if isinstance(found, Refusal):
        return found
    guests = found.policy.guests
    if host.nested and not guests.nested:
        return Refusal.of(NestedHostError, product=request.product)
    if guests.host_edition and guests.host_edition not in host.editions:
        return Refusal.of(HostUnlicensedError, edition=guests.host_edition, product=request.product)
    return found


def licence_for(
    request: ActivationRequest,
    edition: Edition,
    machine: bytes,
    *,
    key_id: str,
    organisation: str,
    certificate_ends_at: int,
    now: int,
) -> Licence:
    """A guest's licence: a lease, renewed at the policy's interval, without a count."""
    intervals = {
        "activation_interval_minutes": edition.policy.activation_interval_minutes,
        "renewal_interval_minutes": edition.policy.renewal_interval_minutes,
    }
    return rules.licence_for(
        request,
        edition,
        machine,
        key_id=key_id,
        organisation=organisation,
        certificate_ends_at=certificate_ends_at,
        now=now,
        extra=intervals,
    )
