# SPDX-License-Identifier: Apache-2.0
"""Confirmation IDs: BLS signatures over BLS12-381, short enough to be read out.  Spec: docs/spec/phone.md.

The scheme is the IETF's (draft-irtf-cfrg-bls-signature, minimal signature size, basic): 48-byte signatures in G1,
96-byte public keys in G2, messages hashed to the curve by RFC 9380.  Curve arithmetic, hashing to the curve and pairing
are blst's, through ``pyblst``, which the extra ``[phone]`` brings and which is imported at the first use.

Not here: what is signed (:mod:`volact.core.phone`), and no aggregation: one signature is for one message.
"""

import hashlib
import hmac
import json
import secrets
import unicodedata
import uuid
from dataclasses import dataclass, field
from typing import Any, Self

from volact.core.encoding import Fields, parse_object
from volact.core.errors import ConfigError, MalformedError, TrustError
from volact.core.phone import SIGNATURE_BYTES
from volact.sealing.keys import KeyFileError, PassphraseError

CIPHERSUITE = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
PUBLIC_BYTES = 96
SECRET_BYTES = 32

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
# The generator of G2 in its compressed form (draft-irtf-cfrg-pairing-friendly-curves §4.2.1).
_G2 = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)
_INFINITY = 0x40  # in the first byte of a compressed point: the identity

# Key files: EIP-2335's scrypt, at 32 MiB and a tenth of a second; EIP-2335's own figure, 256 MiB, is read as well.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 15, 8, 1
_MOST_SCRYPT_MEMORY = 256 * 1024 * 1024
_DERIVED_BYTES = 32
_SALT_BYTES, _IV_BYTES = 32, 16


class PhonePartMissingError(ConfigError):
    code = "phone-part-missing"
    fmt = "telephone activation needs the package {package}, which is not installed"
    remedy = "install it with `pip install 'volact[phone]'`"


class ConfirmationInvalidError(TrustError):
    code = "confirmation-invalid"
    fmt = "the confirmation ID was not made for this installation ID by the product's publisher"
    remedy = "compare every group with what the desk reads out; if they agree, ask for a new confirmation ID"


