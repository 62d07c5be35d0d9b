# SPDX-License-Identifier: Apache-2.0
"""A real BIND 9 on a free loopback port, with zones that take signed updates: ``with bind(["example.test"]) as dns``.

It answers for its own zones and asks no other server than the one given as ``forward_to``, so that no test can leave
the machine.
"""

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.resolver

ADDRESS = "127.0.0.1"
KEY = "volact-host"  # the key that the update policy names
STRANGER = "stranger"  # a key the server knows and grants nothing
START_SECONDS = 60
ATTEMPTS = 5  # another process can take the port between our look and named's bind


@dataclass(slots=True)
class Bind:
    """A running server: where it is, the keys, and ways to ask it that use none of our code."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{ADDRESS}:{self.port}"

    def key_file(self, name: str = KEY) -> Path:
        return self.folder / f"{name}.key"

    def resolver(self) -> dns.resolver.Resolver:
        """A stub resolver that knows this server only."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [ADDRESS], self.port
        return resolver

    def dig(self, name: str, rdtype: str = "SRV") -> list[str]:
        """The answer as ``dig +short`` prints it, sorted."""
        command = ["dig", f"@{ADDRESS}", "-p", str(self.port), "+short", "+tries=1", "+time=5", name, rdtype]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=15)
        return sorted(done.stdout.splitlines())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=15)


@contextmanager
def bind(
    zones: Iterable[str] = (),
    records: Iterable[str] = (),
    policy: str = "zonesub SRV",
    forward_to: int | None = None,
) -> Iterator[Bind]:
    """Serve ``zones``; ``records`` are absolute lines for the first zone; ``policy`` is what the key is granted.

    With ``forward_to``, the port of another server, it is an organisation's resolver in front of that server.
    """
    with tempfile.TemporaryDirectory(prefix="volact-bind-") as name:
        folder = Path(name)
        zones = list(zones)
        for key in (KEY, STRANGER):
            _write_key(folder, key)
        for zone in zones:
            _write_zone(folder, zone, records if zone == zones[0] else ())
        server = _start(folder, zones, policy, forward_to)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()


def _start(folder: Path, zones: list[str], policy: str, forward_to: int | None) -> Bind:
    for _ in range(ATTEMPTS):
        server = _launch(folder, _write_config(folder, zones, policy, forward_to))
        if _is_running(server):
            return server
    raise RuntimeError("named did not start:\n" + "".join(server.log))


def _launch(folder: Path, port: int) -> Bind:
    named = shutil.which("named", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert named is not None, "BIND 9 (named) is not installed"
    command = [named, "-g", "-n", "1", "-c", str(folder / "named.conf")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    return Bind(folder, port, process)


def _is_running(server: Bind) -> bool:
    """Read the log until named says that it runs, or ends; then go on reading it, lest the pipe fill."""
    alarm = threading.Timer(START_SECONDS, server.process.kill)
    alarm.start()
    try:
        running = any(_logged(server, line) for line in server.process.stderr or ())
    finally:
        alarm.cancel()
    if running and not any("address in use" in line for line in server.log):
        threading.Thread(target=_drain, args=(server,), daemon=True).start()
        return True
    server.stop()
    _drain(server)
    return False


def _logged(server: Bind, line: str) -> bool:
    server.log.append(line)
    return line.rstrip().endswith(" running")


def _drain(server: Bind) -> None:
    assert server.process.stderr is not None
    with server.process.stderr as log:
        server.log.extend(log)


def _write_key(folder: Path, name: str) -> None:
    text = subprocess.run(["/usr/sbin/tsig-keygen", name], capture_output=True, text=True, check=True).stdout
    (folder / f"{name}.key").write_text(text)


def _write_zone(folder: Path, zone: str, records: Iterable[str]) -> None:
    lines = (
        "$TTL 60",
        f"{zone}. SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 60",
        f"{zone}. NS ns.{zone}.",
        f"ns.{zone}. A {ADDRESS}",
        *records,
        "",
    )
    (folder / f"{zone}.zone").write_text("\n".join(lines))


def _write_config(folder: Path, zones: list[str], policy: str, forward_to: int | None) -> int:
    port = _free_port()
    recursion = "recursion no;"
    if forward_to is not None:
        recursion = f"recursion yes; forward only; forwarders {{ {ADDRESS} port {forward_to}; }};"
    options = (
        f'options {{ directory "{folder}"; listen-on port {port} {{ {ADDRESS}; }}; listen-on-v6 {{ none; }};'
        f' {recursion} notify no; pid-file "{folder}/named.pid"; session-keyfile "{folder}/session.key";'
        " dnssec-validation no; empty-zones-enable no; check-names primary ignore; };\ncontrols { };\n"
    )
    keys = "".join(f'include "{folder}/{key}.key";\n' for key in (KEY, STRANGER))
    blocks = "".join(
        f'zone "{zone}" {{ type primary; file "{zone}.zone"; update-policy {{ grant {KEY} {policy}; }}; }};\n'
        for zone in zones
    )
    (folder / "named.conf").write_text(options + keys + blocks)
    return port


def _free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as tcp:
        port: int = tcp.getsockname()[1]
        return port
