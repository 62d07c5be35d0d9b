# SPDX-License-Identifier: Apache-2.0
"""A fleet over years in seconds: thousands of machines and their KMS host, by the production's own rules, on one clock.

Every state is what :func:`volact.core.evaluation.evaluate` makes of a licence, every count what the host's window of
days gives.  Left out is what costs time and decides nothing: sealing, signatures, the network, the disk.  Time jumps
from event to event; attempts that a host which is down cannot answer are counted and skipped.  The same seed gives the
same fleet.  What a scenario holds is in :class:`Scenario`.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from volact.core.count import day_of, first_day
from volact.core.definition import Edition, EditionKind
from volact.core.evaluation import Answer, Machine, evaluate, trusted_time
from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.policy import DAY, HOUR, MINUTE, Policy
from volact.core.product_key import Channel
from volact.core.states import State

BEGIN = 1_800_000_000 // DAY * DAY  # a midnight; only differences matter
JITTER = 0.1  # as the client's
GROUP, PRODUCT, EDITION = 101, "simulated", "client"
NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Outage:
    """No host answers from day ``begin`` to before day ``end``."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Imaging:
    """On day ``at`` ``machines`` of the fleet are made from an image that was not generalised: they share one machine
    ID until day ``mended``, when each gets its own."""

    at: int
    machines: int
    mended: int


@dataclass(frozen=True, slots=True)
class ClockFaults:
    """``share`` of the machines have, once, a clock that is wrong by ``hours`` (either way) for ``days``."""

    share: float
    hours: int
    days: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """``rollout_days``: over which the fleet arrives.  ``replaced_a_year``: share of machines that leave, each followed
    by a new one the same day."""

    machines: int = 10_000
    days: int = 730
    rollout_days: int = 60
    replaced_a_year: float = 0.2
    policy: Policy = field(default_factory=Policy)
    outages: tuple[Outage, ...] = (Outage(150, 170), Outage(330, 530))
    imaging: tuple[Imaging, ...] = (Imaging(80, 1500, 140),)
    clocks: ClockFaults = ClockFaults(0.05, 9, 60)
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at the end of a day.  ``count``: the host's; ``present``: machines that are there."""

    day: int
    count: int
    present: int
    states: dict[State, int]


@dataclass(slots=True)
class Totals:
    """What happened in all."""

    answered: int = 0
    refused_for_clock: int = 0
    unanswered: int = 0
    below_threshold: int = 0
    moves: Counter[tuple[State, State]] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Machine:
    id: bytes
    fingerprint: Fingerprint
    installed_at: int
    retired_at: int
    wrong_from: int
    wrong_until: int
    wrong_by: int
    answer: Answer | None = None
    count: int | None = None
    mark: int = 0
    state: State = State.INITIAL_GRACE
    evaluate_at: int = NEVER
    ask_at: int = NEVER

    def clock(self, now: int) -> int:
        return now + self.wrong_by if self.wrong_from <= now < self.wrong_until else now


