# SPDX-License-Identifier: Apache-2.0
"""Key files: readable by every OpenSSL, whole or not there, and each thing wrong with them called by its name."""

import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519

from volact.sealing import envelope, keys
from volact.sealing.keys import KeyFileError, LocalKey, PassphraseError

PASSPHRASE = b"correct horse"


# Made with "right"; what "wrong-397" makes of it has a padding that passes, and is no key.
SEALED = b"""\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBAwzVFKYEtBnz+0JZtM
CW+LAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQpx29HrAlVFaBQntQ
Fs35agSBkB4JjTVMK1o+FNsa7upxquTVxG4AKdgn4/7iuWwMoXSK0Eyc0/fbACRa
nw5g6g1hBfHTz5AcxtCXDP+R+OKlX4r0lvlNbVBhVxjRr52wSbb113VtCPQjichx
riGWg7QdGkFU2xZP2vqzyzp1mlUYpNeuTIIYDXDQuEAubD65NGQ/8UbTIkc3VQv9
X0xetNMYag==
-----END ENCRYPTED PRIVATE KEY-----
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "key.pem"


def test_a_signing_key_comes_back_from_its_file(path):
    key = LocalKey.generate()
    keys.write_file(path, keys.private_pem(key.private, PASSPHRASE))
    assert keys.load_signing_key(path, PASSPHRASE).public_key == key.public_key
    assert b"ENCRYPTED" in path.read_bytes()


def test_a_machines_key_has_no_passphrase(path):
    key = LocalKey.generate()
    keys.write_file(path, keys.private_pem(key.private, None))
    assert keys.load_signing_key(path, None).public_key == key.public_key


def test_a_wrong_passphrase_is_told_from_a_damaged_file(path):
    pem = keys.private_pem(LocalKey.generate().private, PASSPHRASE)
    with pytest.raises(PassphraseError):
        keys.load_private(pem, b"wrong")
    with pytest.raises(KeyFileError, match="damaged"):
        keys.load_private(pem[: len(pem) // 2], PASSPHRASE)
    with pytest.raises(KeyFileError, match="no passphrase was given"):
        keys.load_private(pem, None)
    with pytest.raises(KeyFileError, match="not encrypted"):
        keys.load_private(keys.private_pem(LocalKey.generate().private, None), PASSPHRASE)


def test_a_wrong_passphrase_that_passes_by_its_padding_is_still_a_wrong_passphrase():
    keys.load_private(SEALED, b"right")
    with pytest.raises(PassphraseError):
        keys.load_private(SEALED, b"wrong-397")


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_another_kind_of_key_is_refused(path, key):
    keys.write_file(path, keys.private_pem(key, None))
    with pytest.raises(KeyFileError, match="P-256"):
        keys.load_signing_key(path, None)


@pytest.mark.parametrize("suite", [envelope.X25519, envelope.HYBRID])
def test_a_sealing_key_comes_back_from_its_file(suite):
    key = envelope.OpeningKey.generate(suite)
    again = envelope.OpeningKey.from_pem(key.to_pem(PASSPHRASE), PASSPHRASE, "sealing.pem")
    assert (again.id, again.suite, again.public) == (key.id, suite, key.public)
    assert again.open_request(envelope.seal_request(suite, key.public, b"text")) == b"text"


def test_a_file_of_other_keys_is_no_sealing_key():
    one = keys.private_pem(x25519.X25519PrivateKey.generate(), PASSPHRASE)
    for pem in (b"", one + one, keys.private_pem(LocalKey.generate().private, PASSPHRASE)):
        with pytest.raises(KeyFileError, match="suite"):
            envelope.OpeningKey.from_pem(pem, PASSPHRASE, "sealing.pem")


def test_a_missing_file_is_named(path):
    with pytest.raises(KeyFileError, match="No such file"):
        keys.load_signing_key(path, None)


def test_a_passphrase_is_the_first_line(path):
    path.write_bytes(b"correct horse\r\nbattery staple\n")
    assert keys.read_passphrase(path) == PASSPHRASE
    path.write_bytes(b"\n")
    with pytest.raises(KeyFileError, match="empty"):
        keys.read_passphrase(path)


def test_new_passphrases_are_long_and_differ():
    made = {keys.new_passphrase() for _ in range(10)}
    assert len(made) == 10
    assert all(len(one) == 32 for one in made)


def test_a_file_is_private_and_replaced_as_a_whole(path):
    keys.write_file(path, b"one")
    keys.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key.pem"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    keys.write_file(path, b"one")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        keys.write_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in path.parent.iterdir()] == ["key.pem"]


@pytest.mark.skipif(os.name != "posix", reason="a process's largest file is limited on POSIX")
def test_a_file_that_finds_no_room_is_named_and_leaves_nothing(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        with pytest.raises(OSError) as failed:
            keys.write_file(tmp_path / "stamp", b"two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.value.filename == str(tmp_path / "stamp")
    assert list(tmp_path.iterdir()) == []
