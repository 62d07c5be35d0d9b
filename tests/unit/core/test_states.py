# SPDX-License-Identifier: Apache-2.0
"""The table of states: complete, numbered as administrators know it, and without a way to a licence that no answer
gives."""

import pytest

from volact.core.states import NUMBERS, TRANSITIONS, Event, State, may_move

GIVE_A_LICENCE = {
    Event.KEY_INSTALLED,  # a key that comes back to the answer stored for it
    Event.ANSWER_MEETS_POLICY,
    Event.HARDWARE_CHANGED,  # and changed back
}


def test_every_state_has_a_move_for_every_event():
    assert set(TRANSITIONS) == set(State)
    for moves in TRANSITIONS.values():
        assert set(moves) == set(Event)
        assert all(moves.values())


def test_numbers_are_those_of_the_field():
    assert [NUMBERS[state] for state in State] == list(range(7))
    assert NUMBERS[State.UNLICENSED] == 0
    assert NUMBERS[State.LICENSED] == 1
    assert NUMBERS[State.NOTIFICATION] == 5


@pytest.mark.parametrize("event", [event for event in Event if event not in GIVE_A_LICENCE])
def test_nothing_but_an_answer_makes_a_machine_licensed(event):
    for state in State:
        if state is not State.LICENSED:
            assert not may_move(state, event, State.LICENSED)


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNLICENSED])
def test_a_good_answer_licenses_from_every_state_that_has_a_key(state):
    assert TRANSITIONS[state][Event.ANSWER_MEETS_POLICY] == {State.LICENSED}
    assert may_move(state, Event.KEY_REMOVED, State.UNLICENSED)


def test_a_count_below_the_threshold_moves_nothing():
    for state in State:
        assert TRANSITIONS[state][Event.ANSWER_BELOW_THRESHOLD] == {state}


def test_time_ends_in_notification():
    ends = {state for state in State if TRANSITIONS[state][Event.TIME_PASSED] == {state}}
    assert ends == {State.NOTIFICATION, State.UNLICENSED}


def test_time_never_leads_back():
    order = [State.LICENSED, State.OUT_OF_TOLERANCE_GRACE, State.EXTENDED_GRACE, State.NOTIFICATION]
    for place, state in enumerate(order):
        for earlier in order[:place]:
            assert not may_move(state, Event.TIME_PASSED, earlier)
