# SPDX-License-Identifier: Apache-2.0
"""``volact host serve`` as processes: addresses, stop, restart, and changes that a running host notices."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from support.processes import ADDRESS, Server, good, host_words, post, serving, storm, volact, wait_for
from support.site import PRODUCT, Machine, Vendor, make_request
from volact.core.encoding import b64decode
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.sealing.envelope import HYBRID
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP
from volact.wire import SERVICE
from volact.wire.client import Server as HostAddress
from volact.wire.server import ACTIVATE


@pytest.fixture(scope="module")
def vendor(tmp_path_factory) -> Vendor:
    return Vendor.make(tmp_path_factory.mktemp("vendor"), threshold=1)


@pytest.fixture
def host(vendor, tmp_path) -> HostFolder:
    return vendor.give_host(tmp_path / "host")


@pytest.fixture(scope="module")
def running(vendor, tmp_path_factory, pick_port):
    """One host for the tests that only ask."""
    folder = vendor.give_host(tmp_path_factory.mktemp("running") / "host")
    with serving(folder.path, pick_port()) as server:
        yield server


def test_the_life_of_a_running_host(vendor, tmp_path, pick_port):
    """One process through what an administrator does to it, in the order of a first day."""
    folder = HostFolder.create(tmp_path / "host")
    open_store(folder).close()
    machine = Machine.make(tmp_path / "machine", 1, vendor)
    with serving(folder.path, pick_port(), workers=2, ready=503) as server:
        # It starts without a key, says so, and notices the key when it comes.
        assert "with 0 activated keys" in server.log
        assert "it can answer nobody yet" in server.log
        assert server.get("/healthz")[0] == 200
        row = machine.activate_at(server.port)
        assert row["error"]["code"] == "server-error"
        assert "no-activated-key" in row["error"]["message"]
        vendor.give_host(folder.path)
        wait_for(lambda: server.get("/readyz")[0] == 200)
        wait_for(lambda: machine.activate_at(server.port)["licensed"])  # when both workers have noticed

        # Intervals that are set while it runs reach the licence.
        good("host", "set-intervals", "--activation", 15, "--renewal", 43200, "--dir", folder.path)

        def renewal() -> object:
            machine.activate_at(server.port)
            return machine.run("info", PRODUCT, "--json").json["renewal_interval_minutes"] == 43200

        wait_for(renewal)

        # A second key, and a product of its group, too.
        (first,) = folder.host_keys()
        second = folder.install_key(vendor.host_key(CLIENT_GROUP), HYBRID)
        vendor.certify(folder, second, (CLIENT_GROUP,))
        good("host", "remove-key", first.key.partial, "--dir", folder.path)
        wait_for(lambda: _issuers(server, vendor.root) == {second.opening_key(folder.passphrase()).id})
        assert machine.activate_at(server.port)["error"] is None
        assert machine.status()["licensed"]
        codes = [event["code"] for event in volact("host", "events", "--dir", folder.path, "--json").json]
        assert codes[0] == "host-started"
    assert [event["code"] for event in volact("host", "events", "--dir", folder.path, "--json").json][-1] == (
        "host-stopped"
    )


def _issuers(server: Server, root: str) -> set[str]:
    """Whose descriptors its workers hand out, over twenty connections."""
    address = HostAddress(ADDRESS, server.port)
    tokens = [address.get_issuer(root, PRODUCT, CLIENT_GROUP, b"") for _ in range(20)]
    return {str(json.loads(b64decode(token.split(".")[1], "claims"))["iss"]) for token in tokens}


def test_it_listens_on_ipv6_and_ipv4_by_default(host, vendor, tmp_path, pick_port):
    port, machine = pick_port(), Machine.make(tmp_path / "machine", 2, vendor)
    server = Server(host_words(host.path, port, listen="::"), tmp_path / "log", port).wait_until()
    try:
        for address in (f"[::1]:{port}", f"127.0.0.1:{port}", f"localhost:{port}"):
            assert machine.activate("--host", address)["licensed"], address
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
    finally:
        server.stop()


def test_a_port_in_use_is_said_in_one_sentence(host, tmp_path):
    with socket.create_server((ADDRESS, 0)) as other:
        port = other.getsockname()[1]
        done = volact("host", "serve", "--dir", host.path, "--listen", ADDRESS, "--port", port)
    assert done.code == 1
    assert done.errors == [f"cannot listen on {ADDRESS}, port {port}: Address already in use"]
    assert "set-port" in done.hints[0]


def test_two_hosts_do_not_share_a_port_by_mistake(running, host):
    done = volact("host", "serve", "--dir", host.path, "--listen", ADDRESS, "--port", running.port, "--json")
    assert done.json["error"]["code"] == "address-in-use"


def test_one_folder_is_served_once_whatever_the_port(vendor, tmp_path, pick_port):
    folder = vendor.give_host(tmp_path / "host")
    with serving(folder.path, pick_port()) as first:
        done = volact("host", "serve", "--dir", folder.path, "--listen", ADDRESS, "--port", pick_port(), "--json")
        assert done.json["error"]["code"] == "host-already-served"
        assert first.get("/healthz")[0] == 200
    with serving(folder.path, pick_port()) as again:
        assert again.get("/readyz")[0] == 200


def test_a_stop_answers_who_was_let_in_and_ends_well(host, vendor, pick_port):
    """Under way are 300 requests; the stop comes after the first answers.  Nobody gets half an answer, all that were
    answered are in the table, and the process ends with 0."""
    (key,) = host.host_keys()
    opening = key.opening_key(host.passphrase())
    requests = [make_request(vendor, opening, n) for n in range(300)]
    with serving(host.path, pick_port(), workers=2) as server:

        def stop(done: object) -> None:
            if len(done.answers) == 20:  # type: ignore[attr-defined]
                server.process.send_signal(signal.SIGTERM)

        done = storm(server.port, ACTIVATE, [one.body for one in requests], stop, concurrency=50)
        assert server.process.wait(20) == 0
    assert len(done.answers) >= 20
    rows = [json.loads(line) for line in volact("host", "machines", "--dir", host.path, "--jsonl").out.splitlines()]
    counted = {row["machine"] for row in rows}
    for place, body in done.answers.items():
        requests[place].open_body(body, vendor.publisher.trust)
        assert requests[place].machine.hex() in counted
    assert not [cause for cause in done.failures.values() if cause[:1].isdigit()], "an answer that is no licence"
    assert "Traceback" not in server.log


def test_the_workers_of_a_killed_parent_end_and_free_the_port_and_the_next_start_has_the_count(host, vendor, pick_port):
    (key,) = host.host_keys()
    opening, port = key.opening_key(host.passphrase()), pick_port()

    def ask(numbers: range) -> list[int]:
        made = [make_request(vendor, opening, number) for number in numbers]
        done = storm(port, ACTIVATE, [one.body for one in made], concurrency=1)
        trust = vendor.publisher.trust
        return [one.open_body(done.answers[place], trust).licence.count for place, one in enumerate(made)]

    server = Server(host_words(host.path, port, workers=2), host.path.parent / "log", port).wait_until()
    workers = server.workers()
    assert ask(range(10)) == list(range(1, 11))
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(10)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    with serving(host.path, port):
        assert ask(range(5, 20)) == list(range(11, 26))  # other keys: other machines, whatever hardware they show


def test_a_machine_that_knows_an_older_sealing_key_asks_for_the_new_one(vendor, tmp_path, pick_port):
    """The host was set up anew behind the same name: machines that keep its descriptor find it again by themselves."""
    port, machine = pick_port(), Machine.make(tmp_path / "machine", 3, vendor)
    for folder in (tmp_path / "first", tmp_path / "second"):
        host = vendor.give_host(folder)
        with serving(host.path, port):
            row = machine.activate_at(port)
            assert row["error"] is None
            assert row["licensed"]


def test_metrics_and_pages_are_for_get_only_and_say_nothing_of_machines(running, vendor, tmp_path):
    Machine.make(tmp_path / "machine", 4, vendor).activate_at(running.port)
    status, page = running.get("/metrics")
    assert status == 200
    assert f'volact_host_count{{group="{CLIENT_GROUP}",root="{vendor.root[:23]}"}} 1.0' in page
    assert f'volact_host_count{{group="{SERVER_GROUP}"' in page
    assert "machine-004" not in page
    assert running.get("/nothing")[0] == 404
    assert asyncio.run(post(running.port, "/metrics", b"", "text/plain"))[0] == 405


@pytest.mark.needs("curl")
def test_curl_can_ask_for_the_descriptor_as_the_documentation_shows(running, vendor, find_command):
    def ask(product: str) -> dict[str, str]:
        body = json.dumps({"root": vendor.root, "product": product, "group": CLIENT_GROUP})
        words = [find_command("curl"), "-s", "-H", "Content-Type: application/json", "-d", body]
        url = f"{running.url}{SERVICE}/GetIssuer"
        done = subprocess.run([*words, url], capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    assert ask(PRODUCT)["descriptor"].count(".") == 2
    assert ask("other")["code"] == "failed_precondition"
    assert ask("other")["message"].startswith("no-activated-key: ")


def test_a_full_disk_acknowledges_nothing_and_is_survived(vendor, tmp_path, pick_port):
    """A file system of 4 MB of its own: filled, the host says what is wrong; with room again, it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "volact-test", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        host = vendor.give_host(disk / "host")
        (key,) = host.host_keys()
        opening = key.opening_key(host.passphrase())
        server = Server(host_words(host.path, port := pick_port()), tmp_path / "log", port).wait_until()
        try:
            host_address = Machine.make(tmp_path / "machine", 5, vendor)
            assert host_address.activate_at(port)["licensed"]
            _fill(disk / "filler")
            requests = [make_request(vendor, opening, 100 + n) for n in range(200)]
            done = storm(port, ACTIVATE, [one.body for one in requests], concurrency=50)
            assert {cause[:3] for cause in done.failures.values()} == {"503"}
            assert all("disk-full" in cause for cause in done.failures.values())
            assert done.failures
            (disk / "filler").unlink()
            again = storm(port, ACTIVATE, [one.body for one in requests], concurrency=50)
            assert again.failures == {}
            counts = {
                requests[n].open_body(body, vendor.publisher.trust).licence.count for n, body in again.answers.items()
            }
            assert max(counts) == 201
        finally:
            server.stop()
    finally:
        subprocess.run(["umount", disk], check=True)


def _fill(path: Path) -> None:
    """Until there is no room."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
