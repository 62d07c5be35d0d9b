# SPDX-License-Identifier: Apache-2.0
"""Backups that somebody else sealed to the vault, which needs its public key only: nothing runs, nothing is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.client_machine import ClientMachine
from support.tpm import running
from volact.client.deployment.backup import TPM, Backup, restore
from volact.core.errors import MalformedError
from volact.sealing.tpm import TpmKey, TpmOtherError
from volact.testing import Site

pytestmark = pytest.mark.needs("swtpm", "tpm2-pytss")


@pytest.fixture
def two_tpms(tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[tuple[str, str]]:
    ports = [pick_port() for _ in range(4)]
    with running(tmp_path / "one", ports[0]) as one, running(tmp_path / "other", ports[2]) as other:
        yield one, other


@pytest.fixture
def machine(tmp_path: Path) -> ClientMachine:
    made = ClientMachine(tmp_path / "client", Site.make())
    made.add()
    return made


def test_a_backup_chooses_no_command_and_no_library_that_root_runs(
    two_tpms: tuple[str, str], machine: ClientMachine, tmp_path: Path
) -> None:
    key = TpmKey.generate(two_tpms[0])
    ran = tmp_path / "ran"
    ways = (f"cmd:touch {ran}", f"{tmp_path}/evil.so", "libtpms:", "device:/dev/tpm0/../../etc/passwd", "", "evil:x")
    for way in (*ways, f"pcap:cmd:touch {ran}"):
        forged = Backup(TPM, TpmKey(way or "x", key.public_area, key.private_area).to_bytes(), ())
        with pytest.raises(MalformedError):
            restore(machine.store, forged, machine.local, machine.clock())
    assert not ran.exists()


def test_a_key_of_another_tpm_takes_the_place_of_none(two_tpms: tuple[str, str], machine: ClientMachine) -> None:
    one, other = two_tpms
    key = TpmKey.generate(one)
    before = machine.store.machine_key()
    with pytest.raises(TpmOtherError):
        wrapped = TpmKey(other, key.public_area, key.private_area).to_bytes()
        restore(machine.store, Backup(TPM, wrapped, ()), machine.local, machine.clock())
    assert machine.store.machine_key().public_key == before.public_key
    restore(machine.store, Backup(TPM, key.to_bytes(), ()), machine.local, machine.clock())
    assert machine.store.machine_key().public_key == key.public_key
