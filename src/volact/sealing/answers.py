# SPDX-License-Identifier: Apache-2.0
"""Accepting what an issuer answers: its descriptor, and a licence or refusal that fits the request.

Who may sign is settled by :mod:`volact.sealing.verify`; here it is held against the nonce, the machine, the product's
policy and the clocks.  Spec: docs/spec/verification.md.
"""

from dataclasses import dataclass

from volact.core.errors import TrustError
from volact.core.issuer import IssuerDescriptor, RevocationStatus
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.sealing import jws
from volact.sealing.certificates import Grant, Role
from volact.sealing.verify import (
    DESCRIPTOR,
    LICENCE,
    MAY_LICENSE,
    REFUSAL,
    RevokedError,
    RoleError,
    Trust,
    TrustedLicence,
    show_time,
    verify,
    verify_licence,
    verify_status,
)


class StatusExpiredError(TrustError):
    code = "status-expired"
    fmt = "the publisher's revocation status is {days} days old, the policy allows {limit}"
    remedy = "bring the host a current status: `volact host activate` renews it, by file behind an air gap"


class StatusMissingError(TrustError):
    code = "status-missing"
    fmt = "the issuer did not staple the publisher's revocation status"
    remedy = "update the host's software, then `volact host activate`"


class DescriptorSignerError(TrustError):
    code = "descriptor-signer"
    fmt = "the issuer's descriptor is not signed by the key its certificate names"
    remedy = "an impostor answered, or the host's keys are mixed up: run `volact host status` on the host"


class DescriptorExpiredError(TrustError):
    code = "descriptor-expired"
    fmt = "the issuer's descriptor ended at {ended}, this machine's clock says {now}"
    remedy = "check this machine's clock; if it is right, an old answer is being replayed on the network"


class SuiteRefusedError(TrustError):
    code = "suite-not-allowed"
    fmt = "the issuer offers the suite {suite}, the product's policy allows {allowed}"
    remedy = "configure the host with a suite of the policy; an old descriptor may be replayed to weaken the seal"


class NonceError(TrustError):
    code = "nonce-mismatch"
    fmt = "the answer was made for another request"
    remedy = "an old answer is being replayed on the network; the request is repeated by itself"


class StaleAnswerError(TrustError):
    code = "answer-stale"
    fmt = "the answer's time is {difference} seconds from the request's, more than the {tolerance} allowed"
    remedy = "compare the clocks of this machine and the host; if both are right, an old answer is being replayed"


class OtherMachineError(TrustError):
    code = "machine-mismatch"
    fmt = "the licence is for another machine"
    remedy = "activate on this machine; a licence cannot be carried over"


class OtherLicenceError(TrustError):
    code = "licence-mismatch"
    fmt = "the licence is for {got}, the request was for {wanted}"
    remedy = "the issuer answered for another product, edition, group or channel: report it to its administrator"


class LeaseTooLongError(TrustError):
    code = "lease-too-long"
    fmt = "the licence lasts {days} days, the product's policy allows {limit}"
    remedy = "update the host's product definition: `volact host add-product FILE`"


@dataclass(frozen=True, slots=True)
class TrustedDescriptor:
    descriptor: IssuerDescriptor
    role: Role
    grant: Grant
    trust: Trust
    status_token: str


