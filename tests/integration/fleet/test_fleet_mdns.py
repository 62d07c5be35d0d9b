# SPDX-License-Identifier: Apache-2.0
"""Machines that announce themselves, found by a real responder's answers.  On the loopback only."""

import socket
from collections.abc import Iterator

import pytest
from zeroconf import ServiceInfo, Zeroconf

from volact.fleet.discovery.mdns import browse

LOOPBACK = ["127.0.0.1"]


@pytest.fixture
def responder() -> Iterator[Zeroconf]:
    made = Zeroconf(interfaces=LOOPBACK)
    yield made
    made.close()


def announce(responder: Zeroconf, kind: str, host: str, port: int, address: str = "192.0.2.7") -> None:
    kind = f"{kind}._tcp.local."
    name = f"{host}.{kind}"
    responder.register_service(
        ServiceInfo(kind, name, port, addresses=[socket.inet_aton(address)], server=f"{host}.local.")
    )


def test_a_machine_is_found_once_with_its_address_and_an_unusual_port(responder: Zeroconf) -> None:
    announce(responder, "_ssh", "pc1", 2222)
    announce(responder, "_workstation", "pc1", 9)
    announce(responder, "_ssh", "pc2", 22, "192.0.2.8")
    announce(responder, "_volact", "kms1", 1688, "192.0.2.9")
    announce(responder, "_ipp", "printer", 631)
    found = {one.name: (one.address, one.port) for one in browse(1.5, LOOPBACK)}
    assert found == {
        "pc1.local": ("192.0.2.7", 2222),
        "pc2.local": ("192.0.2.8", None),
        "kms1.local": ("192.0.2.9", None),
    }


def test_nobody_that_announces_is_nobody_found() -> None:
    assert list(browse(0.5, LOOPBACK)) == []
