# SPDX-License-Identifier: Apache-2.0
"""Random histories of a site: machines, hosts, clocks, keys, hardware, revocations and attackers.

Three properties hold after every step of every history:

* no machine is ``licensed`` without an answer, verified for it, whose count met the policy and whose lease still runs;
* a state moves only as :data:`volact.core.states.TRANSITIONS` allows for what happened;
* a host's count is what a brute-force model of all requests says.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.client_machine import PRODUCT, ClientMachine
from volact.client.activation.online import Outcome
from volact.client.products import installing, loading
from volact.core.errors import TransportError, TrustError
from volact.core.policy import DAY
from volact.core.refusal import RefusedError
from volact.core.states import TRANSITIONS, Event, State
from volact.sealing.envelope import SealError
from volact.testing import FakeClock, KmsHostSimulator, PublisherSimulator, Site

GROUP, THRESHOLD, LEASE = 101, 2, 180 * DAY
MACHINES, HOSTS = 4, 2
MEMORY = "/dev/shm"  # each step writes durably; what that costs on a disk is not what is tested here


@dataclass
class Model:
    """What the test itself knows of a machine: the good answers it was given, by issue time and lease end."""

    good: list[tuple[int, int]] = field(default_factory=list)
    state: State = State.UNLICENSED


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        self.site = Site.make(threshold=THRESHOLD)
        self.hosts = [self.site.kms_host() for _ in range(HOSTS)]
        self.asked: list[list[tuple[int, bytes]]] = [[] for _ in range(HOSTS)]  # brute force: every request ever
        self.clocks = [FakeClock(self.site.clock()) for _ in range(MACHINES)]
        self.machines = [
            ClientMachine.ready(self.folder / str(n), self.site, n, clock=self.clocks[n]) for n in range(MACHINES)
        ]
        self.models = [Model() for _ in range(MACHINES)]
        self.look(Event.KEY_INSTALLED)

    # ---- what happens

    @rule(days=st.sampled_from([0, 1, 6, 29, 31, 100]), hours=st.integers(0, 23))
    def time_passes(self, days: int, hours: int) -> None:
        for clock in (self.site.clock, *self.clocks):
            clock.advance(days=days, hours=hours)
        for host in self.hosts:
            if host.issuer.ends_at - self.site.clock() < 200 * DAY:
                host.renew()
        self.look(Event.TIME_PASSED)

    @rule(n=st.integers(0, MACHINES - 1), h=st.integers(0, HOSTS - 1))
    def a_machine_activates(self, n: int, h: int) -> None:
        try:
            outcome = self.machines[n].activate(self.hosts[h])
        except (RefusedError, TrustError, TransportError, loading.NoKeyError):
            self.look(Event.ISSUER_REVOKED, Event.TIME_PASSED, only=n)
        else:
            self.answered(n, h, outcome)

    def answered(self, n: int, h: int, outcome: Outcome) -> None:
        licence = outcome.licence
        self.asked[h].append((self.site.clock(), licence.machine))
        assert licence.count == self.counted(h)
        meets = licence.count >= THRESHOLD
        if meets:
            assert licence.expires_at is not None
            self.models[n].good.append((licence.issued_at, min(licence.expires_at, licence.issued_at + LEASE)))
        answer = Event.ANSWER_MEETS_POLICY if meets else Event.ANSWER_BELOW_THRESHOLD
        self.look(Event.ISSUER_REVOKED, Event.TIME_PASSED, answer, only=n)

    @rule(h=st.integers(0, HOSTS - 1), machines=st.integers(1, 4))
    def other_machines_activate(self, h: int, machines: int) -> None:
        before = set(self.hosts[h].last_seen)
        self.hosts[h].fill(GROUP, machines)
        self.asked[h] += [(self.site.clock(), machine) for _, machine in set(self.hosts[h].last_seen) - before]

    @rule(h=st.integers(0, HOSTS - 1))
    def a_host_comes_or_goes(self, h: int) -> None:
        self.hosts[h].down = not self.hosts[h].down

    @rule(n=st.integers(0, MACHINES - 1), hours=st.sampled_from([1, 5, 24 * 20, 24 * 200]))
    def a_clock_is_set_back(self, n: int, hours: int) -> None:
        self.clocks[n].advance(hours=-hours)
        self.look(Event.TIME_PASSED, only=n)

    @rule(n=st.integers(0, MACHINES - 1))
    def a_clock_is_set_right(self, n: int) -> None:
        self.clocks[n].now = self.site.clock()
        self.look(Event.TIME_PASSED, only=n)

    @rule(n=st.integers(0, MACHINES - 1), to=st.integers(0, 1))
    def hardware_changes(self, n: int, to: int) -> None:
        self.machines[n].hardware = ClientMachine(self.folder, self.site, n + 100 * to).hardware
        self.look(Event.HARDWARE_CHANGED, only=n)

    @rule(n=st.integers(0, MACHINES - 1))
    def a_key_is_removed(self, n: int) -> None:
        installing.remove_key(self.machines[n].store, PRODUCT)
        self.look(Event.KEY_REMOVED, only=n)

    @precondition(lambda self: any(model.state is State.UNLICENSED for model in self.models))
    @rule()
    def keys_come_back(self) -> None:
        for n, model in enumerate(self.models):
            if model.state is State.UNLICENSED:
                installing.install_generic_key(self.machines[n].store, PRODUCT, "client")
                self.look(Event.KEY_INSTALLED, only=n)

    @rule(h=st.integers(0, HOSTS - 1))
    def a_host_is_revoked_and_replaced(self, h: int) -> None:
        """Compromised from the start: nothing it ever signed counts, once a client has heard of it."""
        self.site.publisher.revoke(self.hosts[h].issuer, since=0)
        self.hosts[h], self.asked[h] = self.site.kms_host(), []

    @rule(n=st.integers(0, MACHINES - 1))
    def an_impostor_answers(self, n: int) -> None:
        rogue = KmsHostSimulator(
            PublisherSimulator("Acme Software", self.site.clock),
            self.site.definition,
            frozenset({GROUP}),
            self.site.clock,
        )
        rogue.fill(GROUP, 50)
        self.fails(n, rogue)

    @precondition(lambda self: any(host.answers for host in self.hosts))
    @rule(n=st.integers(0, MACHINES - 1), data=st.data())
    def an_old_answer_is_replayed(self, n: int, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from([answer for host in self.hosts for answer in host.answers]))
        self.fails(n, _Replaying(self.hosts[0], old))

    def fails(self, n: int, server: object) -> None:
        before = self.machines[n].licences()
        try:
            self.machines[n].activate(server)
        except (TrustError, SealError, TransportError, loading.NoKeyError, RefusedError):
            pass
        else:
            raise AssertionError("the attack worked")
        assert self.machines[n].licences() == before
        self.look(Event.ISSUER_REVOKED, Event.TIME_PASSED, only=n)

    # ---- what must hold

    def look(self, *events: Event, only: int | None = None) -> None:
        """Every state moved as the table allows for these events, one after the other; no event, no move."""
        for n, (machine, model) in enumerate(zip(self.machines, self.models, strict=True)):
            allowed = {model.state}
            if only is None or n == only:
                for one in events:
                    allowed = {after for before in allowed for after in TRANSITIONS[before][one]} | (
                        allowed if one is not events[-1] else set()
                    )
            model.state, before = machine.evaluate().state, model.state
            event(f"{before} → {model.state}")
            assert model.state in allowed, f"machine {n} went from {before} to {model.state} by {events}"

    @invariant()
    def nobody_is_licensed_without_a_good_answer(self) -> None:
        for machine, model in zip(self.machines, self.models, strict=True):
            licensed = machine.check().licensed
            assert licensed == (model.state is State.LICENSED)
            if licensed:
                assert any(issued <= self.site.clock() < end for issued, end in model.good)

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        for h, host in enumerate(self.hosts):
            assert host.count(GROUP) == self.counted(h)

    def counted(self, h: int) -> int:
        today = self.site.clock() // DAY
        return len({machine for at, machine in self.asked[h] if at // DAY > today - 30})


class _Replaying:
    """Takes the place of ``host`` and answers with something old."""

    def __init__(self, host: KmsHostSimulator, old: bytes) -> None:
        self.host, self.old = host, old

    def get_issuer(self, *args: Any) -> str:
        return self.host.get_issuer(*args)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        return self.old


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30)
