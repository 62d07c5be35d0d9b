# SPDX-License-Identifier: Apache-2.0
"""The publisher as an issuer, in one process on a real database: what a host gets, and what it is refused."""

import asyncio
import base64
import secrets
from dataclasses import replace

import pytest
from cryptography import x509

from volact.core.errors import MalformedError
from volact.core.product_key import Channel, publisher_tag
from volact.core.refusal import SignedRefusal
from volact.publisher.answering.service import STATUS_SECONDS
from volact.publisher.rows.change import REFUSALS_PER_HOUR
from volact.sealing import certificates
from volact.sealing.certificates import Role
from volact.sealing.envelope import SealError, seal_request
from volact.sealing.keys import LocalKey
from volact.sealing.proof import RequestSignatureError
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import TrustedLicence, verify_status
from volact.wire.server import IssuerUnknownError

DAY, HOUR = 86400, 3600


def refused(answer) -> str:
    assert isinstance(answer, SignedRefusal), answer
    return answer.refusal.code


def licensed(answer) -> TrustedLicence:
    assert isinstance(answer, TrustedLicence), answer
    return answer


def leaf_of(answer) -> x509.Certificate:
    return certificates.load_der(base64.b64decode(licensed(answer).licence.certificates[0]))


def test_a_host_gets_a_certificate_for_its_machine_key_and_its_groups(site):
    host, key = site.host("kms1.example"), site.key("servers")
    answer = licensed(host.ask(key))
    leaf = leaf_of(answer)
    grant = certificates.grant_of(leaf)
    assert certificates.role_of(leaf) is Role.KMS_HOST
    assert grant.organisation == "Example Ltd"
    assert grant.groups == {101, 102}
    assert grant.descriptor_signer == certificates.key_thumbprint(host.signer.key.public_key)
    assert certificates.public_key_of(leaf) == host.signer.key.public_key
    licence = answer.licence
    assert (licence.channel, licence.group, licence.edition) == (Channel.KMS_HOST, 101, "")
    assert licence.organisation == "Example Ltd"
    assert licence.expires_at == int(leaf.not_valid_after_utc.timestamp()) == site.clock() + 365 * DAY
    assert verify_status(licence.status, site.trust).epoch == 1


def test_the_key_of_a_lower_group_grants_only_that_group(site):
    assert certificates.grant_of(leaf_of(site.host().ask(site.key("clients")))).groups == {102}


def test_by_file_the_same_answer_comes_back_even_weeks_later(site):
    host, key = site.host(), site.key()
    request = host.request(key)
    site.clock.now += 29 * DAY
    assert licensed(host.carry(request)).licence.machine == host.signer.machine
    assert site.publisher.store.ledger()[-1].actor == "answer-file"


def test_a_carried_request_is_refused_after_thirty_days(site):
    host, key = site.host(), site.key()
    request = host.request(key)
    site.clock.now += 30 * DAY + 1
    assert refused(host.carry(request)) == "clock-skew"


@pytest.mark.parametrize("seconds", [-4 * HOUR - 1, 4 * HOUR + 1])
def test_clocks_more_than_four_hours_apart_are_refused_by_their_own_name(site, seconds):
    answer = site.host().ask(site.key(), at=site.clock() + seconds)
    assert refused(answer) == "clock-skew"
    assert answer.refusal.fields == {"difference": 4 * HOUR + 1, "tolerance": 4 * HOUR}


def test_what_does_not_fit_is_refused_by_name(site, other_key):
    host, key = site.host(), site.key()
    tag = publisher_tag(site.folder.fingerprint)
    assert refused(host.ask(key, product="other")) == "product-unknown"
    assert refused(host.ask(key, channel=Channel.VOLUME)) == "channel-not-served"
    assert refused(host.ask(other_key(tag, 101, Channel.KMS_HOST))) == "key-unknown"
    assert refused(host.ask(other_key(tag ^ 1, 101, Channel.KMS_HOST))) == "key-unknown"
    assert refused(host.ask(other_key(tag, 101, Channel.VOLUME))) == "channel-not-served"
    assert refused(host.ask("not a key")) == "key-unknown"
    assert refused(host.ask("")) == "key-unknown"
    assert refused(host.ask(key.lower())) == "key-unknown"


def test_a_request_made_for_another_issuer_is_refused(site):
    host = site.host()
    request = host.request(site.key(), issuer="0" * 32)
    outcome = site.service.answer(site.descriptor.id, host.seal(request))
    assert outcome.refusal is not None
    assert outcome.refusal.code == "wrong-issuer"