def verify_descriptor(
    token: str,
    trust: Trust,
    channel: Channel,
    *,
    now: int,
    nonce: bytes,
    suites: tuple[str, ...],
    status_max_age: int,
) -> TrustedDescriptor:
    """The descriptor of an issuer that may license ``channel``, with its stapled status.

    ``nonce``: what was sent in ``GetIssuer``; a descriptor that carries it is fresh, whatever either clock says, and
    its time is then the issuer's own.  Without it (stored, or from a file) it must not have ended at ``now``.
    """
    # (1) signed by an issuer of this publisher, with the key that its certificate names for descriptors
    verified = verify(token, trust, DESCRIPTOR)
    descriptor = IssuerDescriptor.from_claim(verified.claims)
    if channel not in MAY_LICENSE[verified.role]:
        raise RoleError(role=str(verified.role), what=f"licences of the {channel} channel")
    if verified.grant.descriptor_signer != verified.signer:
        raise DescriptorSignerError()
    # (2) made for us, or not over
    fresh = bool(nonce) and descriptor.nonce == nonce
    if nonce and not fresh:
        raise NonceError()
    if not fresh and now >= descriptor.expires_at:
        raise DescriptorExpiredError(ended=show_time(descriptor.expires_at), now=show_time(now))
    # (3) the stapled status is the publisher's, not older than one seen before, and recent enough
    if not descriptor.status:
        raise StatusMissingError()
    status = verify_status(descriptor.status, trust)
    _check_age(status, descriptor.issued_at if fresh else now, status_max_age)
    # (4) by that status the issuer is still good
    newer = trust.with_status(status)
    revoked_at = verified.revoked_at(status)
    if revoked_at is not None:
        raise RevokedError(what=DESCRIPTOR)
    # (5) the suite is one that the product's policy accepts
    if descriptor.suite not in suites:
        raise SuiteRefusedError(suite=descriptor.suite, allowed=", ".join(suites))
    return TrustedDescriptor(descriptor, verified.role, verified.grant, newer, descriptor.status)


def verify_answer(
    token: str,
    trust: Trust,
    request: ActivationRequest,
    machine: bytes,
    *,
    group: int | None,
    tolerance: int,
    longest_lease: int | None,
    status_max_age: int | None = None,
) -> TrustedLicence | SignedRefusal:
    """What an issuer answered to ``request``: a licence for exactly that, or a refusal bound to it.

    ``group``: that of the edition asked for, ``None`` where the client cannot know it (host keys).  A refusal may
    come from clocks that differ; a licence may not.  ``status_max_age``: the status in ``trust`` may not be older than
    that at the licence's time, which stands beside our own; a descriptor's time is only what its issuer says.
    """
    # (1) signed by an issuer of this publisher
    parsed = jws.parse(token, LICENCE, REFUSAL)
    if parsed.typ == REFUSAL:
        signed = SignedRefusal.from_claim(verify(token, trust, REFUSAL).claims)
        check_binding(signed.nonce, signed.issuer, request)
        return signed
    trusted = verify_licence(token, trust)
    licence = trusted.licence
    # (2) an answer to this request, not to an earlier one, at about its time
    check_binding(licence.nonce, licence.issuer, request)
    difference = abs(licence.issued_at - request.at)
    if difference > tolerance:
        raise StaleAnswerError(difference=difference, tolerance=tolerance)
    # (3) for this machine and what it asked for
    if licence.machine != machine:
        raise OtherMachineError()
    _check_subject(licence, request, group)
    # (4) no longer than the policy, and not from a revoked key
    _check_lease(licence, longest_lease)
    if status_max_age is not None and trust.status is not None:
        _check_age(trust.status, licence.issued_at, status_max_age)
    if trusted.revoked_at is not None:
        raise RevokedError(what=LICENCE)
    return trusted


def check_binding(nonce: bytes, issuer: str, request: ActivationRequest) -> None:
    """That an answer was made for this request, and by the issuer that it was sealed to."""
    if nonce != request.nonce or issuer != request.issuer:
        raise NonceError()


def _check_subject(licence: Licence, request: ActivationRequest, group: int | None) -> None:
    got = (licence.product, licence.edition, licence.channel)
    wanted = (request.product, request.edition, request.channel)
    if got != wanted or (group is not None and licence.group != group):
        raise OtherLicenceError(got="/".join(map(str, (*got, licence.group))), wanted="/".join(map(str, wanted)))


def _check_lease(licence: Licence, longest: int | None) -> None:
    if longest is None:
        return
    length = None if licence.expires_at is None else licence.expires_at - licence.issued_at
    if length is None or length > longest:
        days = "unlimited" if length is None else -(-length // 86400)
        raise LeaseTooLongError(days=days, limit=longest // 86400)


def _check_age(status: RevocationStatus, now: int, most: int) -> None:
    age = now - status.issued_at
    if age > most:
        raise StatusExpiredError(days=age // 86400, limit=most // 86400)
