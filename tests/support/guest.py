# SPDX-License-Identifier: Apache-2.0
"""A site with VM hosts: publishers made by the production commands, hosts activated over files, `volact vm serve` as a
process.  Guests come from ``support.qemu`` or, many at once, from sockets that play QEMU's part.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import Done, good, volact

PRODUCT, EDITION, OTHER_EDITION = "acme-cad", "professional", "render-server"
GROUP, OTHER_GROUP = "acme-clients", "acme-servers"
START_SECONDS = 20.0

TOML = """\
product = "acme-cad"
name = "Acme CAD"
version = 1

[policy.guests]
nested = {nested}

[groups.acme-clients]
number = 101
parent = 102

[groups.acme-servers]
number = 102

[editions.professional]
name = "Acme CAD Professional"
group = "acme-clients"
kind = "client"
{more}
[editions.render-server]
name = "Acme CAD Render Server"
group = "acme-servers"
kind = "server"
"""


@dataclass
class Publisher:
    """A publisher's folder with one product, by the production commands."""

    folder: Path
    root: str = ""

    @classmethod
    def make(cls, folder: Path, name: str = "Acme Software", *, nested: bool = True, more: str = "") -> "Publisher":
        """``nested`` is true by default since the machines that run these tests are virtual ones themselves."""
        folder.mkdir(parents=True)
        (folder / "passphrase").write_text("a passphrase for tests\n")
        made = cls(folder)
        made.root = made.run("init", "--name", name).json["root"]
        (folder / "product.toml").write_text(TOML.format(nested=str(nested).lower(), more=more))
        made.run("product", "add", folder / "product.toml")
        made.run("product", "export", PRODUCT, "-o", made.file)
        made.run("organisation", "add", "Contoso")
        return made

    @property
    def file(self) -> Path:
        return self.folder / "acme-cad.volproduct"

    def run(self, *words: object) -> Done:
        where = ("--dir", self.folder / "publisher", "--passphrase-file", self.folder / "passphrase", "--json")
        return good("publisher", *words, *where)

    def key(self, group: str = OTHER_GROUP, kind: str = "vm-host") -> str:
        which = ("--organisation", "Contoso", "--kind", kind, "--product", PRODUCT, "--group", group)
        return str(self.run("key", "issue", *which).json["key"])


@dataclass
class VmHost:
    """A VM host's folder, by the production commands."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, publisher: Publisher | None = None, group: str = OTHER_GROUP) -> "VmHost":
        host = cls(folder)
        host.run("init")
        if publisher is not None:
            host.activate(publisher, group)
        return host

    def run(self, *words: object) -> Done:
        return good("vm", *words, "--dir", self.folder, "--json")

    def activate(self, publisher: Publisher, group: str = OTHER_GROUP) -> None:
        self.run("add-product", publisher.file, "--root", publisher.root)
        self.run("install-key", publisher.key(group))
        request, answer = self.folder.parent / "host.volreq", self.folder.parent / "host.volans"
        self.run("activate", "--request", request)
        publisher.run("answer", request, "-o", answer)
        self.run("activate", "--answer", answer)

    def guests(self) -> list[dict[str, Any]]:
        return list(self.run("guests").json)

    def events(self) -> list[dict[str, Any]]:
        return list(self.run("events", "--limit", 1000).json)

    def codes(self) -> list[str]:
        return [event["code"] for event in self.events()]

    @contextmanager
    def serving(self, sockets: Path, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
        """`volact vm serve`, until the block ends."""
        log = self.folder.parent / f"{self.folder.name}.log"
        command = ["vm", "serve", "--dir", self.folder, "--sockets", sockets, *words]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "volact.cli.main", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_for(log, "serves guests on", process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            assert code == 0, log.read_text()


def _wait_for(log: Path, text: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


__all__ = ["EDITION", "GROUP", "OTHER_EDITION", "OTHER_GROUP", "PRODUCT", "Publisher", "VmHost", "volact"]
