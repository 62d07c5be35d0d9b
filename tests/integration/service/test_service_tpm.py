# SPDX-License-Identifier: Apache-2.0
"""A machine's key in a TPM 2.0 (swtpm): it activates as any other, and a copied folder is refused elsewhere."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.processes import volact
from support.tpm import running
from volact.client.folder.identity import MachineKeyExistsError
from volact.client.folder.store import ClientStore
from volact.sealing import jws
from volact.sealing.tpm import TpmError, TpmKey, TpmOtherError
from volact.testing import Site

pytestmark = pytest.mark.needs("swtpm", "tpm2-pytss")


@pytest.fixture
def tpm(tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[str]:
    port = pick_port()
    with running(tmp_path / "tpm", port) as tcti:
        yield tcti


@pytest.fixture
def other_tpm(tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[str]:
    pick_port()
    with running(tmp_path / "other-tpm", pick_port()) as tcti:
        yield tcti


def test_a_key_in_the_tpm_signs_as_any_other(tpm: str) -> None:
    key = TpmKey.from_bytes(TpmKey.generate(tpm).to_bytes())
    token = jws.sign(jws.header("volact-request+jwt", jwk=jws.jwk_of(key.public_key)), {"a": 1}, key)
    parsed = jws.parse(token, "volact-request+jwt")
    parsed.verify(key.public_key)


def test_a_machine_bound_to_its_tpm_is_licensed_and_its_copy_on_another_machine_is_refused(
    tmp_path: Path, tpm: str, other_tpm: str
) -> None:
    site = Site.make()
    host = site.kms_host()
    host.fill(101, 24)
    machine = ClientMachine.ready(tmp_path / "client", site)
    bound = volact("client", "bind-tpm", "--tcti", tpm, "--json", "--dir", machine.folder)
    assert bound.code == 0, bound.err
    assert machine.activate(host).evaluation.licensed
    assert machine.store.machine_id() == bytes.fromhex(bound.json["machine_id"])
    assert not (machine.folder / "machine.pem").exists()

    shutil.copytree(machine.folder, tmp_path / "copied")
    blob = tmp_path / "copied" / "machine.tpm"
    for path in (blob, blob.with_name("machine.tpm.copy")):
        path.write_text(path.read_text().replace(tpm, other_tpm))  # the very same name there: /dev/tpmrm0
    copied = ClientMachine(tmp_path / "copied", site)
    with pytest.raises(TpmOtherError):
        copied.activate(host)
    site.clock.advance(days=181)
    host.renew()
    host.fill(101, 24)
    assert not copied.evaluate().licensed  # it cannot renew
    assert machine.activate(host).evaluation.licensed


def test_a_machine_that_has_a_key_is_not_bound_until_it_is_generalised(tmp_path: Path, tpm: str) -> None:
    site = Site.make()
    host = site.kms_host()
    machine = ClientMachine.ready(tmp_path / "client", site)
    machine.activate(host)
    with pytest.raises(MachineKeyExistsError):
        machine.store.bind_tpm(tpm)
    assert volact("client", "generalize", "--dir", machine.folder).code == 0
    machine.store.bind_tpm(tpm)
    assert (machine.folder / "machine.tpm").exists()


def test_a_tpm_that_is_not_there_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TpmError):
        ClientStore(tmp_path / "client").bind_tpm("swtpm:host=127.0.0.1,port=9")
    assert ClientStore(tmp_path / "client").machine_id() is None
    assert PRODUCT not in ClientStore(tmp_path / "client").products()
