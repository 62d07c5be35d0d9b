# SPDX-License-Identifier: Apache-2.0
"""Accepting activation objects: licences bound to a forest, as a directory holds them and as machines read them.

Spec: docs/spec/activation-object.md.
"""

from dataclasses import dataclass

from volact.core.activation_object import LIFETIME, ActivationObject, OtherRequestError, Reading, id_of
from volact.core.encoding import Fields
from volact.core.errors import MalformedError, TrustError
from volact.core.phone_object import PhoneObject, is_phone_object
from volact.core.phone_site import fits, message
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.sealing import jws
from volact.sealing.answers import LeaseTooLongError, NonceError, StaleAnswerError, check_binding
from volact.sealing.confirmation import ConfirmationInvalidError, verify_confirmation
from volact.sealing.verify import (
    OBJECT,
    READING,
    REFUSAL,
    GroupGrantError,
    RevokedError,
    Trust,
    UntrustedRootError,
    verify,
)


class ReadingMachineError(TrustError):
    code = "reading-other-machine"
    fmt = "the directory was read by another machine"
    remedy = "run `volact client activate` on this machine, which must be a member of the forest itself"


@dataclass(frozen=True, slots=True)
class TrustedObject:
    """An activation object that its publisher signed; ``revoked_at`` by the newest status in ``trust``."""

    object: ActivationObject
    token: str
    issuer_revoked_at: int | None


def verify_activation_object(token: str, trust: Trust) -> TrustedObject:
    """An activation object by itself, as a directory holds it.

    Left to the caller: forest, time and product group (:meth:`ActivationObject.check`).
    """
    if is_phone_object(token):
        return _verify_phone_object(token, trust)
    # (1) signed by the publisher's issuer, under the root that the object names
    verified = verify(token, trust, OBJECT)
    found = ActivationObject.from_claim(verified.claims)
    if found.root != trust.fingerprint:
        raise UntrustedRootError(what=OBJECT, root=trust.fingerprint)
    # (2) for groups that the signer may speak for
    outside = [group for group in sorted(found.groups) if not verified.speaks_for(group)]
    if outside:
        raise GroupGrantError(group=outside[0])
    # (3) no longer than an object may last
    length = found.expires_at - found.issued_at
    if not 0 < length <= LIFETIME:
        raise LeaseTooLongError(days=-(-length // 86400), limit=LIFETIME // 86400)
    revoked_at = verified.revoked_at(trust.status)
    return TrustedObject(found, token, revoked_at)


def _verify_phone_object(token: str, trust: Trust) -> TrustedObject:
    made = PhoneObject.from_token(token)
    # (1) of this publisher, which confirms by telephone
    if made.root != trust.fingerprint or trust.phone_key is None:
        raise UntrustedRootError(what=OBJECT, root=trust.fingerprint)
    # (2) made of what was read out, for this forest
    installation, subject = made.installation, made.subject
    if not made.is_of_forest or not fits(subject, installation):
        raise ConfirmationInvalidError()
    # (3) and confirmed
    verify_confirmation(trust.phone_key, message(subject, installation), made.signature)
    revoked_at = trust.status.revoked_at(installation.revocation_id) if trust.status else None
    if revoked_at is not None and installation.begins_at >= revoked_at:
        raise RevokedError(what=OBJECT)
    return TrustedObject(made.to_object(), token, revoked_at)


def verify_object_answer(
    token: str, trust: Trust, request: ActivationRequest, *, tolerance: int
) -> TrustedObject | SignedRefusal:
    """What the publisher answered to a request for an activation object: exactly that, or a refusal bound to it."""
    if jws.parse(token, OBJECT, REFUSAL).typ == REFUSAL:
        signed = SignedRefusal.from_claim(verify(token, trust, REFUSAL).claims)
        check_binding(signed.nonce, signed.issuer, request)
        return signed
    trusted = verify_activation_object(token, trust)
    found = trusted.object
    if found.id != id_of(request.nonce) or found.issuer != request.issuer:
        raise NonceError()
    if request.forest is None or found.forest != request.forest:
        raise OtherRequestError(what="the forest")
    if found.name != request.object_name or found.product != request.product:
        raise OtherRequestError(what="its name or product")
    difference = abs(found.issued_at - request.at)
    if difference > tolerance:
        raise StaleAnswerError(difference=difference, tolerance=tolerance)
    return trusted


def verify_reading(token: str, trust: Trust, machine: bytes) -> tuple[Reading, TrustedObject]:
    """What this machine wrote down when it read an activation object, and that object.

    It is proven by the machine's own key, so that the note of a member licenses no other machine.
    """
    parsed = jws.parse(token, READING)
    if parsed.jwk is None:
        raise MalformedError(what="reading", why="it does not bring the machine's key")
    parsed.verify(jws.key_of(Fields(parsed.jwk, "machine key")))
    if jws.thumbprint(parsed.jwk) != machine:
        raise ReadingMachineError()
    reading = Reading.from_claim(parsed.claims())
    return reading, verify_activation_object(reading.token, trust)
