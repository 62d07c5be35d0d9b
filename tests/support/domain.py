# SPDX-License-Identifier: Apache-2.0
"""A domain with everything around it: controllers, an administrator's computer, members, a publisher, KMS hosts.

Each is a host of a network in namespaces and runs the production commands there; what a test calls
``domain.good("list")`` is what an administrator types.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.netns import Shell, end
from support.processes import Done, good, wait_for
from support.samba import DOMAIN, Forest, forest
from volact.publisher.folder.opening import PublisherFolder

PRODUCT = "acme-cad"
PUBLISHER_URL = "http://10.77.0.20:1690"
HOSTS = [("pub", 20), ("kms1", 21), ("kms2", 22), ("admin", 30), ("member", 31)]
DEFINITION = """
product = "acme-cad"
name = "Acme CAD"
version = 1

[policy]
threshold = 1

[groups.servers]
number = 101

[groups.clients]
number = 102
parent = 101

[editions.professional]
name = "Acme CAD Professional"
group = "clients"
kind = "client"

[editions.render-server]
name = "Acme CAD Render Server"
group = "servers"
kind = "server"
"""


@dataclass(frozen=True)
class Vendor:
    """A publisher's folder with one product, and what an organisation got from it."""

    folder: Path
    root: str
    definition: Path
    keys: dict[str, Path]


@dataclass
class Member:
    """One computer of the domain: its account's keytab and the client's folder."""

    shell: Shell
    folder: Path
    number: int

    def run(self, *words: object, **how: Any) -> Done:
        return self.shell.volact("client", *words, "--dir", self.folder, machine=self.number, **how)

    def activate(self, **how: Any) -> dict[str, Any]:
        """The row of ``client activate --json``."""
        done = self.run("activate", PRODUCT, "--json", **how)
        (row,) = done.json["products"]
        return dict(row)

    def status(self, **how: Any) -> dict[str, Any]:
        (row,) = self.run("status", "--json", **how).json["products"]
        return dict(row)

    @property
    def reading(self) -> Path:
        return self.folder / "products" / PRODUCT / "answers" / "directory.volreading"