@dataclass(frozen=True, slots=True)
class PhoneKey:
    """The publisher's secret key for confirmation IDs; ``public`` goes into its product definitions."""

    secret: int = field(repr=False)
    public: bytes

    @classmethod
    def generate(cls) -> Self:
        return cls.derive(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def derive(cls, material: bytes) -> Self:
        """The draft's KeyGen: a key from at least 32 secret bytes."""
        if len(material) < SECRET_BYTES:
            raise RuntimeError("a phone key is made from at least 32 bytes")
        salt, secret = b"BLS-SIG-KEYGEN-SALT-", 0
        while secret == 0:
            salt = hashlib.sha256(salt).digest()
            secret = int.from_bytes(_hkdf(salt, material + b"\0", (48).to_bytes(2, "big"), 48), "big") % ORDER
        return cls.of(secret)

    @classmethod
    def of(cls, secret: int) -> Self:
        if not 0 < secret < ORDER:
            raise RuntimeError("a phone key is a number from 1 to the order of the curve")
        return cls(secret, _blst().BlstP2Element.uncompress(_G2).scalar_mul(secret).compress())

    def sign(self, data: bytes) -> bytes:
        """The 48 bytes of the one signature that this key has for ``data``."""
        return bytes(_blst().BlstP1Element.hash_to_group(data, CIPHERSUITE).scalar_mul(self.secret).compress())

    def to_keystore(self, passphrase: bytes) -> bytes:
        """The key as an EIP-2335 keystore: JSON, encrypted under scrypt and AES-128-CTR with a checksum."""
        return write_keystore(
            self.secret.to_bytes(SECRET_BYTES, "big"),
            passphrase,
            secrets.token_bytes(_SALT_BYTES),
            secrets.token_bytes(_IV_BYTES),
            pubkey=self.public.hex(),
            path="",
            uuid=str(uuid.uuid4()),
        )

    @classmethod
    def from_keystore(cls, data: bytes, passphrase: bytes, path: object) -> Self:
        """Raises :class:`~volact.sealing.keys.PassphraseError`, :class:`~volact.sealing.keys.KeyFileError`."""
        secret = int.from_bytes(read_keystore(data, passphrase, path), "big")
        if not 0 < secret < ORDER:
            raise KeyFileError(path=str(path), why="it does not hold a key of this curve")
        return cls.of(secret)


def verify_confirmation(public: bytes, data: bytes, signature: bytes) -> None:
    """Raises :class:`ConfirmationInvalidError` for all but the one signature of ``public``'s owner; 1.5 ms.

    Both points are refused outside their subgroups, and the identity, which would verify for every message under the
    identity's key.
    """
    blst = _blst()
    key = _public_point(public)
    try:
        point = blst.BlstP1Element.uncompress(_whole(signature, SIGNATURE_BYTES))
    except ValueError:
        raise ConfirmationInvalidError() from None
    hashed = blst.BlstP1Element.hash_to_group(data, CIPHERSUITE)
    left = blst.miller_loop(point, blst.BlstP2Element.uncompress(_G2))
    if not blst.final_verify(left, blst.miller_loop(hashed, key)):
        raise ConfirmationInvalidError()


def check_public(public: bytes) -> None:
    """Whether this is a phone key at all; :class:`~volact.core.errors.MalformedError`."""
    _public_point(public)


def write_keystore(secret: bytes, passphrase: bytes, salt: bytes, iv: bytes, **members: Any) -> bytes:
    """An EIP-2335 keystore, version 4; its salt and iv must be random."""
    params = {"dklen": _DERIVED_BYTES, "n": _SCRYPT_N, "r": _SCRYPT_R, "p": _SCRYPT_P, "salt": salt.hex()}
    derived = _derive(passphrase, salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    encrypted = _aes_ctr(derived[:16], iv, secret)
    crypto = {
        "kdf": {"function": "scrypt", "params": params, "message": ""},
        "checksum": {"function": "sha256", "params": {}, "message": _checksum(derived, encrypted).hex()},
        "cipher": {"function": "aes-128-ctr", "params": {"iv": iv.hex()}, "message": encrypted.hex()},
    }
    return json.dumps({"version": 4, **members, "crypto": crypto}, indent=1).encode() + b"\n"


def read_keystore(data: bytes, passphrase: bytes, path: object) -> bytes:
    """The 32 secret bytes of a keystore with scrypt; a wrong passphrase and a damaged file are told apart."""
    try:
        salt, n, r, p, iv, encrypted, checksum = _keystore_parts(data)
    except MalformedError as exc:
        raise KeyFileError(path=str(path), why=str(exc)) from None
    derived = _derive(passphrase, salt, n, r, p)
    if not hmac.compare_digest(_checksum(derived, encrypted), checksum):
        raise PassphraseError(path=str(path))
    return _aes_ctr(derived[:16], iv, encrypted)


def _keystore_parts(data: bytes) -> tuple[bytes, int, int, int, bytes, bytes, bytes]:
    store = Fields(parse_object(data, "phone key"), "phone key")
    store.integer("version", least=4, most=4)
    kdf, cipher, checksum = (store.fields("crypto").fields(name) for name in ("kdf", "cipher", "checksum"))
    for part, function in ((kdf, "scrypt"), (cipher, "aes-128-ctr"), (checksum, "sha256")):
        if part.text("function") != function:
            part.fail("function", function)
    params = kdf.fields("params")
    params.integer("dklen", least=_DERIVED_BYTES, most=_DERIVED_BYTES)
    n, r, p = params.integer("n", least=2), params.integer("r", least=1), params.integer("p", least=1, most=16)
    if n & n - 1 or 128 * n * r > _MOST_SCRYPT_MEMORY:
        params.fail("n", "a power of two for which scrypt takes at most 256 MiB")
    salt, iv = _hex(params, "salt", _SALT_BYTES), _hex(cipher.fields("params"), "iv", _IV_BYTES)
    return salt, n, r, p, iv, _hex(cipher, "message", SECRET_BYTES), _hex(checksum, "message", 32)


def _hex(part: Fields, name: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(part.text(name, most=2 * size))
    except ValueError:
        value = b""
    return value if len(value) == size else part.fail(name, f"{size} bytes in hexadecimal")


def _derive(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        _normalised(passphrase), salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 4), dklen=_DERIVED_BYTES
    )


def _normalised(passphrase: bytes) -> bytes:
    """EIP-2335's passwords: NFKD without control codes.  What is not UTF-8 is taken as it is."""
    try:
        text = unicodedata.normalize("NFKD", passphrase.decode("utf-8"))
    except UnicodeDecodeError:
        return passphrase
    return "".join(c for c in text if not (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0)).encode("utf-8")


def _checksum(derived: bytes, encrypted: bytes) -> bytes:
    return hashlib.sha256(derived[16:32] + encrypted).digest()


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _hkdf(salt: bytes, material: bytes, info: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt, info).derive(material)


def _public_point(public: bytes) -> Any:
    try:
        return _blst().BlstP2Element.uncompress(_whole(public, PUBLIC_BYTES))
    except ValueError:
        raise MalformedError(what="phone key", why="not a point of the curve's group G2") from None


def _whole(point: bytes, size: int) -> bytes:
    if len(point) != size or point[0] & _INFINITY:
        raise ValueError("not a compressed point, or the identity")
    return point


def _blst() -> Any:
    try:
        import pyblst  # type: ignore[import-untyped,unused-ignore]  # it has no types
    except ImportError:
        raise PhonePartMissingError(package="pyblst") from None
    return pyblst
