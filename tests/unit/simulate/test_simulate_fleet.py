# SPDX-License-Identifier: Apache-2.0
"""Simulated fleets: small ones whose fate is known, and the large one that has a minute."""

import time
from pathlib import Path
from typing import Any

import pytest

from support.processes import volact
from volact.core.count import count
from volact.core.policy import Policy
from volact.core.states import TRANSITIONS, State
from volact.testing.simulation import ClockFaults, Fleet, Imaging, Outage, Sample, Scenario

QUIET = Scenario(
    machines=30, days=120, rollout_days=1, replaced_a_year=0.0, outages=(), imaging=(), clocks=ClockFaults(0.0, 0, 0)
)
MINUTE_CPU = 60.0


def run(scenario: Scenario = QUIET, **changes: object) -> tuple[list[Sample], Fleet]:
    import dataclasses

    fleet = Fleet(dataclasses.replace(scenario, **changes))  # type: ignore[arg-type]
    return list(fleet.days()), fleet


def test_a_fleet_above_the_threshold_is_licensed_from_the_second_day_on() -> None:
    samples, fleet = run()
    assert all(sample.states == {State.LICENSED: 30} for sample in samples[1:])
    assert samples[-1].count == 30
    assert fleet.totals.below_threshold >= 24


def test_a_fleet_below_the_threshold_ends_in_notification() -> None:
    samples, _ = run(machines=24)
    assert samples[29].states == {State.INITIAL_GRACE: 24}
    assert samples[40].states == {State.NOTIFICATION: 24}


def test_a_host_that_is_gone_for_long_costs_the_lease_then_the_grace_and_its_return_mends_it() -> None:
    samples, _ = run(days=300, outages=(Outage(20, 260),))
    assert samples[190].states == {State.LICENSED: 30}
    assert samples[205].states == {State.OUT_OF_TOLERANCE_GRACE: 30}
    assert samples[240].states == {State.NOTIFICATION: 30}
    assert samples[240].count == 0
    assert samples[262].states == {State.LICENSED: 30}


def test_clones_count_as_one_until_they_are_generalised() -> None:
    samples, _ = run(machines=60, imaging=(Imaging(10, 40, 50),))
    assert samples[30].count == 21
    assert samples[60].count == 61  # the identity that they shared counts for 30 days more
    assert samples[90].count == 60


def test_clones_of_a_whole_site_never_reach_the_threshold() -> None:
    samples, _ = run(imaging=(Imaging(0, 30, 200),))
    assert samples[20].count == 1
    assert samples[100].states == {State.NOTIFICATION: 30}


def test_wrong_clocks_are_refused_and_wedge_nobody() -> None:
    samples, fleet = run(days=200, clocks=ClockFaults(1.0, 9, 20))
    assert fleet.totals.refused_for_clock > 0
    assert samples[-1].states.get(State.LICENSED, 0) >= 25


def test_a_policy_with_extended_grace_shows_it() -> None:
    samples, _ = run(machines=24, policy=Policy(extended_grace_days=10))
    assert samples[35].states == {State.EXTENDED_GRACE: 24}


def test_the_same_seed_is_the_same_fleet_and_another_is_not() -> None:
    changes: dict[str, Any] = {"replaced_a_year": 0.5, "rollout_days": 20}
    assert run(**changes)[0] == run(**changes)[0]
    assert run(**changes)[0] != run(seed=2, **changes)[0]


def test_every_move_of_a_fleet_is_one_of_the_table_of_states() -> None:
    _, fleet = run(
        machines=300, days=500, replaced_a_year=1.0, outages=(Outage(40, 300),), imaging=(Imaging(20, 50, 200),),
        clocks=ClockFaults(0.3, 9, 30),
    )  # fmt: skip
    allowed = {(before, after) for before, moves in TRANSITIONS.items() for after in frozenset().union(*moves.values())}
    assert set(fleet.totals.moves) <= allowed
    assert len(fleet.totals.moves) >= 4


def test_the_count_is_what_the_hosts_rule_gives() -> None:
    fleet = Fleet(Scenario(machines=200, days=90, rollout_days=60, replaced_a_year=3.0, outages=(Outage(30, 70),)))
    for sample in fleet.days():
        assert sample.count == count(fleet._histogram, fleet._counted_on, 30)


def test_ten_thousand_machines_over_two_years_take_less_than_a_minute() -> None:
    began = time.process_time()
    samples, _ = run(Scenario())
    assert time.process_time() - began < MINUTE_CPU
    assert samples[-1].states[State.LICENSED] > 9_900
    assert samples[520].states[State.OUT_OF_TOLERANCE_GRACE] > 8_000


def test_the_command_gives_a_table_a_picture_and_json(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small = ("--machines", 40, "--days", 60, "--outage", "none", "--clones", 0)
    done = volact("simulate", *small, "--picture", tmp_path / "fleet.svg")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split()[:3] == ["day", "machines", "count"]
    assert "<svg" in (tmp_path / "fleet.svg").read_text()
    result = volact("simulate", *small, "--json").json
    assert len(result["samples"]) == 60
    assert sum(result["samples"][-1]["states"].values()) == 40


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--outage", "9-3"), "simulate-outage"),
        (("--outage", "soon"), "simulate-outage"),
        (("--picture", "fleet.doc"), "simulate-picture"),
        (("--policy", "/nowhere/policy.toml"), "simulate-policy"),
    ],
)
def test_what_cannot_be_simulated_is_said_at_once(words: tuple[str, ...], code: str) -> None:
    assert volact("simulate", *words, "--json").json["error"]["code"] == code
