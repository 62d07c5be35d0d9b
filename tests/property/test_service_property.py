# SPDX-License-Identifier: Apache-2.0
"""Random lives of a machine with a licensing service: whatever happens, in whatever order, it is never licensed without
an answer that says so, never loses one that does, and never spins."""

import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client_machine import PRODUCT, ClientMachine
from volact.client.service.events import Log
from volact.client.service.rounds import LONGEST_SLEEP, SHORTEST_SLEEP, run_round
from volact.core.evaluation import trusted_time
from volact.core.states import State
from volact.testing import Site

DAY, LEASE = 86400, 180 * 86400

DAMAGED = ["product.json", "attempt.json", "issuer.json", "../../service.json"]

STEPS = st.one_of(
    st.tuples(st.just("sleep"), st.integers(0, 12)),  # wake-ups, as the service asks for them
    st.tuples(st.just("away"), st.integers(1, 200)),  # days switched off
    st.tuples(st.just("clock"), st.sampled_from([-400, -1, 1, 30, 400])),  # days by which the clock is set
    st.tuples(st.just("host"), st.sampled_from(["down", "up", "few"])),
    st.tuples(st.just("damage"), st.sampled_from(DAMAGED)),
)


class Life:
    def __init__(self, folder: Path) -> None:
        self.site = Site.make(activation_interval_minutes=1440)
        self.machine = ClientMachine.ready(folder, self.site)
        self.machine.clock = lambda: self.site.clock() + self.wrong
        self.host, self.wrong, self.good_until, self.count = self.site.kms_host(), 0, 0, 30

    def activate(self, _: str) -> Any:
        self.host.fill(101, max(0, self.count - self.host.count(101) - 1))
        if not self.host.down:
            self.host.renew()
        outcome = self.machine.activate(self.host)
        if outcome.evaluation.licensed:
            self.good_until = max(self.good_until, self.site.clock() + LEASE)
        return outcome

    def round(self) -> None:
        machine = self.machine
        log = Log(machine.folder, machine.clock, journal=None)
        done = run_round(
            machine.store, machine.local, self.activate, machine.clock, Random(1), log, remind=lambda *_: ""
        )
        now = machine.clock()
        assert now + SHORTEST_SLEEP <= done.wake_at <= now + LONGEST_SLEEP
        self.check()
        self.wake_at = done.wake_at - self.wrong

    def check(self) -> None:
        evaluation = self.machine.evaluate()
        trusted = trusted_time(self.machine.clock(), self.machine.store.latest_time())
        if evaluation.state is State.LICENSED:
            assert self.good_until > 0, "licensed without any answer that said so"
            assert trusted < self.good_until
        elif trusted < self.good_until:
            raise AssertionError(f"{evaluation.state}: lost a licence that runs")

    def step(self, what: str, value: Any) -> None:
        clock = self.site.clock
        if what == "sleep":
            for _ in range(value):
                self.round()
                clock.now = max(clock.now, self.wake_at)
        elif what == "away":
            clock.advance(days=value)
        elif what == "clock":
            self.wrong += value * DAY
        elif what == "host":
            self.host.down, self.count = value == "down", 3 if value == "few" else 30
            if value == "few":
                self.host.last_seen.clear()
        else:
            path = self.machine.folder / "products" / PRODUCT / value
            if path.exists():
                path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
        self.round()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=12))
def test_no_life_invents_a_licence_loses_one_or_spins(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        for what, value in steps:
            life.step(what, value)
        # and whatever has happened, a right clock and a host end it well
        life.wrong, life.host.down, life.count = 0, False, 30
        for _ in range(3):
            life.round()
            life.site.clock.now = max(life.site.clock.now, life.wake_at)
        for _ in range(3):
            life.site.clock.advance(days=2)
            life.round()
        assert life.machine.evaluate().licensed
