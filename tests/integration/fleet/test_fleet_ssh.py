# SPDX-License-Identifier: Apache-2.0
"""Finding and asking machines across a real sshd: good ones, and every way in which one can be bad."""

import json
import stat
import subprocess
import sys
import time
import zipapp
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fleet import SRC, Far, FarMachine, Kind, far_side, give_product
from support.processes import Done, volact
from support.site import Vendor

pytestmark = pytest.mark.needs("sshd")

BAD = {
    Kind.DEAD: "machine-unreachable",
    Kind.MUTE: "machine-timed-out",
    Kind.SLOW: "machine-timed-out",
    Kind.OTHER_KEY: "host-key-changed",
    Kind.UNKNOWN_KEY: "host-key-unknown",
    Kind.NO_SUDO: "sudo-refused",
    Kind.NO_VOLACT: "volact-missing",
    Kind.NOISY: "remote-answer-unreadable",
    Kind.LOCKED_OUT: "ssh-login-refused",
}
GOOD = 40
TIMEOUT = 12


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return Vendor.make(tmp_path_factory.mktemp("vendor"))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, pick_port: Callable[[], int], vendor: Vendor) -> Iterator[Far]:
    kinds = [*BAD, *([Kind.GOOD] * GOOD), *BAD]
    with far_side(tmp_path_factory.mktemp("far") / "side", kinds, pick_port) as up:
        for machine in up.of(Kind.GOOD):
            give_product(machine, vendor.file, vendor.root)
        yield up


class Office:
    def __init__(self, path: Path, far: Far) -> None:
        self.path, self.far = path, far
        assert self.run("init").code == 0
        assert self.run("set", *far.set_words()).code == 0

    def run(self, *words: object, **how: Any) -> Done:
        return volact("fleet", *words, "--dir", self.path, "--json", **how)

    def discover(self, *machines: FarMachine) -> None:
        text = "\n".join(("nobody@" if m.kind == Kind.LOCKED_OUT else "") + m.word for m in machines)
        assert self.run("discover", "-", stdin=text).code == 0


@pytest.fixture
def office(tmp_path: Path, far: Far) -> Office:
    return Office(tmp_path / "fleet", far)


def test_a_fleet_with_bad_machines_is_refreshed_each_by_itself(office: Office, far: Far) -> None:
    office.discover(*far.machines)
    began = time.monotonic()
    done = office.run("refresh", "--timeout", TIMEOUT)
    seconds = time.monotonic() - began
    assert done.code == 1  # some are in trouble
    ended = {task["machine"]: task for task in done.json["machines"]}
    for machine in far.machines:
        task = ended[machine.name]
        assert task["error"] == BAD.get(machine.kind), (machine.kind, task)
    assert done.json["tasks"]["done"] == GOOD
    assert seconds < 6 * TIMEOUT, "the slow ones were waited for one after the other"
    print(f"{len(far.machines)} machines in {seconds:.1f} s")

    rows = office.run("list", "--filter", "state=initial-grace", "--limit", 1000).json
    assert rows["total"] == GOOD
    assert {row["product"] for row in rows["rows"]} == {"acme-cad"}
    rows = office.run(
        "list", "--machines", "--filter", "result=sudo-refused", "--columns", "name,result,last-error"
    ).json
    assert {row["name"] for row in rows["rows"]} == {machine.name for machine in far.of(Kind.NO_SUDO)}
    assert "a password is required" in rows["rows"][0]["last_error"]
    shown = office.run("show", far.of(Kind.GOOD)[0].name).json
    assert shown["volact_version"]
    assert [change["state"] for change in shown["history"]] == ["initial-grace"]


def test_a_second_refresh_tells_history_nothing_new(office: Office, far: Far) -> None:
    machine = far.of(Kind.GOOD)[0]
    office.discover(machine)
    for _ in range(2):
        assert office.run("refresh").code == 0
    assert len(office.run("history").json) == 1


def test_new_host_keys_are_accepted_only_when_asked_for_and_kept(office: Office, far: Far) -> None:
    machine = far.of(Kind.UNKNOWN_KEY)[0]
    office.discover(machine)
    first = office.run("refresh").json["machines"][0]
    assert first["error"] == "host-key-unknown"
    assert "SHA256:" in first["error_text"]
    assert office.run("refresh", "--accept-new-host-keys").code == 0
    kept = office.path / "known_hosts"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text().startswith(f"[{machine.address}]:{machine.port} ssh-ed25519 ")
    assert office.run("refresh").code == 0


