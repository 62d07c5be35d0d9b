# SPDX-License-Identifier: Apache-2.0
"""Activations of machines by MAK and retail keys, their return, and what is left: the service on real databases."""

from dataclasses import replace

import pytest

from volact.core.fingerprint import Trait
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.returning import Receipt
from volact.publisher.administration.errors import (
    AgreementGroupError,
    KeyNotRaisedError,
    KeySupersededError,
    LimitUnfitError,
)
from volact.publisher.rows.change import Change
from volact.publisher.rows.ledger import Comparison, LedgerBrokenError
from volact.publisher.rows.records import AgreementOrganisationError, AgreementTakenError, OrganisationBlockedError
from volact.publisher.store import PublisherStore
from volact.sealing.returns import sign_return, verify_return
from volact.sealing.verify import TrustedLicence
from volact.sql.errors import DatabaseUnavailableError

DAY, HOUR = 86400, 3600


def refused(answer):
    assert isinstance(answer, SignedRefusal), answer
    return answer.refusal.code


def licensed(answer):
    assert isinstance(answer, TrustedLicence), answer
    return answer.licence


def add_version(site, version, *policy):
    """Another version of the product, with lines for every edition's policy."""
    lines = "\n".join(policy)
    toml = f"""
product = "acme-cad"
name = "Acme CAD"
version = {version}
[policy]
{lines}
[groups.servers]
number = 101
[groups.clients]
number = 102
parent = 101
[editions.professional]
name = "Acme CAD Professional"
group = "clients"
kind = "client"
[editions.render-server]
name = "Acme CAD Render Server"
group = "servers"
kind = "server"
"""
    site.publisher.add_product(toml.encode(), site.keys, site.clock(), "tester")


def test_a_machine_gets_a_perpetual_licence_and_the_pool_one_less(site):
    key, machine = site.pool_key(3), site.machine()
    licence = licensed(machine.ask(key))
    assert (licence.channel, licence.edition, licence.group) == (Channel.MAK, "professional", 102)
    assert licence.machine == machine.signer.machine
    assert licence.expires_at is None
    assert licence.fingerprint == machine.fingerprint
    assert licence.organisation == "Example Ltd"
    assert licence.certificates == ()
    issued = site.issued(key)
    assert (issued.used, issued.remaining) == (1, 2)
    assert issued.key_id == licence.key_id
    site.publisher.store.check_ledger()


def test_a_retail_key_is_for_one_copy(site):
    key = site.pool_key(channel=Channel.RETAIL)
    licensed(site.machine(1).ask(key, channel=Channel.RETAIL))
    answer = site.machine(2).ask(key, channel=Channel.RETAIL)
    assert refused(answer) == "activations-exhausted"
    assert answer.refusal.fields == {"partial": site.issued(key).partial, "limit": 1}


def test_the_same_machine_again_reinstalled_or_repaired_takes_none(site):
    key, machine = site.pool_key(1), site.machine()
    licensed(machine.ask(key))
    licensed(machine.ask(key))
    again = machine.reinstalled()
    again.hardware = {**machine.hardware, Trait.MACHINE_ID: "f" * 31 + "0", Trait.DISK_SERIAL: "NEW-DISK"}
    licensed(again.ask(key))
    assert site.issued(key).used == 1
    (held,) = site.publisher.store.activations(site.issued(key).key_id)
    assert (held.machine, held.times) == (again.signer.machine, 3)
    # Its hardware moves on with it: another part may be changed later.
    third = again.reinstalled()
    third.hardware = {**again.hardware, Trait.SMBIOS_SERIAL: "NEW-SERIAL"}
    licensed(third.ask(key))
    assert [act for act in site.acts() if act.startswith("machine-")] == ["machine-activated"] + [
        "machine-reactivated"
    ] * 3
    site.publisher.store.check_ledger()


