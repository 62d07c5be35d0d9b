# SPDX-License-Identifier: Apache-2.0
"""A console for tests: its folders, its accounts, the application in this process or as a server of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from support.processes import ADDRESS, Server
from support.web_client import WebClient
from volact.cli.demo.reach import NAME, MachineDoor
from volact.console.application import ConsoleRun, load_application, open_accounts
from volact.console.folder import ROLES, ConsoleFolder
from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import Found
from volact.web.site import WebListener
from volact.wire.serve import free_port

PROGRAM = (sys.executable, "-m", "volact.cli.main")
ACCOUNTS = {"admin": "administrator", "olga": "operator", "victor": "viewer"}
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "guide" / "images"


@dataclass
class Console:
    """``folder`` holds ``console`` and a folder for each role."""

    folder: Path
    port: int = field(default_factory=free_port)
    logins: Path | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        accounts = open_accounts(ConsoleFolder.open(self.folder / "console"))
        if not accounts.store.accounts():
            for name, role in ACCOUNTS.items():
                accounts.add(name, role, "a test", password=None)
        accounts.store.close()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def run(self) -> ConsoleRun:
        folders = {role: self.folder / role for role in ROLES}
        return ConsoleRun(
            self.folder / "console", folders, PROGRAM, WebListener(ADDRESS, self.port, names=("testserver",)),
            logins=self.logins,
        )  # fmt: skip

    def application(self) -> Any:
        return load_application(self.run)

    def link(self, account: str) -> str:
        accounts = open_accounts(ConsoleFolder.open(self.folder / "console"))
        try:
            return f"/login/link/{accounts.make_link(account, 'a test')}"
        finally:
            accounts.store.close()

    @contextmanager
    def client(self, account: str) -> Iterator[WebClient]:
        """A browser without a window that is logged in."""
        with WebClient(self.application()) as client:
            log_in(client, self.link(account))
            yield client

    @contextmanager
    def served(self) -> Iterator[Server]:
        words = ["console", "serve", "--dir", self.folder / "console", "--port", self.port, "--title", "Example Ltd"]
        for role in ROLES:
            words += [f"--{role}", self.folder / role]
        if self.logins:
            words += ["--web-logins", self.logins]
        server = Server(words, self.folder / "console.log", self.port)
        try:
            yield server.wait_until("/healthz")
        finally:
            server.stop()

    def open(self, page: Page, account: str = "admin") -> None:
        """Logs in as somebody in a real browser."""
        page.goto(self.url + self.link(account))
        page.wait_for_url(self.url + "/")


def picture(page: Page, name: str) -> None:
    """A picture of the guide, where it is asked for: VOLACT_PICTURES=1 makes docs/guide/images/NAME.png anew."""
    if os.environ.get("VOLACT_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        page.set_viewport_size({"width": 1200, "height": 760})
        page.wait_for_load_state("networkidle")
        page.screenshot(path=PICTURES / f"{name}.png", scale="css")


def log_in(client: WebClient, link: str) -> None:
    page = client.get(link)
    done = client.send(page, link)
    assert "Log out" in done.text, done.text[:2000]


@contextmanager
def reachable_fleet(folder: Path, machines: int) -> Iterator[Fleet]:
    """The console's fleet, with machines that are reached by SSH; their client folders are in ``folder/machines``."""
    with MachineDoor(folder, machines) as door, Fleet.init(folder / "fleet", who="a test") as fleet:
        ways = {"identities": (str(door.identity),), "known_hosts": (str(door.known_hosts),), "sudo": "never"}
        fleet.folder.change(ways)
        names = [NAME.format(number) for number in range(1, machines + 1)]
        fleet.discover(found=[Found(name, "test", ADDRESS, door.port, name) for name in names])
        yield fleet
