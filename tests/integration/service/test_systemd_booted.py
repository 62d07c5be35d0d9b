# SPDX-License-Identifier: Apache-2.0
"""The shipped units under a systemd that was really booted: the licensing service, the KMS host, the VM host.

One computer for the whole module, licensed by its own KMS host over its own network; each test leaves both services
running.  What systemd's tools say of the units without a boot is in ``test_service_systemd``.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.booted_systemd import (
    PACKAGING,
    ROOT,
    SMBIOS,
    UNITS,
    Computer,
    booted,
    drop_in,
    is_active,
    place_unit,
    rights_of,
    units_of_guide,
    with_program,
)
from support.processes import wait_for
from support.site import PRODUCT, Vendor
from volact.client.service.events import Event
from volact.core.encoding import b64decode
from volact.core.fingerprint import Fingerprint, Trait

pytestmark = pytest.mark.needs("booted-systemd", "curl")
CLIENT, SOCKET, HOST, VM = "volact-client.service", "volact-client.socket", "volact-host.service", "volact-vm.service"
STATE = Path("/var/lib/volact/client")
LICENCE = STATE / "products" / PRODUCT / "answers" / "volume.vollicence"
PASSPHRASE = Path("/etc/volact/host-passphrase")
EXPOSURE = 30  # of 100, as in test_service_systemd
LICENSED = "1 of 1 products licensed"  # as `systemctl status` shows it
PLAIN = "nobody"


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return Vendor.make(tmp_path_factory.mktemp("vendor"), threshold=1)


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory, vendor: Vendor) -> Iterator[Computer]:
    """The service is installed before there is a host; once there is one, it is told to try again."""
    folder = tmp_path_factory.mktemp("computer")
    with booted(folder) as made:
        lay_in(made, vendor)
        made.good("volact", "client", "install-service")
        give_host(made, vendor, folder / "host")
        made.good("systemctl", "start", HOST)
        made.good("systemctl", "reload", CLIENT)
        wait_for(lambda: made.show(CLIENT, "StatusText") == LICENSED, 60)
        yield made


def lay_in(computer: Computer, vendor: Vendor) -> None:
    """An answer file, which the service takes at its start."""
    answer = computer.path(STATE / "answer")
    answer.mkdir(parents=True)
    (answer / vendor.file.name).write_bytes(vendor.file.read_bytes())
    product = f'definition = "{vendor.file.name}"\nroot = "{vendor.root}"\ngeneric = true\nedition = "client"\n'
    (answer / "answer.toml").write_text(f'[[product]]\n{product}[settings]\nhost = "localhost"\n', encoding="utf-8")


def give_host(computer: Computer, vendor: Vendor, folder: Path) -> None:
    """As the guide says it: the unit with this computer's program, the passphrase as a credential."""
    vendor.give_host(folder)
    shutil.copytree(folder, computer.path("/var/lib/volact/host"))
    computer.path("/etc/volact").mkdir()
    computer.path("/var/lib/volact/host/passphrase").rename(computer.path(PASSPHRASE))
    place_unit(computer, PACKAGING / HOST)
    (credential,) = units_of_guide("kms-host.md")
    drop_in(computer, HOST, "credential", credential)


@contextmanager
def changed(computer: Computer, text: str) -> Iterator[None]:
    """The client's unit with a drop-in, for as long as it is loaded."""
    file = drop_in(computer, CLIENT, "changed", text)
    try:
        yield
    finally:
        file.unlink()
        computer.good("systemctl", "daemon-reload")
        computer.good("systemctl", "restart", CLIENT)


def events(computer: Computer, event: Event) -> list[dict[str, Any]]:
    return computer.journal(f"MESSAGE_ID={event.message_id}")


def ask(computer: Computer, vendor: Vendor, user: str = PLAIN) -> dict[str, Any]:
    """As a product of any language asks the local API."""
    url = f"http://volact/v1/products/{PRODUCT}/check?root={vendor.root}"
    done = computer.good("curl", "-sS", "--unix-socket", "/run/volact/client.sock", url, user=user)
    return dict(json.loads(done.out))


