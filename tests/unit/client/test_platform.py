# SPDX-License-Identifier: Apache-2.0
"""Windows and macOS by what such systems print and store; the service's definitions of all three.

The files in ``platform_data`` are modelled on such systems' own output, with numbers that are nobody's.
"""

import plistlib
import re
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.processes import good
from volact.client import platform
from volact.client.folder.files import ClientFolderError
from volact.client.folder.store import ClientStore
from volact.client.platform import linux, macos, smbios, windows
from volact.core.fingerprint import Trait

DATA = Path(__file__).parent / "platform_data"
ROOT = Path(__file__).parents[3]
UUID = uuid.UUID("4c4c4544-0042-3510-8052-b4c04f4e5132")


# ---- Windows


class Exported:
    """A registry export, as regedit writes it."""

    def __init__(self, text: str) -> None:
        self.keys: dict[str, dict[str, str]] = {}
        for line in text.splitlines():
            if found := re.fullmatch(r"\[HKEY_LOCAL_MACHINE\\(.+)\]", line):
                values = self.keys.setdefault(found[1], {})
            elif found := re.fullmatch(r'"(.+?)"="(.*)"', line):
                values[found[1]] = found[2]

    def value(self, key: str, name: str) -> str:
        try:
            return self.keys[key][name]
        except KeyError:
            raise OSError(2, "not there") from None

    def sub_keys(self, key: str) -> Iterable[str]:
        return [name.rpartition("\\")[2] for name in self.keys if name.rpartition("\\")[0] == key]


REGISTRY = Exported((DATA / "windows.reg").read_text())
ADDRESSES = {
    "{3B2F1C5A-7D64-4E0B-9A2C-51F0D3E8B716}": "a4c3f0112233",
    "{A0C4E1D2-0F3B-4C89-B7E6-92D14F6A83C0}": "84a93e6b1c05",
    "{D91E7F00-44AB-4D10-8C55-0A7BC2F3E914}": "00ff44556677",  # what a virtual card says of itself
}


def disk(serial: bytes, *, removable: int = 0, bus: int = 17) -> bytes:
    """A STORAGE_DEVICE_DESCRIPTOR as a driver fills it."""
    texts = b"SAMSUNG MZVL21T0HCLR-00BL7\0" + b"GXA7801Q\0"
    head = struct.pack("<IIBBBBIIIII", 40, 0, 0, 0, removable, 1, 0, 40, 67, 40 + len(texts), bus)
    return head.ljust(40, b"\0") + texts + serial + b"\0"


def structures(system_serial: str = "5BQN0R3", board_serial: str = "/5BQN0R3/CNCMK0019500B5/") -> bytes:
    """An SMBIOS table: firmware, system, board, end."""
    bios = bytes([0, 18, 0, 0, 1, 2]) + bytes(12) + b"Dell Inc.\0" + b"1.14.1\0\0"
    system = bytes([1, 27, 1, 0, 1, 2, 0, 3]) + UUID.bytes_le + bytes([6, 0, 0])
    system += b"Dell Inc.\0Latitude 5430\0" + system_serial.encode() + b"\0\0"
    board = bytes([2, 15, 2, 0, 1, 2, 0, 3, 0, 9, 0, 0, 0, 10, 0])
    board += b"Dell Inc.\0" + b"0X8NCY\0" + board_serial.encode() + b"\0\0"
    return bios + system + board + bytes([127, 4, 3, 0, 0, 0])


def raw_smbios(table: bytes) -> bytes:
    return struct.pack("<BBBBI", 0, 3, 4, 0, len(table)) + table


def ioctl(path: str, code: int, question: bytes) -> bytes:
    if path == windows.SYSTEM_VOLUME:
        return disk(b"0025_38B4_11A0_3C7F.")
    assert question == bytes.fromhex("01010101")
    return bytes.fromhex(ADDRESSES[path.removeprefix("\\\\.\\")])


