# SPDX-License-Identifier: Apache-2.0
"""BLS signatures: against vectors that others published, against another implementation, and against forgers."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from volact.core.errors import MalformedError
from volact.core.phone import ConfirmationId
from volact.sealing import confirmation
from volact.sealing.confirmation import (
    CIPHERSUITE,
    ORDER,
    ConfirmationInvalidError,
    PhoneKey,
    PhonePartMissingError,
    check_public,
    read_keystore,
    verify_confirmation,
)
from volact.sealing.keys import KeyFileError, PassphraseError

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors/phone.json").read_bytes())
KEY = PhoneKey.of(int(VECTORS["secret"], 16))

# RFC 9380, appendix J.9.1: the suite's own domain, message, x and y of the point.
RFC_9380 = [
    (
        b"",
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
    ),
    (
        b"abc",
        "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
        "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
    ),
    (
        b"abcdef0123456789",
        "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
        "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
    ),
]
FIELD = int("1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16)
# A round of the randomness beacon drand quicknet, which signs with this very suite: public key, round, signature.
QUICKNET = (
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc2"
    "2b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
    1000,
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
)
# EIP-2333's first two seeds and master keys: the draft's KeyGen.
KEYGEN = [
    (
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c8"
        "1b2f001698e7463b04",
        6083874454709270928345386274498605044986640685124978867557563392430687146096,
    ),
    (
        "3141592653589793238462643383279502884197169399375105820974944592",
        29757020647961307431480504535336562678282505419141012933316116377660817309383,
    ),
]
# EIP-2335's scrypt vector: its password, its secret, its file.
EIP_2335_PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑".encode()
EIP_2335_SECRET = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
EIP_2335 = {
    "crypto": {
        "kdf": {
            "function": "scrypt",
            "params": {
                "dklen": 32,
                "n": 262144,
                "p": 1,
                "r": 8,
                "salt": "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
            },
            "message": "",
        },
        "checksum": {
            "function": "sha256",
            "params": {},
            "message": "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
        },
        "cipher": {
            "function": "aes-128-ctr",
            "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
            "message": "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
        },
    },
    "version": 4,
}


@pytest.mark.parametrize(("data", "x", "y"), RFC_9380, ids=["empty", "abc", "abcdef0123456789"])
def test_messages_are_hashed_to_the_curve_as_rfc_9380_says(data, x, y, monkeypatch):
    monkeypatch.setattr(confirmation, "CIPHERSUITE", b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_")
    point = PhoneKey.of(1).sign(data)  # the key 1 leaves the point as it is
    larger = int(y, 16) > (FIELD - 1) // 2
    assert point[0] >> 5 == (0b101 if larger else 0b100)
    assert bytes([point[0] & 0x1F]) + point[1:] == bytes.fromhex(x)


def test_a_signature_that_a_foreign_network_made_verifies():
    public, number, signature = QUICKNET
    data = hashlib.sha256(number.to_bytes(8, "big")).digest()
    verify_confirmation(bytes.fromhex(public), data, bytes.fromhex(signature))
    with pytest.raises(ConfirmationInvalidError):
        verify_confirmation(bytes.fromhex(public), data + b"\0", bytes.fromhex(signature))


@pytest.mark.parametrize(("seed", "secret"), KEYGEN)
def test_keys_are_made_by_the_draft_s_keygen(seed, secret):
    assert PhoneKey.derive(bytes.fromhex(seed)).secret == secret


def test_another_implementation_agrees_on_keys_and_signatures():
    arkworks = pytest.importorskip("py_arkworks_bls12381")
    data = b"the same message on both sides"
    secret = arkworks.Scalar.from_be_bytes(KEY.secret.to_bytes(32, "big"))
    hashed = arkworks.G1Point.hash_to_curve(data, CIPHERSUITE)
    assert bytes((arkworks.G2Point() * secret).to_compressed_bytes()) == KEY.public
    assert bytes((hashed * secret).to_compressed_bytes()) == KEY.sign(data)


@pytest.mark.parametrize("vector", VECTORS["activations"], ids=lambda vector: vector["name"])
def test_the_published_confirmation_ids_are_signatures(vector):
    data, given = bytes.fromhex(vector["message"]), ConfirmationId.parse(vector["confirmation_id"])
    assert KEY.public.hex() == VECTORS["public"]
    assert KEY.sign(data) == given.signature
    verify_confirmation(KEY.public, data, given.signature)


@pytest.mark.parametrize("vector", VECTORS["forged"], ids=lambda vector: vector["name"])
def test_forged_confirmation_id(vector):
    data, given = bytes.fromhex(VECTORS["activations"][0]["message"]), ConfirmationId.parse(vector["confirmation_id"])
    with pytest.raises(ConfirmationInvalidError) as caught:
        verify_confirmation(KEY.public, data, given.signature)
    assert caught.value.code == vector["error"]


@pytest.mark.parametrize("size", [0, 47, 49, 96])
def test_a_signature_of_another_length_is_invalid(size):
    with pytest.raises(ConfirmationInvalidError):
        verify_confirmation(KEY.public, b"", (KEY.sign(b"") * 2)[:size])


@pytest.mark.parametrize(
    "public",
    [b"", bytes(96), b"\xc0" + bytes(95), KEY.public[:95], KEY.public[:48], b"\x80" + bytes(94) + b"\x02"],
    ids=["empty", "zeros", "the identity", "too short", "half", "outside the subgroup"],
)
def test_a_public_key_that_is_none_is_malformed(public):
    """The identity as a key would verify the identity as a signature, for every message."""
    with pytest.raises(MalformedError):
        check_public(public)
    with pytest.raises(MalformedError):
        verify_confirmation(public, b"", b"\xc0" + bytes(47))


def test_a_key_never_shows_its_secret():
    assert str(KEY.secret) not in repr(KEY)


@pytest.mark.parametrize("secret", [0, ORDER, -1])
def test_numbers_outside_the_curve_s_order_are_no_keys(secret):
    with pytest.raises(RuntimeError):
        PhoneKey.of(secret)


def test_a_key_file_opens_with_its_passphrase_alone():
    file = KEY.to_keystore(b"correct horse")
    assert PhoneKey.from_keystore(file, b"correct horse", "phone.key") == KEY
    assert f"{KEY.secret:064x}".encode() not in file
    with pytest.raises(PassphraseError):
        PhoneKey.from_keystore(file, b"correct horsf", "phone.key")


def test_a_passphrase_that_is_no_text_opens_what_it_closed():
    assert PhoneKey.from_keystore(KEY.to_keystore(b"\xff\xfe"), b"\xff\xfe", "phone.key") == KEY


def test_the_key_file_is_the_one_that_eip_2335_describes():
    assert read_keystore(json.dumps(EIP_2335).encode(), EIP_2335_PASSWORD, "phone.key").hex() == EIP_2335_SECRET


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 3),
        (("crypto", "kdf", "function"), "pbkdf2"),
        (("crypto", "kdf", "params", "n"), 262143),
        (("crypto", "kdf", "params", "n"), 1 << 30),
        (("crypto", "kdf", "params", "p"), 17),
        (("crypto", "kdf", "params", "salt"), "00"),
        (("crypto", "cipher", "message"), "zz" * 32),
        (("crypto", "checksum", "message"), ""),
        (("crypto",), []),
    ],
)
def test_a_damaged_key_file_is_named(path, value):
    store = json.loads(json.dumps(EIP_2335))
    part = store
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(KeyFileError, match=r"phone\.key"):
        read_keystore(json.dumps(store).encode(), b"", "phone.key")


def test_a_key_file_with_a_number_that_is_no_key_is_named():
    file = confirmation.write_keystore(ORDER.to_bytes(32, "big"), b"x", bytes(32), bytes(16))
    with pytest.raises(KeyFileError):
        PhoneKey.from_keystore(file, b"x", "phone.key")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyblst", None)
    with pytest.raises(PhonePartMissingError) as caught:
        verify_confirmation(KEY.public, b"", bytes(48))
    assert "volact[phone]" in caught.value.hint
