# SPDX-License-Identifier: Apache-2.0
"""What a KMS host answers to a proven request: the rules, without store, clock or keys.  Spec: docs/spec/licence.md §4.

A valid request always gets a licence, below the threshold too: the count in it is for the client to judge.
"""

from dataclasses import dataclass

from volact.core.definition import Edition, ProductDefinition
from volact.core.licence import Licence
from volact.core.policy import Policy
from volact.core.product_key import Channel
from volact.core.refusal import (
    ChannelNotServedError,
    ClockSkewError,
    EditionUnknownError,
    GroupNotGrantedError,
    ProductUnknownError,
    Refusal,
    WrongIssuerError,
)
from volact.core.request import ActivationRequest


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
    if request.issuer != issuer:
        return Refusal.of(WrongIssuerError)
    if definition is None:
        return Refusal.of(ProductUnknownError, product=request.product)
    edition = definition.edition(request.edition)
    if edition is None:
        return Refusal.of(EditionUnknownError, product=request.product, edition=request.edition)
    difference, tolerance = abs(now - request.at), edition.policy.clock_tolerance
    if difference > tolerance:
        return Refusal.of(ClockSkewError, difference=difference, tolerance=tolerance)
    if request.channel is not Channel.VOLUME:
        return Refusal.of(ChannelNotServedError, channel=str(request.channel))
    if edition.group not in groups:
        return Refusal.of(GroupNotGrantedError, group=edition.group)
    return Accepted(edition)


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
    """The licence of a counted machine: the policy's lease, but never past the host's own certificate."""
    policy: Policy = accepted.edition.policy
    return Licence(
        issuer=request.issuer,
        machine=machine,
        product=request.product,
        edition=request.edition,
        group=accepted.edition.group,
        channel=request.channel,
        key_id=key_id,
        nonce=request.nonce,
        issued_at=now,
        expires_at=min(now + policy.lease, certificate_ends_at),
        fingerprint=request.fingerprint,
        organisation=organisation,
        count=count,
        activation_interval_minutes=intervals.activation_minutes or policy.activation_interval_minutes,
        renewal_interval_minutes=intervals.renewal_minutes or policy.renewal_interval_minutes,
    )
