# SPDX-License-Identifier: Apache-2.0
"""The phone desk's other callers: KMS hosts, VM hosts and forests.

The rules are those of the online service (``issuing``, ``forests``), over the same rows and in one transaction with
the ledger's.  The desk makes no certificate and no object: it signs what was read out, and the caller's own tool makes
them of that.  Spec: docs/spec/phone.md §8.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from volact.core.definition import ProductDefinition
from volact.core.phone import ConfirmationId
from volact.core.phone_site import SiteInstallationId, SiteKind, SiteSubject, fits, message, whole_name
from volact.core.policy import DAY
from volact.core.refusal import ClockSkewError, HostRevokedError, KeyBlockedError, Refusal
from volact.publisher.rows import forests
from volact.publisher.rows.change import TELEPHONE, Change
from volact.publisher.rows.ledger import Act
from volact.publisher.rules import forests as forest_rules
from volact.publisher.rules import issuing
from volact.publisher.rules.issuing import CARRIED_AGE, IssuedKey, Kind
from volact.sealing.phone_certificates import serial_of


@dataclass(frozen=True, slots=True)
class SiteCall:
    """An installation ID of a host or a forest with what it was found to be about.  Nothing is decided yet.

    ``places`` are taken of ``limit`` that the key has; ``held``: one of them by the caller."""

    installation: SiteInstallationId
    key: IssuedKey
    definition: ProductDefinition
    places: int
    limit: int
    held: bool

    @property
    def subject(self) -> SiteSubject:
        return SiteSubject.of(self.definition, self.key.group, self.key.key_id)


@dataclass(frozen=True, slots=True)
class SiteConfirmed:
    """``ends_at``: of what the caller's tool makes of it; ``revocation_id``: by which it can be revoked before."""

    confirmation: ConfirmationId
    kind: Kind
    key: IssuedKey
    ends_at: int
    revocation_id: str


def find_definition(
    installation: SiteInstallationId, key: IssuedKey, definitions: Iterable[ProductDefinition]
) -> ProductDefinition | None:
    """The first whose product and groups the installation ID was made for."""
    for definition in definitions:
        if definition.group(key.group) and fits(SiteSubject.of(definition, key.group, key.key_id), installation):
            return definition
    return None


def look_up(
    change: Change,
    installation: SiteInstallationId,
    key: IssuedKey,
    definition: ProductDefinition,
    newest: ProductDefinition,
) -> SiteCall:
    """``newest``: of the same product.  Which definition a caller has says what they were read out for; how many there
    may be is not for them to choose."""
    if installation.kind is SiteKind.FOREST:
        known, limit = forests.known_forests(change.conn, key.key_id), forest_rules.forest_limit(key.group, newest)
        held, places = forest_rules.has_place(known, installation.name), forest_rules.count_places(known)
    else:
        use, limit = change.host_use(key.key_id, whole_name(installation.name)), key.hosts
        held, places = bool(use.own), use.others + bool(use.own)
    return SiteCall(installation, key, definition, places, limit, held)


def decide(
    change: Change, call: SiteCall, issued: IssuedKey, sign: Callable[[bytes], bytes], now: int, actor: str
) -> SiteConfirmed | Refusal:
    """Decide by the rows, write the act down, sign."""
    refusal = _check(call, issued, now)
    if refusal is not None:
        return refusal
    bind = _bind_forest if call.installation.kind is SiteKind.FOREST else _certify_host
    kind = bind(change, call, issued, now, actor)
    if isinstance(kind, Refusal):
        return kind
    installation = call.installation
    signature = sign(message(call.subject, installation))
    confirmation = ConfirmationId(installation.reference, signature)
    return SiteConfirmed(confirmation, kind, issued, installation.ends_at, installation.revocation_id)


def record_call(change: Change, call: SiteCall, kind: Kind, reason: str, now: int, actor: str) -> None:
    data = {
        "kind": str(kind),
        "installation_id": str(call.installation),
        "for": str(call.installation.kind),
        "name": call.installation.name.hex(),
        "product": call.definition.product,
        "groups": sorted(call.subject.groups),
        "reason": reason,
    }
    change.append(now, Act.PHONE_CONFIRMED, actor, call.key.key_id, data)


def _check(call: SiteCall, issued: IssuedKey, now: int) -> Refusal | None:
    """What the online service checks of a request and its key."""
    begins, tolerance = call.installation.begins_at, issuing.clock_tolerance(call.definition)
    early, late = begins - now, now - begins - DAY
    if early > tolerance or late > CARRIED_AGE:
        allowed = tolerance if early > tolerance else CARRIED_AGE
        return Refusal.of(ClockSkewError, difference=max(early, late), tolerance=allowed)
    if issued.blocked_at is not None:
        return Refusal.of(KeyBlockedError, partial=issued.partial)
    return issuing.check_agreement(issued, now)


def _certify_host(change: Change, call: SiteCall, issued: IssuedKey, now: int, actor: str) -> Kind | Refusal:
    installation = call.installation
    use = change.host_use(issued.key_id, whole_name(installation.name))
    if change.is_revoked(use):
        return Refusal.of(HostRevokedError)
    decision = issuing.decide_host_activation(issued, use, installation.to_bytes(), now)
    if isinstance(decision, Refusal):
        return decision
    if decision.repeated is None:
        serial = serial_of(installation)
        change.record_confirmed_host(decision.kind, call.subject, installation, serial, now, actor)
    return decision.kind


def _bind_forest(change: Change, call: SiteCall, issued: IssuedKey, now: int, actor: str) -> Kind | Refusal:
    installation, subject = call.installation, call.subject
    if forests.is_confirmed(change.conn, issued.key_id, installation):
        return Kind.REPEATED
    known = forests.known_forests(change.conn, issued.key_id)
    kind = forest_rules.decide_named(issued, known, installation.name, call.limit)
    if isinstance(kind, Refusal):
        return kind
    forests.keep_confirmed(change.conn, subject, installation, now)
    act = Act.FOREST_RENEWED if kind is Kind.RENEWED else Act.FOREST_ACTIVATED
    told = {**forest_rules.told_confirmed(subject, installation), "name": TELEPHONE}
    change.append(now, act, actor, issued.key_id, told)
    return kind
