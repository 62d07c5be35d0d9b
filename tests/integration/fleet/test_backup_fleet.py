# SPDX-License-Identifier: Apache-2.0
"""Backup of a fleet tool that is at work, and what comes back: on SQLite and on PostgreSQL."""

import secrets
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import postgresql
from support.fleet_folders import issue
from support.processes import good, volact
from support.site import RealPublisher
from volact.fleet import backup
from volact.fleet.api import Fleet
from volact.fleet.exchange.bundle import fingerprint, signing_key
from volact.fleet.keys import vault
from volact.fleet.keys.vault import VaultPassphraseError
from volact.sql.archive import BackupTakenError, RestoreTakenError

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("site") / "acme")


@pytest.fixture
def fleet(tmp_path: Path, fleet_database: str | Path, site: RealPublisher) -> Iterator[Fleet]:
    """With machines, a key in a vault of its own passphrase, a saved list and a job that waits."""
    address = fleet_database if isinstance(fleet_database, str) else None
    with Fleet.init(tmp_path / "fleet", address, who="tester") as made:
        made.discover(["pc[1-30].example.com"], tags=["office"])
        made.definition_add(site.file.read_text().strip(), site.root)
        made.keys_add([f"{issue(site)},bought in March"])
        made.refresh(filter="tag=office", wait=False)
        yield made


@pytest.fixture
def empty(fleet_database: str | Path) -> Iterator[str | None]:
    """A place to restore the database into: none needed for SQLite."""
    if not isinstance(fleet_database, str):
        yield None
        return
    server, name = fleet_database.rsplit("/", 1)[0] + "/", f"restored_{secrets.token_hex(4)}"
    postgresql.execute(server, f"CREATE DATABASE {name}")
    yield server + name
    postgresql.execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def write(fleet: Fleet, target: Path, *, with_passphrase: bool = False) -> Path:
    backup.backup(fleet.folder.path, target, NOW, "1.0", with_passphrase=with_passphrase)
    return target


def test_what_is_restored_is_the_fleet_as_it_was_with_its_keys_and_jobs(
    fleet: Fleet, tmp_path: Path, empty: str | None
) -> None:
    fleet.folder.change({"parallel": 7})
    signer = fingerprint(signing_key(fleet.folder.keys))
    passphrase = vault.kept_passphrase(fleet.folder)
    target = write(fleet, tmp_path / "fleet.volbackup")
    assert target.stat().st_mode & 0o777 == 0o600
    restored = backup.restore(target, tmp_path / "again", empty, passphrase)
    assert (restored.machines, restored.keys, restored.opened) == (30, 1, True)
    with Fleet.open(tmp_path / "again", passphrase=lambda: passphrase or b"") as again:
        assert again.folder.settings.parallel == 7
        assert fingerprint(signing_key(again.folder.keys)) == signer
        assert again.list_machines(limit=100).to_dicts() == fleet.list_machines(limit=100).to_dicts()
        (row,) = again.keys_list()
        (job,) = again.jobs()
        assert (row.partial, job.kind, str(job.state), job.total) == (
            fleet.keys_list()[0].partial,
            "refresh",
            "queued",
            30,
        )
        with again.store.read() as conn:
            assert vault.open_vault(conn, passphrase or b"").recipient.text == vault.recipient(conn)
        assert again.discover(["new.example.com"]).new == ("new.example.com",)


def test_a_backup_taken_while_machines_are_found_is_of_one_moment(
    fleet: Fleet, tmp_path: Path, empty: str | None
) -> None:
    half = threading.Event()

    def find() -> None:
        with Fleet.open(fleet.folder.path, who="another") as other:
            for number in range(20):
                other.discover([f"host{number}-[1-5].example.com"])
                if number == 5:
                    half.set()

    thread = threading.Thread(target=find)
    thread.start()
    assert half.wait(60)
    target = write(fleet, tmp_path / "fleet.volbackup")
    thread.join()
    restored = backup.restore(target, tmp_path / "again", empty)
    assert restored.machines % 5 == 0, "half of a command's machines"
    assert 60 <= restored.machines <= 130
    assert not restored.opened


def test_commands_back_up_and_restore(fleet: Fleet, tmp_path: Path, empty: str | None) -> None:
    target = tmp_path / "fleet.volbackup"
    done = good("fleet", "backup", target, "--with-passphrase", "--dir", fleet.folder.path, "--json").json
    assert done["bytes"] == target.stat().st_size
    words = ["--database", empty] if empty else []
    done = good("fleet", "restore", target, "--dir", tmp_path / "again", *words, "--json").json
    assert (done["machines"], done["keys"], done["opened"]) == (30, 1, True)
    assert good("fleet", "list", "--machines", "--dir", tmp_path / "again", "--json").json["total"] == 30


def test_the_passphrase_and_the_mail_password_are_in_a_backup_only_when_asked_for(fleet: Fleet, tmp_path: Path) -> None:
    password = fleet.folder.path / "mail.password"
    password.write_text("secret\n")
    account = ("--user", "fleet", "--mail-password-file", password)
    words = ("--server", "mail.example.com", "--from", "fleet@example.com", *account)
    good("fleet", "set-mail", *words, "--dir", fleet.folder.path)
    for name, wanted in (("without", False), ("with", True)):
        target = write(fleet, tmp_path / name, with_passphrase=wanted)
        with tarfile.open(target) as archive:
            names = archive.getnames()
        assert ("keys/vault.passphrase" in names) is wanted
        assert "mail.json" in names
        assert "mail.password" not in names


def test_nothing_is_overwritten_and_a_wrong_passphrase_restores_nothing(
    fleet: Fleet, tmp_path: Path, empty: str | None
) -> None:
    target = write(fleet, tmp_path / "fleet.volbackup")
    with pytest.raises(BackupTakenError):
        write(fleet, target)
    with pytest.raises(RestoreTakenError):
        backup.restore(target, fleet.folder.path, empty)
    with pytest.raises(VaultPassphraseError):
        backup.restore(target, tmp_path / "again", empty, b"another")
    assert not (tmp_path / "again").exists()
    if empty is None:
        words = ("--dir", tmp_path / "again", "--database", "postgresql://db.example.com/fleet", "--json")
        done = volact("fleet", "restore", target, *words)
        assert done.json["error"]["code"] == "restore-fleet-database"


def test_a_backup_of_another_role_is_not_a_fleet(tmp_path: Path, site: RealPublisher) -> None:
    good("publisher", "backup", tmp_path / "b", "--dir", site.folder / "publisher")
    done = volact("fleet", "restore", tmp_path / "b", "--dir", tmp_path / "again", "--json")
    assert done.json["error"]["code"] == "backup-other-kind"
