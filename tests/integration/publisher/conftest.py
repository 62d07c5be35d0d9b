# SPDX-License-Identifier: Apache-2.0
"""A whole publisher on disk, and hosts that ask it: real keys, real seals, the production service."""

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.issuer import IssuerDescriptor
from volact.core.licence import SignedRefusal
from volact.core.product_key import Channel, ProductKey
from volact.core.request import NONCE_SIZE, RESPONSE_KEY_SIZE, ActivationRequest
from volact.core.states import State
from volact.publisher.administration import Publisher
from volact.publisher.folder import PublisherFolder, PublisherKeys, init
from volact.publisher.service import PublisherService
from volact.sealing.envelope import X25519, open_answer, seal_request
from volact.sealing.keys import LocalKey
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import (
    Trust,
    TrustedLicence,
    verify_answer,
    verify_definition,
    verify_descriptor,
)

PASSPHRASE = b"a passphrase for tests"
NOW = 1_800_000_000
YEAR, DAY, HOUR = 365 * 86400, 86400, 3600
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml"


@dataclass
class Clock:
    now: int = NOW

    def __call__(self) -> int:
        return self.now


@dataclass
class Host:
    """A machine that asks for a host certificate.  ``changes`` go into its request."""

    site: "Site"
    name: str = "kms1"
    signer: MachineSigner = field(default_factory=lambda: MachineSigner(LocalKey.generate()))

    def request(self, key: str, **changes: Any) -> ActivationRequest:
        made = ActivationRequest(
            issuer=self.site.descriptor.id,
            product="acme-cad",
            version=1,
            edition="",
            channel=Channel.KMS_HOST,
            nonce=secrets.token_bytes(NONCE_SIZE),
            response_key=secrets.token_bytes(RESPONSE_KEY_SIZE),
            at=self.site.clock(),
            state=State.UNLICENSED,
            fingerprint=Fingerprint({"machine-id": bytes(16)}),
            name=self.name,
            key=key,
        )
        return replace(made, **changes)

    def seal(self, request: ActivationRequest) -> bytes:
        descriptor = self.site.descriptor
        return seal_request(descriptor.suite, descriptor.public_key, self.signer.request(request).encode())

    def read(self, request: ActivationRequest, sealed: bytes) -> TrustedLicence | SignedRefusal:
        """The answer as the production host reads it."""
        token = open_answer(request.response_key, request.nonce, sealed).decode()
        return verify_answer(
            token,
            self.site.trust,
            request,
            self.signer.machine,
            group=None,
            tolerance=40 * DAY,
            longest_lease=YEAR,
        )

    def ask(self, key: str, **changes: Any) -> TrustedLicence | SignedRefusal:
        return self.send(self.request(key, **changes))

    def send(self, request: ActivationRequest) -> TrustedLicence | SignedRefusal:
        outcome = self.site.service.answer(self.site.descriptor.id, self.seal(request))
        return self.read(request, outcome.sealed)

    def carry(self, request: ActivationRequest) -> TrustedLicence | SignedRefusal:
        """The same by file."""
        file = RequestFile(self.site.folder.fingerprint, request.product, request.issuer, self.seal(request))
        answer, _ = self.site.service.answer_file(RequestFile.from_bytes(file.to_bytes()))
        return self.read(request, AnswerFile.from_bytes(answer.to_bytes()).sealed)


@dataclass
class Site:
    """The publisher, with a product and an organisation."""

    publisher: Publisher
    keys: PublisherKeys
    clock: Clock
    service: PublisherService
    trust: Trust
    descriptor: IssuerDescriptor

    @property
    def folder(self) -> PublisherFolder:
        return self.publisher.folder

    def key(self, group: str = "servers", **limits: int) -> str:
        new = self.publisher.issue_host_key("Example Ltd", "acme-cad", group, self.clock(), "tester", **limits)
        return str(new.key)

    def host(self, name: str = "kms1") -> Host:
        return Host(self, name)

    def acts(self) -> list[str]:
        return [row.act for row in self.publisher.store.ledger()]


@pytest.fixture(scope="session")
def make_publisher() -> Callable[[Path, int], Path]:
    """A publisher with a product and an organisation, made at a given time."""

    def make(path: Path, now: int) -> Path:
        init(path, "Acme Software", "http://127.0.0.1:1690", X25519, PASSPHRASE, now, "tester")
        with Publisher.open(path) as publisher:
            publisher.add_product(EXAMPLE.read_bytes(), publisher.folder.open_keys(PASSPHRASE), now, "tester")
            publisher.add_organisation("Example Ltd", now, "tester")
        return path

    return make


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory, make_publisher: Callable[[Path, int], Path]) -> Path:
    """Made once: copies of it are what tests work on."""
    return make_publisher(tmp_path_factory.mktemp("publisher") / "acme", NOW)


@pytest.fixture
def site(finished_folder: Path, tmp_path: Path) -> Iterator["Site"]:
    shutil.copytree(finished_folder, tmp_path / "acme")
    with Publisher.open(tmp_path / "acme") as publisher:
        yield open_site(publisher, Clock())


def open_site(publisher: Publisher, clock: Clock) -> Site:
    keys = publisher.folder.open_keys(PASSPHRASE)
    service = PublisherService(publisher.folder, keys, publisher.store, clock)
    token = publisher.store.version("acme-cad", None).token
    trusted = verify_definition(token, publisher.folder.fingerprint, product="acme-cad", min_version=1)
    issuer = verify_descriptor(
        trusted.definition.issuer,
        trusted.trust,
        Channel.KMS_HOST,
        now=clock(),
        nonce=b"",
        suites=("x25519",),
        status_max_age=YEAR,
    )
    return Site(publisher, keys, clock, service, issuer.trust, issuer.descriptor)


@pytest.fixture
def together() -> Callable[[list[Callable[[], Any]]], list[Any]]:
    """Runs calls in as many threads, all let go at once; an exception is a result too."""

    def run(calls: list[Callable[[], Any]]) -> list[Any]:
        results: list[Any] = [None] * len(calls)
        barrier = threading.Barrier(len(calls))

        def one(index: int) -> None:
            barrier.wait()
            try:
                results[index] = calls[index]()
            except Exception as exc:
                results[index] = exc

        threads = [threading.Thread(target=one, args=(index,)) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return run


@pytest.fixture
def other_key() -> Callable[[int, int, Channel], str]:
    """A well-formed key that nobody issued."""
    return lambda tag, group, channel: str(ProductKey.new(channel, tag, group, secrets.token_bytes(7)))
