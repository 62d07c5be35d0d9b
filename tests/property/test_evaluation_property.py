# SPDX-License-Identifier: Apache-2.0
"""Evaluation over random answers and histories: it is total, moves as the table of states allows, and no answer that
is worth nothing takes anything away."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from volact.core.definition import Edition, EditionKind
from volact.core.evaluation import Answer, Evaluation, Machine, evaluate, lease_end, meets_policy
from volact.core.fingerprint import Fingerprint, Trait, compare
from volact.core.licence import Licence
from volact.core.policy import DAY, Policy
from volact.core.product_key import Channel
from volact.core.states import Event, State, may_move

PRODUCT, EDITION_ID, GROUP = "acme-cad", "client", 101
INSTALLED = 1_800_000_000
MACHINE_ID = bytes(range(32))
FINGERPRINTS = [Fingerprint({Trait.SMBIOS_UUID: bytes([n]) * 16, Trait.DISK_SERIAL: bytes([n]) * 16}) for n in range(2)]

moments = st.integers(-50, 900).map(lambda days: INSTALLED + days * DAY)
days = st.integers(0, 120)
policies = st.builds(
    Policy,
    threshold=st.integers(1, 30),
    lease_days=st.integers(1, 365),
    initial_grace_days=days,
    out_of_tolerance_grace_days=days,
    non_genuine_grace_days=days,
    extended_grace_days=days,
)
fingerprints = st.sampled_from(FINGERPRINTS)
channels = st.sampled_from([Channel.VOLUME, Channel.MAK, Channel.VM])
licences = st.builds(
    Licence,
    issuer=st.just("issuer"),
    machine=st.sampled_from([MACHINE_ID, MACHINE_ID, MACHINE_ID, bytes(32)]),
    product=st.sampled_from([PRODUCT, PRODUCT, PRODUCT, "other"]),
    edition=st.sampled_from([EDITION_ID, EDITION_ID, EDITION_ID, "server"]),
    group=st.sampled_from([GROUP, GROUP, GROUP, 102]),
    channel=channels,
    key_id=st.just("0" * 32),
    nonce=st.just(bytes(16)),
    issued_at=moments,
    expires_at=st.none() | moments | st.just(0),
    fingerprint=fingerprints,
    count=st.none() | st.integers(0, 40),
)
answers = st.builds(Answer, licences, moments, st.none() | moments, by_directory=st.booleans())
machines = st.builds(Machine, st.just(MACHINE_ID), fingerprints, st.just(INSTALLED), st.none() | moments)
some_answers = st.lists(answers, max_size=4)


def look(policy: Policy, channel: Channel | None, some: list[Answer], machine: Machine, now: int) -> Evaluation:
    return evaluate(edition_of(policy), PRODUCT, channel, some, machine, now)


def edition_of(policy: Policy) -> Edition:
    return Edition(EDITION_ID, "Acme CAD", GROUP, EditionKind.CLIENT, policy)


def is_mine(answer: Answer, channel: Channel | None) -> bool:
    one = answer.licence
    asked = (MACHINE_ID, PRODUCT, EDITION_ID, GROUP, channel)
    return (one.machine, one.product, one.edition, one.group, one.channel) == asked


def licenses(answer: Answer, policy: Policy, channel: Channel | None, machine: Machine, now: int) -> bool:
    """What it takes to be licensed, said once more and in other words."""
    end = lease_end(answer, policy)
    revoked = answer.issuer_revoked_at is not None and answer.issuer_revoked_at <= answer.licence.issued_at
    fits = compare(answer.licence.fingerprint, machine.fingerprint, policy.tolerance).within
    counted = answer.by_directory or meets_policy(answer.licence, policy)  # a directory counts nobody
    return is_mine(answer, channel) and counted and not revoked and fits and (end is None or now < end)


@given(policies, st.none() | channels, some_answers, machines, moments)
def test_licensed_exactly_when_an_answer_licenses(policy, channel, some, machine, now):
    seen = look(policy, channel, some, machine, now)
    assert seen.licensed is any(licenses(one, policy, channel, machine, now) for one in some)
    assert seen.until is None or seen.until > now
    assert (seen.reason is None) is seen.licensed
    assert seen.enforcement is policy.enforcement[seen.state]
    assert seen.licence is None or any(seen.licence == one.licence for one in some)


@given(policies, st.none() | channels, some_answers, machines, moments, st.integers(0, 900 * DAY))
def test_time_alone_moves_as_the_table_allows(policy, channel, some, machine, now, later):
    recorded = replace(machine, hardware_changed_at=machine.hardware_changed_at or now)
    before, after = (look(policy, channel, some, recorded, at) for at in (now, now + later))
    assert may_move(before.state, Event.TIME_PASSED, after.state)


@given(policies, channels, some_answers, machines, moments)
def test_a_state_lasts_until_it_says(policy, channel, some, machine, now):
    recorded = replace(machine, hardware_changed_at=machine.hardware_changed_at or now)
    seen = look(policy, channel, some, recorded, now)
    if seen.until is not None:
        assert look(policy, channel, some, recorded, seen.until - 1).state is seen.state
        assert look(policy, channel, some, recorded, seen.until) != seen


@given(policies, channels, some_answers, machines, moments, answers)
def test_an_answer_that_is_worth_nothing_changes_no_state(policy, channel, some, machine, now, more):
    worthless = not is_mine(more, channel) or not (more.by_directory or meets_policy(more.licence, policy))
    before, after = (look(policy, channel, each, machine, now) for each in (some, [*some, more]))
    if worthless:
        assert (after.state, after.until, after.licence) == (before.state, before.until, before.licence)


@given(policies, channels, some_answers, machines, moments, answers)
def test_no_answer_takes_a_licence_away(policy, channel, some, machine, now, more):
    before, after = (look(policy, channel, each, machine, now) for each in (some, [*some, more]))
    if before.licensed:
        assert after.licensed
        assert after.until is None or (before.until is not None and after.until >= before.until)


@given(policies, channels, some_answers, machines, moments)
def test_the_order_of_answers_does_not_matter(policy, channel, some, machine, now):
    forward, back = (look(policy, channel, each, machine, now) for each in (some, some[::-1]))
    assert (forward.state, forward.until, forward.enforcement) == (back.state, back.until, back.enforcement)


@given(policies, channels, some_answers, machines, moments, st.integers(1, 40))
def test_a_fresh_answer_moves_as_the_table_allows(policy, channel, some, machine, now, count):
    fresh = Answer(
        Licence(
            "issuer", MACHINE_ID, PRODUCT, EDITION_ID, GROUP, channel, "0" * 32, bytes(16), now, now + policy.lease,
            machine.fingerprint, count=count,
        ),
        now + policy.lease,
    )  # fmt: skip
    before, after = (look(policy, channel, each, machine, now) for each in (some, [*some, fresh]))
    enough = meets_policy(fresh.licence, policy)
    event = Event.ANSWER_MEETS_POLICY if enough else Event.ANSWER_BELOW_THRESHOLD
    assert may_move(before.state, event, after.state)
    assert after.licensed if enough else after.state is before.state


@given(policies, channels, some_answers, machines, moments, fingerprints, moments)
def test_changed_hardware_moves_as_the_table_allows(policy, channel, some, machine, now, other, since):
    changed = replace(machine, fingerprint=other, hardware_changed_at=since)
    before, after = (look(policy, channel, some, each, now) for each in (machine, changed))
    assert may_move(before.state, Event.HARDWARE_CHANGED, after.state)


@given(policies, channels, some_answers, machines, moments, moments, st.sets(st.integers(0, 3)))
def test_a_revocation_moves_as_the_table_allows(policy, channel, some, machine, now, since, which):
    revoked = [
        replace(one, issuer_revoked_at=since) if place in which and one.issuer_revoked_at is None else one
        for place, one in enumerate(some)
    ]
    before, after = (look(policy, channel, each, machine, now) for each in (some, revoked))
    assert may_move(before.state, Event.ISSUER_REVOKED, after.state)


@given(policies, channels, some_answers, machines, moments)
def test_keys_move_as_the_table_allows(policy, channel, some, machine, now):
    without, with_key = (look(policy, each, some, machine, now) for each in (None, channel))
    assert may_move(without.state, Event.KEY_INSTALLED, with_key.state)
    assert may_move(with_key.state, Event.KEY_REMOVED, without.state)


@given(policies, channels, some_answers, machines, moments)
def test_rearming_moves_as_the_table_allows(policy, channel, some, machine, now):
    before = look(policy, channel, some, machine, now)
    after = look(policy, channel, [], replace(machine, installed_at=now, hardware_changed_at=None), now)
    assert may_move(before.state, Event.REARMED, after.state)


def test_what_the_table_says_of_a_refusal():
    """A refusal is no answer and so no event: there is no way for it to move anything."""
    assert not any("refus" in event for event in Event)
    assert all(may_move(state, Event.ANSWER_BELOW_THRESHOLD, state) for state in State)
