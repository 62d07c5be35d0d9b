# SPDX-License-Identifier: Apache-2.0
"""Licence states and the ways between them.  Everything about the life of a licence's state lives in this table.

The state itself is never stored: :mod:`volact.core.evaluation` computes it from facts.  This table says which moves
that computation may make; a property test holds random histories against it and the documentation's diagram is drawn
from it.  The numbers are those administrators know from ``LicenseStatus`` (functional facts, B1).
"""

from enum import StrEnum


class State(StrEnum):
    UNLICENSED = "unlicensed"
    LICENSED = "licensed"
    INITIAL_GRACE = "initial-grace"
    OUT_OF_TOLERANCE_GRACE = "out-of-tolerance-grace"
    NON_GENUINE_GRACE = "non-genuine-grace"
    NOTIFICATION = "notification"
    EXTENDED_GRACE = "extended-grace"


NUMBERS = {state: number for number, state in enumerate(State)}


class Event(StrEnum):
    """What can happen between two evaluations."""

    KEY_INSTALLED = "key-installed"
    KEY_REMOVED = "key-removed"
    ANSWER_MEETS_POLICY = "answer-meets-policy"
    ANSWER_BELOW_THRESHOLD = "answer-below-threshold"
    TIME_PASSED = "time-passed"
    HARDWARE_CHANGED = "hardware-changed"
    ISSUER_REVOKED = "issuer-revoked"
    REARMED = "rearmed"


class Enforcement(StrEnum):
    """What a product does in a state, by its policy; never a crash."""

    COUNT_ONLY = "count-only"
    WARN = "warn"
    LIMIT = "limit"
    BLOCK = "block"


_U, _L, _I = State.UNLICENSED, State.LICENSED, State.INITIAL_GRACE
_O, _G, _N, _E = State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.NOTIFICATION, State.EXTENDED_GRACE

# With a key installed, where a machine stands when no answer vouches for it depends on how much grace is left.
_WITHOUT_ANSWER = frozenset({_I, _E, _N})
_AFTER_A_LEASE = frozenset({_O, _E, _N})

TRANSITIONS: dict[State, dict[Event, frozenset[State]]] = {
    _U: {
        # A key may come back to a folder that still holds a good answer for it.
        Event.KEY_INSTALLED: _WITHOUT_ANSWER | _AFTER_A_LEASE | {_L, _G},
    },
    _I: {
        Event.KEY_INSTALLED: _WITHOUT_ANSWER,
        Event.ANSWER_MEETS_POLICY: frozenset({_L}),
        Event.ANSWER_BELOW_THRESHOLD: frozenset({_I}),
        Event.TIME_PASSED: _WITHOUT_ANSWER,
    },
    _L: {
        Event.KEY_INSTALLED: _WITHOUT_ANSWER | {_L},
        Event.ANSWER_MEETS_POLICY: frozenset({_L}),
        # A stored good licence is never worsened by a later, lower count.
        Event.ANSWER_BELOW_THRESHOLD: frozenset({_L}),
        Event.TIME_PASSED: _AFTER_A_LEASE | {_L},
        Event.HARDWARE_CHANGED: _AFTER_A_LEASE | {_L},
        # Another answer, of an issuer still good, may be all that is left.
        Event.ISSUER_REVOKED: _AFTER_A_LEASE | {_G, _L},
    },
    _O: {
        Event.KEY_INSTALLED: _WITHOUT_ANSWER | _AFTER_A_LEASE,
        Event.ANSWER_MEETS_POLICY: frozenset({_L}),
        Event.ANSWER_BELOW_THRESHOLD: frozenset({_O}),
        Event.TIME_PASSED: _AFTER_A_LEASE,
        Event.HARDWARE_CHANGED: _AFTER_A_LEASE | {_L},
        Event.ISSUER_REVOKED: _AFTER_A_LEASE | {_G},
    },
    _G: {
        Event.KEY_INSTALLED: _WITHOUT_ANSWER | {_G},
        Event.ANSWER_MEETS_POLICY: frozenset({_L}),
        Event.ANSWER_BELOW_THRESHOLD: frozenset({_G}),
        Event.TIME_PASSED: frozenset({_G, _N}),
    },
    _E: {
        Event.KEY_INSTALLED: _WITHOUT_ANSWER | _AFTER_A_LEASE,
        Event.ANSWER_MEETS_POLICY: frozenset({_L}),
        Event.ANSWER_BELOW_THRESHOLD: frozenset({_E}),
        Event.TIME_PASSED: frozenset({_E, _N}),
        Event.HARDWARE_CHANGED: _AFTER_A_LEASE | {_L},
        Event.ISSUER_REVOKED: frozenset({_E, _G, _N}),
    },
    _N: {
        Event.KEY_INSTALLED: _WITHOUT_ANSWER | _AFTER_A_LEASE | {_L, _G},
        Event.ANSWER_MEETS_POLICY: frozenset({_L}),
        Event.ANSWER_BELOW_THRESHOLD: frozenset({_N}),
        Event.TIME_PASSED: frozenset({_N}),
        Event.HARDWARE_CHANGED: _AFTER_A_LEASE | {_L},
        Event.ISSUER_REVOKED: frozenset({_G, _N}),
    },
}
# Every state: removing the key, rearming, and a fact that changes nothing here.
for _state, _moves in TRANSITIONS.items():
    _moves[Event.KEY_REMOVED] = frozenset({_U})
    _moves[Event.REARMED] = frozenset({_state}) | (_WITHOUT_ANSWER if _state is not _U else frozenset())
    for _event in Event:
        _moves.setdefault(_event, frozenset({_state}))


def may_move(before: State, event: Event, after: State) -> bool:
    """Whether the table allows ``before`` to become ``after`` by ``event``."""
    return after in TRANSITIONS[before][event]
