# SPDX-License-Identifier: Apache-2.0
"""A machine's TPM counter: what a licence may be bound to, and what vouches for giving it back.

A restored disk image has its old licence again; the counter in the TPM has not gone back.  So a licence that names a
counter is good only while the counter stands at the licence's value, and a return that shows the counter further on
needs no cap.  Here are the claims; what the TPM itself signed is read in ``sealing.attestation``.
Spec: docs/spec/returns.md §5.
"""

from dataclasses import dataclass
from typing import Any

from volact.core.encoding import Fields, b64encode
from volact.core.policy import DAY

FORMAT = 1
NAME_SIZE = 34  # of an object in a TPM: the hash's number and SHA-256
SECRET_SIZE = 32
SIGNATURE_SIZE = 64
MOST_CREDENTIAL, MOST_AREA, MOST_CERTIFICATE = 1024, 512, 4096
READING_DAYS = 30  # how long a reading of the counter vouches for a licence: as long as the grace after a lease
READING = READING_DAYS * DAY


@dataclass(frozen=True, slots=True)
class Counter:
    """In a licence: it counts while the counter called ``name`` stands at ``value``.  ``credential``: a secret that
    only the TPM whose endorsement key the publisher saw can take out, to be shown when the activation is given back."""

    name: bytes
    value: int
    credential: bytes

    def to_claim(self) -> dict[str, Any]:
        return {"name": b64encode(self.name), "value": self.value, "credential": b64encode(self.credential)}

    @classmethod
    def from_claim(cls, claim: Fields) -> "Counter":
        name = claim.octets("name", size=NAME_SIZE)
        return cls(name, claim.integer("value"), claim.octets("credential", most=MOST_CREDENTIAL))


@dataclass(frozen=True, slots=True)
class Attested:
    """What a TPM signed about a counter: the public areas of the key that signed (``key``) and of the counter
    (``index``), the statement, and r‖s of its signature."""

    key: bytes
    index: bytes
    statement: bytes
    signature: bytes

    def to_claim(self) -> dict[str, Any]:
        areas = {"key": self.key, "index": self.index, "statement": self.statement, "signature": self.signature}
        return {name: b64encode(value) for name, value in areas.items()}

    @classmethod
    def from_claim(cls, claim: Fields) -> "Attested":
        return cls(
            key=claim.octets("key", most=MOST_AREA),
            index=claim.octets("index", most=MOST_AREA),
            statement=claim.octets("statement", most=MOST_AREA),
            signature=claim.octets("signature", size=SIGNATURE_SIZE),
        )


@dataclass(frozen=True, slots=True)
class CounterOffer:
    """In a request: bind the licence to this counter.  ``certificate``: of the TPM's endorsement key, by its maker."""

    certificate: bytes
    attested: Attested

    def to_claim(self) -> dict[str, Any]:
        return {"certificate": b64encode(self.certificate), **self.attested.to_claim()}

    @classmethod
    def from_claim(cls, claim: Fields) -> "CounterOffer":
        return cls(claim.octets("certificate", most=MOST_CERTIFICATE), Attested.from_claim(claim))


@dataclass(frozen=True, slots=True)
class CounterProof:
    """In a return: the counter has left ``since``, the licence's value.  ``secret``: out of its credential."""

    since: int
    secret: bytes
    attested: Attested

    def to_claim(self) -> dict[str, Any]:
        return {"since": self.since, "secret": b64encode(self.secret), **self.attested.to_claim()}

    @classmethod
    def from_claim(cls, claim: Fields) -> "CounterProof":
        secret = claim.octets("secret", size=SECRET_SIZE)
        return cls(claim.integer("since"), secret, Attested.from_claim(claim))


@dataclass(frozen=True, slots=True)
class CounterReading:
    """Where the counter stood at a second of this machine's trusted time; signed by the machine's own key."""

    at: int
    name: bytes
    value: int

    def to_claim(self) -> dict[str, Any]:
        return {"v": FORMAT, "iat": self.at, "name": b64encode(self.name), "value": self.value}

    @classmethod
    def from_claim(cls, claim: Fields) -> "CounterReading":
        claim.integer("v", least=FORMAT, most=FORMAT)
        return cls(claim.integer("iat"), claim.octets("name", size=NAME_SIZE), claim.integer("value"))
