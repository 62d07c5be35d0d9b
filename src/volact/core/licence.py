# SPDX-License-Identifier: Apache-2.0
"""The licence: what every issuer answers with, as claims of a JWS.  Spec: docs/spec/licence.md.

Registered JWT claims say who, for whom and until when; the ``volact`` object says the rest.  A KMS host's answer is a
licence below the threshold too: it carries the count, and the client's evaluation decides what that means.
"""

import re
from dataclasses import dataclass
from typing import Any

from volact.core.binding import NONCE_SIZE, machine_id
from volact.core.counter import Counter
from volact.core.encoding import Fields, b64encode
from volact.core.fingerprint import Fingerprint
from volact.core.issuer import MAX_STATUS
from volact.core.product_key import Channel

FORMAT = 1
HASH_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The publisher's ledger at one moment: ``size`` rows, of which the last has the hash ``head``.  Signed in a
    receipt, it lets the holder see later that rows were cut off or rewritten.  Spec: docs/spec/ledger.md §4."""

    size: int
    head: str

    def to_claim(self) -> dict[str, Any]:
        return {"size": self.size, "head": self.head}

    @classmethod
    def from_claim(cls, claim: Fields) -> "Checkpoint":
        head = claim.text("head", most=HASH_DIGITS)
        if not _HASH.match(head):
            claim.fail("head", f"{HASH_DIGITS} lower-case hexadecimal digits")
        return cls(claim.integer("size", least=1), head)


@dataclass(frozen=True, slots=True)
class Licence:
    """``machine`` is the machine ID; ``expires_at`` is absent for perpetual licences; ``count`` includes the requester
    and is absent where nothing is counted; ``certificates`` (base64 DER, leaf first) and ``status`` come only with the
    licence of a KMS host key: they make the machine a host.  ``ledger``: only in what the publisher itself issues.
    ``counter``: the licence counts only while that counter of the machine's TPM stands where it says."""

    issuer: str
    machine: bytes
    product: str
    edition: str
    group: int
    channel: Channel
    key_id: str
    nonce: bytes
    issued_at: int
    expires_at: int | None
    fingerprint: Fingerprint
    organisation: str = ""
    count: int | None = None
    activation_interval_minutes: int | None = None
    renewal_interval_minutes: int | None = None
    certificates: tuple[str, ...] = ()
    status: str = ""
    ledger: Checkpoint | None = None
    counter: Counter | None = None

    def to_claim(self) -> dict[str, Any]:
        inner: dict[str, Any] = {
            "v": FORMAT,
            "edition": self.edition,
            "group": self.group,
            "channel": str(self.channel),
            "key": self.key_id,
            "nonce": b64encode(self.nonce),
            "fingerprint": self.fingerprint.to_claim(),
            "organisation": self.organisation,
        }
        for name in _OPTIONAL_INTEGERS:
            value = getattr(self, name)
            if value is not None:
                inner[name] = value
        if self.certificates:
            inner["certificates"] = list(self.certificates)
            inner["status"] = self.status
        if self.ledger is not None:
            inner["ledger"] = self.ledger.to_claim()
        if self.counter is not None:
            inner["counter"] = self.counter.to_claim()
        claim: dict[str, Any] = {
            "iss": self.issuer,
            "sub": self.machine.hex(),
            "aud": self.product,
            "iat": self.issued_at,
        }
        if self.expires_at is not None:
            claim["exp"] = self.expires_at
        claim["volact"] = inner
        return claim

    @classmethod
    def from_claim(cls, claim: Fields) -> "Licence":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        optional = {n: inner.integer(n) if n in inner else None for n in _OPTIONAL_INTEGERS}
        certified = "certificates" in inner
        return cls(
            issuer=claim.text("iss", most=64),
            machine=machine_id(claim.text("sub", most=64)),
            product=claim.text("aud", most=63),
            edition=inner.text("edition", least=0, most=63),
            group=inner.integer("group", most=65535),
            channel=_channel(inner),
            key_id=inner.text("key", least=0, most=64),
            nonce=inner.octets("nonce", size=NONCE_SIZE),
            issued_at=claim.integer("iat"),
            expires_at=claim.integer("exp") if "exp" in claim else None,
            fingerprint=Fingerprint.from_claim(inner.mapping("fingerprint")),
            organisation=inner.text("organisation", least=0),
            certificates=inner.texts("certificates", most=4) if certified else (),
            status=inner.text("status", least=0, most=MAX_STATUS) if certified else "",
            ledger=Checkpoint.from_claim(inner.fields("ledger")) if "ledger" in inner else None,
            counter=Counter.from_claim(inner.fields("counter")) if "counter" in inner else None,
            **optional,
        )


_HASH = re.compile(r"[0-9a-f]{64}\Z")
_OPTIONAL_INTEGERS = ("count", "activation_interval_minutes", "renewal_interval_minutes")
_CHANNELS = {str(channel): channel for channel in Channel}


def _channel(claim: Fields) -> Channel:
    channel = _CHANNELS.get(claim.text("channel", most=20))
    return channel if channel is not None else claim.fail("channel", "a channel that this version knows")
