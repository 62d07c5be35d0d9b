# SPDX-License-Identifier: Apache-2.0
"""A fleet whose machines are folders of the production client, reached in this process instead of over SSH.

Everything else is the production's: rows, jobs, acts, the client's own commands.  A test may let any call fail, or end
the tool, at a moment of its choice (``before``).
"""

import io
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes import Done, good, volact
from support.site import RealPublisher
from volact.cli.environment import Environment
from volact.cli.main import main
from volact.fleet.acts.context import Context
from volact.fleet.inventory import machines
from volact.fleet.inventory.machines import Found
from volact.fleet.jobs import store as rows
from volact.fleet.jobs.acts import Act
from volact.fleet.jobs.engine import Engine
from volact.fleet.jobs.records import Job, Task
from volact.fleet.keys import publisher, vault
from volact.fleet.keys.vault import Vault
from volact.fleet.reach import Output, Session, Target
from volact.fleet.store import FleetStore
from volact.testing.machines import simulated_environment

PASSPHRASE = b"a passphrase for tests"
EDITION = "professional"
GROUP = 101


@dataclass
class Computer:
    """A machine: its name, the number of its hardware, and the folder that ``volact client`` has there."""

    name: str
    number: int
    folder: Path
    clock: Callable[[], int]

    def run(self, *words: object, **how: Any) -> Done:
        return volact("client", *words, "--dir", self.folder, machine=self.number, clock=self.clock, **how)

    def good(self, *words: object, **how: Any) -> Done:
        return good("client", *words, "--dir", self.folder, machine=self.number, clock=self.clock, **how)

    @property
    def state(self) -> str:
        (row,) = self.good("status", "--json").json["products"]
        return str(row["state"])

    def reimage(self, to: Path) -> None:
        """Set up anew: the same hardware, a new folder."""
        self.folder = to


@dataclass
class FolderSession:
    target: Target
    computer: Computer
    reach: "FolderReach"
    account: str = "root"
    volact: Sequence[str] = ("volact",)

    async def run(self, words: Sequence[str], stdin: bytes = b"") -> Output:
        self.reach.before(self.computer, words)
        self.reach.said.append((self.computer.name, " ".join(words)))
        out, err = io.StringIO(), io.StringIO()
        base = Environment(out, err, io.StringIO(stdin.decode()), {}, self.computer.clock, dict, lambda: "")
        env = simulated_environment(self.computer.number, base, self.computer.clock)
        before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
        try:
            code = main([*words[1:], "--dir", str(self.computer.folder)], env)
        finally:
            sys.stdin = before
        return Output(code, out.getvalue().encode(), err.getvalue())


@dataclass
class FolderReach:
    """``said``: every command line that crossed, with its machine; what was on standard input is not among them."""

    computers: dict[str, Computer] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[Computer, Sequence[str]], None] = lambda _computer, _words: None

    @asynccontextmanager
    async def session(self, target: Target) -> AsyncIterator[Session]:
        yield FolderSession(target, self.computers[target.name], self)


@dataclass
class Online:
    """The publisher's service without its network: answers requests of machines and inquiries of key holders alike."""

    site: RealPublisher

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        return self.site.get_issuer(root, product, group, nonce)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        with self.site._service() as service:
            (outcome,) = service.answer_all([(issuer, sealed)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.sealed


@dataclass
class Lab:
    """A fleet database with its machines and a vault, beside a real publisher."""

    folder: Path
    store: FleetStore
    clock: Callable[[], int]
    reach: FolderReach
    publisher: RealPublisher | None = None
    opened: Vault | None = None

    @classmethod
    def make(
        cls, folder: Path, clock: Callable[[], int], site: RealPublisher | None = None, database: Any = None
    ) -> "Lab":
        folder.mkdir(parents=True, exist_ok=True)
        lab = cls(folder, FleetStore.open(database or folder / "fleet.sqlite"), clock, FolderReach(), site)
        with lab.store.write() as conn:
            lab.opened = vault.create(conn, PASSPHRASE, clock(), "tester")
            if site is not None:
                publisher.add_definition(conn, site.file.read_text().strip(), site.root, clock(), "tester")
        return lab

    def add(self, name: str, number: int, *, product: bool = True) -> Computer:
        made = Computer(name, number, self.folder / "machines" / name, self.clock)
        self.reach.computers[name] = made
        if product and self.publisher is not None:
            made.good("add-product", self.publisher.file, "--root", self.publisher.root)
        with self.store.write() as conn:
            machines.add(conn, [Found(name, "test", address=f"192.0.2.{number % 250}")], self.clock(), "tester")
        return made

    @property
    def context(self) -> Context:
        assert self.opened is not None, "made with one"
        opened = self.opened

        def service(_known: object, _url: object) -> Any:
            assert self.publisher is not None, "this lab reaches no publisher"
            return Online(self.publisher)

        return Context(self.store, self.reach, self.clock, lambda: opened, service)

    async def job(
        self, act: Act, names: Sequence[str] | None = None, *, dry_run: bool = False, **arguments: Any
    ) -> Job:
        id_ = self.queue(act.kind, names, dry_run=dry_run, **arguments)
        return await Engine(self.store, act, self.clock).run(id_)

    def queue(self, kind: str, names: Sequence[str] | None = None, *, dry_run: bool = False, **arguments: Any) -> int:
        with self.store.write() as conn:
            found = machines.ids(conn, names or list(self.reach.computers))
            return rows.make(
                conn,
                kind,
                arguments,
                list(found.values()),
                {},
                self.clock(),
                "tester",
                parallel=4,
                timeout=60,
                dry_run=dry_run,
            )

    def tasks(self, job: Job) -> list[Task]:
        with self.store.read() as conn:
            return rows.tasks(conn, job.id)

    def close(self) -> None:
        self.store.close()


def issue(site: RealPublisher, activations: int = 10, kind: str = "mak") -> str:
    which = ("--organisation", "Contoso", "--kind", kind, "--product", site.product, "--group", str(GROUP))
    return str(site.run("key", "issue", *which, "--activations", activations).json["key"])


def used(site: RealPublisher, key: str) -> int:
    return int(site.run("key", "show", key).json["used"])
