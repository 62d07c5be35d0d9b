# SPDX-License-Identifier: Apache-2.0
"""The rules of MAK and retail keys, on activations made by hand."""

from dataclasses import replace

import pytest

from volact.core.fingerprint import DEFAULT_TOLERANCE, Fingerprint
from volact.core.policy import Policy
from volact.core.product_key import Channel
from volact.core.refusal import Refusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.publisher.rules.issuing import IssuedKey, Kind, check_agreement
from volact.publisher.rules.pools import Activation, Credit, Place, credit_for, decide_activation, find_held

NOW = 1_800_000_000
KEY = IssuedKey("id", "ABCDE", Channel.MAK, "acme-cad", 102, "Example Ltd", hosts=0, activations=2, issued_at=NOW)
ONE, OTHER = b"1" * 32, b"2" * 32
# Of the default weights: uuid 5, disk 5, board 4, machine-id 2, mac 2.
HARDWARE = ("smbios-uuid", "disk-serial", "board-serial", "machine-id", "mac")


def hardware(changed: tuple[str, ...] = (), seed: int = 1) -> Fingerprint:
    return Fingerprint({name: bytes([seed + (name in changed)]) * 16 for name in HARDWARE})


def held(machine: bytes = ONE, fingerprint: Fingerprint | None = None, **changes: object) -> Activation:
    made = Activation(
        7, "id", machine, "acme-cad", "professional", "pc", fingerprint or hardware(), b"n" * 16, NOW, NOW, 1, 1
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def request(fingerprint: Fingerprint | None = None, product: str = "acme-cad") -> ActivationRequest:
    return ActivationRequest(
        issuer="issuer",
        product=product,
        version=1,
        edition="professional",
        channel=Channel.MAK,
        nonce=b"r" * 16,
        response_key=b"k" * 32,
        at=NOW,
        state=State.INITIAL_GRACE,
        fingerprint=fingerprint or hardware(),
    )


def decide(known: list[Activation], machine: bytes = ONE, used: int = 1, policy: Policy | None = None, **asked: object):
    return decide_activation(replace(KEY, used=used), known, request(**asked), machine, policy or Policy())  # type: ignore[arg-type]


def test_a_new_machine_takes_one_while_the_pool_has_one() -> None:
    assert decide([], used=1) == Place(Kind.ACTIVATED, None, 1)
    refusal = Refusal("activations-exhausted", {"partial": "ABCDE", "limit": 2})
    assert decide([], used=2) == refusal
    assert decide([], used=3) == refusal


def test_the_same_machine_takes_none_even_from_an_empty_pool() -> None:
    one = held()
    assert decide([one], used=2) == Place(Kind.REACTIVATED, one, 0)


def test_policy_can_count_each_activation() -> None:
    one, policy = held(), Policy(reactivation_counts=True)
    assert decide([one], used=1, policy=policy) == Place(Kind.REACTIVATED, one, 1)
    assert decide([one], used=2, policy=policy) == Refusal("activations-exhausted", {"partial": "ABCDE", "limit": 2})


def test_a_reinstalled_machine_is_the_same_by_its_hardware() -> None:
    one = held()
    assert decide([one], OTHER, fingerprint=hardware(("machine-id",))) == Place(Kind.REACTIVATED, one, 0)


def test_a_new_disk_and_a_new_image_stay_within_tolerance_and_a_new_board_does_not() -> None:
    one = held()
    assert decide([one], OTHER, fingerprint=hardware(("machine-id", "disk-serial"))) == Place(Kind.REACTIVATED, one, 0)
    gone = hardware(("machine-id", "disk-serial", "smbios-uuid", "board-serial"))
    assert decide([one], OTHER, fingerprint=gone) == Place(Kind.ACTIVATED, None, 1)


def test_a_copied_installation_on_other_hardware_is_another_machine() -> None:
    assert decide([held()], ONE, fingerprint=hardware(seed=9)) == Place(Kind.ACTIVATED, None, 1)


def test_machines_that_show_nothing_are_not_one_machine() -> None:
    nothing = Fingerprint({})
    assert decide([held(fingerprint=nothing)], OTHER, fingerprint=nothing) == Place(Kind.ACTIVATED, None, 1)
    cpu_only = Fingerprint({"cpu": b"c" * 16})
    assert decide([held(fingerprint=cpu_only)], OTHER, fingerprint=cpu_only) == Place(Kind.ACTIVATED, None, 1)


def test_a_machine_that_shows_nothing_is_known_by_its_own_key() -> None:
    nothing = Fingerprint({})
    one = held(fingerprint=nothing)
    assert decide([one], ONE, fingerprint=nothing) == Place(Kind.REACTIVATED, one, 0)


def test_another_product_of_the_same_group_takes_its_own() -> None:
    assert decide([held()], product="acme-view") == Place(Kind.ACTIVATED, None, 1)


def test_what_was_given_back_is_held_no_more() -> None:
    assert decide([held(returned_at=NOW, credited=True)], used=0) == Place(Kind.ACTIVATED, None, 1)


def test_the_own_activation_goes_before_that_of_alike_hardware() -> None:
    own, alike = held(id=1, fingerprint=hardware(("disk-serial",))), held(OTHER, id=2)
    found = find_held([alike, own], ONE, "acme-cad", hardware(), DEFAULT_TOLERANCE)
    assert found is own


@pytest.mark.parametrize(("before", "credited"), [(0, True), (9, True), (10, False), (11, False)])
def test_returns_are_credited_up_to_the_policy_s_cap(before: int, credited: bool) -> None:
    found = credit_for(before, Policy(returns_per_key_year=10), vouched=False)
    assert found is (Credit.CAPPED if credited else Credit.NONE)


def test_no_return_is_credited_where_the_cap_is_zero() -> None:
    assert credit_for(0, Policy(returns_per_key_year=0), vouched=False) is Credit.NONE


def test_a_return_that_a_tpm_counter_vouches_for_is_credited_whatever_the_cap() -> None:
    assert credit_for(5, Policy(returns_per_key_year=0), vouched=True) is Credit.COUNTER


@pytest.mark.parametrize(
    ("now", "code"),
    [(99, "agreement-not-begun"), (100, None), (199, None), (200, "agreement-ended")],
)
def test_a_key_activates_within_its_agreement_only(now: int, code: str | None) -> None:
    key = replace(KEY, agreement="EA-1", starts_at=100, ends_at=200)
    refusal = check_agreement(key, now)
    assert (refusal.code if refusal else None) == code
    assert check_agreement(replace(key, agreement=None), now) is None
