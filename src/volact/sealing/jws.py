# SPDX-License-Identifier: Apache-2.0
"""Compact JWS with ES256, and nothing else of JOSE.  Spec: docs/spec/encoding.md §3; RFC 7515, 7518 §3.4, 7638.

Reads exactly one algorithm and four header members; anything else is malformed, so that no header can choose how it
is checked.  Verifying is two steps on purpose: :func:`parse` tells what the token claims to be, :meth:`Parsed.verify`
proves it under a key that the *caller* has established.
"""

import binascii
import functools
import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from volact.core.encoding import Fields, b64decode, b64encode, dump_object, parse_object
from volact.core.errors import MalformedError, TrustError

ALGORITHM = "ES256"
MAX_TOKEN = 256 * 1024  # a product definition with hundreds of editions; licences are below 4 KiB
MOST_CERTIFICATES = 4

_P256 = ec.SECP256R1()
_ECDSA = ec.ECDSA(hashes.SHA256())
_MEMBERS = frozenset({"alg", "typ", "x5c", "jwk"})
_JWK_MEMBERS = frozenset({"kty", "crv", "x", "y"})
# The header of a token with its own key as `header` writes it: up to x, then x","y":"y"}}.
_KEY_HEADER = '{{"alg":"ES256","typ":"{typ}","jwk":{{"crv":"P-256","kty":"EC","x":"'
_POINT_JSON = 43 + 7 + 43 + 3
_JWK_OPENING = len('{"crv":"P-256","kty":"EC","x":"')


class SignatureError(TrustError):
    code = "signature-invalid"
    fmt = "the signature of {what} does not fit its contents"
    remedy = "it was changed after it was signed, or signed by another key: get it again from its issuer"


class WrongTypeError(TrustError):
    code = "token-type"
    fmt = "expected {expected}, got {got}"
    remedy = "a signed file was used in the place of another: use the file that was made for this purpose"


class SigningKey(Protocol):
    """A P-256 key wherever it lives: encrypted file, PKCS#11, TPM."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes r‖s of the ECDSA signature with SHA-256 over ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class Parsed:
    """A token taken apart and not yet verified."""

    typ: str
    x5c: tuple[bytes, ...]
    jwk: dict[str, Any] | None
    payload: bytes
    signing_input: bytes
    signature: bytes

    def verify(self, key: ec.EllipticCurvePublicKey) -> None:
        """Raise :class:`SignatureError` unless ``key`` signed this token."""
        verify_raw(key, self.signature, self.signing_input, self.typ)

    def claims(self) -> Fields:
        return Fields(parse_object(self.payload, self.typ), self.typ)


def parse(token: str, *typs: str) -> Parsed:
    """Take a compact JWS apart; ``typs`` are the types the caller is ready for."""
    parts = _split(token)
    header = Fields(parse_object(b64decode(parts[0], "token header"), "token header"), "token header")
    typ, x5c, jwk = _read_header(header)
    if typ not in typs:
        raise WrongTypeError(expected=" or ".join(typs), got=typ)
    return _parsed(token, parts, typ, x5c, jwk)


def parse_with_key(token: str, typ: str) -> tuple[Parsed, ec.EllipticCurvePublicKey, bytes]:
    """Take a token apart that brings its own key in ``jwk``: with that key, and the key's thumbprint.

    Our own machines write the header in one way, byte for byte, and a busy host reads little else: it is recognised
    by comparing bytes, and every other spelling goes the long way to the same result.
    """
    parts = _split(token)
    head = b64decode(parts[0], "token header")
    before = _key_header(typ)
    if len(head) == len(before) + _POINT_JSON and head.startswith(before):
        x, middle, y, after = head[len(before) :][:43], head[-53:-46], head[-46:-3], head[-3:]
        if middle == b'","y":"' and after == b'"}}':
            point = b64decode(x.decode("latin-1"), "machine key") + b64decode(y.decode("latin-1"), "machine key")
            thumb = hashlib.sha256(head[len(before) - _JWK_OPENING : -1]).digest()
            return _parsed(token, parts, typ, (), {}), _point(point), thumb
    parsed = parse(token, typ)
    key = key_of(Fields(parsed.jwk, "machine key"))
    assert parsed.jwk is not None, "key_of takes an object only"
    return parsed, key, thumbprint(parsed.jwk)


def header(typ: str, *, x5c: tuple[bytes, ...] = (), jwk: dict[str, str] | None = None) -> str:
    """The encoded protected header; made once per signer and type, since it does not change."""
    members: dict[str, Any] = {"alg": ALGORITHM, "typ": typ}
    if x5c:
        # The one place of JOSE with padded, standard base64 (RFC 7515 §4.1.6).
        members["x5c"] = [_standard_base64(der) for der in x5c]
    if jwk:
        members["jwk"] = jwk
    return b64encode(dump_object(members))


def sign(encoded_header: str, claims: dict[str, Any], key: SigningKey) -> str:
    """Sign claims under a header from :func:`header`."""
    return sign_input(signing_input(encoded_header, dump_object(claims)), key)


def signing_input(encoded_header: str, payload: bytes) -> str:
    """What is signed (RFC 7515 §5.1); ``payload`` is as ``dump_object`` writes it."""
    return f"{encoded_header}.{b64encode(payload)}"


def sign_input(signing_input: str, key: SigningKey) -> str:
    """The whole token over what :func:`signing_input` gave."""
    return f"{signing_input}.{b64encode(key.sign(signing_input.encode()))}"


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> None:
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    try:
        key.verify(der, data, _ECDSA)
    except InvalidSignature:
        raise SignatureError(what=what) from None


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign with an in-process key, in JOSE's r‖s form."""
    r, s = decode_dss_signature(key.sign(data, _ECDSA))
    return r.to_bytes(32) + s.to_bytes(32)


