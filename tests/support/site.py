# SPDX-License-Identifier: Apache-2.0
"""A site for tests: a publisher in memory, KMS hosts in folders that it has activated, machines in folders of theirs.

Hosts and machines are the production's own; the publisher is the simulator (:class:`Vendor`), so that a test can
certify what no publisher would, or the production's own too (:class:`RealPublisher`).  ``served`` puts anything that
answers like an issuer behind a real port.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from support.processes import ADDRESS, Done, good, volact
from volact.cli.demo.product import ACME_CAD, GROUP
from volact.core.definition import ProductDefinition
from volact.core.errors import VolactError
from volact.core.fingerprint import Fingerprint
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.host.application import open_store
from volact.host.folder import HostFolder, HostKey
from volact.sealing import answers, certificates, envelope, sign, verify
from volact.sealing.certificates import Role
from volact.sealing.keys import LocalKey
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP, PublisherSimulator
from volact.testing.machines import simulated_traits
from volact.wire.gen.volact.v1.activation_pb import ActivateRequest, ActivateResponse

if TYPE_CHECKING:  # most tests need no publisher of their own
    from volact.publisher.answering.service import PublisherService

PRODUCT, EDITION = "acme-cad", "client"


def now() -> int:
    return int(time.time())


@dataclass
class Vendor:
    """A publisher with one product, its definition in a file."""

    publisher: PublisherSimulator
    definition: ProductDefinition
    file: Path

    @classmethod
    def make(
        cls,
        folder: Path,
        name: str = "Acme Software",
        product: str = PRODUCT,
        clock: Callable[[], int] = now,
        **policy: Any,
    ) -> "Vendor":
        publisher = PublisherSimulator(name, clock)
        definition = publisher.definition(product, **policy)
        vendor = cls(publisher, definition, folder / f"{product}-{publisher.fingerprint[7:15]}.volproduct")
        vendor.file.write_text(publisher.sign_definition(definition))
        return vendor

    @property
    def root(self) -> str:
        return self.publisher.fingerprint

    def host_key(self, group: int = SERVER_GROUP) -> str:
        return str(ProductKey.new(Channel.KMS_HOST, publisher_tag(self.root), group, os.urandom(7)))

    def certify(
        self,
        folder: HostFolder,
        host_key: HostKey,
        groups: Iterable[int] = (CLIENT_GROUP, SERVER_GROUP),
        organisation: str = "Contoso",
        lifetime: int = certificates.YEAR,
    ) -> None:
        """What an activation leaves in the host's folder."""
        signing = host_key.signing_key(folder.passphrase())
        issuer = self.publisher.issuer(signing, Role.KMS_HOST, organisation, groups, lifetime)
        host_key.store_activation(list(issuer.chain), "", self.publisher.status_token())
        folder.touch()

    def give_host(self, path: Path, *, suite: str = envelope.X25519, **how: Any) -> HostFolder:
        """A host in ``path``, new or not, that can answer for this publisher."""
        folder = HostFolder(path) if path.exists() else HostFolder.create(path)
        open_store(folder).close()
        folder.add_product(self.file.read_text(), self.root)
        self.certify(folder, folder.install_key(self.host_key(), suite), **how)
        return folder


@dataclass
class RealPublisher:
    """A publisher made by the production commands.  As an issuer it answers by its production service, at ``clock``."""

    folder: Path
    product: str
    clock: Callable[[], int]
    root: str = ""

    @classmethod
    def make(
        cls, folder: Path, name: str = "Acme Software", product: str = PRODUCT, clock: Callable[[], int] = now
    ) -> "RealPublisher":
        folder.mkdir(parents=True)
        (folder / "passphrase").write_text("a passphrase for tests\n")
        made = cls(folder, product, clock)
        made.root = made.run("init", "--name", name).json["root"]
        (folder / "product.toml").write_text(ACME_CAD.replace("acme-cad", product))
        made.run("product", "add", folder / "product.toml")
        made.run("product", "export", product, "-o", made.file)
        made.run("organisation", "add", "Contoso")
        return made

    @property
    def file(self) -> Path:
        return self.folder / f"{self.product}.volproduct"

    def run(self, *words: object) -> Done:
        where = ("--dir", self.folder / "publisher", "--passphrase-file", self.folder / "passphrase", "--json")
        return good("publisher", *words, *where, clock=self.clock)

    def host_key(self, group: str = GROUP, **limits: int) -> str:
        words = [word for name, value in limits.items() for word in (f"--{name}", str(value))]
        which = ("--organisation", "Contoso", "--kind", "kms-host", "--product", self.product, "--group", group)
        return str(self.run("key", "issue", *which, *words).json["key"])

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        with self._service() as service:
            return service.describe(root, nonce)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        with self._service() as service:
            return service.answer(issuer, sealed).sealed

    @contextmanager
    def _service(self) -> Iterator["PublisherService"]:
        from volact.publisher.administration.publisher import Publisher
        from volact.publisher.answering.service import PublisherService

        with Publisher.open(self.folder / "publisher") as publisher:
            opened = publisher.folder.open_keys(b"a passphrase for tests")
            yield PublisherService(publisher.folder, opened, publisher.store, self.clock)