def test_a_blocked_key_is_refused_until_it_is_unblocked(site):
    host, key = site.host(), site.key()
    issued = site.publisher.find_key(key)
    assert site.publisher.block_key(issued, "stolen", site.clock(), "tester")
    assert not site.publisher.block_key(issued, "stolen", site.clock(), "tester")
    answer = host.ask(key)
    assert refused(answer) == "key-blocked"
    assert answer.refusal.fields == {"partial": issued.partial}
    assert site.publisher.unblock_key(issued, site.clock(), "tester")
    licensed(host.ask(key))


def test_the_seventh_host_of_a_key_is_refused_and_the_first_six_go_on(site):
    key = site.key()
    hosts = [site.host(f"kms{n}") for n in range(7)]
    for host in hosts[:6]:
        licensed(host.ask(key))
    answer = hosts[6].ask(key)
    assert refused(answer) == "host-limit-reached"
    assert answer.refusal.fields["limit"] == 6
    licensed(hosts[0].ask(key))


def test_the_eleventh_activation_of_a_host_is_refused(site):
    host, key = site.host(), site.key()
    for _ in range(10):
        licensed(host.ask(key))
    assert refused(host.ask(key)) == "activation-limit-reached"
    licensed(site.host("another").ask(key))


def test_a_lost_answer_is_given_again_and_is_not_counted(site):
    host, key = site.host(), site.key(activations=1)
    request = host.request(key)
    first, again = leaf_of(host.send(request)), leaf_of(host.send(request))
    assert first == again
    assert len(site.publisher.store.host_activations()) == 1
    assert refused(host.ask(key)) == "activation-limit-reached"


def test_a_nonce_of_another_machine_is_no_repetition(site):
    one, other, key = site.host("one"), site.host("other"), site.key(hosts=1)
    request = one.request(key)
    licensed(one.send(request))
    assert refused(other.send(other.request(key, nonce=request.nonce))) == "host-limit-reached"


def test_the_yearly_renewal_is_not_counted(site):
    host, key = site.host(), site.key(activations=1)
    first = leaf_of(host.ask(key))
    site.clock.now += 274 * DAY
    assert refused(host.ask(key)) == "activation-limit-reached"
    site.clock.now += 1 * DAY
    second = leaf_of(host.ask(key))
    assert second.not_valid_after_utc > first.not_valid_after_utc
    assert second.serial_number != first.serial_number
    site.clock.now += 500 * DAY  # the certificate ended in between; its place is still the host's
    licensed(host.ask(key))
    assert [act for act in site.acts() if act.startswith("host-")] == ["host-activated", "host-renewed", "host-renewed"]


def test_a_renewed_certificate_grants_what_newer_definitions_put_below_the_group(site):
    host, key = site.host(), site.key("servers")
    licensed(host.ask(key))
    toml = b"""
product = "acme-view"
name = "Acme View"
version = 1
[groups.servers]
number = 101
[groups.viewers]
number = 103
parent = 101
[editions.free]
name = "Free"
group = "viewers"
kind = "client"
"""
    site.publisher.add_product(toml, site.keys, site.clock(), "tester")
    assert certificates.grant_of(leaf_of(host.ask(key))).groups == {101, 102, 103}


def test_a_key_serves_no_product_without_its_group(site):
    toml = b"""
product = "other"
name = "Other"
version = 1
[groups.others]
number = 900
[editions.one]
name = "One"
group = 900
kind = "client"
"""
    site.publisher.add_product(toml, site.keys, site.clock(), "tester")
    assert refused(site.host().ask(site.key(), product="other")) == "group-not-granted"


