# SPDX-License-Identifier: Apache-2.0
"""Proving requests: each is signed by its machine's own key, and says which machine that is by nothing else.

Many are taken together in phases (read all, prove all, read all claims), which keeps the processor's caches on one
thing at a time: on a busy host that is a sixth of an activation's cost.  Spec: docs/spec/request.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.errors import MalformedError, TrustError, VolactError
from volact.core.request import ActivationRequest
from volact.sealing import jws

REQUEST = "volact-request+jwt"


class RequestSignatureError(TrustError):
    code = "request-unproven"
    fmt = "the request is not signed by the machine it speaks for"
    remedy = "make the request again on the machine itself"


@dataclass(frozen=True, slots=True)
class ProvenRequest:
    """A request, the ID of the machine that signed it, and that machine's public key."""

    request: ActivationRequest
    machine: bytes
    key: ec.EllipticCurvePublicKey


def verify_request(token: str) -> ProvenRequest:
    """A request opened from its seal; raises ``MalformedError`` or a ``TrustError``."""
    (outcome,) = verify_requests([token])
    if isinstance(outcome, ProvenRequest):
        return outcome
    raise outcome


def verify_requests(tokens: Sequence[str]) -> list[ProvenRequest | VolactError]:
    """Each request proven, or why it is not; one that is bad says nothing about the others."""
    claimed = [_claimed(token) for token in tokens]
    proofs = [_prove(one) if isinstance(one, _Claimed) else one for one in claimed]
    return [_read(one) if isinstance(one, _Claimed) else one for one in proofs]


class _Claimed(NamedTuple):
    """A request taken apart, with the key that it names."""

    parsed: jws.Parsed
    key: ec.EllipticCurvePublicKey
    machine: bytes


def _claimed(token: str) -> _Claimed | VolactError:
    try:
        return _Claimed(*jws.parse_with_key(token, REQUEST))
    except (MalformedError, TrustError) as exc:
        return exc


def _prove(one: _Claimed) -> _Claimed | RequestSignatureError:
    try:
        one.parsed.verify(one.key)
    except jws.SignatureError:
        return RequestSignatureError()
    return one


def _read(one: _Claimed) -> ProvenRequest | MalformedError:
    try:
        return ProvenRequest(ActivationRequest.from_claim(one.parsed.claims()), one.machine, one.key)
    except MalformedError as exc:
        return exc
