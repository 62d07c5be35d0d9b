# SPDX-License-Identifier: Apache-2.0
"""The shipped units of the publisher's service, the console and the fleet's API, under a systemd that really booted.

One computer for the whole module; each test starts what it needs running.  What the licensing service and the hosts do
under systemd is in ``test_systemd_booted``.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.booted_systemd import (
    PACKAGING,
    UNITS,
    VARIABLES,
    Computer,
    booted,
    drop_in,
    is_active,
    place_unit,
    rights_of,
    units_of_guide,
)
from support.site import now
from volact.sealing import certificates

pytestmark = pytest.mark.needs("booted-systemd", "curl")
PUBLISHER, CONSOLE, FLEET = SERVERS = "volact-publisher.service", "volact-console.service", "volact-fleet.service"
GUIDES = {PUBLISHER: "publisher.md", CONSOLE: "console.md", FLEET: "fleet-api.md"}
SECRETS = Path("/etc/volact")
EXPOSURE = 30  # of 100, as in test_service_systemd
PAGES = (
    "http://localhost:1690/readyz",
    "http://localhost:1693/api/v1/openapi.json",
    "https://localhost:8443/healthz",  # after which curl takes the name for one that speaks TLS alone
    "https://localhost:1691/healthz",
)
NOWHERE = ("--output", "/dev/null") * len(PAGES)
STATUSES = {
    PUBLISHER: "listens on port 1690 and 8443",
    CONSOLE: "listens on port 1691",
    FLEET: "listens on port 1693",
}


OPEN_VM = (
    "from pathlib import Path; from volact.console.site import ConsoleSite; "
    'assert ConsoleSite(None, {"vm": Path("/var/lib/volact/vm")}, (), int).vm() is None'
)


@dataclass(frozen=True, slots=True)
class Started:
    """``answered``: what each page answered at once when systemd had said that the servers are started."""

    computer: Computer
    answered: str


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """As the guides say it: folders made by root, the units with this computer's program, and what they need beside."""
    with booted(tmp_path_factory.mktemp("computer")) as made:
        lay_secrets(made)
        passphrase = ("--passphrase-file", SECRETS / "publisher-passphrase")
        made.good("volact", "publisher", "init", "--name", "Acme", "--url", "http://localhost:1690", *passphrase)
        made.good("volact", "fleet", "init")
        for unit in SERVERS:
            place_unit(made, PACKAGING / unit)
            drop_in(made, unit, "guide", part_of(unit))
        made.good("systemctl", "start", *SERVERS)
        yield Started(made, made.run("curl", "-sk", "-w", "%{http_code} ", *NOWHERE, *PAGES).out)


@pytest.fixture
def computer(started: Started) -> Computer:
    return started.computer


def part_of(unit: str) -> str:
    (text,) = units_of_guide(GUIDES[unit])
    return text


def lay_secrets(computer: Computer) -> None:
    folder = computer.path(SECRETS)
    folder.mkdir(mode=0o755)
    for name in ("publisher", "host", "vault"):
        (folder / f"{name}-passphrase").write_text(f"the {name}'s passphrase\n")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certificates.pem(certificates.make_root(key, "a test", now(), 1))
    for name in ("web", "console"):
        (folder / f"{name}.pem").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for file in folder.iterdir():
        file.chmod(0o600)


def said(computer: Computer, unit: str) -> list[str]:
    return [str(entry["MESSAGE"]) for entry in computer.journal(f"_SYSTEMD_UNIT={unit}")]


def act(computer: Computer, unit: str, *lines: str) -> None:
    """Commands that find what those of the running service find."""
    name, shipped = f"act-{unit}", (PACKAGING / unit).read_text(encoding="utf-8")
    text = re.sub(r"^(Type|Restart|ExecStart)=.*\n", "", shipped, flags=re.MULTILINE)
    script = computer.path(SECRETS / "act")
    script.write_text("set -ex\n" + "\n".join(lines))
    own = f"[Service]\nType=oneshot\nExecStart=/bin/sh {SECRETS}/act\nEnvironment=PATH={VARIABLES['PATH']}"
    computer.path(UNITS / name).write_text(text.replace("[Service]", own))
    drop_in(computer, name, "guide", part_of(unit))
    assert computer.run("systemctl", "start", name).code == 0, said(computer, name)


def test_each_server_answers_from_when_systemd_says_that_it_is_started(started: Started) -> None:
    assert started.answered == "200 " * len(PAGES)


@pytest.mark.parametrize(("unit", "status"), STATUSES.items())
def test_a_running_server_has_none_of_root_s_rights_left(computer: Computer, unit: str, status: str) -> None:
    computer.good("systemctl", "start", unit)
    assert computer.show(unit, "StatusText") == status
    assert rights_of(computer, unit) == {"0" * 16}
    rated = computer.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", unit)
    assert rated.code == 0, rated.out[-600:]


def test_the_console_s_acts_reach_the_roles_folders_the_hardware_and_root_s_ssh_and_no_other_home(
    computer: Computer,
) -> None:
    ssh = computer.path("/root/.ssh")
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "config").touch()
    vm = computer.path("/var/lib/volact/vm")  # a VM host's that runs as a user of its own
    (vm / "keys").mkdir(parents=True)
    vm.chmod(0o700)
    os.chown(vm, 65534, 65534)
    act(
        computer,
        CONSOLE,
        "volact host init",
        "test -d /var/lib/volact/host/keys",
        "test ! -e /var/lib/volact/host/passphrase",  # it is the credential's
        "cat /sys/class/dmi/id/product_uuid",
        'test "$(ls -A /root)" = .ssh',
        "test -r /root/.ssh/config",
        f"python -c '{OPEN_VM}'",
        "! touch /etc/volact/else",
    )


def test_a_console_s_first_account_is_made_by_its_command_and_no_login_is_in_the_journal(computer: Computer) -> None:
    (told,) = [line for line in said(computer, CONSOLE) if "account" in line][:1]
    assert told == (
        "volact: there is no account yet; make one with `volact console account add NAME --role administrator`"
    )
    assert not any("/login/link/" in line for line in said(computer, CONSOLE))
    computer.good("volact", "console", "account", "add", "anna", "--role", "administrator")


@pytest.mark.parametrize(
    ("unit", "change", "error"),
    [
        (PUBLISHER, "LoadCredential=passphrase:/etc/volact/vault-passphrase", "the passphrase"),
        (CONSOLE, "Environment=OPTIONS=--web-logins=/etc/volact/none.toml", "the login settings"),
        (FLEET, "Environment=VOLACT_FLEET_DIR=/var/lib/volact/none", "there is no fleet folder"),
    ],
)
def test_a_server_stops_cleanly_and_one_that_cannot_start_is_no_started_unit(
    computer: Computer, unit: str, change: str, error: str
) -> None:
    computer.good("systemctl", "start", unit)
    computer.good("systemctl", "stop", unit)
    assert (computer.show(unit, "Result"), computer.show(unit, "ExecMainStatus")) == ("success", "0")
    assert said(computer, unit)[-1] == "volact: stopped"
    wrong = drop_in(computer, unit, "wrong", f"[Service]\n{change}\n")
    try:
        assert computer.run("systemctl", "start", unit).code == 1
        assert not is_active(computer, unit)
        assert any(line.startswith(f"volact: error: {error}") for line in said(computer, unit))
    finally:
        wrong.unlink()
        computer.good("systemctl", "daemon-reload")
        computer.good("systemctl", "stop", unit)
