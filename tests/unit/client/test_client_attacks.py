# SPDX-License-Identifier: Apache-2.0
"""Attackers between a client and its host: none changes the client's licence, each is named."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.core.errors import MalformedError, VolactError
from volact.core.licence import Licence
from volact.core.policy import DAY, HOUR
from volact.core.product_key import Channel
from volact.core.refusal import ClockSkewError, HostNotActivatedError, Refusal
from volact.core.states import State
from volact.host.issuing import Accepted
from volact.sealing import answers, envelope
from volact.sealing.answers import (
    DescriptorExpiredError,
    DescriptorSignerError,
    LeaseTooLongError,
    NonceError,
    OtherLicenceError,
    OtherMachineError,
    StaleAnswerError,
    StatusExpiredError,
    StatusMissingError,
    SuiteRefusedError,
)
from volact.sealing.certificates import Role
from volact.sealing.proof import ProvenRequest
from volact.sealing.verify import (
    ChainError,
    GroupGrantError,
    RevokedError,
    RoleError,
    StatusOldError,
    UntrustedRootError,
)
from volact.testing import FakeClock, KmsHostSimulator, Site
from volact.testing.issuers import PublisherSimulator
from volact.wire.client import ServerError

GROUP = 101


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def host(site: Site) -> KmsHostSimulator:
    host = site.kms_host()
    host.fill(GROUP, 30)
    return host


@pytest.fixture
def machine(tmp_path, site: Site, host: KmsHostSimulator) -> ClientMachine:
    """Not yet licensed: an attack that worked would show."""
    return ClientMachine.ready(tmp_path, site)


class Between:
    """Somebody on the network: changes what passes, and has no key of ours."""

    def __init__(
        self,
        host: KmsHostSimulator,
        descriptor: Callable[[str], str] = lambda token: token,
        answer: Callable[[bytes], bytes] = lambda sealed: sealed,
    ) -> None:
        self.host, self.descriptor, self.answer = host, descriptor, answer

    def get_issuer(self, *args: Any) -> str:
        return self.descriptor(self.host.get_issuer(*args))

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        return self.answer(self.host.activate(issuer, sealed))


Change = Callable[[Licence, ProvenRequest], Licence]


class Insider(KmsHostSimulator):
    """A host with good keys that answers with something else than it should: ``change`` is given the licence."""

    change: Change

    def _license(self, proven: ProvenRequest, accepted: Accepted, now: int) -> str:
        original = self.issuer.licence
        self.issuer.licence = lambda licence: original(self.change(licence, proven))  # type: ignore[method-assign]
        try:
            return super()._license(proven, accepted, now)
        finally:
            self.issuer.licence = original  # type: ignore[method-assign]


def insider(site: Site, change: Change) -> Insider:
    host = Insider(site.publisher, site.definition, frozenset({101, 102}), site.clock)
    host.fill(GROUP, 30)
    host.change = change
    return host


def refuses(machine: ClientMachine, server: object, kind: type[VolactError]) -> VolactError:
    """The attack fails with its own name, twice: on a machine without a licence, and on one that has a good one."""
    with pytest.raises(kind) as caught:
        machine.activate(server)
    assert type(caught.value) is kind
    assert machine.evaluate().state is State.INITIAL_GRACE
    assert machine.licences() == {}
    attempt = machine.store.attempt(PRODUCT)
    assert attempt is not None
    assert attempt.code == kind.code

    honest = machine.site.kms_host()
    honest.fill(GROUP, 30)
    machine.activate(honest)
    before = machine.licences()
    with pytest.raises(kind):
        machine.activate(server)
    assert machine.licences() == before
    assert machine.check()
    return caught.value


def test_a_rogue_host_of_another_root(site, machine):
    rogue_publisher = PublisherSimulator("Acme Software", site.clock)
    rogue = KmsHostSimulator(rogue_publisher, site.definition, frozenset({101}), site.clock)
    rogue.fill(GROUP, 30)
    refuses(machine, rogue, UntrustedRootError)
    assert rogue.requests == []  # it was never told anything about the machine


def test_an_answer_replayed_from_an_earlier_request(machine, host):
    machine.activate(host)
    old = host.answers[-1]
    with pytest.raises(envelope.SealError):
        machine.activate(Between(host, answer=lambda _: old))


def test_a_licence_of_an_earlier_request_sealed_anew(site, machine):
    """The host itself replays: its seal opens, the nonce does not fit."""
    kept = []

    def first_again(licence, proven):
        kept.append(licence)
        return kept[0]

    host = insider(site, first_again)
    other = ClientMachine.ready(machine.folder.parent / "other", site, 2)
    other.activate(host)
    refuses(machine, host, NonceError)


def test_a_replayed_descriptor(machine, host):
    nonce = bytes(16)
    old = host.get_issuer(machine.site.publisher.fingerprint, PRODUCT, GROUP, nonce)
    refuses(machine, Between(host, descriptor=lambda _: old), NonceError)


def test_a_stored_descriptor_is_not_used_after_its_end(site, machine, host):
    machine.activate(host)
    site.clock.advance(days=2)
    host.requests.clear()
    with pytest.raises(ServerError):
        machine.activate(Silent(host))
    assert host.requests == []


class Silent(Between):
    """Gives no descriptor: what is sealed to it would be sealed to the stored one."""

    def get_issuer(self, *args: Any) -> str:
        raise ServerError(host="h", port=1688, status=503, message="no descriptor today")


def test_a_downgraded_suite(tmp_path):
    site = Site.make()
    edition = site.definition.editions[0]
    policy = dataclasses.replace(edition.policy, suites=(envelope.HYBRID,))
    editions = (dataclasses.replace(edition, policy=policy), *site.definition.editions[1:])
    site.definition = dataclasses.replace(site.definition, editions=editions)
    site.token = site.publisher.sign_definition(site.definition)
    machine = ClientMachine.ready(tmp_path, site)
    weak = site.kms_host()
    weak.fill(GROUP, 30)
    with pytest.raises(SuiteRefusedError):
        machine.activate(weak)
    assert weak.requests == []
    strong = site.kms_host(suite=envelope.HYBRID)
    strong.fill(GROUP, 30)
    assert machine.activate(strong).evaluation.state is State.LICENSED


def test_a_suite_changed_on_its_way(machine, host):
    header, payload, signature = "", "", ""

    def weaken(token: str) -> str:
        nonlocal header, payload, signature
        header, payload, signature = token.split(".")
        from volact.core.encoding import b64decode, b64encode

        changed = b64decode(payload).replace(b'"suite":"x25519"', b'"suite":"none00"')
        return f"{header}.{b64encode(changed)}.{signature}"

    with pytest.raises(VolactError) as caught:
        machine.activate(Between(host, descriptor=weaken))
    assert caught.value.code == "signature-invalid"


@pytest.mark.parametrize("message", ["host-not-activated: no", "clock-skew", "key-blocked: gone for good"])
def test_an_unsigned_refusal_is_only_a_word_about_the_network(machine, message):
    class Liar:
        def get_issuer(self, *args: Any) -> str:
            raise ServerError(host="kms", port=1688, status=403, message=message)

    error = refuses(machine, Liar(), ServerError)
    assert message in str(error)


def test_a_refusal_of_another_request(machine, host):
    """A signed refusal is bound to its nonce: it cannot be kept and shown to others."""
    host.refuse = Refusal.of(HostNotActivatedError, product=PRODUCT)
    with pytest.raises(HostNotActivatedError):
        machine.activate(host)
    old = host.answers[-1]
    host.refuse = None
    with pytest.raises(envelope.SealError):
        machine.activate(Between(host, answer=lambda _: old))


def test_a_refusal_signed_under_another_root(site, machine, host):
    rogue = PublisherSimulator("Acme Software", site.clock)
    signer = KmsHostSimulator(rogue, site.definition, frozenset({101}), site.clock).issuer
    host.issuer.refusal = signer.refusal
    host.refuse = Refusal.of(HostNotActivatedError, product=PRODUCT)
    with pytest.raises(UntrustedRootError):
        machine.activate(host)


def test_a_licence_of_another_machine(site, machine):
    host = insider(site, lambda licence, _: dataclasses.replace(licence, machine=bytes(32)))
    refuses(machine, host, OtherMachineError)


@pytest.mark.parametrize("change", [{"edition": "server"}, {"product": "acme-cam"}, {"group": 102}])
def test_a_licence_of_something_else(site, machine, change):
    host = insider(site, lambda licence, _: dataclasses.replace(licence, **change))
    refuses(machine, host, OtherLicenceError)


def test_a_stale_answer(site, machine):
    host = insider(site, lambda licence, _: dataclasses.replace(licence, issued_at=licence.issued_at - 5 * HOUR))
    host.issuer = site.publisher.issuer(host._key(), Role.KMS_HOST, "Contoso", {101})
    with pytest.raises((StaleAnswerError, ChainError)):
        machine.activate(host)
    assert machine.licences() == {}


def test_an_answer_from_the_future(site, machine):
    host = insider(site, lambda licence, _: dataclasses.replace(licence, issued_at=licence.issued_at + 5 * HOUR))
    refuses(machine, host, StaleAnswerError)


def test_a_lease_longer_than_the_policy(site, machine):
    host = insider(site, lambda licence, _: dataclasses.replace(licence, expires_at=licence.issued_at + 180 * DAY + 1))
    refuses(machine, host, LeaseTooLongError)


def test_a_lease_without_an_end(site, machine):
    refuses(machine, insider(site, lambda licence, _: dataclasses.replace(licence, expires_at=None)), LeaseTooLongError)


def test_a_group_that_the_certificate_does_not_grant(site, machine, host):
    host.issuer = site.publisher.issuer(host._key(), Role.KMS_HOST, "Contoso", {102})
    refuses(machine, host, GroupGrantError)


def test_an_issuer_of_another_role(site, machine, host):
    host.issuer = site.publisher.issuer(host._key(), Role.PUBLISHER, "Contoso", {101})
    refuses(machine, host, RoleError)


def test_an_ended_certificate(site, machine, host):
    site.clock.advance(days=366)
    machine.site.token = site.publisher.sign_definition(site.definition)
    with pytest.raises(ChainError):
        machine.activate(host)


def test_a_descriptor_signed_by_another_key_of_the_publisher(site, machine, host):
    other = site.kms_host()
    grant = dataclasses.replace(host.issuer.grant, descriptor_signer=other.issuer.thumbprint)
    from volact.sealing import certificates, sign

    certificate = certificates.make_end(
        site.publisher._ca, host.issuer.key.public_key, Role.KMS_HOST, grant, "Contoso", site.clock(), 7
    )
    host.issuer = sign.Issuer(host.issuer.key, [certificate, site.publisher.issuing], site.publisher.root)
    refuses(machine, host, DescriptorSignerError)


def test_a_revoked_host(site, machine, host):
    site.publisher.revoke(host.issuer)
    host.status = site.publisher.status_token()
    refuses(machine, host, RevokedError)


def test_a_status_from_before_a_revocation(site, machine, host):
    stale = site.kms_host()  # still staples epoch 1
    stale.fill(GROUP, 30)
    site.publisher.revoke(site.kms_host().issuer)
    host.renew()
    machine.activate(host)  # brings epoch 2
    with pytest.raises(StatusOldError):
        machine.activate(stale)
    assert machine.check()


def test_a_status_that_is_missing_or_too_old(site, machine, host):
    host.status = ""
    with pytest.raises(StatusMissingError):
        machine.activate(host)
    host.status = site.publisher.status_token()
    site.clock.advance(days=366)
    host.issuer = site.publisher.issuer(host._key(), Role.KMS_HOST, "Contoso", {101})
    with pytest.raises(StatusExpiredError):
        machine.activate(host)


def test_a_host_that_dates_its_descriptor_back_to_an_old_status(tmp_path):
    site = Site.make(status_max_age_days=10)
    host = site.kms_host()
    host.fill(GROUP, 30)
    machine = ClientMachine.ready(tmp_path, site)
    began = site.clock()
    site.clock.advance(days=20)  # the status that it staples is from before it was revoked, say

    class Backdating:
        def get_issuer(self, *args: Any) -> str:
            host.clock = lambda: began + 5 * DAY
            token = host.get_issuer(*args)
            host.clock = site.clock
            return token

        def activate(self, *args: Any) -> bytes:
            return host.activate(*args)

    with pytest.raises(StatusExpiredError):
        machine.activate(Backdating())
    assert machine.evaluate().state is State.INITIAL_GRACE


@pytest.mark.parametrize("junk", [b"", b"x", bytes(40), bytes(70000)])
def test_junk_in_the_place_of_an_answer(machine, host, junk):
    with pytest.raises((envelope.SealError, MalformedError)):
        machine.activate(Between(host, answer=lambda _: junk))
    assert machine.licences() == {}


@pytest.mark.parametrize("junk", ["", "a.b.c", "…", "x" * 300_000])
def test_junk_in_the_place_of_a_descriptor(machine, host, junk):
    with pytest.raises(VolactError) as caught:
        machine.activate(Between(host, descriptor=lambda _: junk))
    assert caught.value.code == "malformed"


def test_every_bit_of_an_answer_counts(machine, host):
    for position in (0, 5, 13, 40, -20, -1):

        def flip(sealed: bytes, position: int = position) -> bytes:
            changed = bytearray(sealed)
            changed[position] ^= 1
            return bytes(changed)

        with pytest.raises(envelope.SealError):
            machine.activate(Between(host, answer=flip))


def test_a_host_that_lost_its_sealing_key_is_asked_anew_once(site, machine, host):
    """An issuer that does not know the key says so, unsigned: the descriptor is fetched again, with a fresh nonce."""
    machine.activate(host)
    host.opening = envelope.OpeningKey.generate()
    server = _Renewed(host)
    assert machine.activate(server).evaluation.state is State.LICENSED
    assert server.unknown == 1
    server.always = True
    with pytest.raises(ServerError):
        machine.activate(server)
    assert server.unknown == 3  # once with the stored descriptor, once with a fresh one, and then it stops


class _Renewed(Between):
    unknown = 0
    always = False

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        if self.always or issuer != self.host.opening.id:
            self.unknown += 1
            raise ServerError(host="kms", port=1688, status=404, message="issuer-unknown: no such key")
        return self.host.activate(issuer, sealed)


def test_the_most_telling_cause_is_reported_and_every_host_is_listed(site, machine, host):
    """Never "no host reachable" where a host answered: the clock's error beats a dead host and a rogue."""
    dead, rogue = (
        site.kms_host(),
        KmsHostSimulator(PublisherSimulator("Other", site.clock), site.definition, frozenset({101}), site.clock),
    )
    dead.down = True
    host.clock = FakeClock(site.clock() + 5 * HOUR)
    with pytest.raises(ClockSkewError) as caught:
        machine.activate(dead, rogue, host)
    tried = caught.value.fields["attempts"]
    assert [one["code"] for one in tried] == ["host-unreachable", "issuer-untrusted", "clock-skew"]
    assert [one.code for one in machine.store.attempt(PRODUCT).tried] == [one["code"] for one in tried]


