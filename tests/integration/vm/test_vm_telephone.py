# SPDX-License-Identifier: Apache-2.0
"""A VM host that only a telephone reaches, in front of a guest's production client."""

import time
from pathlib import Path
from random import Random

from support.guest import EDITION, PRODUCT, Publisher, QemuSocket, VmHost, short_folder
from support.processes import good
from volact.client.activation import online
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing
from volact.core.product_key import Channel
from volact.testing import simulated_traits
from volact.vm.guest import GuestChannel


def now() -> int:
    return int(time.time())


def guest(folder: Path, acme: Publisher, qemu: QemuSocket) -> online.Outcome:
    store = ClientStore(folder)
    installing.add_product(store, acme.file.read_text().strip(), acme.root, 0, now())
    installing.install_generic_key(store, PRODUCT, EDITION, Channel.VM)
    machine = LocalMachine(lambda: simulated_traits(1), lambda: "guest-1")
    routes = [Route(GuestChannel(qemu.port, os="Test OS 1"), "vm-host", "vm-host")]
    return online.activate(PRODUCT, store, routes, machine, now, Random(1))


def test_a_vm_host_that_called_licenses_its_guests(tmp_path: Path) -> None:
    acme = Publisher.make(tmp_path / "acme")
    host, key = VmHost.make(tmp_path / "host"), acme.key()
    host.run("add-product", acme.file, "--root", acme.root)
    host.run("install-key", key)
    shown = good("vm", "installation-id", "--text", "--dir", host.folder).out.strip()
    secret = ("--dir", acme.folder / "publisher", "--passphrase-file", acme.folder / "passphrase")
    words = ("--installation-id", shown, "--key", key, "--reason", "no network", "--text")
    host.run("apply", good("publisher", "phone", *words, *secret).out.strip())
    with short_folder() as sockets:
        qemu = QemuSocket(sockets / "web.sock")
        try:
            with host.serving(sockets):
                made = guest(tmp_path / "client", acme, qemu)
        finally:
            qemu.close()
    assert made.evaluation.licensed
    assert made.licence.channel is Channel.VM
    (row,) = host.guests()
    assert (row["channel"], row["last_answer"]) == ("web", "licensed")
