# SPDX-License-Identifier: Apache-2.0
"""The rules by which the publisher answers requests, and those of KMS hosts and VM hosts.  Pure: rows, request and
time come in, a decision goes out.  The rules of MAK and retail keys are in ``pools``.

A key serves ``hosts`` machines, each may be activated ``activations`` times.  Two things are not counted: the yearly
renewal of a host that holds a place already, and a request that comes again because its answer was lost.
Spec: docs/guide/publisher.md §Limits; functional facts A1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from volact.core.definition import ProductDefinition
from volact.core.phone import INSTALLATION_BYTES
from volact.core.policy import DAY
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.refusal import (
    ActivationLimitError,
    AgreementEndedError,
    AgreementNotBegunError,
    ChannelNotServedError,
    ClockSkewError,
    GroupNotGrantedError,
    HostLimitError,
    KeyBlockedError,
    KeyUnknownError,
    NestedHostError,
    ProductUnknownError,
    Refusal,
    WrongIssuerError,
)
from volact.core.request import ActivationRequest
from volact.sealing.certificates import Role

RENEWAL_WINDOW = 90 * DAY  # a host renews a quarter of a year before its certificate ends, or any time after
CARRIED_AGE = 30 * DAY  # a request on removable media may be this old; by then its host has given up on it

# Host keys by channel, and what their certificate makes of the machine.
HOST_ROLES = {Channel.KMS_HOST: Role.KMS_HOST, Channel.VM_HOST: Role.VM_HOST}
POOLED = frozenset({Channel.MAK, Channel.RETAIL})  # keys with a pool that machines use up; see ``pools``
SERVED = frozenset(HOST_ROLES) | POOLED


class Kind(StrEnum):
    """What a granted request was."""

    ACTIVATED = "activated"
    REACTIVATED = "reactivated"
    RENEWED = "renewed"
    REPEATED = "repeated"


COUNTED = frozenset({Kind.ACTIVATED, Kind.REACTIVATED})


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A product key as the publisher knows it: not the key itself.

    ``activations``: of each host for a host key, else the size of the pool, of which ``used`` are in use.
    ``starts_at`` and ``ends_at`` are the agreement's."""

    key_id: str
    partial: str
    channel: Channel
    product: str
    group: int
    organisation: str
    hosts: int
    activations: int
    issued_at: int
    blocked_at: int | None = None
    blocked_reason: str = ""
    agreement: str | None = None
    used: int = 0
    superseded_by: str | None = None
    starts_at: int | None = None
    ends_at: int | None = None

    @property
    def remaining(self) -> int:
        """Activations left in the pool."""
        return max(0, self.activations - self.used)


@dataclass(frozen=True, slots=True)
class HostAct:
    """One certificate made for a host with one key; or, by telephone, by the host: then ``nonce`` and ``certificate``
    are the installation ID that was confirmed."""

    kind: Kind
    nonce: bytes
    at: int
    ends_at: int
    certificate: bytes

    @property
    def by_telephone(self) -> bool:
        return len(self.nonce) == INSTALLATION_BYTES


@dataclass(frozen=True, slots=True)
class HostUse:
    """A key's use, seen from one machine: how many *other* machines use it, and that machine's own acts."""

    others: int
    own: Sequence[HostAct]


@dataclass(frozen=True, slots=True)
class Granted:
    """``repeated`` is the act whose answer was lost: its certificate is answered again and nothing is written."""

    kind: Kind
    repeated: HostAct | None = None


def check_request(
    request: ActivationRequest, issuer: str, definition: ProductDefinition | None, now: int, *, carried: bool
) -> Refusal | None:
    """What can be said before the key is looked up.  ``carried``: it came by file, and may have been on its way."""
    if request.issuer != issuer:
        return Refusal.of(WrongIssuerError)
    if definition is None:
        return Refusal.of(ProductUnknownError, product=request.product)
    tolerance = clock_tolerance(definition)
    late, early = now - request.at, request.at - now
    if early > tolerance or late > (CARRIED_AGE if carried else tolerance):
        return Refusal.of(ClockSkewError, difference=max(late, early), tolerance=CARRIED_AGE if carried else tolerance)
    if request.channel not in SERVED:
        return Refusal.of(ChannelNotServedError, channel=str(request.channel))
    return None


