# SPDX-License-Identifier: Apache-2.0
"""The VM host's commands, as an administrator types them, and its process with a guest's client at a real socket."""

import dataclasses
import io
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from support.client_machine import ClientMachine
from support.guest import EDITION, PRODUCT, Publisher, QemuSocket, VmHost, short_folder, volact
from support.processes import good
from support.site import RealPublisher, served
from volact.cli import vm as vm_commands
from volact.cli.environment import Environment
from volact.cli.vm.common import HOSTING
from volact.cli.vm.serve import OwnLicences
from volact.client.activation import online
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing
from volact.core.errors import VolactError
from volact.core.fingerprint import Fingerprint
from volact.core.product_key import Channel
from volact.testing import Site, simulated_traits
from volact.testing.machines import simulated_environment
from volact.vm.application import VmFolder, VmRun
from volact.vm.application import VmHost as RunningHost
from volact.vm.guest import GuestChannel


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher.make(tmp_path_factory.mktemp("acme") / "acme")


@pytest.fixture
def sockets() -> Iterator[Path]:
    with short_folder() as made:
        yield made


class Client:
    """A guest's production client, whose channel is a socket that plays QEMU's part."""

    def __init__(self, folder: Path, publisher: Publisher, qemu: QemuSocket) -> None:
        self.store, self.qemu, self.random = ClientStore(folder), qemu, Random(1)
        self.machine = LocalMachine(lambda: simulated_traits(1), lambda: "guest-1")
        token = publisher.file.read_text().strip()
        installing.add_product(self.store, token, publisher.root, 0, _now())
        installing.install_generic_key(self.store, PRODUCT, EDITION, Channel.VM)

    def activate(self) -> online.Outcome:
        server = GuestChannel(self.qemu.port, os="Test OS 1")
        routes = [Route(server, "vm-host", "vm-host")]
        return online.activate(PRODUCT, self.store, routes, self.machine, _now, self.random)


def _now() -> int:
    return int(time.time())


def test_a_host_goes_from_nothing_to_a_licensed_guest_without_being_restarted(
    acme: Publisher, tmp_path: Path, free_port: int, sockets: Path
) -> None:
    host = VmHost.make(tmp_path / "host")
    qemu = QemuSocket(sockets / "web.sock")
    client = Client(tmp_path / "client", acme, qemu)
    try:
        with host.serving(sockets, "--metrics-listen", f"127.0.0.1:{free_port}"):
            with pytest.raises(VolactError) as caught:
                client.activate()
            assert caught.value.code == "vm-host-not-activated"
            host.activate(acme)
            outcome = _until_licensed(client.activate)
            assert outcome.evaluation.licensed
            assert 'volact_vm_guests{edition="professional"' in _metrics(free_port)
            assert re.search(r"^volact_vm_channels 1\.0$", _metrics(free_port), re.MULTILINE)
    finally:
        qemu.close()
    (guest,) = host.guests()
    assert (guest["channel"], guest["last_answer"]) == ("web", "licensed")
    assert guest["claimed"] == {"name": "guest-1", "os": "Test OS 1", "state": "initial-grace"}
    status = host.run("status").json
    assert [key["activated"] for key in status["keys"]] == [True]
    assert status["licensed"][0]["guests"] == 1
    assert [day["guests"] for day in host.run("report").json] == [1]
    table = good("vm", "status", "--dir", host.folder).out
    assert "claims name" in table
    assert "guest-1" in table
    assert {"vm-host-started", "vm-host-not-activated", "guest-licensed"} <= set(host.codes())


def _until_licensed(attempt: Callable[[], online.Outcome]) -> online.Outcome:
    """The host looks at its folder twice a second."""
    end = time.monotonic() + 15
    while True:
        try:
            return attempt()
        except VolactError:
            assert time.monotonic() < end
            time.sleep(0.1)


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def test_a_kms_host_key_is_refused_on_a_vm_host_and_the_other_way_round(acme: Publisher, tmp_path: Path) -> None:
    host = VmHost.make(tmp_path / "host")
    host.run("add-product", acme.file, "--root", acme.root)
    done = volact("vm", "install-key", acme.key(kind="kms-host"), "--dir", host.folder)
    assert done.code == 1
    assert done.errors == ["a key of the kms-host channel cannot be installed on a VM host"]
    good("host", "init", "--dir", tmp_path / "kms")
    good("host", "add-product", acme.file, "--root", acme.root, "--dir", tmp_path / "kms")
    done = volact("host", "install-key", acme.key(), "--dir", tmp_path / "kms")
    assert done.errors == ["a key of the vm-host channel cannot be installed on a KMS host"]