def test_a_windows_computer_shows_its_traits() -> None:
    found = windows.read_traits(REGISTRY.value, REGISTRY.sub_keys, ioctl, lambda: raw_smbios(structures()))
    assert found == {
        Trait.MACHINE_ID: "6f7a1c62-93f5-4a0e-8d7e-2b1c9e5d4a37",
        Trait.CPU: "12th Gen Intel(R) Core(TM) i7-1260P",
        Trait.SMBIOS_UUID: str(UUID),
        Trait.SMBIOS_SERIAL: "5BQN0R3",
        Trait.BOARD_SERIAL: "/5BQN0R3/CNCMK0019500B5/",
        Trait.DISK_SERIAL: "0025_38B4_11A0_3C7F.",
        Trait.MAC: "00ff44556677",
    }


def test_what_windows_does_not_tell_is_left_out_and_the_rest_stays() -> None:
    def nothing(*_: Any) -> Any:
        raise OSError(5, "access denied")

    found = windows.read_traits(REGISTRY.value, nothing, nothing, lambda: b"")
    assert set(found) == {Trait.MACHINE_ID, Trait.CPU}
    assert windows.read_traits(nothing, nothing, nothing, nothing) == {}


@pytest.mark.parametrize("descriptor", [disk(b"X1", removable=1), disk(b"X1", bus=7), disk(b"")])
def test_a_disk_that_comes_and_goes_or_has_no_number_is_no_trait(descriptor: bytes) -> None:
    assert windows.read_disk(descriptor) == ""


@given(st.binary(max_size=200))
def test_whatever_firmware_shows_is_read_without_an_error(data: bytes) -> None:
    assert all(isinstance(value, str) for value in smbios.read(data).values())
    assert all(isinstance(value, str) for value in smbios.read(structures()[: len(data)] + data).values())


@pytest.mark.parametrize("serial", ["", "To be filled by O.E.M.", "Default string"])
def test_placeholders_in_the_firmware_are_left_out(serial: str) -> None:
    found = windows.read_traits(
        lambda *_: "", lambda *_: (), lambda *_: b"", lambda: raw_smbios(structures(serial, serial))
    )
    assert set(found) == {Trait.SMBIOS_UUID}


def test_the_task_starts_rounds_as_system_and_is_well_formed() -> None:
    plan = windows.service_plan((r"C:\Program Files\Volact & Sons\python.exe",))
    ((path, data),) = plan.files.items()
    task = ElementTree.fromstring(data.decode("utf-16"))
    names = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext(".//t:Command", namespaces=names) == r"C:\Program Files\Volact & Sons\python.exe"
    words = task.findtext(".//t:Arguments", namespaces=names) or ""
    assert words.startswith("-m volact.cli.client.child round --dir ")
    assert task.findtext(".//t:UserId", namespaces=names) == "S-1-5-18"
    query = ElementTree.fromstring(task.findtext(".//t:Subscription", namespaces=names) or "")
    assert query.find(".//Select") is not None
    assert plan.install[0][-1] == str(path)
    assert plan.remove[0][:2] == ("schtasks.exe", "/Delete")


def test_windows_has_its_own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert windows.user_folder({"LOCALAPPDATA": "/l"}) == Path("/l/Volact/client")
    assert "ProgramData" in str(windows.SYSTEM_FOLDER)
    assert windows.notifier("a", "b", {"SystemRoot": "/nowhere"}) is None


def test_a_secret_in_programdata_is_left_to_administrators_and_a_user_s_own_is_left_alone() -> None:
    asked: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...]) -> int:
        asked.append(command)
        return len(asked) - 1

    windows.protect(Path("/home/anna/machine.pem"), run)
    assert asked == []
    secret = windows.SYSTEM_FOLDER / "machine.pem"
    windows.protect(secret, run)
    rights = ("/inheritance:r", "/grant:r", "*S-1-5-18:F", "/grant:r", "*S-1-5-32-544:F")
    assert asked == [("icacls.exe", str(secret), *rights)]
    with pytest.raises(OSError, match="everybody could read it"):
        windows.protect(secret, run)


def test_only_secrets_are_protected_and_that_before_anything_is_in_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(linux, "protect", lambda path: seen.append((path.name, path.stat().st_size)))
    kept = ClientStore(tmp_path / "client")
    kept.machine_key()
    assert {name.split(".pem")[0] for name, _ in seen} == {".machine"}
    assert {size for _, size in seen} == {0}

    def fail(path: Path) -> None:
        raise OSError(5, "icacls.exe ended with 5", str(path))

    monkeypatch.setattr(linux, "protect", fail)
    other = ClientStore(tmp_path / "other")
    with pytest.raises(ClientFolderError):
        other.machine_key()
    assert list((tmp_path / "other").glob("*machine.pem*")) == []


