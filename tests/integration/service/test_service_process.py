# SPDX-License-Identifier: Apache-2.0
"""``volact client serve`` as a process: what it costs, what it heeds, and how it stops."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.processes import wait_for
from support.site import served
from volact.client.folder.settings import parse_host_port
from volact.client.folder.store import ClientStore
from volact.client.products import installing
from volact.client.service.events import Log
from volact.testing import KmsHostSimulator, Site

PRODUCT = "acme-cad"
MOST_RESIDENT = 30 * 1024  # KiB


@dataclass
class Running:
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def api(self) -> Path:
        return self.folder / "api.sock"

    def events(self) -> list[str]:
        return [row["event"] for row in Log(self.folder).read()]

    def wait_event(self, name: str, times: int = 1) -> None:
        wait_for(lambda: self.events().count(name) >= times)

    def status(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name)))

    def get(self, path: str) -> tuple[int, Any]:
        head, body = self.send(f"GET {path} HTTP/1.0")
        return int(head.split()[1]), json.loads(body)

    def send(self, line: str) -> tuple[bytes, bytes]:
        """A request of one line; head and body of what it is answered."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(20)
            caller.connect(str(self.api))
            caller.sendall(f"{line}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: caller.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body


@contextmanager
def serving(folder: Path, *words: str, log: Path | None = None, **variables: str) -> Iterator[Running]:
    log = log or folder.with_name(f"{folder.name}.log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "volact.cli.main", "client", "serve", "--dir", str(folder), *words],
            stdout=output,
            stderr=output,
            env={**os.environ, **variables},
        )
    try:
        yield Running(folder, process)
    finally:
        if process.poll() is None:
            process.terminate()
        assert process.wait(15) == 0, log.read_text()


@pytest.fixture
def site() -> Site:
    return Site.make(now=int(time.time()))


@pytest.fixture
def host(site: Site) -> KmsHostSimulator:
    host = site.kms_host()
    host.fill(101, 24)
    return host


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose sockets' paths fit into 108 bytes."""
    folder = Path("/tmp") / f"volact-service-{os.getpid()}"
    folder.mkdir()
    yield folder / "client"
    shutil.rmtree(folder)


def prepare(folder: Path, site: Site, port: int | None) -> ClientStore:
    store = ClientStore(folder)
    installing.add_product(store, site.token, site.publisher.fingerprint, 0, site.clock())
    if port is not None:
        settings = store.settings()
        address, number = parse_host_port(f"127.0.0.1:{port}")
        discovery = type(settings.discovery)(host=address, port=number)
        store.save_settings(settings._replace(discovery=discovery))
    installing.install_generic_key(store, PRODUCT, "client")
    return store


def test_it_activates_at_its_start_answers_products_and_stays_small(short: Path, site: Site, host: Any) -> None:
    with served(host) as port:
        prepare(short, site, port)
        with serving(short) as running:
            running.wait_event("service-started")
            assert "activation-answered" in running.events()
            status, check = running.get(f"/v1/products/{PRODUCT}/check?root={site.publisher.fingerprint}")
            assert (status, check["licensed"], check["state"]) == (200, True, "licensed")
            status, listed = running.get("/v1/products")
            assert [one["product"] for one in listed["products"]] == [PRODUCT]
            status, licence = running.get(f"/v1/products/{PRODUCT}/licence")
            stored = (short / "products" / PRODUCT / "answers" / "volume.vollicence").read_text()
            assert licence["licence"] == stored.strip()
            assert running.status("VmRSS") < MOST_RESIDENT
            assert running.status("VmHWM") < MOST_RESIDENT
    assert running.events()[-1] == "service-stopped"
    assert not running.api.exists()


def test_asleep_it_does_not_wake_up(short: Path, site: Site, host: Any) -> None:
    with served(host) as port:
        prepare(short, site, port)
        with serving(short, "--no-api") as running:
            running.wait_event("service-started")
            wait_for(lambda: not children(running.process.pid))
            before = running.status("voluntary_ctxt_switches")
            with pytest.raises(subprocess.TimeoutExpired):
                running.process.wait(3)
            assert running.status("voluntary_ctxt_switches") == before


def test_a_key_installed_while_it_runs_is_activated_without_being_asked(short: Path, site: Site, host: Any) -> None:
    with served(host) as port, serving(short) as running:
        running.wait_event("service-started")
        prepare(short, site, port)
        running.wait_event("activation-answered")


def test_hangup_asks_again_what_failed(short: Path, site: Site, host: Any) -> None:
    with served(host) as port:
        prepare(short, site, port)
        host.down = True
        with serving(short, "--no-api") as running:
            running.wait_event("activation-failed")
            running.wait_event("service-started")
            host.down = False
            running.process.send_signal(signal.SIGHUP)
            running.wait_event("activation-answered")


def test_wrong_questions_are_answered_by_problem_documents(short: Path, site: Site) -> None:
    prepare(short, site, None)
    with serving(short) as running:
        wait_for(running.api.exists)
        asked = {
            "/v1/products/acme-cad/check": (400, "query-invalid"),
            "/v1/products/acme-cad/check?root=sha256:zz": (400, "query-invalid"),
            "/v1/products/nope": (404, "product-not-added"),
            "/v1/products/..%2F..%2Fetc": (404, "product-not-added"),
            "/v2/products": (404, "path-unknown"),
            "http://[": (400, "api-request"),
            "/v1/products?" + "a=1&" * 9: (400, "api-request"),
            "/v1/products/acme-cad/licence": (404, "licence-not-stored"),
        }
        for path, expected in asked.items():
            status, body = running.get(path)
            assert (status, body["code"]) == expected, path
            assert body["status"] == status
        assert running.get("/v1/products/acme-cad/check?root=sha256:" + "0" * 64)[1]["licensed"] is False
        for line, number in {"DELETE /v1/products HTTP/1.0": 405, "GET / HTTP/9.0": 505, "rubbish": 400}.items():
            head, data = running.send(line)
            problem = json.loads(data)
            assert (problem["status"], problem["code"]) == (number, "api-request"), line
            assert (b"application/problem+json" in head, b"Allow: GET" in head) == (True, number == 405), line
        head, data = running.send("HEAD /v1/products HTTP/1.0")
        assert (head.startswith(b"HTTP/1.0 200"), data) == (True, b"")


def test_the_socket_of_a_service_that_died_is_taken_over_and_one_in_use_is_not(short: Path) -> None:
    short.mkdir(parents=True)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(short / "api.sock"))
    dead.close()
    with serving(short) as running:
        running.wait_event("service-started")
        assert running.get("/v1/products") == (200, {"products": []})
        second = subprocess.run(
            [sys.executable, "-m", "volact.cli.main", "client", "serve", "--dir", str(short)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "cannot listen" in second.stderr


def test_systemd_hears_ready_watchdog_and_stopping(short: Path, tmp_path: Path) -> None:
    short.mkdir(parents=True)
    path = short.parent / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        heard = ""
        with serving(short, "--no-api", NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000"):
            while "READY=1" not in heard or "WATCHDOG=1" not in heard:
                heard += manager.recv(4096).decode() + "\n"
        with contextlib.suppress(BlockingIOError):
            manager.setblocking(False)
            while True:
                heard += manager.recv(4096).decode() + "\n"
        assert "STOPPING=1" in heard


def test_it_takes_the_socket_that_systemd_made(short: Path) -> None:
    short.mkdir(parents=True)
    given = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    given.bind(str(short / "given.sock"))
    given.listen()
    start = (
        "import os, sys\n"
        f"os.dup2({given.fileno()}, 3)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'volact.cli.main', *sys.argv[1:]])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, "client", "serve", "--dir", str(short)],
        pass_fds=[given.fileno(), 3] if given.fileno() != 3 else [3],
        stderr=subprocess.DEVNULL,
    )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(20)
            caller.connect(str(short / "given.sock"))
            caller.sendall(b"GET /v1/products HTTP/1.0\r\n\r\n")
            assert b"200 OK" in caller.recv(65536)
        assert not (short / "api.sock").exists()
    finally:
        process.terminate()
        assert process.wait(15) == 0
        given.close()


def test_a_killed_round_is_done_again_and_a_killed_service_leaves_nothing_behind(short: Path, site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        prepare(short, site, silent.getsockname()[1])
        with serving(short, "--no-api") as running:
            running.wait_event("activation-requested")
            os.kill(wait_for(lambda: children(running.process.pid))[0], signal.SIGKILL)
            running.wait_event("round-failed")
            running.process.send_signal(signal.SIGHUP)
            running.wait_event("activation-requested", 2)
            began = time.monotonic()
            running.process.terminate()
            running.process.wait(10)
            assert time.monotonic() - began < 8
            assert not children(running.process.pid)


def test_a_local_api_that_breaks_is_not_started_in_a_loop_and_licensing_goes_on(
    short: Path, site: Site, host: Any
) -> None:
    with served(host) as port:
        prepare(short, site, port)
        with serving(short) as running:
            running.wait_event("service-started")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                caller.connect(str(running.api))  # and says nothing
                os.kill(wait_for(lambda: children(running.process.pid))[0], signal.SIGKILL)
                running.wait_event("round-failed")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                caller.connect(str(running.api))
                with pytest.raises(subprocess.TimeoutExpired):
                    running.process.wait(1.5)
                assert not children(running.process.pid)
            installing.install_generic_key(ClientStore(short), PRODUCT, "server")
            running.wait_event("activation-answered", 2)


def test_the_api_ends_when_nobody_asks_and_comes_back(short: Path, site: Site, monkeypatch: Any) -> None:
    from volact.client.check import World
    from volact.client.service.api import Asked, Server

    short.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(short / "api.sock"))
        listener.listen()
        server = Server(listener.dup(), Asked(short, World.of_system()))
        began = time.monotonic()
        server.serve_until_idle(0.3)
        assert time.monotonic() - began < 5
        server.socket.close()


def test_a_caller_that_sends_a_byte_now_and_then_loses_its_place(short: Path, monkeypatch: Any) -> None:
    from volact.client.check import World
    from volact.client.service.api import Asked, Handler, Server

    monkeypatch.setattr(Handler, "whole_seconds", 0.3)
    short.mkdir(parents=True)
    path = str(short / "api.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        server = Server(listener.dup(), Asked(short, World.of_system()))
        serving = threading.Thread(target=server.serve_until_idle, args=(0.5,))
        serving.start()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(path)
            caller.settimeout(0.05)

            def is_cut_off() -> bool:
                try:
                    caller.sendall(b"G")
                    return caller.recv(1) == b""
                except TimeoutError:
                    return False
                except OSError:
                    return True

            wait_for(is_cut_off)
        serving.join(10)
        assert not serving.is_alive()
        server.socket.close()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
