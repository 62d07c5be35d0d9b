# SPDX-License-Identifier: Apache-2.0
"""A whole publisher on disk, hosts and machines that ask it: real keys, real seals, the production service.

Every test with a ``site`` runs twice: its database is a SQLite file, and one of a real PostgreSQL server.
"""

import json
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from support import postgresql
from support.clock import Clock
from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.issuer import IssuerDescriptor
from volact.core.licence import Licence
from volact.core.product_key import Channel, ProductKey
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.returning import Inquiry, Receipt, ReturnProof
from volact.core.states import State
from volact.publisher.administration.publisher import Publisher
from volact.publisher.answering.service import PublisherService, ReceiptOutcome
from volact.publisher.folder.making import init
from volact.publisher.folder.opening import PublisherFolder, PublisherKeys
from volact.publisher.rules.issuing import IssuedKey
from volact.sealing.answers import verify_answer, verify_descriptor
from volact.sealing.envelope import X25519, open_answer, seal_request
from volact.sealing.keys import LocalKey
from volact.sealing.returns import sign_inquiry, sign_return, verify_receipt
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import Trust, TrustedLicence, verify_definition
from volact.sql.engine import open_engine
from volact.sql.transaction import write
from volact.testing import simulated_traits

PASSPHRASE = b"a passphrase for tests"
NOW = 1_800_000_000
YEAR, DAY, HOUR = 365 * 86400, 86400, 3600
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml"


@dataclass
class Host:
    """A machine that asks for a host certificate.  ``changes`` go into its request."""

    site: "Site"
    name: str = "kms1"
    longest_lease: ClassVar[int | None] = YEAR
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
            longest_lease=self.longest_lease,
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
class Machine(Host):
    """A machine that asks for an activation of a MAK or retail key."""

    longest_lease = None
    hardware: Mapping[Trait, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.of(self.hardware, bytes.fromhex(self.site.folder.fingerprint.removeprefix("sha256:")))

    def request(self, key: str, **changes: Any) -> ActivationRequest:
        given = {"edition": "professional", "channel": Channel.MAK, "fingerprint": self.fingerprint, **changes}
        return super().request(key, **given)

    def reinstalled(self) -> "Machine":
        """The same hardware with a new installation, so a new key."""
        return replace(self, signer=MachineSigner(LocalKey.generate()))

    def proof(self, licence: Licence, **changes: Any) -> ReturnProof:
        made = ReturnProof(
            root=self.site.folder.fingerprint,
            product=licence.product,
            key_id=licence.key_id,
            activation=licence.nonce,
            nonce=secrets.token_bytes(NONCE_SIZE),
            at=self.site.clock(),
            response_key=secrets.token_bytes(RESPONSE_KEY_SIZE),
        )
        return replace(made, **changes)

    def give_back(self, licence: Licence, **changes: Any) -> Receipt | SignedRefusal:
        return self.send_proof(self.proof(licence, **changes))

    def send_proof(self, proof: ReturnProof) -> Receipt | SignedRefusal:
        return self._state(sign_return(proof, self.signer.key), proof.nonce, proof.response_key)

    def inquire(self, key: str) -> Receipt | SignedRefusal:
        nonce, response_key = secrets.token_bytes(NONCE_SIZE), secrets.token_bytes(RESPONSE_KEY_SIZE)
        inquiry = Inquiry(self.site.descriptor.id, key, nonce, response_key, self.site.clock())
        return self._state(sign_inquiry(inquiry, self.signer.key), nonce, response_key)

    def _state(self, token: str, nonce: bytes, response_key: bytes) -> Receipt | SignedRefusal:
        descriptor = self.site.descriptor
        sealed = seal_request(descriptor.suite, descriptor.public_key, token.encode())
        (outcome,) = self.site.service.answer_all([(descriptor.id, sealed)])
        assert isinstance(outcome, ReceiptOutcome), outcome
        return verify_receipt(open_answer(response_key, nonce, outcome.sealed).decode(), self.site.trust, nonce)


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

    def key(self, group: str = "servers", **limits: Any) -> str:
        new = self.publisher.issue_host_key("Example Ltd", "acme-cad", group, self.clock(), "tester", **limits)
        return str(new.key)

    def host(self, name: str = "kms1") -> Host:
        return Host(self, name)

    def pool_key(self, activations: int | None = None, group: str = "clients", **more: Any) -> str:
        """A MAK, or a retail key for ``channel=Channel.RETAIL``."""
        given = {"channel": Channel.MAK, "activations": activations, "keys": self.keys, **more}
        (new,) = self.publisher.issue_pool_keys("Example Ltd", "acme-cad", group, self.clock(), "tester", **given)
        return str(new.key)

    def machine(self, number: int = 1, name: str = "") -> "Machine":
        return Machine(self, name or f"machine{number}", hardware=simulated_traits(number))

    def tamper(self, statement: str) -> None:
        """Change the database past the product; something must have been changed."""
        engine = open_engine(self.folder.database)
        with write(engine) as conn:
            assert conn.exec_driver_sql(statement).rowcount > 0
        engine.dispose()

    def issued(self, key: str) -> IssuedKey:
        return self.publisher.find_key(key)

    def acts(self) -> list[str]:
        return [row.act for row in self.publisher.store.ledger()]


@pytest.fixture(scope="session")
def make_publisher() -> Callable[..., Path]:
    """A publisher with a product and an organisation, made at a given time."""

    def make(path: Path, now: int, database: str | None = None) -> Path:
        init(path, "Acme Software", "http://127.0.0.1:1690", X25519, PASSPHRASE, now, "tester", database)
        with Publisher.open(path) as publisher:
            publisher.add_product(EXAMPLE.read_bytes(), publisher.folder.open_keys(PASSPHRASE), now, "tester")
            publisher.add_organisation("Example Ltd", now, "tester")
        return path

    return make


@pytest.fixture(scope="session")
def postgresql_address(pick_port: Callable[[], int]) -> Iterator[str]:
    with postgresql.server(pick_port()) as address:
        yield address


@dataclass(frozen=True)
class Finished:
    """Made once: copies of it are what tests work on."""

    path: Path
    address: str | None = None
    database: str = ""

    @contextmanager
    def copy(self, path: Path) -> Iterator[Path]:
        shutil.copytree(self.path, path)
        if self.address is None:
            yield path
            return
        name = f"site_{secrets.token_hex(4)}"
        postgresql.execute(self.address, f"CREATE DATABASE {name} TEMPLATE {self.database}")
        about = json.loads((path / "publisher.json").read_bytes())
        (path / "publisher.json").write_text(json.dumps({**about, "database": self.address + name}))
        try:
            yield path
        finally:
            postgresql.execute(self.address, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def finish(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make_publisher: Callable[..., Path]
) -> Callable[[int], Finished]:
    """Makes the publisher that is copied, on one database or the other."""

    def finish(now: int) -> Finished:
        path = tmp_path_factory.mktemp("publisher") / "acme"
        if request.param == "sqlite":
            return Finished(make_publisher(path, now))
        address, name = request.getfixturevalue("postgresql_address"), f"finished_{secrets.token_hex(4)}"
        postgresql.execute(address, f"CREATE DATABASE {name}")
        return Finished(make_publisher(path, now, address + name), address, name)

    return finish


@pytest.fixture(scope="session")
def finished(finish: Callable[[int], Finished]) -> Finished:
    return finish(NOW)


@pytest.fixture
def site(finished: Finished, tmp_path: Path) -> Iterator["Site"]:
    with finished.copy(tmp_path / "acme") as path, Publisher.open(path) as publisher:
        yield open_site(publisher, Clock(NOW))


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
