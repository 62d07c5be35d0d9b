# SPDX-License-Identifier: Apache-2.0
"""Policy: the field's figures by default, each within its bounds, read back exactly as it was signed."""

from typing import Any

import pytest

from volact.core.encoding import Fields
from volact.core.errors import MalformedError
from volact.core.fingerprint import DEFAULT_TOLERANCE
from volact.core.policy import ABSENT, BOUNDS, DAY, GuestPolicy, Policy, PolicyFigureError
from volact.core.states import Enforcement, State


def test_the_defaults_are_the_fields_figures():
    policy = Policy()
    assert (policy.threshold, policy.count_window_days, policy.lease_days) == (25, 30, 180)
    assert (policy.renewal_interval_minutes, policy.activation_interval_minutes) == (7 * 24 * 60, 120)
    assert (policy.initial_grace_days, policy.out_of_tolerance_grace_days) == (30, 30)
    assert (policy.clock_tolerance, policy.lease) == (4 * 3600, 180 * DAY)
    assert (policy.hosts_per_key, policy.activations_per_host, policy.forests_per_key) == (6, 10, 6)
    assert policy.rearm_limit == 5


def test_nothing_blocks_by_default():
    assert Enforcement.BLOCK not in Policy().enforcement.values()
    assert set(Policy().enforcement) == set(State)


def test_a_policy_comes_back_as_it_was_signed():
    policy = Policy(threshold=7, lease_days=30, collapse_identical_hardware=True, suites=("mlkem768-x25519",))
    assert Policy.from_claim(Fields(policy.to_claim(), "policy")) == policy


@pytest.mark.parametrize("name", BOUNDS)
def test_a_figure_stays_within_its_bounds(name):
    def policy(value: Any) -> Policy:
        return Policy(**{name: value})

    least, most = BOUNDS[name]
    assert getattr(policy(least), name) == least
    assert getattr(policy(most), name) == most
    for value in (least - 1, most + 1, True, 1.5, "30", None):
        with pytest.raises(PolicyFigureError):
            policy(value)
        with pytest.raises(MalformedError):
            Policy.from_claim(Fields(Policy().to_claim() | {name: value}, "policy"))


@pytest.mark.parametrize("name", sorted(Policy().to_claim().keys() - ABSENT))
def test_a_signed_policy_has_every_figure(name):
    claim = Policy().to_claim()
    del claim[name]
    with pytest.raises(MalformedError):
        Policy.from_claim(Fields(claim, "policy"))


@pytest.mark.parametrize("name", ABSENT)
def test_a_figure_that_came_later_means_in_an_older_policy_what_the_format_says(name):
    claim = Policy().to_claim()
    claim.pop(name, None)
    assert getattr(Policy.from_claim(Fields(claim, "policy")), name) == ABSENT[name]


def test_what_a_policy_says_of_guests_comes_back_too():
    policy = Policy(guests=GuestPolicy(per_host=4, nested=True, host_edition="server"))
    assert Policy.from_claim(Fields(policy.to_claim(), "policy")) == policy
    assert "guests" not in Policy().to_claim()


@pytest.mark.parametrize("state", State)
def test_a_signed_policy_says_what_to_do_in_every_state(state):
    claim = Policy().to_claim()
    del claim["enforcement"][str(state)]
    with pytest.raises(MalformedError):
        Policy.from_claim(Fields(claim, "policy"))


def test_a_tables_entries_change_only_what_they_name():
    changed = Policy().with_changes(
        {
            "threshold": 10,
            "suites": ["mlkem768-x25519"],
            "enforcement": {"notification": "block"},
            "tolerance": DEFAULT_TOLERANCE.to_claim() | {"required": 60},
        }
    )
    assert (changed.threshold, changed.suites, changed.lease_days) == (10, ("mlkem768-x25519",), 180)
    assert changed.enforcement[State.NOTIFICATION] is Enforcement.BLOCK
    assert changed.enforcement[State.LICENSED] is Enforcement.COUNT_ONLY
    assert changed.tolerance.required == 60


@pytest.mark.parametrize(
    "changes",
    [
        {"treshold": 5},
        {"threshold": "5"},
        {"threshold": True},
        {"suites": []},
        {"suites": "x25519"},
        {"suites": 5},
        {"suites": [5]},
        {"enforcement": {"asleep": "warn"}},
        {"enforcement": {"licensed": "explode"}},
        {"enforcement": ["warn"]},
        {"collapse_identical_hardware": 1},
        {"guests": 7},
    ],
    ids=str,
)
def test_an_entry_that_is_no_figure_is_refused_by_its_name(changes):
    with pytest.raises(PolicyFigureError) as caught:
        Policy().with_changes(changes)
    assert caught.value.name == next(iter(changes))


def test_a_tolerance_that_is_none_is_refused():
    with pytest.raises(MalformedError):
        Policy().with_changes({"tolerance": 5})
