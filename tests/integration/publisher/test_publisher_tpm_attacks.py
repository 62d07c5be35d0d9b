# SPDX-License-Identifier: Apache-2.0
"""What anybody may send in the place of a TPM's word: named and written to the log, never a failure of the service."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from support.tpm import Maker
from volact.core.counter import Attested
from volact.core.encoding import MAX_INT
from volact.core.errors import MalformedError
from volact.sealing import attestation
from volact.sealing.attestation import CounterUnprovenError

NOW, M, N = 1_800_000_000, bytes(32), bytes(16)


def forged(value: int) -> Attested:
    """A statement as a TPM makes it, by a key in software that claims to be restricted."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    area = struct.pack(">HHIH", 0x0023, 0x000B, 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18, 0)
    area += struct.pack(">5H", 0x0010, 0x0018, 0x000B, 0x0003, 0x0010)
    area += b"".join(struct.pack(">H", 32) + part.to_bytes(32) for part in (point.x, point.y))
    index = struct.pack(">IHIHH", 0x01A00001, 0x000B, 1 << 29 | 1 << 4, 0, 8)
    name = b"\0\x0b" + hashlib.sha256(index).digest()
    extra = attestation.qualifying("activation", M, N)
    statement = struct.pack(">IHH", 0xFF544347, 0x8014, 0) + struct.pack(">H", 32) + extra + bytes(25)
    statement += struct.pack(">H", 34) + name + struct.pack(">HHQ", 0, 8, value)
    r, s = utils.decode_dss_signature(key.sign(statement, ec.ECDSA(hashes.SHA256())))
    return Attested(area, index, statement, r.to_bytes(32) + s.to_bytes(32))


def test_a_counter_beyond_what_a_licence_can_say_proves_nothing():
    assert attestation.verify_attested(forged(MAX_INT), "activation", M, N).value == MAX_INT
    for value in (MAX_INT + 1, 2**64 - 1):
        with pytest.raises(CounterUnprovenError):
            attestation.verify_attested(forged(value), "activation", M, N)


def test_an_endorsement_certificate_with_algorithms_that_nobody_knows_is_malformed_or_another_maker_s():
    maker = Maker()
    good = maker.certify(ec.generate_private_key(ec.SECP256R1()).public_key())
    key_algorithm, curve = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d030107")
    signature = bytes.fromhex("2a8648ce3d040302")
    for known in (key_algorithm, curve, signature):
        assert known in good
        strange = good.replace(known, known[:-1] + b"\x7f")
        with pytest.raises((MalformedError, CounterUnprovenError)):
            attestation.verify_endorsement(strange, [maker.certificate], NOW)
    for position in range(len(good)):
        with pytest.raises((MalformedError, CounterUnprovenError)):
            attestation.verify_endorsement(
                good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :], [maker.certificate], NOW
            )


def test_an_endorsement_certificate_is_not_below_one_that_a_maker_certified():
    """Each maker for itself: a TPM's own certificate certifies no other."""
    maker, tpm = Maker(), ec.generate_private_key(ec.SECP256R1())
    middle = x509.load_der_x509_certificate(maker.certify(tpm.public_key()))
    since = datetime(2026, 1, 1, tzinfo=UTC)
    mine = ec.generate_private_key(ec.SECP256R1()).public_key()
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([])).issuer_name(middle.subject).public_key(mine).serial_number(5)
        .not_valid_before(since).not_valid_after(since + timedelta(days=9999))
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.133.8.1")]), critical=False)
        .sign(tpm, hashes.SHA256())
    )  # fmt: skip
    with pytest.raises(CounterUnprovenError):
        attestation.verify_endorsement(made.public_bytes(serialization.Encoding.DER), [maker.certificate], NOW)