@dataclass
class Domain:
    forest: Forest
    vendor: Vendor
    folder: Path
    shells: dict[str, Shell] = field(default_factory=dict)
    processes: list[Any] = field(default_factory=list)
    made: int = 0

    def shell(self, host: str) -> Shell:
        if host not in self.shells:
            self.shells[host] = self.forest.shell(host)
        return self.shells[host]

    def directory(self, *words: object, options: list[object] | None = None, **how: Any) -> Done:
        """``volact directory`` on the administrator's computer."""
        as_whom = self.forest.as_administrator() if options is None else options
        return self.shell("admin").volact("directory", *words, *as_whom, "--dir", self.folder / "directory", **how)

    def good(self, *words: object, **how: Any) -> Any:
        done = self.directory(*words, "--json", **how)
        assert done.code == 0, (words, done.err, done.out)
        return done.json

    def activate(self, name: str = "Head office", key: str = "servers", **how: Any) -> Any:
        """An activation object from the publisher, in the directory."""
        words = ["activate", "--name", name, "--key-file", self.vendor.keys[key]]
        words += ["--definition", self.vendor.definition, "--root", self.vendor.root]
        return self.good(*words, **how)

    def objects(self, **how: Any) -> list[dict[str, Any]]:
        return list(self.good("list", **how)["objects"])

    def clear(self) -> None:
        for one in self.objects():
            self.good("remove", one["id"])

    def member(self, number: int, edition: str = "professional", host: str = "") -> Member:
        """A computer of the domain with the product and its generic key, that knows one KMS host."""
        self.made += 1
        folder = self.folder / f"pc{number:02d}-{self.made}"
        shell = self.shell("member")
        one = Member(shell, folder, number)
        added = one.run("add-product", self.vendor.definition, "--root", self.vendor.root)
        assert added.code == 0, added.err
        assert one.run("install-key", PRODUCT, "--generic", "--edition", edition).code == 0
        assert one.run("set-host", host or f"nowhere.{DOMAIN}").code == 0
        keytab = folder.with_suffix(".keytab")
        keytab.write_bytes(self.forest.keytab(f"pc{number:02d}").read_bytes())
        told = shell.volact("directory", "member", "--keytab", keytab, "--dir", folder)
        assert told.code == 0, told.err
        return one

    def python(self, code: str, host: str = "admin") -> str:
        """A script on one of its computers."""
        return self.forest.net.run(host, sys.executable, "-c", code)

    @contextmanager
    def kms_host(self, name: str = "kms1") -> Iterator[str]:
        """A KMS host of the organisation, activated and answering; its name."""
        folder, shell = self.folder / name, self.shell(name)
        if not folder.exists():
            self._make_host(folder, shell)
        words = [sys.executable, "-m", "volact.cli.main", "host", "serve", "--dir", folder, "--workers", 1]
        words += ["--listen", "0.0.0.0"]
        process = self.forest.net.start(name, words, self.folder / f"{name}.log")
        try:
            self._wait_for(name, 1688)
            yield f"{name}.{DOMAIN}"
        finally:
            end(process)

    def serve_publisher(self) -> None:
        words = [sys.executable, "-m", "volact.cli.main", "publisher", "serve", "--dir", self.vendor.folder]
        words += ["--listen", "10.77.0.20", "--passphrase-file", self.vendor.folder.parent / "passphrase"]
        self.processes.append(self.forest.net.start("pub", words, self.folder / "publisher.log"))
        self._wait_for("pub", 1690, "10.77.0.20")

    def close(self) -> None:
        for process in self.processes:
            end(process)

    def _make_host(self, folder: Path, shell: Shell) -> None:
        key = self.vendor.keys["servers"].read_text()
        shell.good("host", "init", "--dir", folder)
        shell.good("host", "add-product", self.vendor.definition, "--root", self.vendor.root, "--dir", folder)
        shell.good("host", "install-key", "-", "--dir", folder, stdin=key)
        shell.good("host", "activate", "--dir", folder)

    def _wait_for(self, host: str, port: int, address: str = "127.0.0.1") -> None:
        script = f"import socket; socket.create_connection(({address!r}, {port}), 1).close()"

        def is_up() -> bool:
            try:
                self.python(script, host)
            except AssertionError:
                return False
            return True

        wait_for(is_up, 40.0)


def make_vendor(folder: Path) -> Vendor:
    """A publisher with one product, an organisation, and a host key of each product group."""
    (folder / "passphrase").write_text("a passphrase for tests\n")
    (folder / "acme-cad.toml").write_text(DEFINITION)
    own, secret = ("--dir", folder / "acme"), ("--passphrase-file", folder / "passphrase")
    good("publisher", "init", "--name", "Acme Software", "--url", PUBLISHER_URL, *own, *secret)
    root = PublisherFolder.open(folder / "acme").fingerprint
    good("publisher", "product", "add", folder / "acme-cad.toml", *own, *secret)
    good("publisher", "product", "export", PRODUCT, "-o", folder / "acme.volproduct", *own)
    good("publisher", "organisation", "add", "Example Ltd", *own)
    keys = {}
    for group in ("servers", "clients"):
        issue = ("--organisation", "Example Ltd", "--kind", "kms-host", "--product", PRODUCT, "--group", group)
        made = good("publisher", "key", "issue", *issue, "--json", *own, *secret).json
        keys[group] = folder / f"{group}.key"
        keys[group].write_text(f"{made['key']}\n")
    return Vendor(folder / "acme", root, folder / "acme.volproduct", keys)


@contextmanager
def open_domain(image: Path, vendor: Vendor, folder: Path) -> Iterator[Domain]:
    """A domain in a folder of its own, its publisher serving."""
    with forest(image, folder, HOSTS) as up:
        domain = Domain(up, vendor, folder)
        try:
            domain.serve_publisher()
            yield domain
        finally:
            domain.close()
