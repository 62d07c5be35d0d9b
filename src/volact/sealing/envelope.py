# SPDX-License-Identifier: Apache-2.0
"""Seals: a request sealed to an issuer's key, and its answer under the request's one-time key.

Requests use HPKE base mode (RFC 9180) as pyca implements it; ``info`` binds the format's name, the suite and the
issuer's key ID, so that a ciphertext made for one suite or key opens under no other.  Answers use AES-256-GCM with the
response key from inside the request and a fresh nonce.  Spec: docs/spec/seal.md.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from volact.core.errors import ConfigError, MalformedError, TrustError
from volact.sealing import keys

X25519, HYBRID = "x25519", "mlkem768-x25519"
GCM_NONCE = 12
MAX_SEALED = 64 * 1024  # the contract's largest body

_SUITES = {
    X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM),
    HYBRID: Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM),
}
_MLKEM_PUBLIC = 1184
_BEGIN = b"-----BEGIN "
_KINDS = {X25519: ("x25519",), HYBRID: ("mlkem", "x25519")}
_ANSWER = b"volact answer v1"


class SealError(TrustError):
    code = "seal-broken"
    fmt = "the {what} cannot be opened: it was sealed for another key, or changed on its way"
    remedy = (
        "send a new request; if it persists, something on the network changes it: compare `volact doctor` on both ends"
    )


class SuiteError(ConfigError):
    code = "suite-unknown"
    fmt = "the sealing suite {suite} is not one of {known}"
    remedy = "choose one of the suites named"


@dataclass(frozen=True, slots=True)
class OpeningKey:
    """The private half of an issuer's sealing key.  ``id`` is its public half's name: the issuer's ID.

    ``parts``: what PKCS#8 can hold: one X25519 key, or for the hybrid suite an ML-KEM-768 key and an X25519 key.
    """

    suite: str
    parts: tuple[Any, ...]
    public: bytes
    id: str
    _private: Any
    _info: bytes

    @classmethod
    def of(cls, suite: str, parts: tuple[Any, ...]) -> "OpeningKey":
        if _known(suite) == X25519:
            (private,) = parts
            public = private.public_key().public_bytes_raw()
        else:
            private = MLKEM768X25519PrivateKey(*parts)
            public = b"".join(part.public_key().public_bytes_raw() for part in parts)
        name = key_id(suite, public)
        return cls(suite, parts, public, name, private, _info(suite, name))

    @classmethod
    def generate(cls, suite: str = X25519) -> "OpeningKey":
        traditional = x25519.X25519PrivateKey.generate()
        if _known(suite) == X25519:
            return cls.of(suite, (traditional,))
        return cls.of(suite, (mlkem.MLKEM768PrivateKey.generate(), traditional))

    def open_request(self, sealed: bytes) -> bytes:
        """The plaintext, or :class:`SealError`."""
        if len(sealed) > MAX_SEALED:
            raise MalformedError(what="sealed request", why=f"longer than {MAX_SEALED} bytes")
        try:
            return _SUITES[self.suite].decrypt(sealed, self._private, self._info)
        except (InvalidTag, ValueError):
            raise SealError(what="request") from None

    def to_pem(self, passphrase: bytes) -> bytes:
        """PEM blocks one after another, encrypted."""
        return b"".join(keys.private_pem(part, passphrase) for part in self.parts)

    @classmethod
    def from_pem(cls, data: bytes, passphrase: bytes, path: object) -> "OpeningKey":
        blocks = [_BEGIN + block for block in data.split(_BEGIN)[1:]]
        parts = tuple(keys.load_private(block, passphrase, path) for block in blocks)
        for suite, kinds in _KINDS.items():
            if tuple(map(_kind, parts)) == kinds:
                return cls.of(suite, parts)
        raise keys.KeyFileError(path=str(path), why="it does not hold a sealing key of a known suite")


def seal_request(suite: str, public: bytes, plaintext: bytes) -> bytes:
    key, info = _public_key(_known(suite), public), _info(suite, key_id(suite, public))
    try:
        return _SUITES[suite].encrypt(plaintext, key, info)
    except ValueError:  # a point of low order: nothing sealed to it would be secret
        raise MalformedError(what="sealing key", why=f"not a public key of suite {suite}") from None


def seal_answer(response_key: bytes, request_nonce: bytes, plaintext: bytes) -> bytes:
    nonce = os.urandom(GCM_NONCE)
    return nonce + AESGCM(response_key).encrypt(nonce, plaintext, _ANSWER + request_nonce)


def open_answer(response_key: bytes, request_nonce: bytes, sealed: bytes) -> bytes:
    if not GCM_NONCE + 16 < len(sealed) <= MAX_SEALED:
        raise MalformedError(what="sealed answer", why="not between 29 bytes and 64 KiB long")
    try:
        return AESGCM(response_key).decrypt(sealed[:GCM_NONCE], sealed[GCM_NONCE:], _ANSWER + request_nonce)
    except InvalidTag:
        raise SealError(what="answer") from None


def key_id(suite: str, public: bytes) -> str:
    """32 hexadecimal digits that name a sealing key."""
    return hashlib.sha256(b"volact sealing key v1\0" + suite.encode() + b"\0" + public).hexdigest()[:32]


def _known(suite: str) -> str:
    if suite not in _SUITES:
        raise SuiteError(suite=suite[:40], known=", ".join(_SUITES))
    return suite


def _info(suite: str, key: str) -> bytes:
    return b"volact request v1\0" + suite.encode() + b"\0" + key.encode()


def _kind(part: Any) -> str:
    if isinstance(part, x25519.X25519PrivateKey):
        return "x25519"
    return "mlkem" if isinstance(part, mlkem.MLKEM768PrivateKey) else "other"


def _public_key(suite: str, public: bytes) -> Any:
    try:
        if suite == X25519:
            return x25519.X25519PublicKey.from_public_bytes(public)
        return MLKEM768X25519PublicKey(
            mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]),
            x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]),
        )
    except ValueError:
        raise MalformedError(what="sealing key", why=f"not a public key of suite {suite}") from None