def test_the_next_host_serves_where_the_first_is_dead_or_refuses(site, machine, host):
    dead, poor = site.kms_host(), site.kms_host(groups=())
    dead.down = True
    outcome = machine.activate(dead, poor, host)
    assert outcome.evaluation.state is State.LICENSED
    assert [one.code for one in outcome.tried] == ["host-unreachable", "group-not-granted", ""]
    assert outcome.host == "host3.example.test:1688"


def test_a_refusal_may_ask_for_a_later_retry_but_not_for_never(site, machine, host):
    host.refuse = Refusal.of(HostNotActivatedError, retry_after=10**9, product=PRODUCT)
    with pytest.raises(HostNotActivatedError):
        machine.activate(host)
    due = machine.store.attempt(PRODUCT).next_due - site.clock()
    assert DAY <= due <= 1.1 * DAY


def test_a_descriptor_of_a_file_must_not_have_ended(site, machine, host):
    """What a stored descriptor is held against, at the verifier itself."""
    token = host.get_issuer(site.publisher.fingerprint, PRODUCT, GROUP, bytes(16))
    with pytest.raises(DescriptorExpiredError):
        answers.verify_descriptor(
            token,
            site.publisher.trust,
            Channel.VOLUME,
            now=site.clock() + 2 * DAY,
            nonce=b"",
            suites=("x25519",),
            status_max_age=DAY * 365,
        )