def test_the_publisher_refuses_a_host_that_is_a_virtual_machine_unless_its_policy_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = Publisher.make(tmp_path / "strict", nested=False)
    host = VmHost.make(tmp_path / "host")
    host.run("add-product", strict.file, "--root", strict.root)
    host.run("install-key", strict.key())
    request, answer = tmp_path / "r", tmp_path / "a"
    for virtual in (True, False):
        hosting = dataclasses.replace(HOSTING, virtual=partial(bool, virtual))
        monkeypatch.setattr(vm_commands, "HOSTING", hosting)
        host.run("activate", "--request", request)
        strict.run("answer", request, "-o", answer)
        done = volact("vm", "activate", "--answer", answer, "--dir", host.folder, "--json")
        assert done.code == int(virtual)
        if virtual:
            assert done.json["error"]["code"] == "nested-host-refused"
    assert host.codes()[-2:] == ["host-activation-failed", "host-activated"]


def test_serve_needs_a_place_to_serve(tmp_path: Path) -> None:
    host = VmHost.make(tmp_path / "host")
    done = volact("vm", "serve", "--dir", host.folder)
    assert (done.code, done.errors) == (1, ["there is nothing to serve guests on"])
    done = volact("vm", "serve", "--dir", host.folder, "--sockets", tmp_path / "none")
    assert done.errors == [f"there is no folder {tmp_path / 'none'} to find guests' sockets in"]


def test_events_and_guests_of_a_new_host_are_empty_lists(tmp_path: Path) -> None:
    host = VmHost.make(tmp_path / "host")
    assert host.guests() == []
    assert host.events() == []
    assert json.loads(host.run("report").out) == []


def test_a_host_is_activated_online_and_renews_its_certificate_before_it_ends(acme: Publisher, tmp_path: Path) -> None:
    later = 320 * 86400
    shift = 0
    publisher = RealPublisher(acme.folder, PRODUCT, lambda: _now() + shift, acme.root)
    host = VmHost.make(tmp_path / "host")
    host.run("add-product", acme.file, "--root", acme.root)
    host.run("install-key", acme.key())
    with served(publisher) as port:
        done = host.run("activate", "--publisher", f"http://127.0.0.1:{port}").json
        assert (done["organisation"], done["groups"]) == ("Contoso", [101, 102])
        shift = later
        run = VmRun(
            folder=VmFolder(host.folder),
            name="vm1.example.test",
            virtual=False,
            sockets=[tmp_path],
            clock=lambda: _now() + later,
            licensed=lambda root, product: frozenset(),
            fingerprint=lambda root: Fingerprint.of(simulated_traits(1), bytes.fromhex(root.removeprefix("sha256:"))),
        )
        running = RunningHost(run)
        running._work()
        running.store.close()
    renewed = host.events()[-1]
    assert renewed["code"] == "certificate-renewed"
    assert renewed["data"]["until"] > _now() + later + 300 * 86400


def test_a_host_whose_own_computer_must_be_licensed_asks_its_own_client(tmp_path: Path) -> None:
    """The client in DIR is licensed by a KMS host's simulator; the VM host looks there."""
    site = Site.make(now=_now(), threshold=1)
    machine = ClientMachine.ready(tmp_path / "client", site, edition="server")
    base = Environment(io.StringIO(), io.StringIO(), io.StringIO(), {}, site.clock, dict, lambda: "vm1")
    licences = OwnLicences(simulated_environment(1, base, site.clock), str(tmp_path / "client"))
    root = site.publisher.fingerprint
    assert licences(root, PRODUCT) == frozenset()
    machine.activate(site.kms_host())
    site.clock.advance(60)
    assert licences(root, PRODUCT) == {"server"}
    assert licences("sha256:" + "0" * 64, PRODUCT) == frozenset()
    site.clock.advance(days=400)
    assert licences(root, PRODUCT) == frozenset()
