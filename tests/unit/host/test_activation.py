# SPDX-License-Identifier: Apache-2.0
"""A host's own activation: what it takes from a publisher, and what it does not, even from its own."""

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.site import Vendor
from volact.core.encoding import Fields
from volact.core.errors import VolactError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.issuer import IssuerDescriptor, RevocationStatus
from volact.core.licence import Licence
from volact.core.policy import DAY
from volact.host.folder import HostFolder
from volact.issuer import activation
from volact.issuer.activation import HostFacts
from volact.sealing import certificates, envelope, jws
from volact.sealing.certificates import Grant, Role
from volact.sealing.envelope import X25519
from volact.sealing.keys import LocalKey
from volact.testing import FakeClock, PublisherSimulator
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP

ME = HostFacts("kms1.example.com", Fingerprint({}))


class Publisher:
    """The simulator's two calls for host keys; each knob makes one thing wrong."""

    def __init__(self, simulator: PublisherSimulator) -> None:
        self.simulator = simulator
        self.role, self.key, self.lifetime = Role.KMS_HOST, None, certificates.YEAR
        self.certifier = simulator
        self.certified, self.shift, self.status_token = True, 0, None
        self.licence: Callable[[Licence], Licence] = lambda licence: licence
        self.answers: list[bytes] = []

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        simulator, opening, now = self.simulator, self.simulator._opening, self.simulator.clock()
        described = IssuerDescriptor(
            opening.id, simulator.name, opening.suite, opening.public, now, now + DAY, nonce, simulator.status_token()
        )
        return simulator._own.descriptor(described)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        token = jws.parse(self.simulator._opening.open_request(sealed).decode(), "volact-request+jwt")
        assert token.jwk is not None
        key = jws.key_of(Fields(token.jwk, "key"))
        claims = token.claims()
        nonce, response_key = claims.octets("nonce"), claims.octets("response_key")
        licence = self.licence(self._licence(key, jws.thumbprint(token.jwk), nonce, claims.text("product")))
        answer = envelope.seal_answer(response_key, nonce, self.simulator._own.licence(licence).encode())
        self.answers.append(answer)
        return answer

    def _licence(self, key: Any, machine: bytes, nonce: bytes, product: str) -> Licence:
        now = self.simulator.clock() + self.shift
        subject = self.key.public_key if self.key else key
        grant = Grant("Contoso", frozenset({CLIENT_GROUP, SERVER_GROUP}), certificates.key_thumbprint(subject))
        leaf = certificates.make_end(
            self.certifier._ca, subject, self.role, grant, "Contoso", self.simulator.clock(), 77, self.lifetime
        )
        chain = (leaf, self.certifier.issuing) if self.certified else ()
        return Licence(
            issuer=self.simulator._opening.id,
            machine=machine,
            product=product,
            edition="",
            group=SERVER_GROUP,
            channel=activation_channel(),
            key_id="0" * 32,
            nonce=nonce,
            issued_at=now,
            expires_at=now + self.lifetime,
            fingerprint=Fingerprint({}),
            organisation="Contoso",
            certificates=tuple(base64.b64encode(certificates.der(one)).decode() for one in chain),
            status=self.simulator.status_token() if self.status_token is None else self.status_token,
        )


def activation_channel() -> Any:
    return HostFolder.kind.key_channel


@dataclasses.dataclass
class Here:
    vendor: Vendor
    publisher: Publisher
    folder: HostFolder
    clock: FakeClock

    @property
    def key(self) -> Any:
        (key,) = self.folder.host_keys()
        return key

    def activate(self) -> activation.Activated:
        return activation.activate_online(self.folder, self.key, self.publisher, ME, now=self.clock())

    def fails(self, code: str) -> None:
        before = {path: path.read_bytes() for path in self.folder.path.rglob("*") if path.is_file()}
        with pytest.raises(VolactError) as caught:
            self.activate()
        assert caught.value.code == code
        assert {path: path.read_bytes() for path in self.folder.path.rglob("*") if path.is_file()} == before


@pytest.fixture
def here(tmp_path: Path) -> Here:
    clock = FakeClock()
    vendor = Vendor.make(tmp_path, clock=clock)
    folder = HostFolder.create(tmp_path / "host")
    folder.add_product(vendor.file.read_text(), vendor.root)
    folder.install_key(vendor.host_key(), X25519)
    return Here(vendor, Publisher(vendor.publisher), folder, clock)


def test_an_activation_brings_a_certificate_for_a_year_and_the_groups_of_the_key(here):
    stamp = here.folder.stamp.read_bytes()
    done = here.activate()
    assert (done.organisation, done.groups) == ("Contoso", {CLIENT_GROUP, SERVER_GROUP})
    assert done.certificate_ends_at == here.clock() + certificates.YEAR
    assert here.key.activated
    assert here.folder.stamp.read_bytes() != stamp


