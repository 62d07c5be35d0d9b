# SPDX-License-Identifier: Apache-2.0
"""The desk and the machine: what a call uses up, what it does not, whom the desk refuses, and what the ledger keeps."""

import json
from dataclasses import replace

import pytest

from support.phone_desk import activate_online, apply, show
from volact.client.activation import returns
from volact.client.activation.phone import ConfirmationReturnedError
from volact.client.products import installing, loading
from volact.core.errors import VolactError
from volact.core.phone import InstallationId
from volact.core.product_key import Channel
from volact.core.refusal import RefusedError
from volact.core.request import ActivationRequest
from volact.core.returning import ReturnProof
from volact.core.states import State
from volact.publisher.administration.errors import ReasonUnfitError
from volact.publisher.answering.phone import (
    CallerEditionError,
    CallerKeyError,
    CallerUnknownError,
    GuessesError,
    PhoneDesk,
    PhoneKeyMissingError,
    ReasonMissingError,
)
from volact.publisher.rules.issuing import Kind
from volact.sealing.proof import verify_request
from volact.sealing.returns import sign_return, verify_return
from volact.sealing.sign import MachineSigner
from volact.testing.machines import simulated_traits

DAY = 86400


def refused(desk, installation, key) -> str:
    with pytest.raises(RefusedError) as caught:
        desk.answer(installation, key)
    return caught.value.code


@pytest.mark.parametrize("channel", [Channel.MAK, Channel.RETAIL])
def test_digits_go_there_and_back_and_license_the_machine(tmp_path, desk, channel):
    key = desk.key(channel=channel)
    machine = desk.machine(tmp_path / "one", key)
    confirmed = desk.answer(show(machine).installation, key)
    assert (confirmed.kind, confirmed.key.remaining) == (Kind.ACTIVATED, 2)
    applied = apply(machine, confirmed.confirmation)
    assert applied.evaluation.licensed
    assert applied.evaluation.until is None
    assert desk.left(key) == 2


def test_a_confirmation_id_fits_one_machine_and_one_key(tmp_path, desk):
    first, second = desk.key(), desk.key()
    one, two = desk.machine(tmp_path / "one", first), desk.machine(tmp_path / "two", first, number=2)
    three = desk.machine(tmp_path / "three", second, number=1)
    confirmation = desk.answer(show(one).installation, first).confirmation
    for machine in (two, three):
        waiting = show(machine).installation
        with pytest.raises(Exception, match="was not made for this installation ID"):
            apply(machine, replace(confirmation, reference=waiting.reference))
    assert apply(one, confirmation).evaluation.licensed


def test_the_same_digits_again_use_nothing_up(tmp_path, desk):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    first, again = desk.answer(installation, key), desk.answer(installation, key)
    assert (first.confirmation, again.kind) == (again.confirmation, Kind.REPEATED)
    assert desk.left(key) == 2


