# SPDX-License-Identifier: Apache-2.0
"""The publisher's folder on disk: made whole or not at all, and usable without its root key."""

import stat
from pathlib import Path

import pytest

from volact.core.errors import VolactError
from volact.publisher.administration.publisher import Publisher
from volact.publisher.folder.files import FolderDamagedError
from volact.publisher.folder.making import (
    FolderTakenError,
    FolderUnwritableError,
    NameUnfitError,
    PassphraseUnfitError,
    init,
)
from volact.publisher.folder.opening import NoPublisherError, PublisherFolder
from volact.publisher.rows.ledger import LedgerBrokenError
from volact.sealing.certificates import Role
from volact.sealing.envelope import HYBRID, X25519, OpeningKey, SealError
from volact.sealing.keys import KeyFileError, PassphraseError
from volact.sealing.verify import verify_definition

EXAMPLE = (Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml").read_text()
NOW, PASSPHRASE = 1_800_000_000, b"a passphrase for tests"


def make(path, **changes):
    given = {"name": "Acme", "url": None, "suite": X25519, "passphrase": PASSPHRASE, "now": NOW, "actor": "tester"}
    return init(path, **{**given, **changes})


def names(path):
    return [entry.name for entry in path.iterdir()]


def test_a_new_folder_holds_keys_that_only_its_user_and_passphrase_open(tmp_path):
    made = make(tmp_path / "deep" / "er" / "acme")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    for file in [*made.path.rglob("*.key"), made.database]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for file in made.path.rglob("*.key"):
        assert b"ENCRYPTED PRIVATE KEY" in file.read_bytes()
    keys = made.open_keys(PASSPHRASE)
    roles = (keys.issuer.role, keys.definition.role, keys.revocation.role)
    assert roles == (Role.PUBLISHER, Role.DEFINITION, Role.REVOCATION)
    assert keys.issuer.ends_at <= int(keys.issuing.certificate.not_valid_after_utc.timestamp())
    assert keys.issuer.grant.organisation == "Acme"
    assert keys.issuer.grant.groups == frozenset()
    with pytest.raises(PassphraseError):
        made.open_keys(b"another")
    assert names(tmp_path) == ["deep"]
    assert names(tmp_path / "deep" / "er") == ["acme"]


def test_a_publisher_is_never_overwritten(tmp_path):
    made = make(tmp_path / "acme")
    before = {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
    with pytest.raises(FolderTakenError):
        make(tmp_path / "acme")
    assert {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderTakenError):
        make(tmp_path / "file")


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "acme").mkdir()
    assert make(tmp_path / "acme").name == "Acme"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": ""}, NameUnfitError),
        ({"name": " Acme"}, NameUnfitError),
        ({"name": "Ac\nme"}, NameUnfitError),
        ({"name": "x" * 201}, NameUnfitError),
        ({"passphrase": b""}, PassphraseUnfitError),
        ({"passphrase": b"x" * 1001}, PassphraseUnfitError),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(tmp_path, changes, error):
    with pytest.raises(error):
        make(tmp_path / "new" / "acme", **changes)
    assert names(tmp_path) == []


def test_a_failure_in_the_middle_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OpeningKey, "generate", fail)
    with pytest.raises(FolderUnwritableError, match="No space left"):
        make(tmp_path / "new" / "acme")
    assert names(tmp_path) == []


def test_a_place_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderUnwritableError):
        make(tmp_path / "file" / "acme")


def test_where_there_is_no_publisher_it_says_so(tmp_path):
    with pytest.raises(NoPublisherError):
        PublisherFolder.open(tmp_path)


def test_what_was_damaged_is_named(tmp_path):
    made = make(tmp_path / "acme")
    (made.path / "keys" / "sealing.key").unlink()
    with pytest.raises(KeyFileError, match=r"sealing\.key"):
        made.open_keys(PASSPHRASE)
    (made.path / "certificates" / "issuing.pem").write_text("nonsense")
    with pytest.raises(FolderDamagedError, match=r"issuing\.pem"):
        made.open_keys(PASSPHRASE)
    (made.path / "publisher.json").write_text("{")
    with pytest.raises(FolderDamagedError):
        PublisherFolder.open(made.path)


def test_everything_works_while_the_root_key_is_offline(site):
    site.folder.root_key.unlink()
    site.folder.root_key.parent.rmdir()
    site.keys.definition.definition(site.publisher.newest("acme-cad"))
    site.folder.open_keys(PASSPHRASE)
    assert site.host().ask(site.key()).licence.organisation == "Example Ltd"


def test_a_publisher_can_choose_the_hybrid_suite(tmp_path):
    made = make(tmp_path / "acme", suite=HYBRID)
    keys = made.open_keys(PASSPHRASE)
    assert (keys.sealing.suite, made.suite) == (HYBRID, HYBRID)
    with pytest.raises(SealError):
        keys.sealing.open_request(bytes(2000))


def test_what_ships_with_the_product_verifies_under_the_root_alone(site):
    token = site.publisher.store.version("acme-cad", 1).token
    trusted = verify_definition(token, site.folder.fingerprint, product="acme-cad", min_version=1)
    assert trusted.definition.url == "http://127.0.0.1:1690"
    assert trusted.definition.publisher == "Acme Software"


def test_versions_keep_generic_keys_and_all_are_kept(site):
    first = site.publisher.newest("acme-cad")
    site.publisher.add_product(EXAMPLE.replace("version = 1", "version = 7").encode(), site.keys, NOW, "tester")
    second = site.publisher.newest("acme-cad")
    assert (first.version, second.version) == (1, 7)
    assert [edition.keys for edition in first.editions] == [edition.keys for edition in second.editions]
    assert site.publisher.store.version("acme-cad", 1).version == 1


def test_the_database_gives_no_usable_key_away(site):
    key = site.key()
    site.host().ask(key)
    site.publisher.store.close()
    files = b"".join(path.read_bytes() for path in site.folder.path.glob("publisher.db*"))
    assert key.encode() not in files
    assert key[:11].encode() not in files


def test_a_key_is_found_by_itself_its_end_and_its_id(site):
    key = site.key()
    issued = site.publisher.find_key(key)
    assert issued == site.publisher.find_key(f" {key.lower()} ")
    assert issued == site.publisher.find_key(key[-5:])
    assert issued == site.publisher.find_key(issued.key_id)


TAMPERING = (
    "UPDATE ledger SET data = replace(data, 'Example Ltd', 'Other Ltd') WHERE act = 'key-issued'",
    "UPDATE ledger SET at = at + 1 WHERE seq = 3",
    "DELETE FROM ledger WHERE seq = 2",
    "DELETE FROM ledger WHERE seq = 1",
    "DELETE FROM host_activation",
    "UPDATE host_activation SET serial = 'ff'",
)


@pytest.mark.parametrize("statement", TAMPERING)
def test_tampering_with_the_database_is_found(site, statement):
    site.host().ask(site.key())
    site.publisher.store.check_ledger()
    site.tamper(statement)
    with pytest.raises(LedgerBrokenError):
        site.publisher.store.check_ledger()


def test_two_processes_adding_the_same_version_leave_one(site, together):
    toml = EXAMPLE.replace("version = 1", "version = 2").encode()

    def add():
        with Publisher.open(site.folder.path) as publisher:
            return publisher.add_product(toml, site.keys, NOW, "tester")

    results = together([add, add, add])
    assert sum(not isinstance(result, Exception) for result in results) == 1
    failed = [result for result in results if isinstance(result, Exception)]
    assert {one.code if isinstance(one, VolactError) else one for one in failed} == {"product-version-not-newer"}
    site.publisher.store.check_ledger()