def test_a_copied_installation_on_other_hardware_takes_another(site):
    key, machine = site.pool_key(2), site.machine(1)
    licensed(machine.ask(key))
    licensed(replace(site.machine(2), signer=machine.signer).ask(key))
    assert site.issued(key).used == 2
    assert refused(replace(site.machine(3), signer=machine.signer).ask(key)) == "activations-exhausted"
    licensed(machine.ask(key))  # each copy goes on with its own
    site.publisher.store.check_ledger()


def test_policy_can_count_every_activation(site):
    key, machine = site.pool_key(2), site.machine()
    licensed(machine.ask(key))
    add_version(site, 2, "reactivation_counts = true")
    licensed(machine.ask(key))
    assert site.issued(key).used == 2
    assert refused(machine.ask(key)) == "activations-exhausted"
    site.publisher.store.check_ledger()


def test_a_lost_answer_is_given_again_and_never_counted(site):
    add_version(site, 2, "reactivation_counts = true")
    key, machine = site.pool_key(5), site.machine()
    request = machine.request(key)
    first, again = licensed(machine.send(request)), licensed(machine.send(request))
    assert first.nonce == again.nonce
    assert site.issued(key).used == 1
    assert site.acts().count("machine-activated") == 1


def test_a_nonce_used_again_on_a_copied_installation_takes_a_place_of_its_own(site):
    key, machine = site.pool_key(2), site.machine()
    first = machine.request(key)
    licensed(machine.send(first))
    copies = [replace(first, fingerprint=site.machine(n).fingerprint, response_key=bytes([n] * 32)) for n in (7, 8)]
    assert licensed(machine.send(copies[0])).fingerprint == copies[0].fingerprint
    assert site.issued(key).used == 2
    assert refused(machine.send(copies[1])) == "activations-exhausted"
    licensed(machine.send(copies[0]))  # the copy's own answer, lost and asked for again
    assert site.issued(key).used == 2
    site.publisher.store.check_ledger()


def test_a_nonce_used_again_within_a_batch_takes_a_place_each(site):
    key, machine = site.pool_key(5), site.machine()
    first = machine.request(key)
    copy = replace(first, fingerprint=site.machine(7).fingerprint)
    asked = [(site.descriptor.id, machine.seal(one)) for one in (first, copy, copy)]
    assert [str(one.kind) for one in site.service.answer_all(asked)] == ["activated", "activated", "repeated"]
    assert site.issued(key).used == 2
    site.publisher.store.check_ledger()


def test_what_does_not_fit_is_refused_by_name(site, other_key):
    mak, machine = site.pool_key(5), site.machine()
    tag = int(site.folder.fingerprint[7:10], 16)
    assert refused(machine.ask(other_key(tag, 102, Channel.MAK))) == "key-unknown"
    assert refused(machine.ask("not a key")) == "key-unknown"
    assert refused(machine.ask(mak, edition="render-server")) == "key-group-mismatch"
    assert refused(machine.ask(mak, edition="none")) == "edition-unknown"
    assert refused(machine.ask(mak, product="none")) == "product-unknown"
    assert refused(machine.ask(mak, channel=Channel.RETAIL)) == "channel-not-served"
    assert refused(machine.ask(mak, channel=Channel.KMS_HOST)) == "channel-not-served"
    assert refused(machine.ask(mak, at=site.clock() - 5 * 3600)) == "clock-skew"
    assert site.issued(mak).used == 0


def test_a_pool_covers_its_own_group_and_none_below(site):
    key, machine = site.pool_key(5, "servers"), site.machine()
    assert refused(machine.ask(key, edition="professional")) == "key-group-mismatch"
    licensed(machine.ask(key, edition="render-server"))


def test_a_blocked_key_activates_nothing_and_takes_nothing_away(site):
    key, machine = site.pool_key(5), site.machine()
    licensed(machine.ask(key))
    site.publisher.block_key(site.issued(key), "leaked", site.clock(), "tester")
    assert refused(machine.ask(key)) == "key-blocked"
    assert refused(site.machine(2).ask(key)) == "key-blocked"
    assert site.issued(key).used == 1


