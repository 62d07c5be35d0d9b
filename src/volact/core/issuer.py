# SPDX-License-Identifier: Apache-2.0
"""What an issuer says of itself: its descriptor, and the publisher's revocation status that it staples.

A descriptor (``typ: volact-issuer+jwt``) gives the key that requests are sealed to and names the suite, signed, so
that nobody on the network can choose either.  Made for a nonce, it also proves what time the issuer believes it is.
Spec: docs/spec/issuer.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from volact.core.binding import NONCE_SIZE
from volact.core.encoding import Fields, b64encode

FORMAT = 1
# One status is stapled to a descriptor, which stands in a definition: each layer adds a third in base64url.
MOST_REVOKED = 500  # 78 characters each: a status of 52 KiB
MAX_STATUS = 64 * 1024
MAX_DESCRIPTOR = 96 * 1024


@dataclass(frozen=True, slots=True)
class IssuerDescriptor:
    """``id`` names the sealing key (and is what requests give as their issuer); ``public_key`` in the suite's form."""

    id: str
    name: str
    suite: str
    public_key: bytes
    issued_at: int
    expires_at: int
    nonce: bytes = b""
    status: str = ""

    def to_claim(self) -> dict[str, Any]:
        inner: dict[str, Any] = {
            "v": FORMAT,
            "name": self.name,
            "suite": self.suite,
            "public_key": b64encode(self.public_key),
            "status": self.status,
        }
        if self.nonce:
            inner["nonce"] = b64encode(self.nonce)
        return {"iss": self.id, "iat": self.issued_at, "exp": self.expires_at, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> "IssuerDescriptor":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            id=claim.text("iss", most=64),
            name=inner.text("name", least=0, most=253),
            suite=inner.text("suite", most=40),
            public_key=inner.octets("public_key", most=2048),
            issued_at=claim.integer("iat"),
            expires_at=claim.integer("exp"),
            nonce=inner.octets("nonce", size=NONCE_SIZE) if "nonce" in inner else b"",
            status=inner.text("status", least=0, most=MAX_STATUS),
        )


@dataclass(frozen=True, slots=True)
class RevocationStatus:
    """Which issuers' keys the publisher has revoked, and from when; ``epoch`` only grows (``typ: volact-status+jwt``).

    ``revoked`` maps the SHA-256 thumbprint of an issuer certificate's key (hexadecimal) to the second from which its
    signatures no longer count, so that what it signed before stays good."""

    epoch: int
    issued_at: int
    revoked: Mapping[str, int] = field(default_factory=dict)

    def revoked_at(self, signer: str) -> int | None:
        return self.revoked.get(signer)

    def to_claim(self) -> dict[str, Any]:
        return {"iat": self.issued_at, "volact": {"v": FORMAT, "epoch": self.epoch, "revoked": dict(self.revoked)}}

    @classmethod
    def from_claim(cls, claim: Fields) -> "RevocationStatus":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        revoked = inner.mapping("revoked")
        if len(revoked) > MOST_REVOKED or not all(_is_revocation(key, at) for key, at in revoked.items()):
            inner.fail("revoked", f"an object from up to {MOST_REVOKED} thumbprints to seconds")
        return cls(epoch=inner.integer("epoch", least=1), issued_at=claim.integer("iat"), revoked=revoked)


_THUMBPRINT = re.compile(r"[0-9a-f]{64}\Z")


def _is_revocation(key: str, at: Any) -> bool:
    return type(at) is int and at >= 0 and _THUMBPRINT.match(key) is not None
