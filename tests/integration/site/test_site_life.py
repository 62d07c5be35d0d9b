# SPDX-License-Identifier: Apache-2.0
"""A site over half a year, and a host over several, on a clock that is set: production client, host and publisher.

Only sockets and processes are left out; they have tests of their own.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from support.processes import good
from support.site import PRODUCT, Machine, RealPublisher, served
from volact.client.activation import online
from volact.client.discovery.routes import GIVEN, Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.core.count import day_of
from volact.core.fingerprint import Fingerprint
from volact.core.policy import DAY
from volact.host.application import Companion, HostRun, load_serving, open_store
from volact.host.folder import HostFolder
from volact.host.issuing import Intervals
from volact.host.service import HostService
from volact.host.store import HostStore
from volact.testing import FakeClock, simulated_traits
from volact.testing.machines import machine_name
from volact.wire.client import UnreachableError

THRESHOLD = 25


@dataclass
class RunningHost:
    """The host's service in this process, as a server that a client can ask; ``down`` is what it says."""

    folder: HostFolder
    store: HostStore
    clock: FakeClock
    down: bool = False

    def __post_init__(self) -> None:
        self.service = HostService(self.store, self.clock)
        self.reload()

    def reload(self) -> None:
        self.service.use(load_serving(self.folder, self.store, "kms1.example.com"), Intervals())

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        self._check()
        return asyncio.run(self.service.descriptor(root, product, group, nonce))

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        self._check()
        return asyncio.run(self.service.activate(issuer, sealed))

    def count(self) -> int:
        return max(self.store.count(scope.id, day_of(self.clock())) for scope in self.store.scopes())

    def _check(self) -> None:
        if self.down:
            raise UnreachableError(host="kms1.example.com", port=1688, why="connection refused")


class Laptop:
    """A machine of the site, by the client's library."""

    def __init__(self, machine: Machine, clock: FakeClock) -> None:
        self.machine, self.clock = machine, clock
        number = machine.number
        self.local = LocalMachine(lambda: simulated_traits(number), lambda: machine_name(number))

    def ask(self, host: RunningHost) -> online.Outcome:
        route = Route(host, "kms1.example.com:1688", GIVEN)
        store = ClientStore(self.machine.folder)
        return online.activate(PRODUCT, store, [route], self.local, self.clock, Random(1))

    def state(self) -> tuple[str, str]:
        row = self.machine.status(clock=self.clock)
        return row["state"], (row["reason"] or {}).get("code", "")


@dataclass
class World:
    clock: FakeClock
    publisher: RealPublisher
    host: RunningHost
    path: Path

    def laptop(self, number: int) -> Laptop:
        machine = Machine(self.path / f"machine-{number}", number)
        where = {"machine": number, "clock": self.clock}
        good(
            "client",
            "add-product",
            self.publisher.file,
            "--root",
            self.publisher.root,
            "--dir",
            machine.folder,
            **where,
        )
        machine.good("install-key", PRODUCT, "--generic", "--edition", "professional", clock=self.clock)
        return Laptop(machine, self.clock)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = FakeClock()
    publisher = RealPublisher.make(tmp_path / "publisher", clock=clock)
    path = tmp_path / "host"

    def command(*words: object) -> None:
        good("host", *words, "--dir", path, clock=clock, hostname="kms1.example.com")

    command("init")
    command("add-product", publisher.file, "--root", publisher.root)
    command("install-key", publisher.host_key())
    with served(publisher) as port:
        command("activate", "--publisher", f"http://127.0.0.1:{port}")
        folder = HostFolder(path)
        store = open_store(folder)
        yield World(clock, publisher, RunningHost(folder, store, clock), tmp_path)
        store.close()


