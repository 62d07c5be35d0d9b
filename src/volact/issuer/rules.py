# SPDX-License-Identifier: Apache-2.0
"""What every host of an organisation asks of a proven request, and the licence that it gives: rules without store,
clock or keys.  What is particular to a kind of host is said in its own room.  Spec: docs/spec/licence.md §4.
"""

from collections.abc import Mapping
from typing import Any

from volact.core.definition import Edition, ProductDefinition
from volact.core.licence import Licence
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


def check_request(
    request: ActivationRequest,
    *,
    serves: Channel,
    issuer: str,
    definition: ProductDefinition | None,
    groups: frozenset[int],
    now: int,
) -> Edition | Refusal:
    """The edition to license, where the host whose sealing key is ``issuer`` and whose certificate grants ``groups``
    may license the request."""
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
    if request.channel is not serves:
        return Refusal.of(ChannelNotServedError, channel=str(request.channel))
    if edition.group not in groups:
        return Refusal.of(GroupNotGrantedError, group=edition.group)
    return edition


def licence_for(
    request: ActivationRequest,
    edition: Edition,
    machine: bytes,
    *,
    key_id: str,
    organisation: str,
    certificate_ends_at: int,
    now: int,
    extra: Mapping[str, Any],
) -> Licence:
    """What a host answers an accepted request with.  ``extra``: what the kind of host adds."""
    return Licence(
        issuer=request.issuer,
        machine=machine,
        product=request.product,
        edition=request.edition,
        group=edition.group,
        channel=request.channel,
        key_id=key_id,
        nonce=request.nonce,
        issued_at=now,
        expires_at=lease_end(edition, certificate_ends_at, now),
        fingerprint=request.fingerprint,
        organisation=organisation,
        **extra,
    )


def lease_end(edition: Edition, certificate_ends_at: int, now: int) -> int:
    """The policy's lease, but never past the host's own certificate."""
    return min(now + edition.policy.lease, certificate_ends_at)