def test_a_changed_host_key_is_not_accepted_even_when_new_ones_are(office: Office, far: Far) -> None:
    office.discover(*far.of(Kind.OTHER_KEY)[:1])
    done = office.run("refresh", "--accept-new-host-keys")
    assert done.json["machines"][0]["error"] == "host-key-changed"
    assert not (office.path / "known_hosts").exists()


def test_an_ssh_configuration_that_switches_the_check_off_is_not_followed(office: Office, far: Far) -> None:
    config = office.path.parent / "lax"
    config.write_text("Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile none\n")
    assert office.run("set", "--ssh-config", config).code == 0
    office.discover(*far.of(Kind.OTHER_KEY)[:1])
    assert office.run("refresh").json["machines"][0]["error"] == "host-key-changed"


def test_machines_behind_a_jump_host_share_one_connection_to_it(office: Office, far: Far) -> None:
    jump, *others = far.of(Kind.GOOD)[:5]
    config = office.path.parent / "jumping"
    hosts = " ".join(machine.address for machine in others)
    config.write_text(f"Host {hosts}\n  ProxyJump {jump.address}:{jump.port}\n")
    assert office.run("set", "--ssh-config", config).code == 0
    office.discover(*others)
    done = office.run("refresh")
    assert done.code == 0, done.out


def test_a_jump_host_with_a_wrong_key_is_an_error_of_the_machines_behind_it(office: Office, far: Far) -> None:
    jump, machine = far.of(Kind.OTHER_KEY)[0], far.of(Kind.GOOD)[0]
    config = office.path.parent / "jumping"
    config.write_text(f"Host {machine.address}\n  ProxyJump {jump.address}:{jump.port}\n")
    assert office.run("set", "--ssh-config", config).code == 0
    office.discover(machine)
    task = office.run("refresh").json["machines"][0]
    assert task["error"] == "machine-unreachable"
    assert "jump host" in task["error_text"]


def test_volact_is_brought_where_it_is_missing_and_left_where_it_is(office: Office, far: Far, tmp_path: Path) -> None:
    artefact = _make_zipapp(tmp_path)
    missing, there = far.of(Kind.NO_VOLACT)[0], far.of(Kind.GOOD)[0]
    office.discover(missing, there)
    place = missing.folder / "opt"
    words = (
        "bootstrap",
        "--artefact",
        artefact,
        "--prefix",
        place,
        "--link",
        missing.folder / "bin" / "volact",
        "--all",
    )
    done = office.run(*words)
    assert done.code == 0, done.out
    states = {task["machine"]: task["state"] for task in done.json["machines"]}
    assert states == {missing.name: "done", there.name: "skipped"}
    assert office.run("refresh", missing.name).code == 0
    (missing.folder / "bin" / "volact").unlink()  # as the other tests want it


def test_an_artefact_that_cannot_run_leaves_nothing_in_its_place(office: Office, far: Far, tmp_path: Path) -> None:
    artefact = tmp_path / "broken.pyz"
    artefact.write_bytes(b"not a program")
    machine = far.of(Kind.NO_VOLACT)[1]
    office.discover(machine)
    link = machine.folder / "bin" / "volact"
    done = office.run("bootstrap", "--artefact", artefact, "--prefix", machine.folder / "opt", "--link", link, "--all")
    assert done.json["machines"][0]["error"] == "bootstrap-failed"
    assert not link.exists()


@pytest.mark.parametrize("signal_after", [0.3, 0.9, 1.5])
def test_a_refresh_that_was_killed_is_gone_on_with(office: Office, far: Far, signal_after: float) -> None:
    good = far.of(Kind.GOOD)
    office.discover(*good)
    words = [sys.executable, "-m", "volact.cli.main", "fleet", "refresh", "--parallel", "8", "--dir", str(office.path)]
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for_job(office)
    time.sleep(signal_after)  # a point in the middle, not a thing to wait for
    killed.kill()
    killed.wait()
    done = office.run("jobs", "run", 1)
    if done.code:
        assert done.json["error"]["code"] == "job-ended", done.out  # it had been quicker
    shown = office.run("jobs", "show", 1, "--limit", 1000).json
    assert shown["state"] == "done"
    assert shown["tasks"]["done"] == len(good)
    assert len(office.run("history", "--limit", 1000).json) == len(good)


def _wait_for_job(office: Office) -> None:
    from support.processes import wait_for

    wait_for(lambda: json.loads(office.run("jobs", "list").out))


def _make_zipapp(tmp_path: Path) -> Path:
    """The sources as one file; its two dependencies are the interpreter's there."""
    target = tmp_path / "volact.pyz"
    zipapp.create_archive(
        SRC, target, interpreter=None, main="volact.cli.main:main", filter=lambda path: "__pycache__" not in path.parts
    )
    return target
