# SPDX-License-Identifier: Apache-2.0
"""The units under systemd's own tools: verified, their hardening rated, and the socket activated as systemd does it.

No systemd is booted here: ``test_systemd_booted`` does that.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import good, wait_for
from volact.client.service import systemd

pytestmark = pytest.mark.needs("systemd")
PACKAGING = Path(__file__).resolve().parents[3] / "packaging" / "systemd"
EXAMPLE = PACKAGING.parents[1] / "examples" / "vm" / "volact-vm.service"
EXPOSURE = 30  # of 100: "OK" by systemd's own scale, for a service that runs as root


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """As the command writes them, with a program that is there."""
    program = Path(sys.executable).with_name("volact")
    good("client", "install-service", "--image", tmp_path, "--program", program)
    return tmp_path / "etc/systemd/system"


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_units_are_good_in_systemd_s_own_eyes(units: Path) -> None:
    done = analyze("verify", "--man=no", units / "volact-client.service", units / "volact-client.socket")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("server", ["host", "publisher", "console", "fleet"])
def test_a_server_s_unit_is_good_and_hardened_too(tmp_path: Path, server: str) -> None:
    unit = tmp_path / f"volact-{server}.service"
    text = (PACKAGING / unit.name).read_text(encoding="utf-8")
    unit.write_text(text.replace("/usr/bin/volact", str(Path(sys.executable).with_name("volact"))), encoding="utf-8")
    assert analyze("verify", "--man=no", unit).stderr == ""
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout[-600:]


@pytest.mark.parametrize(
    "unit", [*sorted(PACKAGING.glob("*.service")), EXAMPLE], ids=lambda unit: unit.stem.removeprefix("volact-")
)
def test_a_service_that_falls_over_leaves_no_memory_with_keys_on_a_disk(unit: Path) -> None:
    assert "LimitCORE=0" in unit.read_text(encoding="utf-8").splitlines()


def test_the_unit_is_still_good_with_what_a_tpm_needs(units: Path) -> None:
    folder = units / "volact-client.service.d"
    folder.mkdir()
    (folder / "tpm.conf").write_bytes((PACKAGING / "volact-client.service.d" / "tpm.conf").read_bytes())
    assert analyze("verify", "--man=no", units / "volact-client.service").stderr == ""


def test_the_service_is_hardened(units: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", units / "volact-client.service")
    assert done.returncode == 0, done.stdout[-600:]
    assert re.search(r"Overall exposure level for volact-client\.service: \d", done.stdout)


def test_a_caller_at_systemd_s_socket_starts_the_service_and_is_answered(tmp_path: Path) -> None:
    """systemd-socket-activate binds, listens, and starts the service at the first call, as systemd does."""
    path, notices = tmp_path / "client.sock", tmp_path / "notify"
    words = [sys.executable, "-m", "volact.cli.main", "client", "serve", "--dir", str(tmp_path / "client")]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(notices))
        told.settimeout(30)
        command = [
            "systemd-socket-activate",
            "-l",
            str(path),
            "-E",
            f"NOTIFY_SOCKET={notices}",
            "-E",
            "VOLACT_MDNS=off",
            *words,
        ]
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(path.exists)
            assert not (tmp_path / "client").exists()  # nobody has called yet
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                caller.settimeout(60)
                caller.connect(str(path))
                caller.sendall(b"GET /v1/products HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: caller.recv(65536), b""))
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"products": []}
            said = ""
            while "READY=1" not in said:
                said += told.recv(4096).decode() + "\n"
        finally:
            process.terminate()
            assert process.wait(20) == 0, (tmp_path / "log").read_text()
            log.close()
        while "STOPPING=1" not in said:
            said += told.recv(4096).decode() + "\n"
    assert path.exists()  # it is systemd's, and not the service's to remove


def test_a_socket_that_was_made_for_another_process_is_not_taken() -> None:
    assert systemd.given_socket({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None
    assert systemd.given_socket({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}) is None
