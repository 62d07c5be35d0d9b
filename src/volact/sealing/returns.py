# SPDX-License-Identifier: Apache-2.0
"""Return proofs, inquiries, readings of a counter and receipts: signed by a machine's key or by the publisher, and
accepted here.

The machine's tokens bring its public key, as requests do; the machine ID is that key's hash.  Receipts go through the
one verifier.  What they mean is decided by the publisher and the client.  Spec: docs/spec/returns.md.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from volact.core.counter import CounterReading
from volact.core.encoding import Fields
from volact.core.errors import MalformedError
from volact.core.refusal import SignedRefusal
from volact.core.returning import Inquiry, Receipt, ReturnProof
from volact.sealing import certificates, jws
from volact.sealing.answers import NonceError
from volact.sealing.jws import SigningKey
from volact.sealing.proof import REQUEST, RequestSignatureError
from volact.sealing.sign import Issuer
from volact.sealing.verify import RECEIPT, REFUSAL, Trust, verify

RETURN = "volact-return+jwt"
INQUIRY = "volact-inquiry+jwt"
COUNTER = "volact-counter+jwt"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proven(Generic[T]):
    """What a machine signed, and the ID of the machine that did."""

    value: T
    machine: bytes


def sign_return(proof: ReturnProof, key: SigningKey) -> str:
    return jws.sign(jws.header(RETURN, jwk=jws.jwk_of(key.public_key)), proof.to_claim(), key)


def sign_inquiry(inquiry: Inquiry, key: SigningKey) -> str:
    return jws.sign(jws.header(INQUIRY, jwk=jws.jwk_of(key.public_key)), inquiry.to_claim(), key)


def sign_counter(reading: CounterReading, key: SigningKey) -> str:
    return jws.sign(jws.header(COUNTER, jwk=jws.jwk_of(key.public_key)), reading.to_claim(), key)


def sign_receipt(receipt: Receipt, issuer: Issuer) -> str:
    x5c = tuple(certificates.der(certificate) for certificate in issuer.chain)
    return jws.sign(jws.header(RECEIPT, x5c=x5c), receipt.to_claim(), issuer.key)


def kind_of(token: str) -> str:
    """Which of the tokens that a machine sends to the publisher this claims to be: its ``typ``."""
    return jws.parse(token, REQUEST, RETURN, INQUIRY).typ


def verify_return(token: str) -> Proven[ReturnProof]:
    claims, machine = _machine_token(token, RETURN)
    return Proven(ReturnProof.from_claim(claims), machine)


def verify_inquiry(token: str) -> Proven[Inquiry]:
    claims, machine = _machine_token(token, INQUIRY)
    return Proven(Inquiry.from_claim(claims), machine)


def verify_counter(token: str) -> Proven[CounterReading]:
    claims, machine = _machine_token(token, COUNTER)
    return Proven(CounterReading.from_claim(claims), machine)


def verify_receipt(token: str, trust: Trust, nonce: bytes) -> Receipt | SignedRefusal:
    """The publisher's answer to what was sent with ``nonce``: a receipt, or a refusal bound to it."""
    if jws.parse(token, RECEIPT, REFUSAL).typ == REFUSAL:
        refusal = SignedRefusal.from_claim(verify(token, trust, REFUSAL).claims)
        _check_nonce(refusal.nonce, nonce)
        return refusal
    receipt = Receipt.from_claim(verify(token, trust, RECEIPT).claims)
    _check_nonce(receipt.nonce, nonce)
    return receipt


def _machine_token(token: str, typ: str) -> tuple[Fields, bytes]:
    parsed = jws.parse(token, typ)
    if parsed.jwk is None:
        raise MalformedError(what=typ, why="it does not bring the machine's key")
    key = jws.key_of(Fields(parsed.jwk, "machine key"))
    try:
        parsed.verify(key)
    except jws.SignatureError:
        raise RequestSignatureError() from None
    return parsed.claims(), jws.thumbprint(parsed.jwk)


def _check_nonce(got: bytes, sent: bytes) -> None:
    if got != sent:
        raise NonceError()
