# SPDX-License-Identifier: Apache-2.0
"""Backup of a publisher that is at work, and what comes back: on SQLite and on PostgreSQL."""

import json
import secrets
import threading

import pytest

from support import postgresql
from support.processes import good, volact
from volact.publisher.administration.publisher import Publisher
from volact.publisher.folder import backup
from volact.publisher.rows.ledger import LedgerBrokenError
from volact.sealing.verify import TrustedLicence
from volact.sql.archive import BackupDamagedError, BackupTakenError, RestoreTakenError

PASSPHRASE = b"a passphrase for tests"


@pytest.fixture
def empty(site):
    """A place to restore the database into: none needed for SQLite."""
    if not isinstance(site.folder.database, str):
        yield None
        return
    server = site.folder.database.rsplit("/", 1)[0] + "/"
    name = f"restored_{secrets.token_hex(4)}"
    postgresql.execute(server, f"CREATE DATABASE {name}")
    yield server + name
    postgresql.execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def write(site, tmp_path):
    target = tmp_path / "acme.volbackup"
    backup.backup(site.folder.path, target, site.clock(), "1.0")
    return target


def test_what_is_restored_is_the_publisher_as_it_was_and_serves_on(site, tmp_path, empty):
    key = site.pool_key(2)
    assert isinstance(site.machine(1).ask(key), TrustedLicence)
    target = write(site, tmp_path)
    assert target.stat().st_mode & 0o777 == 0o600
    restored = backup.restore(target, tmp_path / "again", empty)
    assert restored.folder.fingerprint == site.folder.fingerprint
    with Publisher.open(tmp_path / "again") as publisher:
        publisher.store.check_ledger()
        assert [row.hash for row in publisher.store.ledger()] == [row.hash for row in site.publisher.store.ledger()]
        assert publisher.find_key(key).remaining == 1
        opened = publisher.folder.open_keys(PASSPHRASE)
        assert opened.issuer.thumbprint == site.keys.issuer.thumbprint
        publisher.issue_pool_keys(
            "Example Ltd", "acme-cad", "clients", site.clock(), "tester", channel=site.issued(key).channel,
            activations=1, keys=opened,
        )  # fmt: skip


def test_a_backup_taken_among_activations_is_of_one_moment(site, tmp_path, empty):
    """Its ledger, its pools and its table of activations agree, whichever of them had happened by then."""
    key, errors = site.pool_key(60), []
    machines = [site.machine(number) for number in range(1, 41)]
    half = threading.Event()

    def activate():
        try:
            for number, machine in enumerate(machines):
                machine.ask(key)
                if number == 10:
                    half.set()
        except Exception as exc:
            errors.append(exc)

    thread = threading.Thread(target=activate)
    thread.start()
    assert half.wait(60)
    target = write(site, tmp_path)
    thread.join()
    assert not errors
    backup.restore(target, tmp_path / "again", empty)  # verifies the ledger against the tables
    with Publisher.open(tmp_path / "again") as publisher:
        left = publisher.find_key(key).remaining
    assert 20 <= left <= 49
    assert site.issued(key).remaining == 20


def test_commands_back_up_and_restore(site, tmp_path, empty):
    target = tmp_path / "acme.volbackup"
    done = good("publisher", "backup", target, "--dir", site.folder.path, "--json").json
    assert done["bytes"] == target.stat().st_size
    words = ["--database", empty] if empty else []
    done = good("publisher", "restore", target, "--dir", tmp_path / "again", *words, "--json").json
    assert (done["root"], done["rows"]) == (site.folder.fingerprint, len(site.publisher.store.ledger()))
    again = good("publisher", "ledger", "verify", "--dir", tmp_path / "again", "--json").json
    assert again["head"] == done["head"]


def test_nothing_is_overwritten(site, tmp_path, empty):
    target = write(site, tmp_path)
    with pytest.raises(BackupTakenError):
        write(site, tmp_path)
    with pytest.raises(RestoreTakenError):
        backup.restore(target, site.folder.path, empty)
    if empty:
        done = volact("publisher", "restore", target, "--dir", tmp_path / "again", "--json")
        assert done.json["error"]["code"] == "database-not-empty"
        assert not (tmp_path / "again").exists()


def test_a_ledger_that_was_tampered_with_is_not_restored(site, tmp_path, empty):
    site.pool_key(3)
    site.tamper("UPDATE ledger SET data = '{}' WHERE seq = 3")
    target = write(site, tmp_path)
    with pytest.raises(LedgerBrokenError):
        backup.restore(target, tmp_path / "again", empty)
    assert not (tmp_path / "again").exists()


def test_a_ledger_of_another_root_is_not_restored(site, tmp_path, empty, make_publisher):
    about = site.folder.path / "certificates" / "root.pem"
    other = make_publisher(tmp_path / "other", site.clock())
    about.write_bytes((other / "certificates" / "root.pem").read_bytes())
    target = write(site, tmp_path)
    with pytest.raises(backup.RestoreLedgerError):
        backup.restore(target, tmp_path / "again", empty)
    assert not (tmp_path / "again").exists()


def test_a_changed_backup_restores_nothing(site, tmp_path, empty):
    target = write(site, tmp_path)
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    with pytest.raises(BackupDamagedError):
        backup.restore(target, tmp_path / "again", empty)
    left = {entry.name for entry in tmp_path.iterdir()} - {"acme", "acme.volbackup"}
    assert not left, "nothing half-made is left behind"


def test_a_host_does_not_take_a_publishers_backup(site, tmp_path):
    target = write(site, tmp_path)
    done = volact("host", "restore", target, "--dir", tmp_path / "host", "--json")
    assert done.json["error"]["code"] == "backup-other-kind"


def test_a_database_is_named_where_the_backup_has_one_of_its_own(site, tmp_path):
    if isinstance(site.folder.database, str):
        done = volact("publisher", "restore", write(site, tmp_path), "--dir", tmp_path / "again",
                      "--database", "postgresql://127.0.0.1:1/none", "--json")  # fmt: skip
        assert done.json["error"]["code"] == "database-unavailable"
    else:
        done = volact("publisher", "restore", write(site, tmp_path), "--dir", tmp_path / "again",
                      "--database", "postgresql://127.0.0.1/other", "--json")  # fmt: skip
        assert done.json["error"]["code"] == "restore-database"
    assert not (tmp_path / "again").exists()


def test_a_pin_file_in_the_folder_stays_out(site, tmp_path):
    (site.folder.path / "pin").write_text("86420\n")
    reference = {"v": 1, "module": "/m.so", "token": "t", "pin_file": str(site.folder.path / "pin"), "label": "root"}
    (site.folder.path / "root" / "root.token").write_text(json.dumps({**reference, "id": "00" * 16}))
    contents = backup.backup(site.folder.path, tmp_path / "b", site.clock(), "1.0")
    names = {entry.name for entry in contents.files}
    assert "root/root.token" in names
    assert "pin" not in names
