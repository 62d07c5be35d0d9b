# SPDX-License-Identifier: Apache-2.0
"""What a TPM signed about a counter of its own, and a secret that only that TPM can take out.

Strict readers of the few structures of TCG's TPM 2.0 Library (part 2) that this needs, and MakeCredential (part 1, §24)
from pyca's parts, so that a publisher needs no TPM and no TPM software.  A statement is worth something because

1. the key that signed it is *restricted* to what its TPM says itself, by the attributes that its name covers;
2. the credential was made for exactly that name, under an endorsement key that the TPM's maker certified: a TPM takes
   the secret out only if it holds both keys;
3. the statement is about an index of the type *counter*, by the attributes that the index's name covers.

Not here: what that is worth (``publisher.vouching``).  Spec: docs/spec/returns.md §5.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from volact.core.counter import Attested
from volact.core.encoding import MAX_INT
from volact.core.errors import MalformedError, TrustError

_SHA256 = 0x000B
_ECC, _ECDSA, _P256, _NULL = 0x0023, 0x0018, 0x0003, 0x0010
_GENERATED, _ATTEST_NV = 0xFF544347, 0x8014
# fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign
_RESTRICTED_SIGNING = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18
_DECRYPT = 1 << 17
_COUNTER, _WRITTEN = 1, 1 << 29
_LOSES_COUNTS = 1 << 26 | 1 << 27  # ORDERLY: kept in RAM; CLEAR_STCLEAR: forgotten at each start
_VALUE = struct.Struct(">Q")
_EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
_CONTEXT = b"volact/counter/v1"


class CounterUnprovenError(TrustError):
    code = "counter-unproven"
    fmt = "the TPM's counter is not proven: {why}"
    remedy = "the activation counts without a counter: its return is credited within the cap of its key only"


@dataclass(frozen=True, slots=True)
class CounterState:
    """What was proven: the names of the signing key and of the counter, and where the counter stood."""

    key: bytes
    counter: bytes
    value: int


def qualifying(purpose: str, machine: bytes, nonce: bytes) -> bytes:
    """What a statement is made for: one request or one return of one machine."""
    return hashlib.sha256(b"\0".join((_CONTEXT, purpose.encode(), machine + nonce))).digest()


def verify_attested(attested: Attested, purpose: str, machine: bytes, nonce: bytes) -> CounterState:
    """Raises :class:`CounterUnprovenError` or ``MalformedError``, nothing else."""
    key, key_name = _read_key(attested.key)
    counter = _read_index(attested.index)
    _check_signature(key, attested)
    name, value = _read_statement(attested.statement, qualifying(purpose, machine, nonce))
    if name != counter:
        raise CounterUnprovenError(why="the statement is about another index")
    return CounterState(key_name, counter, value)


def verify_endorsement(certificate: bytes, makers: Iterable[x509.Certificate], now: int) -> bytes:
    """The endorsement key, DER, that one of the TPM ``makers`` certified.  Each of them is trusted for itself: there
    are no chains, so that nobody is trusted whom the publisher did not choose."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        key = found.public_key()
        usage = _usage(found)
    except Exception:  # pyca raises several types, UnsupportedAlgorithm among them: anybody may send these bytes
        raise MalformedError(what="endorsement certificate", why="it cannot be read") from None
    if not any(_is_from(found, maker) for maker in makers):
        raise CounterUnprovenError(why="the TPM's maker is not among those that the publisher accepts")
    if not found.not_valid_before_utc <= datetime.fromtimestamp(now, UTC) <= found.not_valid_after_utc:
        raise CounterUnprovenError(why="the TPM's endorsement certificate has ended")
    if _EK_USAGE not in usage or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise CounterUnprovenError(why="the certificate is not one of an endorsement key")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def make_credential(endorsement: bytes, name: bytes, secret: bytes, seed: bytes) -> bytes:
    """TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET: ``secret`` for the TPM with that endorsement key (DER), if it holds
    an object called ``name`` as well.  ``seed``: 32 random bytes, for RSA; an elliptic key makes its own."""
    key = serialization.load_der_public_key(endorsement)
    if isinstance(key, rsa.RSAPublicKey):
        encrypted = key.encrypt(seed, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0"))
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        seed, encrypted = _shared_seed(key)
    else:
        raise CounterUnprovenError(why="its endorsement key is neither RSA nor P-256")
    encryptor = Cipher(algorithms.AES(_kdfa(seed, b"STORAGE", name, 16)), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    outer = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 32), identity + name, "sha256")
    return _sized(_sized(outer) + identity) + _sized(encrypted)


# ---- readers