def check_key(
    key: ProductKey | None,
    issued: IssuedKey | None,
    request: ActivationRequest,
    definition: ProductDefinition,
    now: int,
) -> Refusal | None:
    """Whether the key in the request may be used for what is asked; ``key`` is ``None`` where it does not parse."""
    if key is None or key.publisher_tag != publisher_tag(definition.root):
        return Refusal.of(KeyUnknownError)
    if key.channel != request.channel:
        return Refusal.of(ChannelNotServedError, channel=str(key.channel))
    if issued is None:
        return Refusal.of(KeyUnknownError)
    if issued.blocked_at is not None:
        return Refusal.of(KeyBlockedError, partial=issued.partial)
    if definition.group(issued.group) is None:
        return Refusal.of(GroupNotGrantedError, group=issued.group)
    if request.virtual and not _may_be_nested(issued.group, definition):
        return Refusal.of(NestedHostError, product=definition.product)
    return check_agreement(issued, now)


def check_agreement(issued: IssuedKey, now: int) -> Refusal | None:
    """Outside its agreement's time a key activates nothing; what it activated within it stays."""
    if issued.agreement is None:
        return None
    if issued.starts_at is not None and now < issued.starts_at:
        return Refusal.of(AgreementNotBegunError, agreement=issued.agreement, partial=issued.partial)
    if issued.ends_at is not None and now >= issued.ends_at:
        return Refusal.of(AgreementEndedError, agreement=issued.agreement, partial=issued.partial)
    return None


def decide_host_activation(key: IssuedKey, use: HostUse, nonce: bytes, now: int) -> Granted | Refusal:
    """Whether this machine gets a host certificate, and what the act is."""
    repeated = next((act for act in use.own if act.nonce == nonce), None)
    if repeated is not None:
        return Granted(Kind.REPEATED, repeated)
    if not use.own:
        if use.others >= key.hosts:
            return Refusal.of(HostLimitError, partial=key.partial, limit=key.hosts)
        return Granted(Kind.ACTIVATED)
    if max(act.ends_at for act in use.own) - now <= RENEWAL_WINDOW:
        return Granted(Kind.RENEWED)
    if sum(act.kind in COUNTED for act in use.own) >= key.activations:
        return Refusal.of(ActivationLimitError, partial=key.partial, limit=key.activations)
    return Granted(Kind.REACTIVATED)


def granted_groups(group: int, newest: Iterable[ProductDefinition]) -> frozenset[int]:
    """What a host with a key of ``group`` may speak for: the group, and those below it in any product.

    Never empty: an empty grant would mean every group."""
    return frozenset({group}).union(*(definition.covered_by(group) for definition in newest))


def _may_be_nested(group: int, definition: ProductDefinition) -> bool:
    """Whether any edition that the key covers allows a VM host that is a virtual machine; the host asks for each."""
    covered = definition.covered_by(group)
    return any(e.policy.guests.nested for e in definition.editions if e.group in covered)


def clock_tolerance(definition: ProductDefinition) -> int:
    """A host key has no edition; the most lenient of the product's editions speaks."""
    return max(edition.policy.clock_tolerance for edition in definition.editions)


def default_limits(group: int, definition: ProductDefinition) -> tuple[int, int]:
    """Hosts of a new key, and activations of each: no more than any edition that the key covers allows."""
    covered = definition.covered_by(group)
    policies = [edition.policy for edition in definition.editions if edition.group in covered]
    policies = policies or [edition.policy for edition in definition.editions]
    return min(p.hosts_per_key for p in policies), min(p.activations_per_host for p in policies)
