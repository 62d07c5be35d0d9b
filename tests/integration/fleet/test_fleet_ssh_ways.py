# SPDX-License-Identifier: Apache-2.0
"""Ways in across a real sshd: by an agent, by a shared jump host, past one that sheds load; and bringing volact."""

import getpass
import os
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncssh.gss import GSSError  # type: ignore[attr-defined]  # gssapi's own where it is installed

from support.fleet import Far, Kind, far_side, give_product
from support.processes import good, volact, wait_for
from support.site import Vendor

pytestmark = pytest.mark.needs("sshd")

MACHINES = 8
THROTTLED = "2:100:2"  # a third connection that is not logged in yet is dropped


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return Vendor.make(tmp_path_factory.mktemp("vendor"))


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path, pick_port: Callable[[], int], vendor: Vendor) -> Iterator[Far]:
    """``request.param``: how many unauthenticated connections sshd takes."""
    kinds = [*[Kind.GOOD] * MACHINES, Kind.NO_VOLACT]
    with far_side(tmp_path / "far", kinds, pick_port, request.param, "VERBOSE") as up:
        for machine in up.of(Kind.GOOD):
            give_product(machine, vendor.file, vendor.root)
        yield up


def office(path: Path, far: Far, *more: object) -> Callable[..., Any]:
    """A fleet of all the far machines; its verbs."""
    good("fleet", "init", "--dir", path)
    good("fleet", "set", *(more or far.set_words()), "--dir", path)
    words = "\n".join(machine.word for machine in far.machines)
    assert volact("fleet", "discover", "-", "--dir", path, stdin=words).code == 0
    return lambda *words: volact("fleet", *words, "--dir", path, "--json").json


@pytest.mark.parametrize("far", [THROTTLED], indirect=True)
def test_an_sshd_that_drops_connections_under_load_is_tried_again(far: Far, tmp_path: Path) -> None:
    fleet = office(tmp_path / "fleet", far, *far.set_words(), "--starts", 3)
    names = [machine.name for machine in far.of(Kind.GOOD)]
    done = fleet("refresh", *names)
    assert "MaxStartups throttling" in far.log, "nothing was dropped, so nothing was shown"
    assert done["tasks"]["done"] == MACHINES, done["machines"]


@pytest.mark.parametrize("far", ["1000"], indirect=True)
def test_no_ticket_is_looked_for_unless_kerberos_is_asked_for(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look blocks the whole program, and takes seconds where DNS does not answer at once."""
    looked: list[str] = []

    def look(host: str, store: object, delegate: bool) -> None:
        looked.append(host)
        raise GSSError(0, 0)

    monkeypatch.setattr("asyncssh.connection.GSSClient", look)
    fleet = office(tmp_path / "fleet", far)
    name = far.of(Kind.GOOD)[0].name
    assert fleet("refresh", name)["tasks"]["done"] == 1
    assert looked == []
    good("fleet", "set", "--gssapi", "--dir", tmp_path / "fleet")
    assert fleet("refresh", name)["tasks"]["done"] == 1
    assert looked == [far.of(Kind.GOOD)[0].address]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A real ssh-agent without keys; its socket."""
    sock = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        wait_for(sock.exists)
        yield sock
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("far", ["1000"], indirect=True)
def test_the_key_may_be_in_an_agent_and_nowhere_else(
    far: Far, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    monkeypatch.setenv("HOME", str(tmp_path))  # no keys of this account's own
    words = ["--account", getpass.getuser(), "--sudo", "always", "--known-hosts", far.known_hosts]
    fleet = office(tmp_path / "fleet", far, *words, "--ssh-config", far.folder / "ssh_config")
    name = far.of(Kind.GOOD)[0].name
    assert fleet("refresh", name)["machines"][0]["error"] == "ssh-login-refused"
    subprocess.run(["ssh-add", "-q", str(far.identity)], check=True, env=os.environ)
    assert fleet("refresh", name)["machines"][0]["error"] is None


@pytest.mark.parametrize("far", ["1000"], indirect=True)
def test_all_machines_behind_a_jump_host_go_through_one_connection_to_it(far: Far, tmp_path: Path) -> None:
    jump, *others = far.of(Kind.GOOD)
    config = tmp_path / "jumping"
    hosts = " ".join(machine.address for machine in others)
    config.write_text(f"Host {hosts}\n  ProxyJump {jump.address}:{jump.port}\n")
    fleet = office(tmp_path / "fleet", far, *far.set_words(), "--ssh-config", config)
    done = fleet("refresh", *(machine.name for machine in others))
    assert done["tasks"]["done"] == len(others), done["machines"]
    seen = re.findall(r"Connection from \S+ port \d+ on (\S+) port", far.log)
    assert {machine.address: seen.count(machine.address) for machine in (jump, *others)} == {
        machine.address: 1 for machine in (jump, *others)
    }


def wheel(folder: Path) -> Path:
    """Of a package ``volact`` that only says its version: it is the way there that is looked at."""
    name, record = folder / "volact-9.9-py3-none-any.whl", "volact-9.9.dist-info"
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("volact_brought.py", "def main():\n    print('volact 9.9')\n")
        archive.writestr(f"{record}/METADATA", "Metadata-Version: 2.1\nName: volact\nVersion: 9.9\n")
        archive.writestr(f"{record}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{record}/entry_points.txt", "[console_scripts]\nvolact = volact_brought:main\n")
        archive.writestr(f"{record}/RECORD", "")
    return name


def wheels(folder: Path) -> Path:
    target = folder / "wheels.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        archive.add(made := wheel(folder), made.name)
    return target


@pytest.mark.parametrize("far", ["1000"], indirect=True)
@pytest.mark.parametrize("make", [wheel, wheels])
def test_wheels_are_installed_into_a_folder_of_their_own_and_linked(
    far: Far, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    (machine,) = far.of(Kind.NO_VOLACT)
    fleet = office(tmp_path / "fleet", far)
    link, prefix = machine.folder / "bin" / "volact", machine.folder / "opt"
    words = ("bootstrap", "--artefact", make(tmp_path), machine.name, "--prefix", prefix, "--link", link)
    done = fleet(*words, "--timeout", 120)
    assert done["tasks"]["done"] == 1, done["machines"]
    assert done["machines"][0]["result"] == {"installed": "volact 9.9"}
    assert link.resolve().is_relative_to(prefix)
    assert subprocess.run([link], capture_output=True, check=True, text=True).stdout == "volact 9.9\n"
    again = fleet(*words)
    assert again["tasks"]["skipped"] == 1, again["machines"]
