# SPDX-License-Identifier: Apache-2.0
"""The sealed vectors opened by the standards' own steps, from hash functions, X25519 and ML-KEM up.

So docs/spec/seal.md says everything that another implementation needs: algorithm numbers, ``info``, forms of keys.
RFC 9180 for the first suite; draft-ietf-hpke-pq and draft-ietf-hpke-hpke (one-stage key derivation) for the hybrid.
"""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEAL = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "seal.json").read_bytes())
XWING_LABEL = b"\\.//^\\"
RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def vector(suite):
    return next(one for one in SEAL["requests"] if one["name"] == f"sealed with {suite}")


def info(suite):
    name = SEAL["keys"][suite]["id"]
    return b"volact request v1\0" + suite.encode() + b"\0" + name.encode()


def extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def expand(prk, context, length):
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + context + bytes([number]), "sha256")
        out, number = out + block, number + 1
    return out[:length]


def labeled_extract(suite_id, salt, label, ikm):
    return extract(salt, b"HPKE-v1" + suite_id + label + ikm)


def labeled_expand(suite_id, prk, label, context, length):
    return expand(prk, length.to_bytes(2) + b"HPKE-v1" + suite_id + label + context, length)


def test_x25519_by_rfc_9180():
    given, one = SEAL["keys"]["x25519"], vector("x25519")
    sealed = bytes.fromhex(one["sealed"])
    encapsulated, ciphertext = sealed[:32], sealed[32:]
    private = x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(given["private"]))
    # §4.1: the KEM
    kem_id = b"KEM" + (0x0020).to_bytes(2)
    dh = private.exchange(x25519.X25519PublicKey.from_public_bytes(encapsulated))
    context = encapsulated + private.public_key().public_bytes(*RAW)
    shared = labeled_expand(kem_id, labeled_extract(kem_id, b"", b"eae_prk", dh), b"shared_secret", context, 32)
    # §5.1: the key schedule
    suite_id = b"HPKE" + b"".join(number.to_bytes(2) for number in (0x0020, 0x0001, 0x0001))
    context = (
        b"\0"
        + labeled_extract(suite_id, b"", b"psk_id_hash", b"")
        + labeled_extract(suite_id, b"", b"info_hash", info("x25519"))
    )
    secret = labeled_extract(suite_id, shared, b"secret", b"")
    key = labeled_expand(suite_id, secret, b"key", context, 16)
    nonce = labeled_expand(suite_id, secret, b"base_nonce", context, 12)
    assert AESGCM(key).decrypt(nonce, ciphertext, b"").hex() == one["plaintext"]


def prefixed(data):
    return len(data).to_bytes(2) + data


def test_mlkem768_x25519_by_its_draft():
    given, one = SEAL["keys"]["mlkem768-x25519"], vector("mlkem768-x25519")
    sealed = bytes.fromhex(one["sealed"])
    lattice, curve, ciphertext = sealed[:1088], sealed[1088:1120], sealed[1120:]
    private = x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(given["x25519_private"]))
    # the hybrid KEM: both secrets, and what binds the second one, under one hash
    first = mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(given["mlkem768_seed"])).decapsulate(lattice)
    second = private.exchange(x25519.X25519PublicKey.from_public_bytes(curve))
    public = private.public_key().public_bytes(*RAW)
    shared = hashlib.sha3_256(first + second + curve + public + XWING_LABEL).digest()
    # the key schedule of a one-stage KDF
    suite_id = b"HPKE" + b"".join(number.to_bytes(2) for number in (0x647A, 0x0011, 0x0002))
    length = 32 + 12 + 64
    derived = hashlib.shake_256(
        prefixed(b"")
        + prefixed(shared)
        + b"HPKE-v1"
        + suite_id
        + prefixed(b"secret")
        + length.to_bytes(2)
        + b"\0"
        + prefixed(b"")
        + prefixed(info("mlkem768-x25519"))
    ).digest(length)
    assert AESGCM(derived[:32]).decrypt(derived[32:44], ciphertext, b"").hex() == one["plaintext"]


@pytest.mark.parametrize("suite", SEAL["keys"])
def test_info_is_what_the_specification_says(suite):
    assert info(suite).hex() == SEAL["keys"][suite]["info"]