@dataclass
class Machine:
    """One client: a folder, a number for its hardware, and the production command."""

    folder: Path
    number: int
    product: str = PRODUCT

    @classmethod
    def make(cls, folder: Path, number: int, vendor: Vendor, edition: str = EDITION) -> "Machine":
        machine = cls(folder, number, vendor.definition.product)
        good("client", "add-product", vendor.file, "--root", vendor.root, "--dir", folder, machine=number)
        machine.good("install-key", machine.product, "--generic", "--edition", edition)
        return machine

    def run(self, *words: object, **how: Any) -> Done:
        return volact("client", *words, "--dir", self.folder, machine=self.number, **how)

    def good(self, *words: object, **how: Any) -> Done:
        done = self.run(*words, **how)
        assert done.code == 0, (words, done.err, done.out)
        return done

    def activate(self, *words: object, **how: Any) -> dict[str, Any]:
        """The row of ``client activate --json``; licensed or not."""
        (row,) = self.run("activate", self.product, *words, "--json", **how).json["products"]
        return dict(row)

    def activate_at(self, port: int, **how: Any) -> dict[str, Any]:
        return self.activate("--host", f"{ADDRESS}:{port}", **how)

    def status(self, **how: Any) -> dict[str, Any]:
        (row,) = self.run("status", "--json", **how).json["products"]
        return dict(row)

    @property
    def licence(self) -> bytes:
        """The stored good licence, as bytes."""
        return (self.folder / "products" / self.product / "answers" / "volume.vollicence").read_bytes()


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a test made itself, with what is needed to read its answer."""

    request: ActivationRequest
    machine: bytes
    sealed: bytes

    @property
    def body(self) -> bytes:
        return ActivateRequest(issuer=self.request.issuer, sealed=self.sealed).to_binary()

    def open(self, sealed: bytes, trust: verify.Trust, group: int | None = CLIENT_GROUP) -> Any:
        """The licence or refusal, verified as the client does it."""
        token = envelope.open_answer(self.request.response_key, self.request.nonce, sealed).decode()
        return answers.verify_answer(
            token, trust, self.request, self.machine, group=group, tolerance=4 * 3600, longest_lease=180 * 86400
        )

    def open_body(self, body: bytes, trust: verify.Trust) -> Any:
        return self.open(ActivateResponse.from_binary(body).sealed, trust)


def make_request(
    vendor: Vendor,
    opening: envelope.OpeningKey,
    number: int,
    *,
    key: LocalKey | None = None,
    at: int | None = None,
    **changes: Any,
) -> Request:
    """A request of machine ``number`` to the host whose sealing key this is; ``changes`` go into it."""
    signer = sign.MachineSigner(key or LocalKey.generate())
    values: dict[str, Any] = {
        "issuer": opening.id,
        "product": vendor.definition.product,
        "version": 1,
        "edition": EDITION,
        "channel": Channel.VOLUME,
        "nonce": os.urandom(16),
        "response_key": os.urandom(32),
        "at": now() if at is None else at,
        "state": State.INITIAL_GRACE,
        "fingerprint": Fingerprint.of(simulated_traits(number), bytes.fromhex(vendor.root.removeprefix("sha256:"))),
        "name": f"machine-{number:06d}",
        "threshold": 25,
    }
    request = ActivationRequest(**(values | changes))
    sealed = envelope.seal_request(opening.suite, opening.public, signer.request(request).encode())
    return Request(request, signer.machine, sealed)


class Issuing(Protocol):
    """What :func:`served` puts on a port: a simulator, or what a test makes of one."""

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str: ...

    def activate(self, issuer: str, sealed: bytes) -> bytes: ...


@contextmanager
def served(issuer: Issuing) -> Iterator[int]:
    """``issuer`` behind HTTP on a free port, in the contract's JSON form."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = _answer(issuer, self.path.rsplit("/", 1)[1], body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _answer(issuer: Issuing, method: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
    try:
        if method == "GetIssuer":
            nonce = base64.b64decode(body.get("nonce", ""))
            return 200, {"descriptor": issuer.get_issuer(body["root"], body["product"], body["group"], nonce)}
        sealed = issuer.activate(body["issuer"], base64.b64decode(body["sealed"]))
        return 200, {"sealed": base64.b64encode(sealed).decode()}
    except VolactError as exc:
        return 400, {"code": "invalid_argument", "message": f"{exc.code}: {exc}"}