def test_one_batch_shares_the_last_places_and_each_sees_what_came_before(site):
    key = site.pool_key(3)
    machines = [site.machine(n) for n in range(1, 6)]
    requests = [machine.request(key) for machine in machines]
    asked = [(site.descriptor.id, machine.seal(request)) for machine, request in zip(machines, requests, strict=True)]
    twice = [*asked, asked[0], (site.descriptor.id, b"rubbish")]
    *outcomes, repeated, broken = site.service.answer_all(twice)
    codes = [outcome.refusal.code if outcome.refusal else str(outcome.kind) for outcome in outcomes]
    assert codes == ["activated"] * 3 + ["activations-exhausted"] * 2
    assert str(repeated.kind) == "repeated"
    assert isinstance(broken, Exception)
    assert site.issued(key).used == 3
    site.publisher.store.check_ledger()


def test_a_reinstalled_machine_is_known_within_a_batch_too(site):
    key, machine = site.pool_key(5), site.machine()
    pair = [machine, machine.reinstalled()]
    asked = [(site.descriptor.id, one.seal(one.request(key))) for one in pair]
    assert [str(outcome.kind) for outcome in site.service.answer_all(asked)] == ["activated", "reactivated"]
    assert site.issued(key).used == 1
    site.publisher.store.check_ledger()


def test_fifty_machines_at_once_share_ten_activations(site, together):
    key = site.pool_key(10)
    machines = [site.machine(n) for n in range(50)]
    answers = together([lambda machine=machine: machine.ask(key) for machine in machines])
    assert sum(isinstance(answer, TrustedLicence) for answer in answers) == 10
    assert {a.refusal.code for a in answers if isinstance(a, SignedRefusal)} == {"activations-exhausted"}
    assert site.issued(key).used == 10
    site.publisher.store.check_ledger()


def test_one_request_that_spoils_the_transaction_spoils_it_for_itself_only(site, monkeypatch):
    key, machines = site.pool_key(5), [site.machine(n) for n in range(4)]
    spoilt, real = machines[2].signer.machine, Change.record_machine

    def record(change, kind, made, *rest):
        if made.machine == spoilt:
            raise ZeroDivisionError
        return real(change, kind, made, *rest)

    monkeypatch.setattr(Change, "record_machine", record)
    asked = [(site.descriptor.id, machine.seal(machine.request(key))) for machine in machines]
    outcomes = site.service.answer_all(asked)
    assert [isinstance(outcome, ZeroDivisionError) for outcome in outcomes] == [False, False, True, False]
    assert site.issued(key).used == 3
    site.publisher.store.check_ledger()


def test_a_database_that_is_gone_is_named_to_everybody_at_once(site, monkeypatch):
    key, machines, calls = site.pool_key(5), [site.machine(n) for n in range(4)], []

    def change(_):
        calls.append(1)
        raise DatabaseUnavailableError(database="there")

    monkeypatch.setattr(PublisherStore, "change", change)
    asked = [(site.descriptor.id, machine.seal(machine.request(key))) for machine in machines]
    assert {outcome.code for outcome in site.service.answer_all(asked)} == {"database-unavailable"}
    assert len(calls) == 1


# ---- agreements and keys


def agree(site, **changes):
    given = {"name": "EA-1", "organisation": "Example Ltd", "starts_at": site.clock(), "ends_at": None}
    given |= {"quantities": {102: 7}, "now": site.clock(), "actor": "tester", **changes}
    return site.publisher.add_agreement(**given)


def test_a_mak_takes_its_pool_from_the_agreement_and_ends_with_it(site):
    agree(site, ends_at=site.clock() + 10 * DAY)
    key, machine = site.pool_key(agreement="EA-1"), site.machine()
    assert site.issued(key).activations == 7
    licensed(machine.ask(key))
    site.clock.now += 10 * DAY
    answer = site.machine(2).ask(key)
    assert refused(answer) == "agreement-ended"
    assert answer.refusal.fields["agreement"] == "EA-1"
    site.publisher.change_agreement("EA-1", site.clock() + DAY, site.clock(), "tester")
    licensed(site.machine(2).ask(key))
    assert site.acts()[-2:] == ["agreement-changed", "machine-activated"]