def wait_for_another(computer: Computer, process: int) -> int:
    """Until systemd has started the service again."""
    wait_for(lambda: main_process(computer) not in (0, process) and is_active(computer, CLIENT), 60)
    return main_process(computer)


def main_process(computer: Computer, unit: str = CLIENT) -> int:
    return int(computer.show(unit, "MainPID"))


def test_the_installed_service_is_active_and_starts_with_the_system(computer: Computer) -> None:
    assert [computer.run("systemctl", "is-enabled", unit).out for unit in (CLIENT, SOCKET)] == ["enabled\n"] * 2
    assert is_active(computer, CLIENT)
    assert is_active(computer, SOCKET)
    assert (computer.show(CLIENT, "Type"), computer.show(CLIENT, "StatusText")) == ("notify", LICENSED)
    assert computer.run("systemctl", "--failed", "--plain", "--no-legend").out == ""


def test_the_service_took_the_answer_file_and_its_secrets_are_root_s(computer: Computer) -> None:
    assert not computer.path(STATE / "answer" / "answer.toml").exists()
    assert events(computer, Event.PREPARED)[0]["VOLACT_PRODUCT"] == PRODUCT
    for secret in (STATE / "machine.pem", STATE / "products" / PRODUCT / "key"):
        assert computer.run("cat", secret, user=PLAIN).code != 0
        assert computer.path(secret).exists()


def test_the_kms_host_beside_it_licenses_the_computer_after_a_reload(computer: Computer) -> None:
    """4013: there was no host yet; then it was told to try again."""
    for event in (Event.ACTIVATION_REQUESTED, Event.ACTIVATION_FAILED, Event.ACTIVATION_ANSWERED, Event.STATE_CHANGED):
        entry = events(computer, event)[0]
        assert entry["SYSLOG_IDENTIFIER"] == "volact"
        assert entry["VOLACT_EVENT_ID"] == str(event.number)
        assert entry["VOLACT_EVENT"] == event.code
        assert entry["VOLACT_PRODUCT"] == PRODUCT
        assert entry["PRIORITY"] == str(event.value.level)
    assert events(computer, Event.ACTIVATION_FAILED)[0]["VOLACT_CODE"] == "host-unreachable"
    change = events(computer, Event.STATE_CHANGED)[0]
    assert (change["VOLACT_BEFORE"], change["VOLACT_STATE"]) == ("initial-grace", "licensed")


def test_the_hardened_service_still_reads_the_hardware_that_root_alone_may_read(computer: Computer) -> None:
    assert computer.run("cat", "/sys/class/dmi/id/product_uuid", user=PLAIN).code != 0
    memory = json.loads(computer.path(STATE / "service.json").read_text())
    raw = {
        Trait.MACHINE_ID: computer.path("/etc/machine-id").read_text(),
        Trait.SMBIOS_UUID: SMBIOS["product_uuid"],
        Trait.SMBIOS_SERIAL: SMBIOS["product_serial"],
        Trait.BOARD_SERIAL: SMBIOS["board_serial"],
    }
    assert Fingerprint.of(raw, b64decode(memory["salt"])).to_claim().items() <= memory["fingerprint"].items()


@pytest.mark.parametrize("unit", [CLIENT, HOST])
def test_a_running_service_has_none_of_root_s_rights_left(computer: Computer, unit: str) -> None:
    computer.good("systemctl", "start", unit)
    assert rights_of(computer, unit) == {"0" * 16}
    rated = computer.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", unit)
    assert rated.code == 0, rated.out[-600:]


def test_a_plain_user_s_product_is_told_by_command_and_by_socket(computer: Computer, vendor: Vendor) -> None:
    done = computer.good("volact", "client", "check", PRODUCT, "--root", vendor.root, user=PLAIN)
    assert done.out.startswith(f"{PRODUCT}: licensed")
    assert ask(computer, vendor)["licensed"] is True


