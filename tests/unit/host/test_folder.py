# SPDX-License-Identifier: Apache-2.0
"""A host's folder: what is written whole, and what a running host sees of a change."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from support.site import Vendor
from volact.core.errors import VolactError
from volact.host.folder import HostFolder
from volact.sealing.envelope import HYBRID, X25519
from volact.sealing.keys import PassphraseError
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP


@pytest.fixture(scope="module")
def vendor(tmp_path_factory) -> Vendor:
    return Vendor.make(tmp_path_factory.mktemp("vendor"))


@pytest.fixture
def folder(tmp_path: Path, vendor: Vendor) -> HostFolder:
    made = HostFolder.create(tmp_path / "kms")
    made.add_product(vendor.file.read_text(), vendor.root)
    return made


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(VolactError) as caught:
        act()
    assert caught.value.hint
    return caught.value.code


def test_a_folder_is_made_once(folder):
    assert code_of(lambda: HostFolder.create(folder.path)) == "host-folder-exists"
    assert code_of(lambda: HostFolder(folder.path / "other").check()) == "host-folder-missing"


def test_the_folder_is_the_owner_s_alone_and_what_it_lies_in_is_not(tmp_path):
    before = os.umask(0o022)
    try:
        HostFolder.create(tmp_path / "volact" / "host")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("volact", "volact/host")]
    assert modes == [0o755, 0o700]


def test_a_passphrase_elsewhere_is_not_copied_into_the_folder(tmp_path, vendor):
    (tmp_path / "secret").write_text("elsewhere\n")
    folder = HostFolder.create(tmp_path / "kms", tmp_path / "secret")
    assert not (tmp_path / "kms" / "passphrase").exists()
    folder.add_product(vendor.file.read_text(), vendor.root)
    key = folder.install_key(vendor.host_key(), X25519)
    assert key.signing_key(folder.passphrase())
    with pytest.raises(PassphraseError):
        key.signing_key(b"another")


@pytest.mark.parametrize("suite", [X25519, HYBRID])
def test_an_installed_key_has_keys_of_its_own_that_only_the_owner_reads(folder, vendor, suite):
    key = folder.install_key(vendor.host_key(), suite)
    assert key.opening_key(folder.passphrase()).suite == suite
    for path in key.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in (key.folder / "signing.pem").read_bytes()
    assert b"ENCRYPTED" in (key.folder / "sealing.pem").read_bytes()
    assert not key.activated


def test_a_key_whose_making_was_interrupted_is_made_anew(folder, vendor):
    text = vendor.host_key()
    key = folder.install_key(text, X25519)
    half = key.folder.with_name(f".{key.folder.name}.new")
    key.folder.rename(half)
    assert folder.host_keys() == []
    assert folder.install_key(text, X25519).signing_key(folder.passphrase())
    assert len(folder.host_keys()) == 1


def test_one_key_is_meant_without_a_name_and_several_must_be_named(folder, vendor):
    assert code_of(lambda: folder.host_key(None)) == "host-key-missing"
    first = folder.install_key(vendor.host_key(), X25519)
    assert folder.host_key(None) == first
    second = folder.install_key(vendor.host_key(CLIENT_GROUP), X25519)
    assert code_of(lambda: folder.host_key(None)) == "host-key-ambiguous"
    assert folder.host_key(second.key.partial.lower()) == second
    assert folder.host_key(str(second.key)) == second
    assert code_of(lambda: folder.host_key("ZZZZZ")) == "host-key-missing"


def test_each_change_touches_the_stamp(folder, vendor):
    stamps = [folder.stamp.read_bytes()]
    key = folder.install_key(vendor.host_key(), X25519)
    stamps.append(folder.stamp.read_bytes())
    vendor.certify(folder, key)
    stamps.append(folder.stamp.read_bytes())
    folder.remove_key(key)
    stamps.append(folder.stamp.read_bytes())
    assert len(set(stamps)) == 4


def test_activation_is_what_brings_the_certificate(folder, vendor):
    key = folder.install_key(vendor.host_key(), X25519)
    vendor.certify(folder, key, (SERVER_GROUP,))
    (stored,) = folder.host_keys()
    assert stored.activated
    assert len(stored.certificates()) == 2
    assert stored.status_token() == stored.status_token().strip() != ""
    (key.folder / "certificates.pem").unlink()
    assert not folder.host_keys()[0].activated