def test_before_its_agreement_begins_a_key_activates_nothing(site):
    agree(site, starts_at=site.clock() + DAY)
    key = site.pool_key(agreement="EA-1")
    assert refused(site.machine().ask(key)) == "agreement-not-begun"
    site.clock.now += DAY
    licensed(site.machine().ask(key))


def test_a_host_key_ends_with_its_agreement_too(site):
    agree(site, ends_at=site.clock() + DAY, quantities={101: 1})
    key = site.key("servers", agreement="EA-1")
    licensed(site.host().ask(key))
    site.clock.now += DAY
    assert refused(site.host().ask(key)) == "agreement-ended"


def test_keys_are_issued_only_for_what_was_agreed_and_with_whom(site):
    agree(site)
    with pytest.raises(AgreementTakenError):
        agree(site)
    with pytest.raises(AgreementGroupError):
        site.pool_key(5, "servers", agreement="EA-1")
    site.publisher.add_organisation("Other Ltd", site.clock(), "tester")
    with pytest.raises(AgreementOrganisationError):
        site.publisher.issue_pool_keys(
            "Other Ltd", "acme-cad", "clients", site.clock(), "tester",
            channel=Channel.MAK, keys=site.keys, agreement="EA-1",
        )  # fmt: skip
    with pytest.raises(LimitUnfitError):
        site.pool_key()  # a MAK without an agreement needs a number


def test_retail_keys_are_issued_in_batches_each_with_its_own_activation(site):
    new = site.publisher.issue_pool_keys(
        "Example Ltd", "acme-cad", "clients", site.clock(), "tester",
        channel=Channel.RETAIL, keys=site.keys, count=20, activations=2,
    )  # fmt: skip
    assert len({str(one.key) for one in new}) == 20
    assert {one.issued.activations for one in new} == {2}
    assert site.acts().count("key-issued") == 20
    licensed(site.machine().ask(str(new[7].key), channel=Channel.RETAIL))
    assert [site.issued(str(one.key)).used for one in new] == [0] * 7 + [1] + [0] * 12


def test_a_raised_key_has_more_activations(site):
    key = site.pool_key(1)
    licensed(site.machine(1).ask(key))
    assert refused(site.machine(2).ask(key)) == "activations-exhausted"
    assert site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=2).remaining == 1
    licensed(site.machine(2).ask(key))
    with pytest.raises(KeyNotRaisedError):
        site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=1)
    with pytest.raises(KeyNotRaisedError):
        site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=2)


def test_a_key_is_raised_from_what_it_has_at_that_moment_not_from_what_was_read_before(site):
    key = site.pool_key(1)
    read_before = site.issued(key)
    site.publisher.raise_key(read_before, site.clock(), "tester", activations=500)
    with pytest.raises(KeyNotRaisedError) as caught:
        site.publisher.raise_key(read_before, site.clock(), "tester", activations=100)
    assert caught.value.fields == {"activations": 500, "hosts": 0}
    assert site.issued(key).activations == 500


def test_a_key_that_was_superseded_meanwhile_is_not_unblocked(site):
    key = site.pool_key(1)
    read_before = site.issued(key)
    site.publisher.supersede_key(read_before, site.keys, site.clock(), "tester")
    with pytest.raises(KeySupersededError):
        site.publisher.unblock_key(read_before, site.clock(), "tester")


def test_several_acts_together_are_one_change_or_none(site):
    key = site.pool_key(1)
    with pytest.raises(KeyNotRaisedError), site.publisher.store.together():
        site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=5)
        site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=4)
    assert site.issued(key).activations == 1
    with site.publisher.store.together():
        site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=5)
        site.publisher.block_key(site.issued(key), "enough", site.clock(), "tester")
    assert (site.issued(key).activations, site.issued(key).blocked_reason) == (5, "enough")
    assert site.acts()[-2:] == ["key-raised", "key-blocked"]
    site.publisher.store.check_ledger()


