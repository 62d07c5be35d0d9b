# SPDX-License-Identifier: Apache-2.0
"""A publisher in a folder, with keys, a product and a desk; and machines that call it."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from support.client_machine import ClientMachine
from volact.client.activation import online, phone
from volact.client.discovery.routes import Route
from volact.client.products import installing
from volact.client.products.phone_licence import PhoneRequest
from volact.core.phone import ConfirmationId, InstallationId
from volact.core.product_key import Channel
from volact.publisher.administration.keys import NewKey
from volact.publisher.administration.publisher import Publisher
from volact.publisher.answering.phone import Confirmed, PhoneDesk
from volact.publisher.answering.service import PublisherService
from volact.publisher.folder import phone_key
from volact.publisher.folder.making import init
from volact.sealing.envelope import X25519
from volact.testing.clock import FakeClock

PASSPHRASE = b"a passphrase for tests"
NOW = 1_800_000_000
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "acme-cad.toml"


@dataclass
class Desk:
    """The production desk over a publisher's folder, at a clock that tests set."""

    folder: Path
    clock: FakeClock
    publisher: Publisher
    keys: Any

    @classmethod
    def make(cls, folder: Path, database: str | None = None) -> Self:
        clock = FakeClock(NOW)
        init(folder, "Acme Software", None, X25519, PASSPHRASE, NOW, "tests", database)
        publisher = Publisher.open(folder)
        keys = publisher.folder.open_keys(PASSPHRASE)
        made = cls(folder, clock, publisher, keys)
        publisher.add_product(EXAMPLE.read_bytes(), keys, NOW, "tests")
        publisher.add_organisation("Contoso", NOW, "tests")
        return made

    @property
    def root(self) -> str:
        return self.publisher.folder.fingerprint

    @property
    def definition(self) -> Any:
        return self.publisher.newest("acme-cad")

    @property
    def edition(self) -> Any:
        return self.definition.editions[0]

    def key(self, activations: int = 3, channel: Channel = Channel.MAK) -> NewKey:
        group = str(self.edition.group)
        (new,) = self.publisher.issue_pool_keys(
            "Contoso",
            "acme-cad",
            group,
            self.clock(),
            "tests",
            channel=channel,
            keys=self.keys,
            activations=activations,
        )
        return new

    def site(self) -> Any:
        """What a :class:`ClientMachine` has to know of its site."""
        token = self.publisher.store.version("acme-cad", None).token
        return SimpleNamespace(clock=self.clock, publisher=self.publisher.folder, token=token)

    def machine(self, folder: Path, key: NewKey, number: int = 1) -> ClientMachine:
        machine = ClientMachine(folder, self.site(), number)
        machine.add()
        installing.install_key(machine.store, "acme-cad", str(key.key), self.edition.id)
        return machine

    @property
    def desk(self) -> PhoneDesk:
        return PhoneDesk.open(self.publisher, phone_key.load(self.folder, PASSPHRASE))

    def answer(self, installation: InstallationId | str, key: NewKey, reason: str = "no internet here") -> Confirmed:
        """What the desk reads back for digits."""
        desk = self.desk
        call = desk.look_up(InstallationId.parse(str(installation)))
        return desk.confirm(call, key.key.partial, reason, self.clock(), "alice")

    def online(self) -> "Online":
        return Online(PublisherService(self.publisher.folder, self.keys, self.publisher.store, self.clock))

    def left(self, key: NewKey) -> int:
        return self.publisher.find_key(key.key.key_id).remaining

    def acts(self) -> list[str]:
        self.publisher.store.check_ledger()
        return [row.act for row in self.publisher.store.ledger()]


@dataclass
class Online:
    """The same publisher's service, as a machine's route leads to it."""

    service: PublisherService

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        return self.service.describe(root, nonce)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        (outcome,) = self.service.answer_all([(issuer, sealed)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.sealed


def show(machine: ClientMachine, *, new: bool = False) -> PhoneRequest:
    return phone.installation_id(
        machine.store, "acme-cad", machine.local, machine.clock(), secrets.token_bytes, new=new
    )


def apply(machine: ClientMachine, confirmation: ConfirmationId | str) -> phone.Applied:
    parsed = ConfirmationId.parse(str(confirmation))
    return phone.apply(machine.store, "acme-cad", parsed, machine.local, machine.clock())


def activate_online(machine: ClientMachine, publisher: Online) -> online.Outcome:
    routes = [Route(publisher, "https://publisher.example.test", "given")]
    return online.activate("acme-cad", machine.store, routes, machine.local, machine.clock, machine.random)