def test_the_first_caller_starts_a_stopped_service(computer: Computer, vendor: Vendor) -> None:
    stopped = len(events(computer, Event.SERVICE_STOPPED))
    computer.good("systemctl", "stop", CLIENT)
    assert not is_active(computer, CLIENT)
    assert computer.show(CLIENT, "Result") == "success"
    assert len(events(computer, Event.SERVICE_STOPPED)) == stopped + 1
    assert ask(computer, vendor)["state"] == "licensed"
    wait_for(lambda: is_active(computer, CLIENT), 60)


def test_systemd_s_watchdog_hears_from_the_service(computer: Computer) -> None:
    assert computer.show(CLIENT, "WatchdogUSec") == "30min"
    before = computer.show(CLIENT, "WatchdogTimestampMonotonic")
    computer.good("systemctl", "reload", CLIENT)
    wait_for(lambda: computer.show(CLIENT, "WatchdogTimestampMonotonic") != before, 60)


def test_a_killed_and_a_hanging_service_are_started_again_with_the_licence(computer: Computer, vendor: Vendor) -> None:
    licence = computer.path(LICENCE).read_bytes()
    with changed(computer, "[Service]\nRestartSec=0\nWatchdogSec=2\n"):
        killed = main_process(computer)
        computer.good("systemctl", "kill", "--signal=KILL", CLIENT)
        hanging = wait_for_another(computer, killed)  # by now with the drop-in's watchdog
        computer.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", CLIENT)
        wait_for_another(computer, hanging)
        assert any("Watchdog timeout" in entry["MESSAGE"] for entry in computer.journal("--unit", CLIENT, "_PID=1"))
        assert ask(computer, vendor)["state"] == "licensed"
    assert computer.path(LICENCE).read_bytes() == licence


def test_the_service_starts_with_what_a_tpm_needs(computer: Computer) -> None:
    computer.run("groupadd", "--system", "tss")  # where this machine has none
    with changed(computer, (PACKAGING / "volact-client.service.d/tpm.conf").read_text(encoding="utf-8")):
        computer.good("systemctl", "restart", CLIENT)
        number = computer.good("getent", "group", "tss").out.split(":")[2]
        status = computer.path(f"/proc/{main_process(computer)}/status").read_text()
    assert number in re.findall(r"^Groups:\t(.*?) *$", status, re.MULTILINE)[0].split()


def test_installing_again_replaces_a_running_service(computer: Computer, vendor: Vendor) -> None:
    before = main_process(computer)
    computer.good("volact", "client", "install-service")
    assert main_process(computer) not in (0, before)
    assert computer.show(CLIENT, "StatusText") == LICENSED
    assert ask(computer, vendor)["licensed"] is True


@pytest.mark.parametrize("program", ["/root/.local/bin/volact", "/home/jo/venv/bin/volact", "/tmp/volact"])
def test_a_program_that_the_service_would_not_see_is_refused(computer: Computer, program: str) -> None:
    unit, folder = computer.path(UNITS / CLIENT).read_bytes(), Path(*Path(program).parts[:2])
    done = computer.volact("client", "install-service", "--program", program)
    assert done.code == 1
    assert done.errors == [f"the licensing service cannot be started from {program}: it sees no file in {folder}"]
    assert computer.path(UNITS / CLIENT).read_bytes() == unit
    assert is_active(computer, CLIENT)


def test_the_guide_s_timer_does_without_the_service(computer: Computer) -> None:
    timer, service = units_of_guide("client.md")
    computer.path(UNITS / "round.timer").write_text(timer, encoding="utf-8")
    computer.path(UNITS / "round.service").write_text(with_program(service), encoding="utf-8")
    computer.good("systemctl", "daemon-reload")
    computer.good("systemctl", "enable", "--now", "round.timer")
    assert computer.show("round.timer", "NextElapseUSecMonotonic") not in ("", "infinity")
    computer.good("systemctl", "start", "round.service")
    assert computer.show("round.service", "Result") == "success"
    computer.good("systemctl", "disable", "--now", "round.timer")