def test_a_file_that_another_process_locks_is_not_locked_here_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Msvcrt:
        LK_NBLCK = 2
        held = False

        def locking(self, descriptor: int, mode: int, size: int) -> None:
            assert (mode, size) == (self.LK_NBLCK, 1)
            if self.held:
                raise OSError(36, "resource deadlock avoided")
            self.held = True

    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    assert windows.try_lock(3)
    assert not windows.try_lock(3)


# ---- macOS


def printed(command: tuple[str, ...]) -> bytes:
    files = {macos.PLATFORM: "macos-ioreg.plist", macos.VOLUME: "macos-diskutil.plist", macos.PORTS: "macos-ports.txt"}
    return (DATA / files[command]).read_bytes() if command in files else b"Apple M1 Pro\n"


def test_a_mac_shows_its_traits() -> None:
    assert macos.collect(run=printed) == {
        Trait.SMBIOS_UUID: "8E9B6F0A-52D1-5C3E-9A47-60F1D2B37C84",
        Trait.SMBIOS_SERIAL: "C02ZW1TYLVDQ",
        Trait.MACHINE_ID: "1B7A3E55-0C4D-4F28-A2E9-7D6C90B1F3A2",
        Trait.MAC: "f0:18:98:4c:2b:91",
        Trait.CPU: "Apple M1 Pro",
    }


def test_a_mac_whose_commands_say_nothing_shows_nothing() -> None:
    assert macos.collect(run=lambda command: b"") == {}
    assert set(macos.collect(run=lambda command: b"\xff\0<plist>")) <= {Trait.CPU}


def test_launchd_keeps_the_service_running() -> None:
    plan = macos.service_plan(("/usr/local/bin/volact",))
    ((path, data),) = plan.files.items()
    daemon = plistlib.loads(data)
    assert daemon["ProgramArguments"] == ["/usr/local/bin/volact", "client", "serve"]
    assert daemon["RunAtLoad"] is True
    assert path == Path("/Library/LaunchDaemons/org.volact.client.plist")
    assert plan.install == (("/bin/launchctl", "bootstrap", "system", str(path)),)


def test_a_notice_on_a_mac_quotes_what_people_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macos, "is_administrator", lambda: False)
    command = macos.notifier("acme", 'say "hello" \\ now', {})
    assert command is not None
    assert command[-1] == 'display notification "say \\"hello\\" \\\\ now" with title "acme"'


# ---- all


def test_each_system_has_its_module() -> None:
    assert platform.of("win32") is windows
    assert platform.of("darwin") is macos
    assert platform.of("linux") is platform.of("freebsd14") is linux
    assert platform.here() is platform.of(sys.platform)


def test_the_units_that_packages_ship_are_those_that_the_command_writes() -> None:
    shipped = ROOT / "packaging" / "systemd"
    files = linux.service_plan((linux.PROGRAM,)).files
    assert {path.name: data for path, data in files.items()} == {
        path.name: path.read_bytes() for path in shipped.glob("volact-client.*") if path.is_file()
    }


def test_a_program_with_odd_characters_is_quoted_for_systemd() -> None:
    assert "ExecStart='/opt/a b/volact' client serve" in linux.unit(("/opt/a b/volact",))
    assert "100%%" in linux.unit(("/opt/100%/volact",))


@pytest.mark.needs("systemd")
def test_the_service_is_laid_into_an_image_and_taken_out_again(tmp_path: Path) -> None:
    done = good("client", "install-service", "--image", tmp_path, "--program", "/usr/bin/volact", "--json").json
    assert len(done["files"]) == 2
    assert (tmp_path / "etc/systemd/system/volact-client.service").read_text() == linux.unit(("/usr/bin/volact",))
    for unit in ("volact-client.service", "volact-client.socket"):
        asked = ["systemctl", f"--root={tmp_path}", "is-enabled", unit]
        assert subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "enabled"
    good("client", "remove-service", "--image", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
