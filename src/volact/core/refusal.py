# SPDX-License-Identifier: Apache-2.0
"""Refusals: an issuer's signed "no", bound to the request's nonce.  A value, not an exception, until a person sees it.

Each code is a subclass of :class:`RefusedError`, so that sentence, remedy and documentation come from one place.  A
refusal never replaces or worsens a stored licence; ``retry_after`` is capped, so that nobody can be told to wait for
ever.  Spec: docs/spec/licence.md §5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from volact.core.binding import NONCE_SIZE
from volact.core.encoding import Fields, b64encode
from volact.core.errors import REGISTRY, VolactError

FORMAT = 1
MOST_RETRY_AFTER = 24 * 3600
MOST_FIELDS = 16  # of a refusal; the fullest we write has 2


class RefusedError(VolactError):
    """An issuer answered with a signed refusal; also the class of codes this version does not know."""

    code = "refused"
    fmt = "the issuer refused the request: {reason}"
    remedy = "look the reason up in the issuer's documentation; it may be newer than this program"


class HostNotActivatedError(RefusedError):
    code = "host-not-activated"
    fmt = "the KMS host has no activated host key for {product}"
    remedy = "on the host, run `volact host activate`, then `volact host status`"


class ClockSkewError(RefusedError):
    code = "clock-skew"
    fmt = "this machine's clock differs from the issuer's by {difference} seconds, {tolerance} are allowed"
    remedy = "set this machine's clock (or the issuer's); time zones do not matter, UTC is compared"


class ProductUnknownError(RefusedError):
    code = "product-unknown"
    fmt = "the issuer does not know product {product}"
    remedy = "add the product's definition on the issuer: `volact host add-product FILE`"


class EditionUnknownError(RefusedError):
    code = "edition-unknown"
    fmt = "the issuer's definition of {product} has no edition {edition}"
    remedy = "bring the issuer a newer definition of the product: `volact host add-product FILE`"


class GroupNotGrantedError(RefusedError):
    code = "group-not-granted"
    fmt = "the issuer's keys do not cover product group {group}"
    remedy = "install and activate a host key of that group, or of one above it"


class ChannelNotServedError(RefusedError):
    code = "channel-not-served"
    fmt = "this issuer does not serve the {channel} channel"
    remedy = "MAK, retail and host keys are activated by the publisher, volume keys by a KMS host, vm keys by a VM host"


class WrongIssuerError(RefusedError):
    code = "wrong-issuer"
    fmt = "the request was made for another issuer"
    remedy = "make a new request; a request made for one issuer is of no use to another"


class RequestUnsignedError(RefusedError):
    code = "request-signature"
    fmt = "the request is not signed by the key of the machine that it names"
    remedy = "make the request again on the machine itself; if it persists, run `volact client generalize` there"


class KeyUnknownError(RefusedError):
    code = "key-unknown"
    fmt = "the publisher has not issued this product key"
    remedy = "check the key with whoever bought it; it may be another publisher's or mistyped"


class KeyBlockedError(RefusedError):
    code = "key-blocked"
    fmt = "the product key ending in {partial} is blocked"
    remedy = "ask the publisher for a replacement key"


class HostLimitError(RefusedError):
    code = "host-limit-reached"
    fmt = "the key ending in {partial} is already in use on {limit} hosts"
    remedy = "use one of those hosts, or ask the publisher to raise the limit"


class ActivationLimitError(RefusedError):
    code = "activation-limit-reached"
    fmt = "this host has been activated {limit} times with the key ending in {partial}"
    remedy = "ask the publisher to raise the limit for this host"


class NestedHostError(RefusedError):
    code = "nested-host-refused"
    fmt = "the VM host is a virtual machine itself, and the policy of {product} allows no nested hosts"
    remedy = "run the VM host on the computer below, or ask the publisher for an edition that may be nested"


class HostUnlicensedError(RefusedError):
    code = "vm-host-unlicensed"
    fmt = "the VM host's own computer is not licensed for {edition}, which the policy of {product} asks for"
    remedy = "activate {edition} on the VM host's computer: `volact client activate {product}` there"


class GuestLimitError(RefusedError):
    code = "guest-limit-reached"
    fmt = "the VM host licenses {limit} guests of edition {edition} already"
    remedy = "run fewer guests of that edition on this host; one that is gone is forgotten after {days} days"


class ForestLimitError(RefusedError):
    code = "forest-limit-reached"
    fmt = "the key ending in {partial} is already in use in {limit} forests"
    remedy = "use one of those forests, or ask the publisher to raise the limit"


class ActivationsExhaustedError(RefusedError):
    code = "activations-exhausted"
    fmt = "all {limit} activations of the key ending in {partial} are used"
    remedy = "give activations back on machines that no longer need them (`volact client deactivate`), or buy more"


class KeyGroupMismatchError(RefusedError):
    code = "key-group-mismatch"
    fmt = "the key is for product group {group}, edition {edition} belongs to another"
    remedy = "install the key on the edition that it was bought for; a MAK or retail key covers one product group"


class AgreementEndedError(RefusedError):
    code = "agreement-ended"
    fmt = "the agreement {agreement} of the key ending in {partial} has ended"
    remedy = "ask the publisher to extend the agreement; what was activated under it stays activated"


class AgreementNotBegunError(RefusedError):
    code = "agreement-not-begun"
    fmt = "the agreement {agreement} of the key ending in {partial} has not begun yet"
    remedy = "activate when it has begun, or ask the publisher about its dates"


class HostRevokedError(RefusedError):
    code = "host-revoked"
    fmt = "the publisher has revoked this host's key"
    remedy = "ask the publisher why; another host, or this one after it was made anew, needs a key of its own"


class ActivationReturnedError(RefusedError):
    code = "activation-returned"
    fmt = "this activation has been given back"
    remedy = "activate anew with a product key; the old request, licence or proof is used up"


class ActivationUnknownError(RefusedError):
    code = "activation-unknown"
    fmt = "the publisher knows no such activation of this machine"
    remedy = "activate once more on the machine that holds it, and give back there; activated anew elsewhere, it moved"


class GuestIdentitiesError(RefusedError):
    code = "guest-identities-limit"
    fmt = "this guest's channel has shown {limit} machine IDs in the last {hours} hours, and no more are taken"
    remedy = "look at what runs in that guest: one guest has one machine ID, and a new one only after `generalize`"


class IssuerBusyError(RefusedError):
    code = "issuer-busy"
    fmt = "the issuer asks to come back later"
    remedy = "nothing to do: the machine tries again by itself"


@dataclass(frozen=True, slots=True)
class Refusal:
    """``code``; ``fields`` that fill the sentence; ``retry_after`` in seconds (0: the policy's interval)."""

    code: str
    fields: Mapping[str, str | int] = field(default_factory=dict)
    retry_after: int = 0

    @classmethod
    def of(cls, kind: type[RefusedError], retry_after: int = 0, **fields: str | int) -> "Refusal":
        return cls(kind.code, fields, retry_after)

    def error(self) -> VolactError:
        """The refusal as an error to show; a code or fields from a newer issuer still give a sentence."""
        kind = REGISTRY.get(self.code)
        if kind is not None and issubclass(kind, RefusedError):
            try:
                error = kind(**self.fields)
                _ = error.hint  # the remedy has fields too
            except (KeyError, IndexError, TypeError):  # TypeError: a field named as a parameter
                pass
            else:
                return error
        return RefusedError(reason=self.code)


@dataclass(frozen=True, slots=True)
class SignedRefusal:
    """A refusal with what binds it to one request: its nonce, and the machine where one was proven."""

    issuer: str
    nonce: bytes
    issued_at: int
    refusal: Refusal

    def to_claim(self) -> dict[str, Any]:
        inner = {
            "v": FORMAT,
            "nonce": b64encode(self.nonce),
            "code": self.refusal.code,
            "fields": dict(self.refusal.fields),
            "retry_after": self.refusal.retry_after,
        }
        return {"iss": self.issuer, "iat": self.issued_at, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> "SignedRefusal":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        values = inner.mapping("fields")
        if len(values) > MOST_FIELDS or not all(_is_field(name, value) for name, value in values.items()):
            inner.fail("fields", "an object of short printable texts and whole numbers")
        retry_after = min(inner.integer("retry_after"), MOST_RETRY_AFTER)
        return cls(
            issuer=claim.text("iss", most=64),
            nonce=inner.octets("nonce", size=NONCE_SIZE),
            issued_at=claim.integer("iat"),
            refusal=Refusal(inner.text("code", most=64), values, retry_after),
        )


# A refusal's fields end in a sentence on somebody's terminal.
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


def _is_field(name: str, value: Any) -> bool:
    if not _FIELD_NAME.match(name):
        return False
    return type(value) is int or (type(value) is str and len(value) <= 200 and value.isprintable())