class _Reader:
    """Big-endian, bounds checked, to the last byte."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def integer(self, size: int) -> int:
        return int.from_bytes(self.octets(size))

    def octets(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise MalformedError(what=self._what, why="it ends early")
        self._at += size
        return found

    def sized(self) -> bytes:
        return self.octets(self.integer(2))

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedError(what=self._what, why="something follows its end")


def _read_key(area: bytes) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """A TPMT_PUBLIC of a restricted P-256 signing key, and its name."""
    reader = _Reader(area, "TPM key")
    kind = (reader.integer(2), reader.integer(2))
    attributes = reader.integer(4)
    reader.sized()  # the policy by which it is used
    scheme = tuple(reader.integer(2) for _ in range(5))
    x, y = reader.sized(), reader.sized()
    reader.end()
    if kind != (_ECC, _SHA256) or scheme != (_NULL, _ECDSA, _SHA256, _P256, _NULL):
        raise CounterUnprovenError(why="its key is not one for ECDSA with P-256 and SHA-256")
    if attributes & _RESTRICTED_SIGNING != _RESTRICTED_SIGNING or attributes & _DECRYPT:
        raise CounterUnprovenError(why="its key signs more than what the TPM says itself")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
        return numbers.public_key(), _name(area)
    except ValueError:
        raise MalformedError(what="TPM key", why="its point is not on the curve") from None


def _read_index(area: bytes) -> bytes:
    """The name of a TPMS_NV_PUBLIC that is a counter."""
    reader = _Reader(area, "TPM index")
    reader.integer(4)
    algorithm, attributes = reader.integer(2), reader.integer(4)
    reader.sized()
    size = reader.integer(2)
    reader.end()
    if algorithm != _SHA256 or attributes >> 4 & 0xF != _COUNTER or size != _VALUE.size:
        raise CounterUnprovenError(why="the index is not a counter")
    if not attributes & _WRITTEN or attributes & _LOSES_COUNTS:
        raise CounterUnprovenError(why="the counter does not keep every count")
    return _name(area)


def _read_statement(statement: bytes, made_for: bytes) -> tuple[bytes, int]:
    """The index's name and the counter's value, of a TPMS_ATTEST."""
    reader = _Reader(statement, "TPM statement")
    head = (reader.integer(4), reader.integer(2))
    reader.sized()  # the signer's qualified name
    extra = reader.sized()
    reader.octets(8 + 4 + 4 + 1 + 8)  # clock and firmware: nothing is decided by them
    if head != (_GENERATED, _ATTEST_NV):
        raise CounterUnprovenError(why="it is no TPM's statement about an index")
    name, offset, contents = reader.sized(), reader.integer(2), reader.sized()
    reader.end()
    if extra != made_for:
        raise CounterUnprovenError(why="the statement was made for another message")
    if offset or len(contents) != _VALUE.size:
        raise CounterUnprovenError(why="the statement does not show the whole counter")
    value = int(_VALUE.unpack(contents)[0])
    if value > MAX_INT:  # no TPM comes there; a licence with it could not be read
        raise CounterUnprovenError(why="no counter stands that high")
    return name, value


def _check_signature(key: ec.EllipticCurvePublicKey, attested: Attested) -> None:
    half = len(attested.signature) // 2
    r, s = int.from_bytes(attested.signature[:half]), int.from_bytes(attested.signature[half:])
    try:
        key.verify(encode_dss_signature(r, s), attested.statement, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise CounterUnprovenError(why="the signature of the TPM's statement is wrong") from None


def _name(area: bytes) -> bytes:
    return _SHA256.to_bytes(2) + hashlib.sha256(area).digest()


# ---- certificates and credentials


def _usage(certificate: x509.Certificate) -> tuple[x509.ObjectIdentifier, ...]:
    return tuple(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def _is_from(certificate: x509.Certificate, maker: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(maker)
    except Exception:  # ValueError, TypeError, InvalidSignature or UnsupportedAlgorithm: all mean "not by this one"
        return False
    return True


def _shared_seed(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """KDFe over an ephemeral Diffie-Hellman (part 1, C.6.4)."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    mine, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    x, y = mine.x.to_bytes(32), mine.y.to_bytes(32)
    info = b"IDENTITY\0" + x + theirs.x.to_bytes(32)
    seed = ConcatKDFHash(hashes.SHA256(), 32, info).derive(ephemeral.exchange(ec.ECDH(), key))
    return seed, _sized(x) + _sized(y)


def _kdfa(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """SP 800-108 in counter mode, as part 1, §11.4.10.2 has it."""
    derivation = KBKDFHMAC(
        hashes.SHA256(), Mode.CounterMode, size, 4, 4, CounterLocation.BeforeFixed, label, context, None
    )
    return derivation.derive(key)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data
