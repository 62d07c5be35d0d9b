# SPDX-License-Identifier: Apache-2.0
"""What a KMS host answers to a proven request: the rules, without store, clock or keys.  Spec: docs/spec/licence.md §4.

A valid request always gets a licence, below the threshold too: the count in it is for the client to judge.
"""

from dataclasses import dataclass

from volact.core.definition import Edition, ProductDefinition
from volact.core.licence import Licence
from volact.core.refusal import Refusal
from volact.core.request import ActivationRequest
from volact.issuer import rules
from volact.issuer.kind import KMS_HOST


@dataclass(frozen=True, slots=True)
class Intervals:
    """The host's settings in minutes; ``None`` leaves it to the product's policy."""

    activation_minutes: int | None = None
    renewal_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request to be counted and licensed."""

    edition: Edition


def decide(
    request: ActivationRequest,
    *,
    issuer: str,
    definition: ProductDefinition | None,
    groups: frozenset[int],
    now: int,
) -> Accepted | Refusal:
    """Whether the host whose sealing key is ``issuer`` and whose certificate grants ``groups`` serves the request."""
    found = rules.check_request(
        request, serves=KMS_HOST.serves, issuer=issuer, definition=definition, groups=groups, now=now
    )
    return found if isinstance(found, Refusal) else Accepted(found)


def licence_for(
    request: ActivationRequest,
    accepted: Accepted,
    machine: bytes,
    *,
    count: int,
    key_id: str,
    organisation: str,
    certificate_ends_at: int,
    intervals: Intervals,
    now: int,
) -> Licence:
    """The licence of a counted machine."""
    policy = accepted.edition.policy
    counted = {
        "count": count,
        "activation_interval_minutes": intervals.activation_minutes or policy.activation_interval_minutes,
        "renewal_interval_minutes": intervals.renewal_minutes or policy.renewal_interval_minutes,
    }
    return rules.licence_for(
        request,
        accepted.edition,
        machine,
        key_id=key_id,
        organisation=organisation,
        certificate_ends_at=certificate_ends_at,
        now=now,
        extra=counted,
    )