def test_the_same_machine_calling_again_uses_nothing_up(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    desk.answer(show(machine).installation, key)
    again = desk.answer(show(machine, new=True).installation, key)
    assert (again.kind, again.key.remaining) == (Kind.REACTIVATED, 0)
    assert apply(machine, again.confirmation).evaluation.licensed


def test_a_machine_activated_online_that_calls_later_uses_nothing_up(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    assert activate_online(machine, desk.online()).evaluation.licensed
    installation = show(machine).installation
    assert desk.desk.look_up(installation).held is not None
    assert desk.answer(installation, key).kind is Kind.REACTIVATED
    assert desk.left(key) == 0
    assert desk.answer(installation, key).kind is Kind.REPEATED


def test_a_copied_installation_on_other_hardware_is_another_machine(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    desk.answer(show(machine).installation, key)
    machine.hardware = simulated_traits(2)
    assert refused(desk, show(machine).installation, key) == "activations-exhausted"


def test_a_nonce_taken_online_for_an_installation_id_to_come_buys_nothing(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    mine = machine.hardware
    machine.hardware = simulated_traits(2)
    of_copy = show(machine).installation
    machine.hardware = mine
    activate_online(machine, desk.online())
    online = desk.online().service
    signer = MachineSigner(machine.store.machine_key())
    request = ActivationRequest(
        issuer=online.issuer,
        product="acme-cad",
        version=1,
        edition=desk.edition.id,
        channel=Channel.MAK,
        nonce=of_copy.nonce,
        response_key=bytes(32),
        at=desk.clock(),
        state=State.LICENSED,
        fingerprint=machine.local.fingerprint(desk.root),
        key=str(key.key),
    )
    (outcome,) = online.answer_proven([verify_request(signer.request(request))])
    assert outcome.kind is Kind.REACTIVATED
    assert refused(desk, of_copy, key) == "activations-exhausted"


def test_a_pool_ends_by_telephone_as_it_does_online(tmp_path, desk):
    key = desk.key(activations=2)
    for number in (1, 2):
        desk.answer(show(desk.machine(tmp_path / str(number), key, number)).installation, key)
    assert refused(desk, show(desk.machine(tmp_path / "3", key, 3)).installation, key) == "activations-exhausted"
    assert desk.left(key) == 0
    assert "request-refused" in desk.acts()


def test_a_blocked_key_is_refused(tmp_path, desk):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    desk.publisher.block_key(key.issued, "stolen", desk.clock(), "tests")
    assert refused(desk, installation, key) == "key-blocked"


@pytest.mark.parametrize("days", [32, -3])
def test_digits_that_are_too_old_or_of_a_wrong_clock_are_refused(tmp_path, desk, days):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    desk.clock.advance(days=days) if days > 0 else None
    if days < 0:
        installation = replace(installation, day=installation.day - days)
    assert refused(desk, installation, key) == "clock-skew"


def test_digits_of_yesterday_and_of_last_month_are_answered(tmp_path, desk):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    desk.clock.advance(days=29)
    assert desk.answer(installation, key).kind is Kind.ACTIVATED


# ---- who calls


def test_who_only_saw_a_licence_cannot_spend_its_key(tmp_path, desk):
    """The key's ID is in every licence; its symbols are not."""
    key, other = desk.key(), desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    call = desk.desk.look_up(installation)
    for given in ("", "XXXXX", other.key.partial, key.key.key_id, str(other.key)):
        with pytest.raises(VolactError) as caught:
            desk.desk.confirm(call, given, "reason", desk.clock(), "alice")
        assert isinstance(caught.value, CallerKeyError) or caught.value.code.startswith("product-key")
    assert desk.left(key) == 3
    assert "phone-caller-key" in desk.publisher.store.check_ledger().data
    assert desk.desk.confirm(call, f" {key.key.partial.lower()} ", "reason", desk.clock(), "alice")
    assert desk.desk.confirm(call, str(key.key), "reason", desk.clock(), "alice").kind is Kind.REPEATED


def test_the_symbols_of_a_key_cannot_be_guessed(tmp_path, desk):
    key = desk.key()
    call = desk.desk.look_up(show(desk.machine(tmp_path / "one", key)).installation)
    for operator in ("alice", "bob", "carol", "dave", "erin"):
        with pytest.raises(CallerKeyError):
            desk.desk.confirm(call, "XXXXX", "reason", desk.clock(), operator)
    with pytest.raises(GuessesError):  # the right ones would be a guess, too
        desk.desk.confirm(call, key.key.partial, "reason", desk.clock(), "alice")
    assert desk.left(key) == 3
    assert desk.desk.confirm(call, str(key.key), "reason", desk.clock(), "alice").kind is Kind.ACTIVATED
    desk.clock.advance(hours=2)
    assert desk.desk.confirm(call, key.key.partial, "reason", desk.clock(), "alice").kind is Kind.REPEATED


def test_an_operator_who_tries_many_keys_is_stopped(tmp_path, desk):
    calls = []
    for number in range(6):
        key = desk.key()
        machine = desk.machine(tmp_path / f"machine{number}", key, number=number + 1)
        calls.append((desk.desk.look_up(show(machine).installation), key))
    for call, _ in calls[:5]:
        for _ in range(4):
            with pytest.raises(CallerKeyError):
                desk.desk.confirm(call, "XXXXX", "reason", desk.clock(), "mallory")
    call, key = calls[5]
    with pytest.raises(GuessesError):
        desk.desk.confirm(call, key.key.partial, "reason", desk.clock(), "mallory")
    assert desk.desk.confirm(call, key.key.partial, "reason", desk.clock(), "alice")


def test_a_key_of_nobody_is_unknown(tmp_path, desk):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    with pytest.raises(CallerUnknownError):
        desk.desk.look_up(replace(installation, key_tag=bytes(5)))
    with pytest.raises(CallerUnknownError):
        desk.desk.look_up(replace(installation, channel=Channel.RETAIL))


def test_an_edition_that_the_key_does_not_cover_is_unknown(tmp_path, desk):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    with pytest.raises(CallerEditionError):
        desk.desk.look_up(replace(installation, edition_tag=bytes(3)))


@pytest.mark.parametrize(
    ("reason", "error"), [("", ReasonMissingError), ("  ", ReasonMissingError), ("a\nb", ReasonUnfitError)]
)
def test_the_ledger_wants_a_reason(tmp_path, desk, reason, error):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    with pytest.raises(error):
        desk.answer(installation, key, reason)
    assert desk.left(key) == 3


def test_the_ledger_tells_of_every_call(tmp_path, desk):
    key = desk.key()
    installation = show(desk.machine(tmp_path / "one", key)).installation
    desk.answer(installation, key, "Mr Smith, no network in the vault")
    desk.answer(installation, key, "line was cut")
    desk.publisher.store.check_ledger()
    rows = desk.publisher.store.ledger()
    calls = [row for row in rows if row.act == "phone-confirmed"]
    assert [row.act for row in rows].count("machine-activated") == 1
    assert [json.loads(row.data)["kind"] for row in calls] == ["activated", "repeated"]
    assert json.loads(calls[0].data)["reason"] == "Mr Smith, no network in the vault"
    assert InstallationId.parse(json.loads(calls[0].data)["installation_id"]) == installation
    assert (calls[0].actor, calls[0].key_id) == ("alice", key.key.key_id)


def test_a_publisher_without_a_phone_key_says_how_to_make_one(desk):
    with pytest.raises(PhoneKeyMissingError) as caught:
        PhoneDesk.open(desk.publisher, None)
    assert "--make-key" in caught.value.hint


# ---- by telephone first, online later


def test_a_machine_activated_by_telephone_uses_nothing_up_online(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    apply(machine, desk.answer(show(machine).installation, key).confirmation)
    assert activate_online(machine, desk.online()).evaluation.licensed
    assert desk.left(key) == 0
    (held,) = desk.publisher.store.activations(key.key.key_id)
    assert (held.machine, held.times) == (machine.store.machine_id(), 2)
    assert desk.answer(show(machine, new=True).installation, key).kind is Kind.REACTIVATED


def test_another_machine_does_not_ride_on_an_activation_by_telephone(tmp_path, desk):
    key = desk.key(activations=1)
    desk.answer(show(desk.machine(tmp_path / "one", key)).installation, key)
    for folder, number in (("other key", 1), ("other machine", 2)):
        with pytest.raises(RefusedError):
            activate_online(desk.machine(tmp_path / folder, key, number), desk.online())


def test_the_copied_key_of_a_machine_activated_by_telephone_is_another_machine_online(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    desk.answer(show(machine).installation, key)
    machine.hardware = simulated_traits(2)
    with pytest.raises(RefusedError):
        activate_online(machine, desk.online())


def test_an_activation_by_telephone_is_given_back_with_the_machine_s_proof(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    installation = show(machine).installation
    desk.answer(installation, key)
    proof = ReturnProof(desk.root, "acme-cad", key.key.key_id, installation.nonce, bytes(16), desk.clock())
    proven = verify_return(sign_return(proof, machine.store.machine_key()))
    (outcome,) = desk.online().service.answer_proven([proven], carried=True)
    assert not isinstance(outcome, Exception), outcome
    assert desk.left(key) == 1
    assert refused(desk, installation, key) == "activation-returned"
    assert "machine-returned" in desk.acts()


@pytest.mark.needs("postgresql")
def test_the_desk_works_over_postgresql_too(tmp_path, postgresql_desk):
    desk = postgresql_desk
    key = desk.key(activations=2)
    one, two = desk.machine(tmp_path / "one", key), desk.machine(tmp_path / "two", key, number=2)
    installation = show(one).installation
    assert apply(one, desk.answer(installation, key).confirmation).evaluation.licensed
    assert desk.answer(installation, key).kind is Kind.REPEATED
    assert activate_online(one, desk.online()).evaluation.licensed
    assert activate_online(two, desk.online()).evaluation.licensed
    assert desk.answer(show(two).installation, key).kind is Kind.REACTIVATED
    assert refused(desk, show(desk.machine(tmp_path / "three", key, 3)).installation, key) == "activations-exhausted"
    assert desk.left(key) == 0
    assert desk.acts().count("phone-confirmed") == 3


# ---- giving back


def kept(machine):
    """The phone licence as somebody may have copied it."""
    path = machine.folder / "products" / "acme-cad" / "answers" / "phone.json"
    return path, path.read_bytes()


def give_up(machine, desk):
    given = returns.give_back("acme-cad", machine.store, machine.clock)
    return returns.report(given, machine.store, desk.online(), machine.clock)


def licensed(machine):
    return loading.evaluate_product(machine.store, "acme-cad", machine.local, machine.clock()).licensed


def test_a_licence_by_telephone_is_given_back_and_counts_no_more(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    confirmation = desk.answer(show(machine).installation, key).confirmation
    apply(machine, confirmation)
    path, copy = kept(machine)
    assert give_up(machine, desk).receipt.credited
    assert desk.left(key) == 1
    installing.install_key(machine.store, "acme-cad", str(key.key), desk.edition.id)
    assert not licensed(machine)
    path.write_bytes(copy)
    assert not licensed(machine)
    with pytest.raises(ConfirmationReturnedError):
        apply(machine, confirmation)
    again = desk.answer(show(machine).installation, key)  # on the same day
    assert again.kind is Kind.ACTIVATED
    assert apply(machine, again.confirmation).evaluation.licensed


def test_giving_back_takes_both_the_licence_by_telephone_and_the_one_online(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    apply(machine, desk.answer(show(machine).installation, key).confirmation)
    path, copy = kept(machine)
    desk.clock.advance(hours=1)
    activate_online(machine, desk.online())
    assert give_up(machine, desk).receipt.credited
    installing.install_key(machine.store, "acme-cad", str(key.key), desk.edition.id)
    path.write_bytes(copy)
    assert not licensed(machine)
    assert desk.left(key) == 1


def test_an_older_licence_by_telephone_does_not_come_back_either(tmp_path, desk):
    key = desk.key(activations=1)
    machine = desk.machine(tmp_path / "one", key)
    apply(machine, desk.answer(show(machine).installation, key).confirmation)
    path, older = kept(machine)
    desk.clock.advance(days=1)
    apply(machine, desk.answer(show(machine, new=True).installation, key).confirmation)
    assert give_up(machine, desk).receipt.credited
    installing.install_key(machine.store, "acme-cad", str(key.key), desk.edition.id)
    path.write_bytes(older)
    assert not licensed(machine)