def test_a_superseded_key_hands_on_what_is_left_of_its_pool(site):
    old = site.pool_key(5)
    licensed(site.machine(1).ask(old))
    new = site.publisher.supersede_key(site.issued(old), site.keys, site.clock(), "tester")
    assert new.issued.activations == 4
    assert site.issued(old).superseded_by == new.issued.key_id
    assert refused(site.machine(2).ask(old)) == "key-blocked"
    licensed(site.machine(2).ask(str(new.key)))
    with pytest.raises(KeySupersededError):
        site.publisher.supersede_key(site.issued(old), site.keys, site.clock(), "tester")


def test_what_was_taken_meanwhile_is_not_handed_on_and_nothing_twice(site):
    old = site.pool_key(5)
    looked_up = site.issued(old)
    licensed(site.machine(1).ask(old))
    assert site.publisher.supersede_key(looked_up, site.keys, site.clock(), "tester").issued.activations == 4
    with pytest.raises(KeySupersededError):
        site.publisher.supersede_key(looked_up, site.keys, site.clock(), "tester")


def test_a_superseded_key_stays_blocked(site):
    old = site.pool_key(5)
    site.publisher.supersede_key(site.issued(old), site.keys, site.clock(), "tester")
    with pytest.raises(KeySupersededError):
        site.publisher.unblock_key(site.issued(old), site.clock(), "tester")
    assert refused(site.machine(2).ask(old)) == "key-blocked"


def test_a_key_that_was_issued_without_an_index_is_found_all_the_same(site):
    key = site.pool_key(5)
    site.tamper("UPDATE product_key SET lookup = NULL")
    licensed(site.machine().ask(key))


# ---- giving back


def test_an_activation_is_given_back_once_and_the_pool_has_it_again(site):
    key, machine = site.pool_key(1), site.machine(1)
    licence = licensed(machine.ask(key))
    receipt = machine.give_back(licence)
    assert isinstance(receipt, Receipt)
    assert (receipt.credited, receipt.used, receipt.remaining) == (True, 0, 1)
    assert refused(machine.give_back(licence)) == "activation-returned"
    licensed(site.machine(2).ask(key))
    assert refused(machine.ask(key)) == "activations-exhausted"
    assert site.acts().count("machine-returned") == 1
    site.publisher.store.check_ledger()


def test_an_old_request_does_not_bring_back_what_was_given_back(site):
    key, machine = site.pool_key(5), site.machine(1)
    request = machine.request(key)
    licence = licensed(machine.send(request))
    machine.give_back(licence)
    assert refused(machine.send(request)) == "activation-returned"
    assert site.issued(key).used == 0


def test_nobody_gives_back_what_another_machine_holds(site):
    key, machine = site.pool_key(5), site.machine(1)
    licence = licensed(machine.ask(key))
    assert refused(site.machine(2).give_back(licence)) == "activation-unknown"
    assert refused(machine.give_back(licence, root="sha256:" + "0" * 64)) == "wrong-issuer"
    assert refused(machine.give_back(licence, key_id="0" * 32)) == "key-unknown"
    assert refused(machine.give_back(licence, activation=bytes(16))) == "activation-unknown"
    assert site.issued(key).used == 1


def test_a_request_that_was_made_before_the_return_and_sent_after_it_uses_nothing_up(site):
    key, machine, twin = site.pool_key(5), site.machine(1), site.machine(2)
    early = [machine.request(key), machine.request(key, carried=True)]
    reinstalled = machine.reinstalled()
    theirs = reinstalled.request(key, carried=True)
    site.clock.now += HOUR
    licence = licensed(machine.ask(key))
    other = twin.request(key, carried=True)
    site.clock.now += HOUR
    machine.give_back(licence)
    site.clock.now += HOUR
    assert refused(machine.send(early[0])) == "activation-returned"
    assert refused(machine.carry(early[1])) == "activation-returned"
    assert refused(reinstalled.carry(theirs)) == "activation-returned", "the same hardware"
    assert site.issued(key).used == 0
    assert licensed(twin.carry(other)), "another machine"
    # What the machine asks for since then is granted, and an early request does not come between it and its return.
    again = licensed(machine.ask(key))
    assert refused(machine.carry(early[1])) == "activation-returned"
    assert machine.give_back(again).credited
    assert site.issued(key).used == 1
    site.publisher.store.check_ledger()


