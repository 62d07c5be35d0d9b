# SPDX-License-Identifier: Apache-2.0
"""The client's folder: damaged files come back from their copies; commands wait for each other."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.client.folder import files as folder_files
from volact.client.folder.files import ClientBusyError, ClientFolderError, find_folder
from volact.client.folder.identity import MachineKeyDamagedError
from volact.client.folder.records import ClientSettings, KnownIssuer
from volact.client.folder.settings import Settings
from volact.client.folder.store import ClientStore
from volact.client.products import loading
from volact.core.states import State
from volact.testing import Site


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def machine(tmp_path, site: Site) -> ClientMachine:
    """Licensed, and renewed a week later."""
    machine = ClientMachine.ready(tmp_path, site)
    host = site.kms_host()
    for _ in range(2):
        host.fill(101, 24)
        machine.activate(host)
        site.clock.advance(days=7)
    return machine


def files(machine: ClientMachine) -> list[Path]:
    return sorted(path for path in machine.folder.rglob("*") if path.is_file() and path.name != "lock")


DAMAGE = {
    "empty": lambda _: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "one byte changed": lambda data: data[: len(data) // 2] + b"\0" + data[len(data) // 2 + 1 :],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_any_one_damaged_file_costs_no_licence_and_is_noted(machine, damage):
    for path in files(machine):
        good = path.read_bytes()
        path.write_bytes(DAMAGE[damage](good))
        opened = machine.store
        assert loading.evaluate_product(opened, PRODUCT, machine.local, machine.clock()).state is State.LICENSED, path
        opened.machine_key(), opened.settings(), opened.attempt(PRODUCT), opened.issuer(PRODUCT), opened.key(PRODUCT)
        assert path.name.endswith(".copy") or any(str(path) in note for note in opened.notes), path
        path.write_bytes(good)


def test_a_damaged_or_lost_file_is_mended_by_the_next_write(machine, site):
    folder = machine.folder / "products" / PRODUCT
    (folder / "answers" / "volume.vollicence").write_bytes(b"damaged")
    (folder / "trust.json").unlink()
    assert machine.store.products() == [PRODUCT]
    host = site.kms_host()
    host.fill(101, 24)
    machine.activate(host)
    opened = machine.store
    assert loading.evaluate_product(opened, PRODUCT, machine.local, machine.clock()).state is State.LICENSED
    assert [note for note in opened.notes if "trust.json" not in note] == []
    machine.add()
    assert (folder / "trust.json").exists()


def test_a_machine_key_that_is_lost_with_its_copy_is_not_silently_made_anew(machine):
    for name in ("machine.pem", "machine.pem.copy"):
        (machine.folder / name).write_bytes(b"damaged")
    with pytest.raises(MachineKeyDamagedError):
        machine.store.machine_key()


def test_an_answer_that_was_written_by_somebody_is_left_aside_and_noted(machine, tmp_path):
    other = Site.make()
    liar = ClientMachine.ready(tmp_path / "liar", other)
    host = other.kms_host()
    host.fill(101, 24)
    liar.activate(host)
    answers = machine.folder / "products" / PRODUCT / "answers"
    for path in answers.iterdir():
        path.write_bytes(next(iter(liar.licences().values())))
    opened = machine.store
    assert loading.evaluate_product(opened, PRODUCT, machine.local, machine.clock()).state is State.INITIAL_GRACE
    assert any("does not chain to the publisher root" in note for note in opened.notes)


def test_settings_come_back_as_they_were_saved(tmp_path):
    settings = ClientSettings(
        Settings("kms.example.com", 1700, None, caching=False, resolver_address="192.0.2.1:53"), "https://act.example"
    )
    ClientStore(tmp_path).save_settings(settings)
    assert ClientStore(tmp_path).settings() == settings


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClientFolderError):
        ClientStore(tmp_path / "file" / "client").save_latest_time(1)


def test_a_lock_is_waited_for_and_its_holder_is_blamed(tmp_path):
    with ClientStore(tmp_path).lock():
        waiting = ClientStore(tmp_path, lock_seconds=0.05)
        with pytest.raises(ClientBusyError):
            waiting.save_latest_time(5)
    waiting.save_latest_time(5)
    assert waiting.latest_time() == 5


def test_a_lock_may_be_nested(tmp_path):
    opened = ClientStore(tmp_path)
    with opened.lock(), opened.lock():
        opened.save_latest_time(7)
    ClientStore(tmp_path, lock_seconds=0).save_latest_time(8)


def _make_key(folder: Path) -> bytes:
    from volact.sealing.sign import MachineSigner

    return MachineSigner(ClientStore(folder).machine_key()).machine


def test_processes_that_start_together_agree_on_one_machine_key(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(_make_key, [tmp_path] * 3))) == 1


def test_the_known_issuer_is_kept_per_product(tmp_path):
    opened = ClientStore(tmp_path)
    opened.save_issuer("one", KnownIssuer("kms:1688", "dns-suffix", "token"))
    assert opened.issuer("one") == KnownIssuer("kms:1688", "dns-suffix", "token")
    assert opened.issuer("two") is None


def test_the_folder_is_the_given_one_then_the_variables_then_the_systems_then_the_users(tmp_path, monkeypatch):
    variables = {"VOLACT_CLIENT_DIR": "/var", "XDG_STATE_HOME": "/home/x/state"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(folder_files, "SYSTEM_FOLDER", tmp_path / "system")
    assert str(find_folder(variables, "/given")) == "/given"
    assert str(find_folder(variables)) == "/var"
    del variables["VOLACT_CLIENT_DIR"]
    assert str(find_folder(variables)) == "/home/x/state/volact/client"
    (tmp_path / "system").mkdir()
    assert find_folder(variables) == tmp_path / "system"


@pytest.mark.parametrize(("found", "left"), [(0o700, 0o755), (0o750, 0o750)])
def test_a_way_to_the_systems_folder_that_a_host_made_private_is_opened_and_an_administrators_mode_is_kept(
    tmp_path, monkeypatch, found, left
):
    folder = tmp_path / "volact" / "client"
    folder.parent.mkdir(mode=found)
    monkeypatch.setattr(folder_files, "SYSTEM_FOLDER", folder)
    ClientStore(folder).save_latest_time(7)
    assert stat.S_IMODE(folder.parent.stat().st_mode) == left
