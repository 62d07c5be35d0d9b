# SPDX-License-Identifier: Apache-2.0
"""``check`` in front of a command and as a probe, ``rearm``, ``generalize``, ``events``, as they are typed."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

import volact
from support.processes import volact as run
from support.site import Vendor, served
from volact.client.activation import online
from volact.client.check import World
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing
from volact.core.states import Enforcement
from volact.testing import FakeClock, Site, simulated_traits

PRODUCT, DAY = "acme-cad", 86400


@pytest.fixture
def site() -> Site:
    return Site.make(now=int(time.time()))


def prepare(folder: Path, site: Site) -> ClientStore:
    store = ClientStore(folder)
    installing.add_product(store, site.token, site.publisher.fingerprint, 0, site.clock())
    installing.install_generic_key(store, PRODUCT, "client")
    return store


def license_here(store: ClientStore, site: Site, machine: LocalMachine | None = None) -> None:
    host = site.kms_host()
    host.fill(101, 24)
    machine = machine or LocalMachine.of_system()
    route = Route(host, "kms.example.test:1688", "given")
    assert online.activate(PRODUCT, store, [route], machine, site.clock, Random(1)).evaluation.licensed


def command(folder: Path, site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    root = site.publisher.fingerprint
    start = [sys.executable, "-m", "volact.cli.main", "client", "check", PRODUCT, "--root", root, "--dir", str(folder)]
    return subprocess.run([*start, *words], capture_output=True, text=True, check=False, timeout=60)


def test_a_licensed_command_runs_in_the_place_of_check_and_its_code_is_the_code(tmp_path: Path, site: Site) -> None:
    license_here(prepare(tmp_path, site), site)
    code = "import os, sys; print(os.environ['VOLACT_STATE'], sys.argv[1:]); sys.exit(7)"
    done = command(tmp_path, site, "--", sys.executable, "-c", code, "--json", "--", "x")
    assert (done.returncode, done.stdout) == (7, "licensed ['--json', '--', 'x']\n")
    assert done.stderr == ""


def test_a_command_that_the_policy_stops_does_not_run(tmp_path: Path, site: Site) -> None:
    marker = tmp_path / "ran"
    done = command(tmp_path / "empty", site, "--", "touch", str(marker))
    assert done.returncode == 1
    assert not marker.exists()
    assert "is not licensed" in done.stderr


def test_a_command_that_is_not_there_is_named(tmp_path: Path, site: Site) -> None:
    license_here(prepare(tmp_path, site), site)
    done = command(tmp_path, site, "--", "no-such-command-at-all")
    assert done.returncode == 127
    assert "no-such-command-at-all" in done.stderr


def test_a_probe_waits_until_the_machine_is_licensed(tmp_path: Path, site: Site) -> None:
    store = prepare(tmp_path, site)
    later = threading.Timer(1.0, lambda: license_here(store, site))
    later.start()
    done = command(tmp_path, site, "--wait", "50")
    later.join()
    assert done.returncode == 0, done.stderr


def test_a_probe_gives_up_after_its_time(tmp_path: Path, site: Site) -> None:
    prepare(tmp_path, site)
    assert command(tmp_path, site, "--wait", "1").returncode == 1


def test_rearm_begins_grace_anew_as_often_as_the_policy_allows(tmp_path: Path) -> None:
    clock = FakeClock()
    vendor = Vendor.make(tmp_path, clock=clock, rearm_limit=2)
    folder = ("--dir", tmp_path / "client")
    run("client", "add-product", vendor.file, "--root", vendor.root, *folder, clock=clock)
    run("client", "install-key", PRODUCT, "--generic", "--edition", "client", *folder, clock=clock)
    left = []
    for _ in range(2):
        clock.advance(days=40)
        before = run("client", "status", "--json", *folder, clock=clock).json["products"][0]
        assert before["state"] == "notification"
        done = run("client", "rearm", PRODUCT, "--json", *folder, clock=clock)
        assert done.json["state"] == "initial-grace"
        left.append(done.json["rearms_left"])
    assert left == [1, 0]
    assert run("client", "info", PRODUCT, "--json", *folder, clock=clock).json["rearms_left"] == 0
    clock.advance(days=40)
    refused = run("client", "rearm", PRODUCT, "--json", *folder, clock=clock)
    assert refused.json["error"]["code"] == "no-rearm-left"
    # once more after an activation, and not while that lasts
    site_host = Site(clock, vendor.publisher, vendor.definition, vendor.file.read_text()).kms_host()
    site_host.fill(101, 24)
    with served(site_host) as port:
        where = ("--host", f"127.0.0.1:{port}")
        assert run("client", "activate", PRODUCT, *where, *folder, clock=clock).code == 0
    assert run("client", "rearm", PRODUCT, "--json", *folder, clock=clock).json["error"]["code"] == "rearm-not-needed"
    clock.advance(days=300)
    assert run("client", "rearm", PRODUCT, "--json", *folder, clock=clock).json["state"] == "initial-grace"
    clock.advance(days=40)
    assert run("client", "rearm", PRODUCT, "--json", *folder, clock=clock).json["error"]["code"] == "no-rearm-left"
    events = run("client", "events", "--json", *folder, clock=clock).json["events"]
    assert [row["id"] for row in events] == [4052, 4052, 4011, 4052]


def test_generalize_keeps_keys_and_takes_the_machine(tmp_path: Path, site: Site) -> None:
    store = prepare(tmp_path / "client", site)
    license_here(store, site)
    done = run("client", "generalize", "--json", "--dir", tmp_path / "client", clock=site.clock)
    assert done.json["products"] == [PRODUCT]
    kept = run("client", "info", PRODUCT, "--json", "--dir", tmp_path / "client", clock=site.clock).json
    assert (kept["machine_id"], kept["licensed"], kept["channel"]) == (None, False, "volume")


def check_world(site: Site) -> World:
    return World(site.clock, LocalMachine(lambda: simulated_traits(1), lambda: "one"))


def test_a_licensed_block_runs_and_knows_its_licence(tmp_path: Path, site: Site) -> None:
    world = check_world(site)
    license_here(prepare(tmp_path, site), site, world.machine)
    with volact.licensed(PRODUCT, root=site.publisher.fingerprint, dir=tmp_path, _world=world) as found:
        assert found.licensed


def test_a_function_that_the_policy_stops_raises_the_one_error_with_its_remedy(tmp_path: Path, site: Site) -> None:
    ran: list[int] = []

    @volact.licensed(PRODUCT, root=site.publisher.fingerprint, dir=tmp_path / "empty")
    def export() -> None:
        ran.append(1)

    with pytest.raises(volact.NotLicensedError) as caught:
        export()
    assert not ran
    check = caught.value.check
    assert check.reason is not None
    assert (check.licensed, check.reason.code) == (False, "product-not-added")
    assert (check.reason.sentence in str(caught.value), caught.value.hint) == (True, check.reason.remedy)


def test_a_block_runs_in_a_state_that_the_policy_only_warns_of(tmp_path: Path, site: Site) -> None:
    prepare(tmp_path, site)
    options: dict[str, Any] = {"root": site.publisher.fingerprint, "dir": tmp_path, "_world": check_world(site)}
    with volact.licensed(PRODUCT, **options) as found:
        assert not found
    everything = tuple(Enforcement)
    with pytest.raises(volact.NotLicensedError), volact.licensed(PRODUCT, stop=everything, **options):
        os.abort()
    with pytest.raises(volact.NotLicensedError), volact.licensed(PRODUCT, stop=["warn", "count-only"], **options):
        os.abort()


@pytest.mark.parametrize("stop", ["block", ["blokc"]])
def test_an_enforcement_that_does_not_exist_is_told_to_the_developer_at_once(site: Site, stop: Any) -> None:
    with pytest.raises(ValueError, match="is not a valid Enforcement"):
        volact.licensed(PRODUCT, root=site.publisher.fingerprint, stop=stop)