def test_a_certificate_for_another_key_is_refused(here):
    here.publisher.key = LocalKey.generate()
    here.fails("host-certificate-wrong")


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.KMS_HOST])
def test_a_certificate_of_another_role_is_refused(here, role):
    here.publisher.role = role
    here.fails("host-certificate-wrong")


def test_an_answer_without_a_certificate_is_refused(here):
    here.publisher.certified = False
    here.fails("host-certificate-wrong")


def test_a_certificate_that_is_no_certificate_is_refused(here):
    here.publisher.licence = lambda licence: dataclasses.replace(licence, certificates=("AAAA", "BBBB"))
    here.fails("host-certificate-wrong")


def test_a_certificate_of_another_publishers_authority_is_refused(here):
    here.publisher.certifier = PublisherSimulator("Acme Software", here.clock)
    here.fails("issuer-untrusted")


def test_an_answer_of_another_publisher_is_refused(here):
    here.publisher = Publisher(PublisherSimulator("Acme Software", here.clock))
    here.fails("issuer-untrusted")


@pytest.mark.parametrize("shift", [5 * 3600, -5 * 3600])
def test_an_answer_from_another_time_is_refused(here, shift):
    here.clock.advance(days=1)
    here.publisher.shift = shift
    here.fails("answer-stale")


def test_an_answer_that_was_given_before_is_refused(here):
    here.activate()
    old = here.publisher.answers[0]
    here.publisher.activate = lambda issuer, sealed: old
    here.fails("seal-broken")


def test_a_licence_for_another_machine_is_refused(here):
    here.publisher.licence = lambda licence: dataclasses.replace(licence, machine=bytes(32))
    here.fails("machine-mismatch")


def test_revocations_never_go_back(here):
    old = here.vendor.publisher.status_token()
    here.vendor.publisher.status = RevocationStatus(7, here.clock())
    here.activate()
    here.publisher.status_token = old
    here.fails("status-outdated")
    here.publisher.status_token = None
    here.vendor.publisher.status = RevocationStatus(6, here.clock())
    here.fails("status-outdated")
    here.vendor.publisher.status = RevocationStatus(8, here.clock())
    here.activate()


def test_a_certificate_is_due_sixty_days_before_its_end_and_renewal_brings_another_year(here):
    assert not activation.certificate_due(here.key, here.clock())
    here.activate()
    first = here.key.certificates()[0]
    here.clock.advance(days=305)
    assert not activation.certificate_due(here.key, here.clock())
    here.clock.advance(hours=1)
    assert activation.certificate_due(here.key, here.clock())
    done = here.activate()
    assert done.certificate_ends_at == here.clock() + certificates.YEAR
    second = here.key.certificates()[0]
    assert second != first
    assert certificates.key_thumbprint(certificates.public_key_of(second)) == certificates.key_thumbprint(
        certificates.public_key_of(first)
    )


def test_a_host_whose_certificate_has_ended_renews_too(here):
    here.activate()
    here.clock.advance(days=400)
    assert activation.certificate_due(here.key, here.clock())
    assert here.activate().certificate_ends_at == here.clock() + certificates.YEAR


def carry(here: Here) -> tuple[RequestFile, AnswerFile]:
    written: list[bytes] = []
    activation.write_request(here.folder, here.key, ME, written.append, now=here.clock())
    request = RequestFile.from_bytes(written[0])
    return request, AnswerFile(request.issuer, here.publisher.activate(request.issuer, request.sealed))


def test_an_answer_may_be_carried_for_ninety_days_and_no_longer(here):
    request, answer = carry(here)
    here.clock.advance(days=90)
    late = AnswerFile(request.issuer, here.publisher.activate(request.issuer, request.sealed))
    assert activation.apply_answer(here.folder, here.key, answer).organisation == "Contoso"
    request, _ = carry(here)
    here.clock.advance(days=90, hours=1)
    late = AnswerFile(request.issuer, here.publisher.activate(request.issuer, request.sealed))
    with pytest.raises(VolactError) as caught:
        activation.apply_answer(here.folder, here.key, late)
    assert caught.value.code == "answer-stale"


def test_an_answer_that_cannot_be_used_leaves_the_request_waiting(here):
    _, answer = carry(here)
    broken = dataclasses.replace(answer, sealed=answer.sealed[:-1] + bytes([answer.sealed[-1] ^ 1]))
    for bad in (broken, dataclasses.replace(answer, issuer="0" * 32)):
        with pytest.raises(VolactError) as caught:
            activation.apply_answer(here.folder, here.key, bad)
        assert caught.value.code == "answer-to-another-request"
    assert activation.apply_answer(here.folder, here.key, answer)
