# SPDX-License-Identifier: Apache-2.0
"""Recipients: a public key that a machine seals something to, for the fleet tool's key vault to open later.

HPKE base mode (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM; ``info`` names the use and the recipient, so that
nothing sealed here opens as a request, and the other way round.  Not a secret's transport: what is sealed can be kept
anywhere.  Spec: docs/spec/proxy.md §4.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from volact.core.encoding import b64decode, b64encode
from volact.core.errors import InputError, MalformedError, TrustError

SCHEME = "x25519:"
KEY_BYTES = 32
MAX_SEALED = 1024 * 1024  # a machine with some hundred products
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO = b"volact recipient v1\0"


class RecipientError(InputError):
    code = "recipient-invalid"
    fmt = "{text} is not a vault's public key"
    remedy = f"give it as `volact fleet keys vault` shows it: {SCHEME} and 43 characters"


class RecipientSealError(TrustError):
    code = "recipient-seal-broken"
    fmt = "what was sealed for the vault {recipient} cannot be opened: it was sealed for another one, or changed"
    remedy = "use the vault that it was made for, or make it again on the machine"


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """The private half; its 32 raw bytes are what the vault keeps."""

    private: x25519.X25519PrivateKey

    @classmethod
    def generate(cls) -> "RecipientKey":
        return cls(x25519.X25519PrivateKey.generate())

    @classmethod
    def from_raw(cls, raw: bytes) -> "RecipientKey":
        return cls(x25519.X25519PrivateKey.from_private_bytes(raw))

    @property
    def raw(self) -> bytes:
        return self.private.private_bytes_raw()

    @property
    def text(self) -> str:
        """The public half, as it is given to machines."""
        return SCHEME + b64encode(self.private.public_key().public_bytes_raw())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        if len(sealed) > MAX_SEALED:
            raise MalformedError(what="sealed backup", why=f"longer than {MAX_SEALED} bytes")
        try:
            return _SUITE.decrypt(sealed, self.private, _info(purpose, self.text))
        except (InvalidTag, ValueError):
            raise RecipientSealError(recipient=self.text) from None


def seal(recipient: str, purpose: str, plaintext: bytes) -> bytes:
    """Seal to a recipient's text.  Raises :class:`RecipientError`."""
    try:
        raw = b64decode(recipient.removeprefix(SCHEME), "recipient") if recipient.startswith(SCHEME) else b""
        if len(raw) != KEY_BYTES:
            raise RecipientError(text=recipient[:80])
        return _SUITE.encrypt(plaintext, x25519.X25519PublicKey.from_public_bytes(raw), _info(purpose, recipient))
    except (MalformedError, ValueError):  # ValueError: a point of low order
        raise RecipientError(text=recipient[:80]) from None


def _info(purpose: str, recipient: str) -> bytes:
    return _INFO + purpose.encode() + b"\0" + recipient.encode()