@pytest.mark.parametrize("wrong_by", [0, 400 * DAY, -3 * HOUR])
def test_a_machine_whose_clock_was_wrong_when_it_gave_back_is_activated_again(site, wrong_by):
    key, machine = site.pool_key(5), site.machine(1)
    licence = licensed(machine.ask(key))
    assert machine.give_back(licence, at=site.clock() + wrong_by).credited
    assert licensed(machine.ask(key, at=site.clock() + min(0, wrong_by)))


def test_an_old_proof_does_not_give_back_what_was_activated_since(site):
    key, machine = site.pool_key(5), site.machine(1)
    proof = machine.proof(licensed(machine.ask(key)))
    licensed(machine.ask(key))
    assert refused(machine.send_proof(proof)) == "activation-unknown"


def test_the_old_installation_does_not_give_back_what_the_new_one_holds(site):
    key, machine = site.pool_key(5), site.machine(1)
    old = licensed(machine.ask(key))
    new = machine.reinstalled()
    licence = licensed(new.ask(key))
    assert refused(machine.give_back(old)) == "activation-unknown"
    assert new.give_back(licence).credited


def test_a_carried_proof_is_taken_once(site):
    key, machine = site.pool_key(1), site.machine(1)
    proof = machine.proof(licensed(machine.ask(key)), response_key=b"")
    proven = verify_return(sign_return(proof, machine.signer.key))
    (outcome,) = site.service.answer_proven([proven], carried=True)
    assert (outcome.sealed, outcome.receipt.credited) == (b"", True)
    (again,) = site.service.answer_proven([proven], carried=True)
    assert again.refusal.code == "activation-returned"
    assert site.publisher.store.ledger()[-2].actor == "answer-file"


def test_what_a_snapshot_gains_is_bounded_by_the_cap_of_a_key_and_year(site):
    """The attack: activate, take a snapshot, give back, restore the snapshot.  The restored machine is licensed as it
    was, for nobody can take a perpetual licence from a disk; the pool has its activation again.  So each credited
    return may license one machine more than was bought: no more of them than the policy's cap."""
    add_version(site, 2, "returns_per_key_year = 3")
    key, restored = site.pool_key(2), []
    for number in range(10):
        machine = site.machine(number)
        answer = machine.ask(key)
        if isinstance(answer, SignedRefusal):
            break
        restored.append(answer.licence)  # the snapshot, which goes on being a good licence
        receipt = machine.give_back(answer.licence)
        assert receipt.credited == (number < 3)
    assert refused(answer) == "activations-exhausted"
    assert len(restored) == 2 + 3
    # Within the batch that returns many at once the cap is the same; a year later there are new ones.
    site.clock.now += 366 * DAY
    site.publisher.raise_key(site.issued(key), site.clock(), "tester", activations=10)
    machines = [site.machine(100 + n) for n in range(5)]
    proofs = [machine.proof(licensed(machine.ask(key)), response_key=b"") for machine in machines]
    proven = [verify_return(sign_return(p, m.signer.key)) for p, m in zip(proofs, machines, strict=True)]
    assert [one.receipt.credited for one in site.service.answer_proven(proven)] == [True] * 3 + [False] * 2
    site.publisher.store.check_ledger()


# ---- what is left


