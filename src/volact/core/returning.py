# SPDX-License-Identifier: Apache-2.0
"""Giving an activation back, and asking how many are left: what a machine signs, and the publisher's receipt.

A :class:`ReturnProof` (``typ: volact-return+jwt``) is signed by the machine key that the activation was made for, so a
return is attributable and nobody can give back another machine's.  An :class:`Inquiry` (``typ: volact-inquiry+jwt``)
shows the whole product key, as a request does: who holds a key may know what is left of it.  A :class:`Receipt`
(``typ: volact-receipt+jwt``) is the publisher's signed answer to either.  Spec: docs/spec/returns.md.
"""

from dataclasses import dataclass
from typing import Any

from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.counter import CounterProof
from volact.core.encoding import Fields, b64encode
from volact.core.licence import Checkpoint

FORMAT = 1
MAX_PROOF = 8 * 1024  # as a file; a proof has less than 1 KiB


@dataclass(frozen=True, slots=True)
class ReturnProof:
    """``activation`` is the nonce of the licence that is given back.  ``response_key`` is empty in a proof that is
    carried: nobody waits for its answer.  ``counter``: the word of the machine's TPM that the licence is over."""

    root: str
    product: str
    key_id: str
    activation: bytes
    nonce: bytes
    at: int
    response_key: bytes = b""
    counter: CounterProof | None = None

    def to_claim(self) -> dict[str, Any]:
        claim: dict[str, Any] = {
            "v": FORMAT,
            "aud": self.root,
            "iat": self.at,
            "product": self.product,
            "key": self.key_id,
            "activation": b64encode(self.activation),
            "nonce": b64encode(self.nonce),
        }
        if self.response_key:
            claim["response_key"] = b64encode(self.response_key)
        if self.counter is not None:
            claim["counter"] = self.counter.to_claim()
        return claim

    @classmethod
    def from_claim(cls, claim: Fields) -> "ReturnProof":
        claim.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            root=claim.text("aud", most=80),
            product=claim.text("product", most=63),
            key_id=claim.text("key", most=64),
            activation=claim.octets("activation", size=NONCE_SIZE),
            nonce=claim.octets("nonce", size=NONCE_SIZE),
            at=claim.integer("iat"),
            response_key=claim.octets("response_key", size=RESPONSE_KEY_SIZE) if "response_key" in claim else b"",
            counter=CounterProof.from_claim(claim.fields("counter")) if "counter" in claim else None,
        )


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is left of ``key``?  Asked of the issuer whose sealing key is ``issuer``."""

    issuer: str
    key: str
    nonce: bytes
    response_key: bytes
    at: int

    def to_claim(self) -> dict[str, Any]:
        return {
            "v": FORMAT,
            "aud": self.issuer,
            "iat": self.at,
            "key": self.key,
            "nonce": b64encode(self.nonce),
            "response_key": b64encode(self.response_key),
        }

    @classmethod
    def from_claim(cls, claim: Fields) -> "Inquiry":
        claim.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            issuer=claim.text("aud", most=64),
            key=claim.text("key", most=29),
            nonce=claim.octets("nonce", size=NONCE_SIZE),
            response_key=claim.octets("response_key", size=RESPONSE_KEY_SIZE),
            at=claim.integer("iat"),
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The state of a key after what was asked.  ``credited`` only after a return: whether it gave the pool one back."""

    issuer: str
    nonce: bytes
    issued_at: int
    key_id: str
    activations: int
    used: int
    blocked: bool
    credited: bool | None = None
    ledger: Checkpoint | None = None

    @property
    def remaining(self) -> int:
        return max(0, self.activations - self.used)

    def to_claim(self) -> dict[str, Any]:
        inner: dict[str, Any] = {
            "v": FORMAT,
            "nonce": b64encode(self.nonce),
            "key": self.key_id,
            "activations": self.activations,
            "used": self.used,
            "blocked": self.blocked,
        }
        if self.credited is not None:
            inner["credited"] = self.credited
        if self.ledger is not None:
            inner["ledger"] = self.ledger.to_claim()
        return {"iss": self.issuer, "iat": self.issued_at, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> "Receipt":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            issuer=claim.text("iss", most=64),
            nonce=inner.octets("nonce", size=NONCE_SIZE),
            issued_at=claim.integer("iat"),
            key_id=inner.text("key", most=64),
            activations=inner.integer("activations"),
            used=inner.integer("used"),
            blocked=inner.boolean("blocked"),
            credited=inner.boolean("credited") if "credited" in inner else None,
            ledger=Checkpoint.from_claim(inner.fields("ledger")) if "ledger" in inner else None,
        )
