# SPDX-License-Identifier: Apache-2.0
"""Packed fingerprints: small, and able to tell a new part from another machine."""

import dataclasses
from itertools import combinations

import pytest

from volact.core.fingerprint import Fingerprint, Trait
from volact.host.hardware import pack, same_hardware
from volact.testing.machines import simulated_traits

SALT = bytes(range(32))
MACHINE = b"m" * 32


def fingerprint(number: int, **other: int) -> Fingerprint:
    """Machine ``number``'s, with the traits named in ``other`` taken from other machines."""
    traits = dict(simulated_traits(number))
    for name, source in other.items():
        trait = Trait(name.replace("_", "-"))
        traits[trait] = simulated_traits(source)[trait]
    return Fingerprint.of(traits, SALT)


def test_the_same_machine_is_the_same_and_another_is_another():
    assert same_hardware(pack(fingerprint(1), MACHINE), pack(fingerprint(1), MACHINE))
    assert not same_hardware(pack(fingerprint(1), MACHINE), pack(fingerprint(2), MACHINE))


@pytest.mark.parametrize("part", ["mac", "disk_serial"])
def test_a_new_part_does_not_make_another_machine(part):
    assert same_hardware(pack(fingerprint(1), MACHINE), pack(fingerprint(1, **{part: 2}), MACHINE))


def test_packing_is_seven_bytes_a_trait_and_in_one_order():
    packed = pack(fingerprint(1), MACHINE)
    assert len(packed) == 7 * len(simulated_traits(1))
    backwards = dataclasses.replace(fingerprint(1), traits=dict(reversed(list(fingerprint(1).traits.items()))))
    assert pack(backwards, MACHINE) == packed


def test_machines_without_any_trait_do_not_look_alike():
    none = Fingerprint({})
    assert pack(none, b"a" * 32) != pack(none, b"b" * 32)
    assert len({pack(none, bytes([n]) * 32) for n in range(20)}) == 20


def test_what_a_newer_client_sends_is_left_out():
    known = fingerprint(1)
    newer = dataclasses.replace(known, traits={**known.traits, "quantum-serial": bytes(16)})
    assert pack(newer, MACHINE) == pack(known, MACHINE)


@pytest.mark.parametrize("absent", list(combinations(Trait, 2))[:6])
def test_any_two_packed_fingerprints_can_be_compared(absent):
    whole = fingerprint(1)
    less = dataclasses.replace(whole, traits={n: v for n, v in whole.traits.items() if n not in absent})
    for one, other in ((whole, less), (less, Fingerprint({})), (Fingerprint({}), whole)):
        assert same_hardware(pack(one, MACHINE), pack(other, MACHINE)) in (True, False)