class Fleet:
    """Runs a scenario; :meth:`days` gives a sample a day."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.totals = scenario, Totals()
        self._random = Random(scenario.seed)  # noqa: S311 - the same seed is to give the same fleet
        self._policy = scenario.policy
        self._edition = Edition(EDITION, "Simulated", GROUP, EditionKind.CLIENT, scenario.policy, {})
        self._events: list[tuple[int, int, str, _Machine]] = []
        self._order = 0
        self._states: Counter[State] = Counter()
        self._last_day: dict[bytes, int] = {}
        self._histogram: Counter[int] = Counter()
        self._counted_on, self._count = -1, 0
        self._made = 0
        self._outages = [(BEGIN + one.begin * DAY, BEGIN + one.end * DAY) for one in scenario.outages]
        self._roll_out()

    def days(self) -> Iterator[Sample]:
        for day in range(self.scenario.days):
            self._run_until(BEGIN + (day + 1) * DAY)
            self._recount(day_of(BEGIN) + day)
            present = {state: number for state, number in self._states.items() if number}
            yield Sample(day, self._count, sum(present.values()), present)

    # ---- machines come and go

    def _roll_out(self) -> None:
        scenario, randint = self.scenario, self._random.randrange
        shared = {one: self._identity() for one in scenario.imaging}
        copies = {one: one.machines for one in scenario.imaging}
        for _ in range(scenario.machines):
            at = BEGIN + randint(max(1, scenario.rollout_days) * DAY)
            mistake = next((one for one in scenario.imaging if copies[one] > 0), None)
            if mistake is not None:
                copies[mistake] -= 1
                at = BEGIN + mistake.at * DAY + randint(DAY)
                machine = self._new(at, shared[mistake])
                self._at(BEGIN + mistake.mended * DAY + randint(DAY), "mend", machine)
            else:
                machine = self._new(at)

    def _new(self, at: int, identity: bytes | None = None) -> _Machine:
        scenario, random = self.scenario, self._random
        lives = int(random.expovariate(scenario.replaced_a_year / (365 * DAY))) if scenario.replaced_a_year else NEVER
        wrong_from = wrong_until = 0
        if random.random() < scenario.clocks.share:
            wrong_from = at + random.randrange(max(1, scenario.days * DAY))
            wrong_until = wrong_from + scenario.clocks.days * DAY
        by = random.choice((-1, 1)) * scenario.clocks.hours * HOUR
        number = self._made = self._made + 1
        fingerprint = Fingerprint({"smbios-uuid": number.to_bytes(16)})
        machine = _Machine(identity or self._identity(), fingerprint, at, at + lives, wrong_from, wrong_until, by)
        self._at(at, "come", machine)
        return machine

    def _identity(self) -> bytes:
        return self._random.randbytes(32)

    def _come(self, machine: _Machine, now: int) -> None:
        self._states[State.INITIAL_GRACE] += 1
        self._judge(machine, now)
        self._ask_at(now + self._random.randrange(10 * MINUTE), machine)
        self._at(machine.retired_at, "go", machine)

    def _go(self, machine: _Machine, now: int) -> None:
        self._states[machine.state] -= 1
        machine.evaluate_at = NEVER
        self._new(now + 1)

    def _mend(self, machine: _Machine, now: int) -> None:
        """Generalised at last: an identity of its own, no answer, grace from now on."""
        machine.id, machine.answer, machine.count, machine.installed_at = self._identity(), None, None, now
        self._judge(machine, now)
        self._ask_at(now, machine)

    # ---- asking and being answered

    def _ask(self, machine: _Machine, now: int) -> None:
        if now != machine.ask_at:  # something has made it ask earlier since
            return
        outage = self._outage(now)
        if outage is not None:
            self._skip(machine, now, outage)
            return
        policy, clock = self._policy, machine.clock(now)
        if abs(clock - now) > policy.clock_tolerance:
            self.totals.refused_for_clock += 1
            machine.mark = now  # a signed refusal proves the time
            self._judge(machine, now)
            self._later(machine, now, policy.activation_interval_minutes)
            return
        self._answer(machine, now)
        licensed = machine.state is State.LICENSED
        self._later(machine, now, policy.renewal_interval_minutes if licensed else policy.activation_interval_minutes)

    def _answer(self, machine: _Machine, now: int) -> None:
        self.totals.answered += 1
        count = self._see(machine.id, day_of(now))
        policy = self._policy
        licence = Licence(
            "host", machine.id, PRODUCT, EDITION, GROUP, Channel.VOLUME, "", b"", now, now + policy.lease,
            machine.fingerprint, "", count,
        )  # fmt: skip
        machine.mark = now
        machine.count = count
        if count >= policy.threshold:
            machine.answer = Answer(licence, NEVER)
        else:
            self.totals.below_threshold += 1
        self._judge(machine, now)

    def _skip(self, machine: _Machine, now: int, ends: int) -> None:
        """Every try until the host is back fails: they change nothing, so only their number is of interest."""
        every = self._policy.activation_interval_minutes * MINUTE
        tries = 1 + (ends - now) // every
        self.totals.unanswered += tries
        self._ask_at(now + int(tries * every * self._random.uniform(1, 1 + JITTER / tries)), machine)

    def _later(self, machine: _Machine, now: int, minutes: int) -> None:
        self._ask_at(now + int(minutes * MINUTE * self._random.uniform(1 - JITTER, 1 + JITTER)), machine)

    def _ask_at(self, at: int, machine: _Machine) -> None:
        if machine.state is State.LICENSED and machine.evaluate_at < at:  # the lease ends before
            self._at(machine.evaluate_at, "judge", machine)
        machine.ask_at = at
        self._at(at, "ask", machine)

    def _outage(self, now: int) -> int | None:
        return next((end for begin, end in self._outages if begin <= now < end), None)

    # ---- the host's count: as core.count gives it, kept up to date instead of summed at each answer

    def _see(self, identity: bytes, today: int) -> int:
        self._recount(today)
        before = self._last_day.get(identity)
        if before != today:
            self._last_day[identity] = today
            self._histogram[today] += 1
            if before is not None:
                self._histogram[before] -= 1
            if before is None or before < first_day(today, self._policy.count_window_days):
                self._count += 1
        return self._count

    def _recount(self, today: int) -> None:
        if today != self._counted_on:
            oldest = first_day(today, self._policy.count_window_days)
            self._count = sum(number for day, number in self._histogram.items() if day >= oldest)
            self._counted_on = today

    # ---- states

    def _judge(self, machine: _Machine, now: int) -> None:
        """The state now, and when it has to be looked at again."""
        trusted = trusted_time(machine.clock(now), machine.mark)
        answers = () if machine.answer is None else (machine.answer,)
        facts = Machine(machine.id, machine.fingerprint, machine.installed_at)
        found = evaluate(self._edition, PRODUCT, Channel.VOLUME, answers, facts, trusted)
        if found.state is not machine.state:
            self.totals.moves[machine.state, found.state] += 1
            self._states[machine.state] -= 1
            self._states[found.state] += 1
            machine.state = found.state
        machine.evaluate_at = NEVER if found.until is None else now + found.until - trusted
        if found.until is not None and found.state is not State.LICENSED:
            self._at(machine.evaluate_at, "judge", machine)

    def _judge_again(self, machine: _Machine, now: int) -> None:
        if machine.evaluate_at <= now:  # else an answer has come in between
            self._judge(machine, now)

    # ---- time

    def _at(self, at: int, what: str, machine: _Machine) -> None:
        if at < NEVER:
            self._order += 1
            heapq.heappush(self._events, (at, self._order, what, machine))

    def _run_until(self, end: int) -> None:
        acts = {"come": self._come, "ask": self._ask, "judge": self._judge_again, "go": self._go, "mend": self._mend}
        events = self._events
        while events and events[0][0] < end:
            now, _, what, machine = heapq.heappop(events)
            if now >= machine.retired_at and what != "go":
                continue
            acts[what](machine, now)
