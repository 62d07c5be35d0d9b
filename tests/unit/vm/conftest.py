# SPDX-License-Identifier: Apache-2.0
"""A simulated site, an event loop on a thread, and VM hosts of the production service on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.guest import InMemoryVmHost, Loop
from volact.client.products import installing
from volact.core.product_key import Channel
from volact.testing import Site

MakeHost = Callable[..., InMemoryVmHost]
MakeGuest = Callable[..., ClientMachine]


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def make_host(site: Site, loop: Loop, tmp_path: Path) -> Iterator[MakeHost]:
    hosts: list[InMemoryVmHost] = []

    def make(of: Site | None = None, **how: Any) -> InMemoryVmHost:
        hosts.append(InMemoryVmHost(of or site, tmp_path / f"vm{len(hosts)}.db", loop, **how))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def make_guest(site: Site, tmp_path: Path) -> MakeGuest:
    """The production client with the guests' key of its edition."""

    def make(number: int = 1, edition: str = "client", of: Site | None = None) -> ClientMachine:
        machine = ClientMachine(tmp_path / f"guest{number}", of or site, number)
        machine.add()
        installing.install_generic_key(machine.store, PRODUCT, edition, Channel.VM)
        return machine

    return make
