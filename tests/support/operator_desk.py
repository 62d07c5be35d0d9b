# SPDX-License-Identifier: Apache-2.0
"""The publisher's desk served by the production command, and an operator in front of it."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyotp
from playwright.sync_api import Page

from support.phone_desk import EXAMPLE, PASSPHRASE, Desk
from support.processes import ADDRESS, Server, volact
from volact.publisher.administration.publisher import Publisher
from volact.publisher.folder.making import init
from volact.sealing.envelope import X25519
from volact.testing.clock import FakeClock
from volact.wire.serve import free_port

ADMINISTRATOR = "ann"


@dataclass
class ServedDesk:
    desk: Desk
    url: str

    @property
    def folder(self) -> Path:
        return self.desk.folder

    def link(self, name: str) -> str:
        done = volact("publisher", "operator", "link", name, "--dir", self.folder, "--json")
        assert done.code == 0, done.err
        return self.url + str(done.json["path"])

    def add(self, name: str, role: str) -> None:
        done = volact("publisher", "operator", "add", name, "--role", role, "--dir", self.folder)
        assert done.code == 0, done.err

    def enter(self, page: Page, name: str) -> None:
        """By a one-time link, which stands for password and code."""
        page.goto(self.link(name))
        page.wait_for_url(re.compile(r"/(overview|phone|account)$"))


def make_desk(folder: Path) -> Desk:
    """A publisher of this very moment: the served desk has the real clock."""
    clock = FakeClock(int(time.time()))
    init(folder, "Acme Software", None, X25519, PASSPHRASE, clock(), "tests")
    publisher = Publisher.open(folder)
    desk = Desk(folder, clock, publisher, publisher.folder.open_keys(PASSPHRASE))
    publisher.add_product(EXAMPLE.read_bytes(), desk.keys, clock(), "tests")
    publisher.add_organisation("Contoso", clock(), "tests")
    return desk


@contextmanager
def served(desk: Desk) -> Iterator[ServedDesk]:
    """By ``volact publisher serve --web``."""
    passphrase = desk.folder.parent / "passphrase"
    passphrase.write_bytes(PASSPHRASE)
    port, web = free_port(), free_port()
    words = ["publisher", "serve", "--dir", desk.folder, "--passphrase-file", passphrase, "--listen", ADDRESS]
    server = Server([*words, "--port", port, "--web", f"{ADDRESS}:{web}"], desk.folder.parent / "serve.log", port)
    try:
        server.wait_until("/readyz")
        server.port = web
        server.wait_until("/healthz")
        yield ServedDesk(desk, f"http://{ADDRESS}:{web}")
    finally:
        server.stop()


def code_of(secret: str) -> str:
    return pyotp.TOTP(secret).now()