def jwk_of(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The public key as a JWK in RFC 7638's member order."""
    numbers = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": b64encode(numbers.x.to_bytes(32)),
        "y": b64encode(numbers.y.to_bytes(32)),
    }


def key_of(jwk: Fields) -> ec.EllipticCurvePublicKey:
    """The public key of a JWK; a point that is not on the curve is malformed."""
    if set(jwk.names()) != _JWK_MEMBERS:
        raise MalformedError(what="machine key", why="its members are not exactly kty, crv, x and y")
    if jwk.text("kty", most=8) != "EC" or jwk.text("crv", most=8) != "P-256":
        raise MalformedError(what="machine key", why="not an EC key on P-256")
    return _point(jwk.octets("x", size=32) + jwk.octets("y", size=32))


def thumbprint(jwk: dict[str, str]) -> bytes:
    """RFC 7638: SHA-256 of the JWK's required members in order.  This is a machine's ID."""
    return hashlib.sha256(dump_object({name: jwk[name] for name in ("crv", "kty", "x", "y")})).digest()


@functools.cache
def _key_header(typ: str) -> bytes:
    return _KEY_HEADER.format(typ=typ).encode()


def _split(token: str) -> list[str]:
    if len(token) > MAX_TOKEN:
        raise MalformedError(what="signed token", why=f"longer than {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise MalformedError(what="signed token", why="not three base64url parts joined by dots")
    return parts


def _parsed(token: str, parts: list[str], typ: str, x5c: tuple[bytes, ...], jwk: dict[str, Any] | None) -> Parsed:
    signature = b64decode(parts[2], "token signature")
    if len(signature) != 64:
        raise MalformedError(what="token signature", why="not 64 bytes")
    signing_input = token[: len(parts[0]) + 1 + len(parts[1])].encode()
    return Parsed(typ, x5c, jwk, b64decode(parts[1], "token payload"), signing_input, signature)


def _point(coordinates: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + coordinates)
    except ValueError:
        raise MalformedError(what="machine key", why="not a point of P-256") from None


def _read_header(header: Fields) -> tuple[str, tuple[bytes, ...], dict[str, Any] | None]:
    unknown = set(header.names()) - _MEMBERS
    if unknown:
        raise MalformedError(
            what="token header", why=f"it has a member {min(unknown)[:40]!r}, which no token of ours has"
        )
    if header.text("alg", most=20) != ALGORITHM:
        raise MalformedError(what="token header", why=f"alg is not {ALGORITHM}")
    typ = header.text("typ", most=60)
    if ("x5c" in header) == ("jwk" in header):
        raise MalformedError(what="token header", why="it needs one of x5c and jwk")
    if "jwk" in header:
        return typ, (), header.mapping("jwk")
    return typ, tuple(_der(text) for text in header.texts("x5c", most=MOST_CERTIFICATES)), None


def _standard_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _der(text: str) -> bytes:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (ValueError, binascii.Error):
        raise MalformedError(what="token header", why="x5c is not base64") from None
    if _standard_base64(data) != text:
        raise MalformedError(what="token header", why="x5c is base64 with unused bits set")
    if len(data) > 8192:
        raise MalformedError(what="token header", why="x5c has a certificate of more than 8 KiB")
    return data
