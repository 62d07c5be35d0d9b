# SPDX-License-Identifier: Apache-2.0
"""The name server that an administrator set is asked for a host's address too, and not the system's."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import dns.message
import dns.rcode
import dns.rrset
import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.site import served
from volact.client.activation import online
from volact.client.discovery.hosts import LookupFailedError
from volact.client.discovery.resolver import DnsResolver
from volact.client.discovery.routes import find_routes
from volact.client.folder.records import ClientSettings
from volact.client.folder.settings import Settings
from volact.client.products import loading
from volact.testing import Site
from volact.wire.client import UnreachableError

HOST = "kms1.example.test"


@contextmanager
def name_server() -> Iterator[str]:
    """Knows one host, which no other name server knows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                try:
                    data, asker = listening.recvfrom(4096)
                except OSError:
                    return
                question = dns.message.from_wire(data)
                answer = dns.message.make_response(question)
                name = question.question[0].name.to_text()
                if name != f"{HOST}.":
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                elif question.question[0].rdtype == 1:
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "127.0.0.1"))
                listening.sendto(answer.to_wire(), asker)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def routes(machine: ClientMachine, host: str, port: int, resolver: str) -> list[object]:
    settings = ClientSettings(Settings(host=host, port=port, resolver_address=resolver))
    loaded = loading.load_product(machine.store, PRODUCT)
    return list(find_routes(loaded, settings, None, DnsResolver(resolver), Random(1)))


def test_a_host_is_reached_by_the_name_server_that_is_set(tmp_path: Path) -> None:
    site = Site.make()
    host = site.kms_host()
    host.fill(101, 24)
    machine = ClientMachine.ready(tmp_path / "client", site)
    with name_server() as resolver, served(host) as port:
        found = routes(machine, HOST, port, resolver)
        done = online.activate(PRODUCT, machine.store, found, machine.local, machine.clock, machine.random)  # type: ignore[arg-type]
        assert done.evaluation.licensed
        assert done.host == f"{HOST}:{port}"  # remembered by its name, whose address may change


def test_a_host_that_nobody_knows_is_named_as_such(tmp_path: Path) -> None:
    machine = ClientMachine.ready(tmp_path / "client", Site.make())
    with name_server() as resolver:
        found = routes(machine, "kms9.invalid", 1688, resolver)
        with pytest.raises(UnreachableError, match=r"kms9\.invalid"):
            online.activate(PRODUCT, machine.store, found, machine.local, machine.clock, machine.random)  # type: ignore[arg-type]
        with pytest.raises(LookupFailedError):
            DnsResolver(resolver).addresses("kms9.invalid")


def test_what_it_does_not_know_the_system_is_asked(tmp_path: Path) -> None:
    site = Site.make()
    host = site.kms_host()
    host.fill(101, 24)
    machine = ClientMachine.ready(tmp_path / "client", site)
    with name_server() as resolver, served(host) as port:
        found = routes(machine, "localhost", port, resolver)
        done = online.activate(PRODUCT, machine.store, found, machine.local, machine.clock, machine.random)  # type: ignore[arg-type]
        assert done.evaluation.licensed