def test_whoever_holds_the_key_may_ask_what_is_left_of_it(site):
    key, machine = site.pool_key(5), site.machine()
    licensed(machine.ask(key))
    receipt = site.machine(2).inquire(key)
    assert (receipt.activations, receipt.used, receipt.remaining, receipt.blocked) == (5, 1, 4, False)
    assert receipt.key_id == site.issued(key).key_id
    site.publisher.block_key(site.issued(key), "", site.clock(), "tester")
    assert machine.inquire(key).blocked
    assert refused(machine.inquire("AEANN-WPM73-M3TEA-FNH9P-33GJK")) == "key-unknown"


# ---- revocation


def test_a_revoked_organisation_gets_no_key_and_its_keys_are_blocked(site):
    key, machine = site.pool_key(5), site.machine()
    licensed(machine.ask(key))
    host = site.host()
    licensed(host.ask(site.key()))
    revoked = site.publisher.revoke_organisation("Example Ltd", site.clock(), "left", site.clock(), "tester")
    assert (len(revoked.signers), revoked.epoch) == (1, 2)
    assert refused(machine.ask(key)) == "key-blocked"
    with pytest.raises(OrganisationBlockedError):
        site.pool_key(5)
    site.publisher.store.check_ledger()


def test_a_revoked_host_gets_no_certificate_by_any_key(site):
    host = site.host("kms1.example")
    licensed(host.ask(site.key()))
    revoked = site.publisher.revoke_host("kms1.example", site.clock() - DAY, "stolen", site.clock(), "tester")
    assert refused(host.ask(site.key())) == "host-revoked"
    status = site.publisher.store.revocations(site.clock())
    assert (status.epoch, dict(status.revoked)) == (2, {revoked.signers[0]: site.clock() - DAY})
    # A revocation is moved forwards never, back in time it may be.
    site.publisher.revoke_host(host.signer.machine.hex()[:12], site.clock() + DAY, "", site.clock(), "tester")
    assert site.publisher.store.revocations(0).revoked[revoked.signers[0]] == site.clock() - DAY
    site.publisher.revoke_issuer(revoked.signers[0], 5, "", site.clock(), "tester")
    assert site.publisher.store.revocations(0).revoked[revoked.signers[0]] == 5
    site.publisher.store.check_ledger()


# ---- definitions and the ledger


def test_a_new_version_changes_policy_and_old_licences_keep_verifying(site):
    from volact.sealing.verify import verify_licence

    key, machine = site.pool_key(5), site.machine()
    request = machine.request(key)
    outcome = site.service.answer(site.descriptor.id, machine.seal(request))
    from volact.sealing.envelope import open_answer

    token = open_answer(request.response_key, request.nonce, outcome.sealed).decode()
    add_version(site, 2, "lease_days = 7")
    site.clock.now += 3000 * DAY
    assert verify_licence(token, site.trust).licence.edition == "professional"
    assert site.publisher.newest("acme-cad").edition("professional").policy.lease_days == 7


def test_a_receipt_shows_that_the_ledger_was_cut_off_or_rewritten(site):
    key = site.pool_key(5)
    licence = licensed(site.machine(1).ask(key))
    licensed(site.machine(2).ask(key))
    store = site.publisher.store
    rows = store.ledger()
    assert licence.ledger.size == len(rows) - 1
    receipt = [licence.ledger]
    Comparison.with_checkpoints(receipt).check(rows)
    with pytest.raises(LedgerBrokenError):
        Comparison.with_checkpoints(receipt).check(rows[: licence.ledger.size - 1])
    changed = [*rows[: licence.ledger.size - 1], replace(rows[licence.ledger.size - 1], hash="0" * 64), rows[-1]]
    with pytest.raises(LedgerBrokenError):
        Comparison.with_checkpoints(receipt).check(changed)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE product_key SET used = used - 1 WHERE used > 0",
        "DELETE FROM activation",
        "UPDATE activation SET returned_at = 5",
        "UPDATE activation SET machine_id = nonce",
    ],
)
def test_a_pool_that_was_tampered_with_is_found(site, statement):
    licensed(site.machine().ask(site.pool_key(5)))
    site.publisher.store.check_ledger()
    site.tamper(statement)
    with pytest.raises(LedgerBrokenError):
        site.publisher.store.check_ledger()
