# SPDX-License-Identifier: Apache-2.0
"""Backup of a KMS host that is serving, and the host that comes back: same keys, same count."""

import tarfile

import pytest

from support.processes import good, serving, volact
from support.site import Machine, Vendor


@pytest.fixture
def vendor(tmp_path):
    return Vendor.make(tmp_path)


def count(port, number, vendor, tmp_path):
    machine = Machine.make(tmp_path / f"machine{number}", number, vendor)
    return machine.activate_at(port)["count"]


def test_a_host_that_was_restored_goes_on_counting_where_the_backup_was_taken(vendor, tmp_path, pick_port):
    vendor.give_host(tmp_path / "host")
    target = tmp_path / "host.volbackup"
    with serving(tmp_path / "host", port := pick_port()):
        assert [count(port, number, vendor, tmp_path) for number in (1, 2, 3)] == [1, 2, 3]
        done = good("host", "backup", target, "--dir", tmp_path / "host", "--json").json
        assert count(port, 4, vendor, tmp_path) == 4
    assert done["bytes"] == target.stat().st_size
    passphrase = ["--passphrase-file", tmp_path / "host" / "passphrase"]
    done = good("host", "restore", target, "--dir", tmp_path / "again", *passphrase, "--json").json
    assert (done["keys"], done["opened"]) == (1, True)
    (tmp_path / "again" / "passphrase").write_bytes((tmp_path / "host" / "passphrase").read_bytes())
    with serving(tmp_path / "again", port := pick_port()):
        assert count(port, 5, vendor, tmp_path) == 4


def test_the_passphrase_is_in_a_backup_only_when_asked_for(vendor, tmp_path):
    vendor.give_host(tmp_path / "host")
    for name, words, wanted in (("without", [], False), ("with", ["--with-passphrase"], True)):
        good("host", "backup", tmp_path / name, "--dir", tmp_path / "host", *words)
        with tarfile.open(tmp_path / name) as archive:
            assert ("passphrase" in archive.getnames()) is wanted
        done = good("host", "restore", tmp_path / name, "--dir", tmp_path / f"{name}-host", "--json").json
        assert done["opened"] is wanted
    said = good("host", "restore", tmp_path / "with", "--dir", tmp_path / "told").err
    assert "with 1 host key in" in said


def test_a_wrong_passphrase_is_said_and_nothing_is_restored(vendor, tmp_path):
    vendor.give_host(tmp_path / "host")
    good("host", "backup", tmp_path / "b", "--dir", tmp_path / "host")
    (tmp_path / "wrong").write_text("wrong\n")
    words = ["--dir", tmp_path / "again", "--passphrase-file", tmp_path / "wrong", "--json"]
    done = volact("host", "restore", tmp_path / "b", *words)
    assert done.json["error"]["code"] == "passphrase-wrong"
    assert not (tmp_path / "again").exists()


def test_a_vm_host_has_the_same_commands(tmp_path):
    good("vm", "init", "--dir", tmp_path / "vm")
    good("vm", "backup", tmp_path / "b", "--dir", tmp_path / "vm")
    assert good("vm", "restore", tmp_path / "b", "--dir", tmp_path / "again", "--json").json["keys"] == 0
    done = volact("host", "restore", tmp_path / "b", "--dir", tmp_path / "host", "--json")
    assert done.json["error"]["code"] == "backup-other-kind"
