# SPDX-License-Identifier: Apache-2.0
"""The parts of the demo's site: starts them as processes of the production commands, and stops them again."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from volact.cli.demo.product import ACME_CAD, CLIENT_GROUP, EDITION, GROUP, PRODUCT
from volact.cli.demo.reach import NAME, MachineDoor
from volact.core.errors import ConfigError
from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import Found
from volact.wire.serve import free_port

START_SECONDS = 30.0
STOP_SECONDS = 15.0
LOG_LINES = 20  # of each server, shown where the demo fails
LOOPBACK = "127.0.0.1"
ADMINISTRATOR = "admin"  # of the console
MEMO = "demo.json"  # what a later run has to know of this site


class PartFailedError(ConfigError):
    code = "demo-part-failed"
    fmt = "the demo's {part} failed: {why}"
    remedy = "run it again with --dir DIR: DIR/publisher.log and DIR/host.log hold all that the servers said"


class DemoSite:
    """A context manager; leaving it stops every process that it started."""

    publisher_name = "Acme Software"
    organisation = "Example Ltd"
    product = PRODUCT

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[_Server] = []
        self._parts = ExitStack()
        self._publisher_serve: tuple[str, ...] = ()
        self._console_serve: tuple[str, ...] = ()
        self.root = self.host_key = self.publisher_url = self.host_address = self.console_url = ""
        self.threshold = 0
        self.licensing = False  # whether the threshold was reached

    def __enter__(self) -> "DemoSite":
        return self

    def __exit__(self, *exc: object) -> None:
        """Stops all at once, and no second Ctrl-C keeps it from waiting for them."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                process.wait_until_ended()
            self._parts.close()
        finally:
            signal.signal(signal.SIGINT, before)

    def start_publisher(self) -> None:
        """Make the publisher with its product and the customer's host key, and start its service."""
        port = free_port(LOOPBACK)
        self.publisher_url = f"http://{LOOPBACK}:{port}"
        descriptor = os.open(self.passphrase, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("for this demonstration only\n")
        (self.folder / "acme-cad.toml").write_text(ACME_CAD)
        init = ("init", "--name", self.publisher_name, "--url", self.publisher_url)
        self.root = self._publisher(*init)["root"]
        self._publisher("product", "add", str(self.folder / "acme-cad.toml"))
        self._publisher("product", "export", PRODUCT, "-o", str(self.definition))
        self._publisher("organisation", "add", self.organisation)
        issue = ("--organisation", self.organisation, "--kind", "kms-host", "--product", PRODUCT, "--group", GROUP)
        self.host_key = self._publisher("key", "issue", *issue)["key"]
        shown = self._publisher("product", "show", PRODUCT)
        self.threshold = next(e["threshold"] for e in shown["editions"] if e["id"] == EDITION)
        self._publisher_serve = ("publisher", "serve", "--listen", LOOPBACK, "--port", str(port))
        self._publisher_serve += self._publisher_options()
        self._serve("publisher", port, self._publisher_serve)

    def start_host(self) -> None:
        """Make the KMS host, have the publisher activate it, and start it."""
        port = free_port(LOOPBACK)
        self.host_address = f"{LOOPBACK}:{port}"
        directory = ("--dir", str(self.folder / "host"))
        volact("host", "init", *directory)
        volact("host", "set-port", str(port), *directory)
        volact("host", "set-listen", LOOPBACK, *directory)
        volact("host", "add-product", str(self.definition), "--root", self.root, *directory)
        volact("host", "install-key", "-", *directory, stdin=self.host_key)
        volact("host", "activate", *directory)
        self._serve("host", port, ("host", "serve", *directory))

    def machine(self, number: int) -> "Machine":
        return Machine(self, number)

    def start_console(self, machines: int) -> None:
        """The web console over this site's folders, with the machines in the fleet tool's inventory."""
        self._fill_fleet(machines)
        port = free_port(LOOPBACK)
        self.console_url = f"http://localhost:{port}"
        where = ("--dir", str(self.folder / "console"))
        words: list[str] = ["console", "serve", *where, "--port", str(port)]
        for role, folder in self._role_folders().items():
            words += [f"--{role}", str(folder)]
        volact(
            "console", "account", "add", ADMINISTRATOR, "--role", "administrator", "--dir", str(self.folder / "console")
        )
        self._console_serve = (*words, "--title", self.organisation)
        self._serve("console", port, self._console_serve, page="/healthz")

    def remember(self, result: Mapping[str, Any]) -> None:
        """So that the folder runs as the same site again."""
        about = {"result": dict(result), "ssh": self._door.port}
        servers = {"publisher": self._publisher_serve, "console": self._console_serve}
        (self.folder / MEMO).write_text(json.dumps({**about, "servers": servers}))

    def start_again(self) -> dict[str, Any]:
        """Every part of the site that this folder holds, where it was; what the first run came to."""
        try:
            memo = json.loads((self.folder / MEMO).read_text())
            result, servers = dict(memo["result"]), memo["servers"]
            self._publisher_serve, self._console_serve = tuple(servers["publisher"]), tuple(servers["console"])
            self.publisher_url, self.console_url = str(result["publisher"]), str(result["console"])
            self.host_address, self.root = str(result["host"]), str(result["root"])
            self.threshold, self.licensing = int(result["threshold"]), bool(result["licensed"])
            door = MachineDoor(self.folder, int(result["machines"]), int(memo["ssh"]))
        except (OSError, ValueError, LookupError, TypeError):
            raise PartFailedError(part="folder", why=f"{MEMO} is not as a demo left it") from None
        self._door = self._parts.enter_context(door)
        self._serve("publisher", _port(self.publisher_url), self._publisher_serve)
        self._serve("host", _port(self.host_address), ("host", "serve", "--dir", str(self.folder / "host")))
        self._serve("console", _port(self.console_url), self._console_serve, page="/healthz")
        return result

    def login_link(self) -> str:
        """Logs in once."""
        where = ("--dir", str(self.folder / "console"), "--url", self.console_url)
        link: str = volact("console", "login-link", ADMINISTRATOR, *where)["link"]
        return link

    def refresh_fleet(self) -> None:
        """Asks every machine over SSH for its products, as a job that the console shows while it runs."""
        with Fleet.open(self.folder / "fleet", who="demo") as fleet:
            fleet.refresh()
            fleet.take_samples()

    def _fill_fleet(self, machines: int) -> None:
        door = self._door = MachineDoor(self.folder, machines)
        self._parts.enter_context(door)
        with Fleet.init(self.folder / "fleet", who="demo") as fleet:
            fleet.folder.change(
                {
                    "identities": (str(door.identity),),
                    "known_hosts": (str(door.known_hosts),),
                    "sudo": "never",
                    "parallel": 4,
                }
            )
            names = [NAME.format(number) for number in range(1, machines + 1)]
            fleet.discover(found=[Found(name, "demo", LOOPBACK, door.port, name, tags=("demo",)) for name in names])
            fleet.definition_add(self.definition.read_text().strip(), self.root)

    def _role_folders(self) -> dict[str, Path]:
        """The console's client is the first machine; a VM host and a directory have folders that may come to be."""
        places = {role: self.folder / role for role in ("host", "vm", "fleet", "directory")}
        return {**places, "client": self.folder / "machines" / "001"}

    @property
    def definition(self) -> Path:
        return self.folder / "acme-cad.volproduct"

    @property
    def passphrase(self) -> Path:
        return self.folder / "publisher.passphrase"

    def count(self) -> int:
        status = volact("host", "status", "--dir", str(self.folder / "host"))
        return max((group["count"] for group in status["groups"]), default=0)

    def host_status(self) -> str:
        return volact_text("host", "status", "--dir", str(self.folder / "host"))

    def suggestions(self) -> list[str]:
        """Commands to try against the running site, ready to be pasted."""
        host, machine = self.folder / "host", self.folder / "machines" / "001"
        issuer = json.dumps({"root": self.root, "product": PRODUCT, "group": CLIENT_GROUP})
        url = f"http://{self.host_address}/volact.v1.ActivationService/GetIssuer"
        return [
            _words(command(), "host", "status", "--dir", host),
            _words(command(), "host", "events", "--dir", host, "--last", "10m"),
            _words(command(), "publisher", "ledger", "list", "--dir", self.folder / "publisher"),
            f"{self.as_machine(1)} client status --dir {shlex.quote(str(machine))}",
            _words(command(), "client", "licence" if self.licensing else "expiry", PRODUCT, "--dir", machine),
            _words("curl", "-s", "-H", "Content-Type: application/json", "-d", issuer, url),
        ]

    def restart(self) -> list[str]:
        """Commands that run the same site again, each in a terminal of its own."""
        return [
            _words(command(), *self._publisher_serve),
            _words(command(), "host", "serve", "--dir", self.folder / "host"),
            _words(command(), *self._console_serve),
        ]

    @staticmethod
    def as_machine(number: int) -> str:
        """The start of a command line that runs ``volact`` with a machine's simulated hardware."""
        return _words(_shown(Path(sys.executable)), "-m", "volact.testing", "--machine", number, "--")

    def logs(self) -> dict[str, list[str]]:
        return {process.part: process.log_lines()[-LOG_LINES:] for process in self._processes}

    def wait(self) -> None:
        """Until a part ends, which none should, or the user interrupts."""
        while True:
            for process in self._processes:
                if not process.running:
                    raise PartFailedError(part=process.part, why=f"it ended: {process.last_words()}")
            time.sleep(0.5)

    def _publisher(self, *words: str) -> Any:
        return volact("publisher", *words, *self._publisher_options())

    def _publisher_options(self) -> tuple[str, ...]:
        return ("--dir", str(self.folder / "publisher"), "--passphrase-file", str(self.passphrase))

    def _serve(self, part: str, port: int, words: Sequence[str], page: str = "/readyz") -> None:
        server = _Server(part, words, self.folder / f"{part}.log")
        self._processes.append(server)
        server.wait_until_ready(f"http://{LOOPBACK}:{port}{page}")


class Machine:
    """One client machine: its own folder, its own hardware, the production ``volact client``."""

    def __init__(self, site: DemoSite, number: int) -> None:
        self._site, self.number = site, number
        self.name = f"machine-{number:03d}"
        self._directory = ("--dir", str(site.folder / "machines" / f"{number:03d}"))
        self.state, self.count, self.reason = "unlicensed", None, ""

    @property
    def licensed(self) -> bool:
        return self.state == "licensed"

    def install(self) -> None:
        """What an image or an installer does: definition, generic key, host."""
        self._run(
            ("client", "add-product", str(self._site.definition), "--root", self._site.root),
            ("client", "install-key", PRODUCT, "--generic", "--edition", EDITION),
            ("client", "set-host", self._site.host_address),
        )

    def activate(self) -> None:
        self._read(self._run(("client", "activate", PRODUCT)))

    def info(self) -> str:
        words = ["--", "client", "info", PRODUCT, *self._directory]
        return _check(_python("volact.testing", ["--machine", str(self.number), *words]), self.name)

    def _run(self, *commands: Sequence[str]) -> dict[str, Any]:
        """What the last command printed.  Not licensed yet is exit code 1 and still an answer; anything without JSON
        is a failure of the demo."""
        words = [word for command in commands for word in ("--", *command, *self._directory, "--json")]
        done = _python("volact.testing", ["--machine", str(self.number), *words])
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            _check(done, self.name)
            raise PartFailedError(part=self.name, why="it printed nothing")
        result: dict[str, Any] = json.loads(lines[-1])
        if "error" in result:
            raise PartFailedError(part=self.name, why=result["error"]["message"])
        return result

    def _read(self, result: dict[str, Any]) -> None:
        (product,) = result["products"]
        if product.get("error"):
            raise PartFailedError(part=self.name, why=product["error"]["message"])
        self.state, self.count = product["state"], product["count"]
        self._site.licensing |= self.licensed
        self.reason = (product.get("reason") or {}).get("code", "")


class _Server:
    """A long-running command of the site, in a session of its own, so that Ctrl-C reaches only the demo."""

    def __init__(self, part: str, words: Sequence[str], log: Path) -> None:
        self.part, self._log = part, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "volact.cli.main", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_variables(),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, url: str) -> None:
        pause = threading.Event()
        end = time.monotonic() + START_SECONDS
        while self.running and time.monotonic() < end:
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
                    return
            except OSError:
                pause.wait(0.05)
        raise PartFailedError(part=self.part, why=self.last_words())

    def terminate(self) -> None:
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    def wait_until_ended(self) -> None:
        """And its workers, who are left where it was killed itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """Its error, where it made one."""
        lines = self.log_lines()
        errors = [line.removeprefix("volact: error: ") for line in lines if line.startswith("volact: error: ")]
        return (errors or lines or ["it said nothing"])[-1]

    def log_lines(self) -> list[str]:
        return self._log.read_text(errors="replace").strip().splitlines()


def command() -> str:
    """How the reader calls this very ``volact``, be it on the PATH or in an environment's folder."""
    own, found = Path(sys.executable).with_name("volact"), shutil.which("volact")
    if found and own.exists() and Path(found).samefile(own):
        return "volact"
    return _shown(own) if own.exists() else _words(_shown(Path(sys.executable)), "-m", "volact.cli.main")


def volact(*words: str, stdin: str = "") -> Any:
    """Run a production command with ``--json`` and return what it printed."""
    text = _check(_python("volact.cli.main", [*words, "--json"], stdin), words[0])
    return json.loads(text.strip().splitlines()[-1]) if text.strip() else {}


def volact_text(*words: str) -> str:
    """Run a production command as a person sees it in a pipe."""
    return _check(_python("volact.cli.main", words), words[0])


def _python(module: str, words: Sequence[str], stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=_variables(), check=False)


def _variables() -> dict[str, str]:
    """No setting of the user's own installation reaches the site."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}


def _check(done: "subprocess.CompletedProcess[str]", part: str) -> str:
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise PartFailedError(part=part, why=lines[0].removeprefix("volact: error: "))
    return done.stdout


def _shown(path: Path) -> str:
    """From where the reader stands, where that is shorter."""
    inside = path.is_relative_to(Path.cwd())
    return str(path.relative_to(Path.cwd()) if inside else path)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _words(*words: object) -> str:
    return " ".join([str(words[0]), *(shlex.quote(str(word)) for word in words[1:])])