def test_half_a_year_of_a_site(world):
    clock, host = world.clock, world.host
    first = world.laptop(0)
    assert first.state()[0] == "initial-grace"

    # The count climbs; below the threshold an answer is an answer, and grace goes on.
    outcome = first.ask(host)
    assert outcome.evaluation.state == "initial-grace"
    assert first.state() == ("initial-grace", "count-below-threshold")
    others = [world.laptop(number) for number in range(1, THRESHOLD)]
    counts = [other.ask(host).licence.count for other in others]
    assert counts == list(range(2, THRESHOLD + 1))
    assert others[-1].state() == ("licensed", "")
    assert others[0].state() == ("initial-grace", "count-below-threshold")

    # At its next retry the first is licensed for 180 days.
    clock.advance(hours=2)
    outcome = first.ask(host)
    assert outcome.evaluation.state == "licensed"
    assert outcome.licence.expires_at == clock() + 180 * DAY
    assert abs(outcome.next_due - clock() - 7 * DAY) <= 0.7 * DAY + 1

    # Weekly renewals slide the lease, also when the others are gone and the count has fallen below the threshold.
    ends = outcome.licence.expires_at
    for _ in range(8):
        clock.advance(days=7)
        outcome = first.ask(host)
        assert first.state()[0] == "licensed"
    assert host.count() == outcome.licence.count == 1, "those that do not renew leave the count after 30 days"
    good_licence = first.machine.licence
    assert outcome.licence.expires_at > ends

    # The host goes for 200 days: the lease ends, grace, notification.
    host.down = True
    renewed_until = first.machine.status(clock=clock)["until"]
    seen = []
    for _ in range(0, 240, 10):
        clock.advance(days=10)
        with pytest.raises(UnreachableError):
            first.ask(host)
        if (state := first.state()[0]) not in seen:
            seen.append(state)
    assert seen == ["licensed", "out-of-tolerance-grace", "notification"]
    assert renewed_until
    assert first.machine.licence == good_licence

    # It comes back, and with enough of the others everything is well again.
    host.down = False
    for other in others:
        other.ask(host)
    assert first.ask(host).evaluation.state == "licensed"
    assert host.count() == THRESHOLD


def test_a_host_renews_its_certificate_itself_and_leases_never_outlast_it(world):
    clock, host = world.clock, world.host
    machine = world.laptop(1)
    ends = clock() + 365 * DAY
    companion = _companion(world)
    try:
        clock.advance(days=290)
        companion._renew()
        assert _ends(host) == ends, "not due yet"
        assert machine.ask(host).licence.expires_at == ends, "clamped to the certificate"

        clock.advance(days=16)
        companion._renew()
        assert _ends(host) == clock() + 365 * DAY
        host.reload()
        assert machine.ask(host).licence.expires_at == clock() + 180 * DAY
        companion._renew()
        codes = [event.code for event in host.store.events()]
        assert codes.count("certificate-renewed") == 1
        acts = [row["kind"] for row in world.publisher.run("activations").json]
        assert len(acts) == 2, "a renewal is no further activation"
    finally:
        companion._store.close()


def test_a_renewal_that_fails_is_an_event_and_is_tried_again(world):
    clock, host = world.clock, world.host
    world.publisher.run("key", "block", host.folder.host_keys()[0].key.partial, "--reason", "by mistake")
    ends = _ends(host)
    companion = _companion(world)
    try:
        clock.advance(days=320)
        companion._renew()
        (event,) = [one for one in host.store.events() if one.code == "certificate-renewal-failed"]
        assert (event.level, event.data["code"]) == ("error", "key-blocked")
        assert _ends(host) == ends
        world.publisher.run("key", "unblock", host.folder.host_keys()[0].key.partial)
        companion._renew()
        assert _ends(host) == clock() + 365 * DAY
    finally:
        companion._store.close()


def test_the_daily_housekeeping_notes_the_count_and_forgets_machines_long_gone(world):
    clock, host = world.clock, world.host
    world.laptop(1).ask(host)
    companion = _companion(world)
    try:
        clock.advance(days=29)
        companion._daily()
        clock.advance(days=1)
        companion._daily()
        (scope,) = [one for one in host.store.scopes() if host.store.histogram(one.id)]
        history = host.store.history(scope.id, day_of(clock()), 40)
        assert list(history.values()) == [1, 1, 0]
        clock.advance(days=400)
        companion._daily()
        assert host.store.machines(scope.id) == []
    finally:
        companion._store.close()


def _companion(world: World) -> Companion:
    class OnTheClock(HostRun):
        @staticmethod
        def clock() -> int:
            return world.clock()

    run = OnTheClock(world.host.folder.path, None, "kms1.example.com")
    salt = bytes.fromhex(world.publisher.root.removeprefix("sha256:"))
    return Companion(run, lambda root: Fingerprint.of(simulated_traits(0), salt), "kms1.example.com", 1688)


def _ends(host: RunningHost) -> int:
    (key,) = host.folder.host_keys()
    return int(key.certificates()[0].not_valid_after_utc.timestamp())