def test_a_removed_service_is_gone_and_one_that_was_laid_into_the_image_starts_with_the_system(
    computer: Computer, vendor: Vendor
) -> None:
    licence = computer.path(LICENCE).read_bytes()
    for _ in range(2):
        computer.good("volact", "client", "remove-service")
    assert computer.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "volact-client*").out == ""
    assert not [path for path in computer.path(UNITS).rglob("volact-client.s*") if path.is_symlink() or path.is_file()]
    computer.good("volact", "client", "install-service", "--image", "/")
    assert not is_active(computer, CLIENT)
    boot = computer.good("cat", "/proc/sys/kernel/random/boot_id").out
    computer.reboot()
    assert computer.good("cat", "/proc/sys/kernel/random/boot_id").out != boot
    assert is_active(computer, CLIENT)  # before the system counts as started
    assert ask(computer, vendor)["state"] == "licensed"
    assert computer.path(LICENCE).read_bytes() == licence
    assert len({entry["_BOOT_ID"] for entry in events(computer, Event.SERVICE_STARTED)}) > 1


def test_a_cut_of_the_power_costs_no_licence(computer: Computer, vendor: Vendor) -> None:
    licence = computer.path(LICENCE).read_bytes()
    computer.cut_power()
    assert is_active(computer, CLIENT)
    assert ask(computer, vendor)["state"] == "licensed"
    assert computer.path(LICENCE).read_bytes() == licence
    assert events(computer, Event.FOLDER_REPAIRED) == []


def test_the_kms_host_answers_from_when_systemd_says_so_and_stops_cleanly(computer: Computer) -> None:
    computer.good("systemctl", "stop", HOST)
    assert (computer.show(HOST, "Result"), computer.show(HOST, "ExecMainStatus")) == ("success", "0")
    computer.good("systemctl", "start", HOST)
    assert computer.good("curl", "-sS", "http://localhost:1688/readyz").out.strip() == "ready"
    (row,) = json.loads(computer.good("volact", "client", "activate", PRODUCT, "--json").out)["products"]
    assert (row["state"], row["error"]) == ("licensed", None)


def test_a_way_to_the_licences_that_is_closed_to_users_is_named_to_them_and_opened_by_root_s_next_command(
    computer: Computer, vendor: Vendor
) -> None:
    """As an earlier version's `host init` left it."""
    check = ("client", "check", PRODUCT, "--root", vendor.root)
    computer.path("/var/lib/volact").chmod(0o700)
    closed = computer.volact(*check, user=PLAIN)
    assert (closed.code, closed.hints[0][:45]) == (1, "open it to everybody as root: `chmod 755 /var")
    computer.good("systemctl", "start", HOST)
    computer.good("volact", "client", "activate", PRODUCT)
    assert computer.good("volact", *check, user=PLAIN).out.startswith(f"{PRODUCT}: licensed")


def test_a_kms_host_that_cannot_start_is_no_started_unit(computer: Computer) -> None:
    computer.path(PASSPHRASE).rename(computer.path(PASSPHRASE).with_name("elsewhere"))
    try:
        assert computer.run("systemctl", "restart", HOST).code == 1
        assert not is_active(computer, HOST)
    finally:
        computer.path(PASSPHRASE).with_name("elsewhere").rename(computer.path(PASSPHRASE))
        computer.good("systemctl", "stop", HOST)


def test_the_vm_host_s_unit_takes_its_own_folder_and_leaves_sockets_to_the_hypervisor(computer: Computer) -> None:
    computer.run("useradd", "--system", "volact")  # where this machine has none
    computer.good("volact", "vm", "init")
    place_unit(computer, ROOT / "examples" / "vm" / VM)
    computer.good("systemctl", "daemon-reload")
    computer.good("systemctl", "start", VM)
    wait_for(lambda: "serves guests" in "".join(entry["MESSAGE"] for entry in computer.journal("--unit", VM)), 60)
    folders = ["/var/lib/volact/vm", "/run/volact/guests", STATE, "/var/lib/volact/host"]
    assert computer.good("stat", "--format=%U", *folders).out.split() == ["volact", "volact", "root", "root"]
    computer.path("/run/volact/guests/web1.sock").touch()
    computer.good("systemctl", "stop", VM)
    assert computer.show(VM, "Result") == "success"
    assert computer.path("/run/volact/guests/web1.sock").exists()
