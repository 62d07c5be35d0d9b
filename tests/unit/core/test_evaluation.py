# SPDX-License-Identifier: Apache-2.0
"""What stored answers are worth: one table of situations, and the rules that hold in all of them."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from volact.core.definition import Edition, EditionKind
from volact.core.evaluation import Answer, Evaluation, Machine, evaluate, lease_end, meets_policy, trusted_time
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.licence import Licence
from volact.core.policy import DAY, Policy
from volact.core.product_key import Channel
from volact.core.states import Enforcement, State

INSTALLED = 1_800_000_000
FOREVER = INSTALLED + 100_000 * DAY
MACHINE_ID = bytes(range(32))
HARDWARE = Fingerprint({Trait.SMBIOS_UUID: bytes(16), Trait.DISK_SERIAL: bytes(16)})
OTHER_HARDWARE = Fingerprint({Trait.SMBIOS_UUID: b"\1" * 16, Trait.DISK_SERIAL: b"\1" * 16})
PRODUCT = "acme-cad"
POLICY = Policy()
EDITION = Edition("client", "Acme CAD", 101, EditionKind.CLIENT, POLICY)


def day(number: float) -> int:
    return INSTALLED + int(number * DAY)


def licence(issued: float, **changes: Any) -> Licence:
    base = Licence(
        issuer="issuer",
        machine=MACHINE_ID,
        product=PRODUCT,
        edition="client",
        group=101,
        channel=Channel.VOLUME,
        key_id="0" * 32,
        nonce=bytes(16),
        issued_at=day(issued),
        expires_at=day(issued + 180),
        fingerprint=HARDWARE,
        count=25,
    )
    return replace(base, **changes)


def answer(issued: float = 0, *, ends: int = FOREVER, revoked: float | None = None, **changes: Any) -> Answer:
    return Answer(licence(issued, **changes), ends, None if revoked is None else day(revoked))


def perpetual(issued: float = 0, **changes: Any) -> Answer:
    return answer(issued, **{"channel": Channel.MAK, "count": None, "expires_at": None} | changes)


def look(
    at: float, *answers: Answer, channel: Channel | None = Channel.VOLUME, machine: Any = None, **policy: Any
) -> Evaluation:
    edition = replace(EDITION, policy=replace(POLICY, **policy))
    return evaluate(edition, PRODUCT, channel, answers, machine or Machine(MACHINE_ID, HARDWARE, INSTALLED), day(at))


GUEST = answer(channel=Channel.VM, count=None)
TOLD = Machine(MACHINE_ID, HARDWARE, INSTALLED, revocation_seen_at=day(8))
CHANGED = Machine(MACHINE_ID, OTHER_HARDWARE, INSTALLED, hardware_changed_at=day(50))


@dataclass(frozen=True)
class Case:
    name: str
    seen: Evaluation
    state: State
    until: float | None
    reason: str | None


CASES = [
    Case("nothing yet", look(0), State.INITIAL_GRACE, 30, "not-activated"),
    Case("last second of grace", look(30 - 1 / DAY), State.INITIAL_GRACE, 30, "not-activated"),
    Case("grace over", look(30), State.NOTIFICATION, None, "grace-ended"),
    Case("no grace at all", look(0, initial_grace_days=0), State.NOTIFICATION, None, "grace-ended"),
    Case("extended grace", look(31, extended_grace_days=60), State.EXTENDED_GRACE, 90, "not-activated"),
    Case("extended grace over", look(90, extended_grace_days=60), State.NOTIFICATION, None, "grace-ended"),
    Case("clock before the installation", look(-5), State.INITIAL_GRACE, 30, "not-activated"),
    Case("counted", look(1, answer()), State.LICENSED, 180, None),
    Case("below the threshold", look(1, answer(count=24)), State.INITIAL_GRACE, 30, "count-below-threshold"),
    Case(
        "below the threshold, grace over",
        look(30, answer(count=24)),
        State.NOTIFICATION,
        None,
        "count-below-threshold",
    ),
    Case("no count on the counted channel", look(1, answer(count=None)), State.INITIAL_GRACE, 30, "not-activated"),
    Case("last second of the lease", look(180 - 1 / DAY, answer()), State.LICENSED, 180, None),
    Case("lease ended", look(180, answer()), State.OUT_OF_TOLERANCE_GRACE, 210, "lease-ended"),
    Case("lease and grace over", look(210, answer()), State.NOTIFICATION, None, "lease-ended"),
    Case(
        "lease over, extended grace",
        look(211, answer(), extended_grace_days=10),
        State.EXTENDED_GRACE,
        220,
        "lease-ended",
    ),
    Case("a lease clamped to the policy", look(1, answer(), lease_days=90), State.LICENSED, 90, None),
    Case(
        "a licence without an end is clamped too",
        look(1, answer(expires_at=None)),
        State.LICENSED,
        180,
        None,
    ),
    Case("a lease shorter than the policy's", look(1, answer(expires_at=day(7))), State.LICENSED, 7, None),
    Case("clamped to the host's certificate", look(1, answer(ends=day(12))), State.LICENSED, 12, None),
    Case(
        "host's certificate ended",
        look(12, answer(ends=day(12))),
        State.OUT_OF_TOLERANCE_GRACE,
        42,
        "lease-ended",
    ),
    Case("an end at second 0", look(1, answer(expires_at=0)), State.NOTIFICATION, None, "lease-ended"),
    Case("renewed", look(181, answer(), answer(150)), State.LICENSED, 330, None),
    Case("a later, lower count takes nothing", look(8, answer(), answer(7, count=3)), State.LICENSED, 180, None),
    Case("perpetual", look(9999, perpetual(), channel=Channel.MAK), State.LICENSED, None, None),
    Case(
        "perpetual outlives its issuer's certificate",
        look(9999, perpetual(ends=day(365)), channel=Channel.MAK),
        State.LICENSED,
        None,
        None,
    ),
    Case(
        "a subscription has the end it says",
        look(1, perpetual(channel=Channel.RETAIL, expires_at=day(365), ends=day(1)), channel=Channel.RETAIL),
        State.LICENSED,
        365,
        None,
    ),
    Case(
        "a guest needs no count",
        look(1, answer(channel=Channel.VM, count=None), channel=Channel.VM),
        State.LICENSED,
        180,
        None,
    ),
    Case("issued before the revocation", look(9, answer(1, revoked=2)), State.LICENSED, 181, None),
    Case(
        "issued in the second of the revocation",
        look(9, answer(2, revoked=2), machine=TOLD),
        State.NON_GENUINE_GRACE,
        38,
        "issuer-revoked",
    ),
    Case("told of it just now", look(9, answer(2, revoked=2)), State.NON_GENUINE_GRACE, 39, "issuer-revoked"),
    Case(
        "revoked, grace over",
        look(38, answer(2, revoked=1), machine=TOLD),
        State.NOTIFICATION,
        None,
        "issuer-revoked",
    ),
    Case(
        "a revocation dated back for months leaves the whole grace",
        look(100, answer(2, revoked=1)),
        State.NON_GENUINE_GRACE,
        130,
        "issuer-revoked",
    ),
    Case(
        "a revocation gives nobody more time than the licence would have had",
        look(200, answer(2, revoked=1)),
        State.NON_GENUINE_GRACE,
        212,
        "issuer-revoked",
    ),
    Case("nor any after that", look(212, answer(2, revoked=1)), State.NOTIFICATION, None, "issuer-revoked"),
    Case("a good answer beside a revoked one", look(9, answer(5, revoked=1), answer(2)), State.LICENSED, 182, None),
    Case(
        "hardware out of tolerance",
        look(51, answer(), machine=CHANGED),
        State.OUT_OF_TOLERANCE_GRACE,
        80,
        "hardware-out-of-tolerance",
    ),
    Case(
        "hardware out of tolerance, not recorded before",
        look(51, answer(), machine=replace(CHANGED, hardware_changed_at=None)),
        State.OUT_OF_TOLERANCE_GRACE,
        81,
        "hardware-out-of-tolerance",
    ),
    Case(
        "hardware out of tolerance after the lease: the earlier of both counts",
        look(181, answer(), machine=replace(CHANGED, hardware_changed_at=day(181))),
        State.OUT_OF_TOLERANCE_GRACE,
        210,
        "hardware-out-of-tolerance",
    ),
    Case(
        "hardware out of tolerance, grace over",
        look(80, answer(), machine=CHANGED),
        State.NOTIFICATION,
        None,
        "hardware-out-of-tolerance",
    ),
    Case(
        "licensed anew on changed hardware",
        look(51, answer(), answer(50.5, fingerprint=OTHER_HARDWARE), machine=CHANGED),
        State.LICENSED,
        230.5,
        None,
    ),
    Case(
        "a perpetual licence for the old hardware does not hide the new one",
        look(51, perpetual(), perpetual(50.5, fingerprint=OTHER_HARDWARE), channel=Channel.MAK, machine=CHANGED),
        State.LICENSED,
        None,
        None,
    ),
    Case(
        "a longer lease for the old hardware does not hide the new one",
        look(51, answer(50), answer(40, fingerprint=OTHER_HARDWARE), machine=CHANGED),
        State.LICENSED,
        220,
        None,
    ),
    Case("another machine's licence", look(1, answer(machine=bytes(32))), State.INITIAL_GRACE, 30, "not-activated"),
    Case("another product's licence", look(1, answer(product="acme-cam")), State.INITIAL_GRACE, 30, "not-activated"),
    Case("another edition's licence", look(1, answer(edition="server")), State.INITIAL_GRACE, 30, "not-activated"),
    Case("another group's licence", look(1, answer(group=102)), State.INITIAL_GRACE, 30, "not-activated"),
    Case("another channel's licence", look(1, perpetual()), State.INITIAL_GRACE, 30, "not-activated"),
    Case("no key installed", look(1, answer(), channel=None), State.UNLICENSED, None, "no-key-installed"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_situation(case):
    seen = case.seen
    until = None if case.until is None else day(case.until)
    assert (seen.state, seen.until) == (case.state, until)
    assert (seen.reason and seen.reason.code) == case.reason
    assert seen.licensed is (case.state is State.LICENSED)


def test_without_an_edition_nothing_is_licensed():
    seen = evaluate(None, PRODUCT, Channel.VOLUME, [answer()], Machine(MACHINE_ID, HARDWARE, INSTALLED), day(1))
    assert (seen.state, seen.enforcement) == (State.UNLICENSED, Enforcement.LIMIT)


def test_enforcement_is_the_policys_for_the_state():
    block = dict.fromkeys(State, Enforcement.BLOCK)
    assert look(31, enforcement=block).enforcement is Enforcement.BLOCK
    assert look(31).enforcement is Enforcement.WARN


def test_every_reason_names_what_is_missing_and_what_to_do():
    reason = look(1, answer(count=20)).reason
    assert reason is not None
    assert str(reason) == "the KMS host has counted 20 of the 25 machines that the policy asks for"
    assert reason.missing == 5
    assert all(case.seen.reason.hint for case in CASES if case.seen.reason)


def test_the_count_shown_is_the_newest_that_there_is():
    assert look(9, answer(1, count=30), answer(2, count=3)).count == 3
    assert look(9, answer(1, count=30), answer(2, count=None)).count == 30
    assert look(9).count is None


def test_the_threshold_itself_is_enough():
    assert meets_policy(licence(0, count=25), POLICY)
    assert not meets_policy(licence(0, count=24), POLICY)
    assert not meets_policy(licence(0, count=None), POLICY)
    assert meets_policy(licence(0, channel=Channel.MAK, count=None), POLICY)


def test_a_lease_ends_with_the_first_of_licence_policy_and_certificate():
    assert lease_end(answer(), POLICY) == day(180)
    assert lease_end(answer(ends=day(9)), POLICY) == day(9)
    assert lease_end(answer(expires_at=day(5)), POLICY) == day(5)
    assert lease_end(perpetual(), POLICY) is None


def test_turning_the_clock_back_gains_nothing():
    assert trusted_time(day(3), day(9)) == day(9)
    assert trusted_time(day(9), day(3)) == day(9)