def test_what_cannot_be_opened_or_proven_is_an_error_and_leaves_no_row(site):
    host, key = site.host(), site.key()
    rows = len(site.acts())
    sealed = host.seal(host.request(key))
    with pytest.raises(IssuerUnknownError):
        site.service.answer("0" * 32, sealed)
    with pytest.raises(SealError):
        site.service.answer(site.descriptor.id, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(MalformedError):
        site.service.answer(site.descriptor.id, bytes(70_000))
    descriptor = site.descriptor
    with pytest.raises(MalformedError):
        site.service.answer(descriptor.id, seal_request(descriptor.suite, descriptor.public_key, b"\xff\xfe"))
    head, _, rest = MachineSigner(LocalKey.generate()).request(host.request(key)).partition(".")
    stolen = f"{host.signer.request(host.request(key)).split('.')[0]}.{rest}"
    assert head != stolen.split(".")[0]
    with pytest.raises(RequestSignatureError):
        site.service.answer(descriptor.id, seal_request(descriptor.suite, descriptor.public_key, stolen.encode()))
    assert len(site.acts()) == rows


def test_each_act_has_its_ledger_row(site):
    host, key = site.host(), site.key(activations=2)
    host.ask(key)
    host.ask(key)
    host.ask(key)
    assert site.acts() == [
        "publisher-initialised",
        "product-added",
        "organisation-added",
        "key-issued",
        "host-activated",
        "host-reactivated",
        "request-refused",
    ]
    assert site.publisher.store.check_ledger().seq == 7


def test_refusals_do_not_fill_the_ledger(site, other_key):
    key = other_key(publisher_tag(site.folder.fingerprint), 101, Channel.KMS_HOST)
    host = site.host()
    for _ in range(REFUSALS_PER_HOUR + 5):
        assert refused(host.ask(key)) == "key-unknown"
    assert site.acts().count("request-refused") == REFUSALS_PER_HOUR
    blocked = site.key()
    site.publisher.block_key(site.publisher.find_key(blocked), "", site.clock(), "tester")
    host.ask(blocked)
    assert site.acts().count("request-refused") == REFUSALS_PER_HOUR + 1
    site.clock.now += HOUR + 1
    host.ask(key)
    assert site.acts().count("request-refused") == REFUSALS_PER_HOUR + 2


def test_fifty_hosts_at_once_share_the_six_places_of_a_key(site, together):
    key = site.key()
    hosts = [site.host(f"kms{n}") for n in range(50)]
    answers = together([lambda host=host: host.ask(key) for host in hosts])
    assert sum(isinstance(answer, TrustedLicence) for answer in answers) == 6
    assert {a.refusal.code for a in answers if isinstance(a, SignedRefusal)} == {"host-limit-reached"}
    assert len({act.machine for act in site.publisher.store.host_activations()}) == 6
    site.publisher.store.check_ledger()


def test_one_request_sent_many_times_at_once_is_one_act(site, together):
    host, key = site.host(), site.key(activations=1)
    request = host.request(key)
    sealed = host.seal(request)
    answers = together([lambda: site.service.answer(site.descriptor.id, sealed)] * 12)
    leaves = {leaf_of(host.read(request, answer.sealed)).serial_number for answer in answers}
    assert len(leaves) == 1
    assert len(site.publisher.store.host_activations()) == 1


def test_the_descriptor_is_made_for_the_nonce_and_only_for_our_root(site):
    nonce = secrets.token_bytes(16)
    token = site.service.describe(site.folder.fingerprint, nonce)
    assert token
    with pytest.raises(IssuerUnknownError):
        site.service.describe("sha256:" + "0" * 64, nonce)
    with pytest.raises(MalformedError):
        site.service.describe(site.folder.fingerprint, nonce[1:])


def test_the_revocation_status_stays_young(site):
    key = site.key()
    site.clock.now += 200 * DAY
    status = verify_status(licensed(site.host().ask(key)).licence.status, site.trust)
    assert 0 <= site.clock() - status.issued_at < STATUS_SECONDS


def test_a_host_whose_name_does_not_fit_into_a_certificate_is_activated_all_the_same(site):
    for name in ("", "Ω" * 100, "x" * 253):
        licensed(site.host(name).ask(site.key()))


def test_an_organisation_with_a_long_name_keeps_it_whole_in_the_grant(site):
    name = "Österreichische " * 10 + "AG"
    site.publisher.add_organisation(name, site.clock(), "tester")
    new = site.publisher.issue_host_key(name, "acme-cad", "servers", site.clock(), "tester")
    assert certificates.grant_of(leaf_of(site.host().ask(str(new.key)))).organisation == name


def test_what_a_machine_asks_binds_only_itself(site):
    one, other, key = site.host("one"), site.host("other"), site.key()
    request = one.request(key)
    outcome = site.service.answer(site.descriptor.id, other.seal(replace(request)))
    assert outcome.machine == other.signer.machine


def test_who_asks_for_descriptors_all_the_time_keeps_nobody_from_being_activated(site):
    key, host = site.key(), site.host()
    request = host.request(key)

    async def both() -> int:
        nonce = bytes(16)
        others = [
            asyncio.ensure_future(site.service.descriptor(site.folder.fingerprint, "acme-cad", 101, nonce))
            for _ in range(1500)
        ]
        await asyncio.sleep(0)
        read = host.read(request, await site.service.activate(site.descriptor.id, host.seal(request)))
        assert isinstance(read, TrustedLicence)
        waiting = sum(not one.done() for one in others)
        await asyncio.gather(*others)
        return waiting

    assert asyncio.run(both()) > 0
