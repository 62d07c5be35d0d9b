# SPDX-License-Identifier: Apache-2.0
"""Machines that announce themselves, found by a real responder's answers.  On the loopback only."""

import secrets
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
    """Of those that announce here: other tests may do so on the same loopback at the same time."""
    ours = secrets.token_hex(4)
    announce(responder, "_ssh", f"pc1-{ours}", 2222)
    announce(responder, "_workstation", f"pc1-{ours}", 9)
    announce(responder, "_ssh", f"pc2-{ours}", 22, "192.0.2.8")
    announce(responder, "_volact", f"kms1-{ours}", 1688, "192.0.2.9")
    announce(responder, "_ipp", f"printer-{ours}", 631)
    found = [(one.name, one.address, one.port) for one in browse(1.5, LOOPBACK) if ours in one.name]
    assert sorted(found) == [
        (f"kms1-{ours}.local", "192.0.2.9", None),
        (f"pc1-{ours}.local", "192.0.2.7", 2222),
        (f"pc2-{ours}.local", "192.0.2.8", None),
    ]


def test_what_announces_something_else_is_no_machine(responder: Zeroconf) -> None:
    ours = secrets.token_hex(4)
    announce(responder, "_ipp", f"printer-{ours}", 631)
    assert [one.name for one in browse(0.5, LOOPBACK) if ours in one.name] == []
