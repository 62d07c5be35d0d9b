# SPDX-License-Identifier: Apache-2.0
"""One simulated computer with the production client in a folder of its own, on the clock of a simulated site.

Each call opens the folder anew, as another process would: nothing is remembered that was not stored.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from volact.client.activation import online
from volact.client.check import Check, World, check
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing, loading
from volact.core.evaluation import Evaluation
from volact.testing import Site, simulated_traits

PRODUCT = "acme-cad"


class ClientMachine:
    def __init__(self, folder: Path, site: Site, number: int = 1, clock: Callable[[], int] | None = None) -> None:
        self.folder, self.site, self.number = folder, site, number
        self.clock = clock or site.clock
        self.random = Random(number)
        self.hardware = simulated_traits(number)

    @classmethod
    def ready(
        cls, folder: Path, site: Site, number: int = 1, edition: str = "client", **kwargs: Any
    ) -> "ClientMachine":
        """With the site's product added and its generic key installed."""
        machine = cls(folder, site, number, **kwargs)
        machine.add()
        installing.install_generic_key(machine.store, PRODUCT, edition)
        return machine

    @property
    def store(self) -> ClientStore:
        return ClientStore(self.folder)

    @property
    def local(self) -> LocalMachine:
        return LocalMachine(lambda: self.hardware, lambda: f"machine-{self.number}")

    def add(self, token: str | None = None, min_version: int = 0) -> loading.LoadedProduct:
        root = self.site.publisher.fingerprint
        return installing.add_product(self.store, token or self.site.token, root, min_version, self.clock())

    def activate(self, *servers: Any) -> online.Outcome:
        routes = [Route(server, self.address(server), "given") for server in servers]
        return online.activate(PRODUCT, self.store, routes, self.local, self.clock, self.random)

    def address(self, server: Any) -> str:
        """One for each host; whoever sits between the machine and a host (``server.host``) has the host's."""
        hosts = self.site.__dict__.setdefault("addresses", [])
        host = getattr(server, "host", server)
        if not any(host is known for known in hosts):
            hosts.append(host)
        number = next(n for n, known in enumerate(hosts, 1) if known is host)
        return f"host{number}.example.test:1688"

    def evaluate(self) -> Evaluation:
        """As ``volact client status`` does: what was observed is recorded."""
        store, now = self.store, self.clock()
        loaded = loading.load_product(store, PRODUCT)
        evaluation = loaded.evaluate(self.local.fingerprint(loaded.trust.fingerprint), now)
        loading.record(store, loaded, evaluation, now)
        return evaluation

    def check(self, root: str | None = None, min_version: int = 0) -> Check:
        world = World(self.clock, self.local)
        root = self.site.publisher.fingerprint if root is None else root
        return check(PRODUCT, root=root, min_version=min_version, dir=self.folder, _world=world)

    def licences(self) -> dict[str, bytes]:
        """Every stored answer, byte for byte."""
        folder = self.folder / "products" / PRODUCT / "answers"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.vollicence"))}
