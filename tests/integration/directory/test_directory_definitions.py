# SPDX-License-Identifier: Apache-2.0
"""Which definitions the directory tool goes by: none whose key is known to be revoked, none older than it had."""

from pathlib import Path

import pytest

from support.phone_desk import EXAMPLE, NOW, Desk
from volact.directory.folder import DirectoryFolder
from volact.sealing import certificates, jws, verify


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.make(tmp_path / "publisher")


@pytest.fixture
def folder(tmp_path: Path) -> DirectoryFolder:
    return DirectoryFolder(tmp_path / "directory")


def add_version(desk: Desk, version: int) -> str:
    toml = EXAMPLE.read_text().replace("version = 1", f"version = {version}")
    desk.publisher.add_product(toml.encode(), desk.keys, desk.clock(), "tests")
    return str(desk.publisher.store.version("acme-cad", version).token)


def test_an_older_definition_takes_the_place_of_no_newer_one(desk: Desk, folder: DirectoryFolder) -> None:
    old, new = desk.publisher.store.version("acme-cad", 1).token, add_version(desk, 2)
    for token in (old, new, new):
        folder.add_definition(token, desk.root)
    with pytest.raises(verify.DefinitionOldError):
        folder.add_definition(old, desk.root)
    assert [one.definition.version for one in folder.definitions()] == [2]


def test_a_definition_whose_key_another_one_s_status_revokes_counts_for_nothing(
    desk: Desk, folder: DirectoryFolder
) -> None:
    token = desk.publisher.store.version("acme-cad", 1).token
    folder.add_definition(token, desk.root)
    assert len(folder.definitions()) == len(folder.trusts()) == 1
    signer = certificates.load_der(jws.parse(token, verify.DEFINITION).x5c[0])
    thumbprint = certificates.key_thumbprint(certificates.public_key_of(signer)).hex()
    desk.publisher.revoke_issuer(thumbprint, NOW, "stolen", NOW, "tests")
    folder.add_definition(add_version(desk, 2), desk.root)
    assert folder.definitions() == []
    assert folder.trusts() == {}
