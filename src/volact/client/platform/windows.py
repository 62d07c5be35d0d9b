# SPDX-License-Identifier: Apache-2.0
"""Windows: ProgramData, the task scheduler, the event log, and traits by way of the registry and the kernel.

Calls of the system are thin functions at the end; what they give is read by functions above them, which run anywhere.
There is no resident service and no local API here: a scheduled task of SYSTEM does the service's rounds, and products
call ``volact.check()`` or ``volact client check``.  Spec: docs/spec/fingerprint.md.
"""

import importlib
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.sax.saxutils import escape

from volact.client.platform import ServicePlan, smbios
from volact.core.fingerprint import Trait, normalise

PROGRAM_DATA = "C:\\ProgramData"
SYSTEM_FOLDER = Path(PROGRAM_DATA) / "Volact" / "client"
SYSTEM_SOCKET: Path | None = None
HOOKS: tuple[str, ...] = ("reminder-hook.exe", "reminder-hook.cmd")
HOOK_FOLDER = Path(PROGRAM_DATA) / "Volact"
TASK = "\\Volact\\Client"
SOURCE = "Volact"

CRYPTOGRAPHY = r"SOFTWARE\Microsoft\Cryptography"
PROCESSOR = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
CARDS = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\NetworkCards"
SYSTEM_VOLUME = "\\\\.\\C:"

COMMAND_SECONDS = 30.0

_QUERY_DISK = 0x002D1400  # IOCTL_STORAGE_QUERY_PROPERTY, asked for the device's descriptor
_QUERY_CARD = 0x00170002  # IOCTL_NDIS_QUERY_GLOBAL_STATS
_PERMANENT_ADDRESS = struct.pack("<I", 0x01010101)  # OID_802_3_PERMANENT_ADDRESS
_DESCRIPTOR = struct.Struct("<IIBBBBIIIII")  # STORAGE_DEVICE_DESCRIPTOR up to BusType
_RAW_SMBIOS = struct.Struct("<BBBBI")  # RawSMBIOSData
_USB_BUS = 7
_EVENT_TYPES = {3: 1, 4: 2}  # syslog's error and warning; everything else is information (4)
_INFORMATION = 4

Registry = Callable[[str, str], str]  # a value of HKEY_LOCAL_MACHINE, "" where there is none
SubKeys = Callable[[str], Iterable[str]]
Run = Callable[[tuple[str, ...]], int]  # a command; what it ended with
Ioctl = Callable[[str, int, bytes], bytes]


def user_folder(variables: Mapping[str, str]) -> Path:
    local = variables.get("LOCALAPPDATA")
    return (Path(local) if local else Path.home() / "AppData" / "Local") / "Volact" / "client"


def collect(root: Path = Path("/")) -> dict[Trait, str]:  # noqa: ARG001 - there is one
    return read_traits(_registry, _sub_keys, _ioctl, _raw_smbios)


def read_traits(
    registry: Registry, sub_keys: SubKeys, ioctl: Ioctl, raw_smbios: Callable[[], bytes]
) -> dict[Trait, str]:
    """The TPM's endorsement key is left out by rule: Windows gives it to its own services."""
    values: dict[Trait, str] = {}
    readers: tuple[Callable[[], dict[Trait, str]], ...] = (
        lambda: smbios.read(read_raw_smbios(raw_smbios())),
        lambda: {Trait.MACHINE_ID: registry(CRYPTOGRAPHY, "MachineGuid")},
        lambda: {Trait.CPU: registry(PROCESSOR, "ProcessorNameString")},
        lambda: {Trait.DISK_SERIAL: read_disk(ioctl(SYSTEM_VOLUME, _QUERY_DISK, bytes(12)))},
        lambda: {Trait.MAC: _lowest_address(registry, sub_keys, ioctl)},
    )
    for reader in readers:
        with suppress(OSError, ValueError, struct.error):
            values |= reader()
    return {trait: value for trait, value in values.items() if normalise(trait, value) is not None}


def read_raw_smbios(data: bytes) -> bytes:
    """The table in what GetSystemFirmwareTable gives."""
    *_, length = _RAW_SMBIOS.unpack_from(data)
    return data[_RAW_SMBIOS.size : _RAW_SMBIOS.size + length]


def read_disk(descriptor: bytes) -> str:
    """The serial number in a STORAGE_DEVICE_DESCRIPTOR; of removable disks, and of those behind USB, none."""
    _, _, _, _, removable, _, _, _, _, serial, bus = _DESCRIPTOR.unpack_from(descriptor)
    if removable or bus == _USB_BUS or not _DESCRIPTOR.size <= serial < len(descriptor):
        return ""
    return descriptor[serial:].partition(b"\0")[0].decode("latin-1").strip()


def try_lock(descriptor: int) -> bool:
    msvcrt: Any = importlib.import_module("msvcrt")
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def protect(path: Path, run: Run | None = None) -> None:
    """A user's own folder has the rights that it needs; ProgramData's let everybody read."""
    if not path.is_relative_to(SYSTEM_FOLDER):
        return
    code = (run or _run)(make_private(path))
    if code != 0:
        raise OSError(code, f"icacls.exe ended with {code}, so everybody could read it", str(path))


def make_private(path: Path) -> tuple[str, ...]:
    """The command that leaves a file to SYSTEM and administrators."""
    system, administrators = "*S-1-5-18:F", "*S-1-5-32-544:F"
    return ("icacls.exe", str(path), "/inheritance:r", "/grant:r", system, "/grant:r", administrators)


def notifier(title: str, text: str, variables: Mapping[str, str]) -> list[str] | None:
    """A message in every session; msg.exe is not part of the home editions."""
    command = PureWindowsPath(variables.get("SystemRoot", "C:\\Windows")) / "System32" / "msg.exe"
    return [str(command), "*", "/TIME:300", f"{title}\n\n{text}"] if Path(str(command)).exists() else None


def service_plan(program: tuple[str, ...]) -> ServicePlan:
    """SYSTEM does a round at each start, when a network is there, and every two hours; a round does what is due."""
    path = HOOK_FOLDER / "client-task.xml"
    return ServicePlan(
        files={path: task(program).encode("utf-16")},
        install=(("schtasks.exe", "/Create", "/F", "/TN", TASK, "/XML", str(path)),),
        remove=(("schtasks.exe", "/Delete", "/F", "/TN", TASK),),
    )


def task(program: tuple[str, ...]) -> str:
    """The task scheduler's XML; ``program`` is Python's interpreter with words that start ``volact``."""
    words = [*program[1:], "-m", "volact.cli.client.child", "round", "--dir", str(SYSTEM_FOLDER), "--because", "start"]
    values = {"@CONNECTED@": CONNECTED, "@COMMAND@": program[0], "@WORDS@": _command_line(words)}
    text = TASK_XML
    for name, value in values.items():
        text = text.replace(name, escape(value))
    return text


def _command_line(words: Iterable[str]) -> str:
    import subprocess

    return subprocess.list2cmdline(list(words))


def _lowest_address(registry: Registry, sub_keys: SubKeys, ioctl: Ioctl) -> str:
    """Permanent addresses, as the cards' own drivers give them."""
    found = []
    for number in sub_keys(CARDS):
        name = registry(f"{CARDS}\\{number}", "ServiceName")
        with suppress(OSError):
            found.append(ioctl(f"\\\\.\\{name}", _QUERY_CARD, _PERMANENT_ADDRESS)[:6].hex())
    return min((address for address in found if normalise(Trait.MAC, address)), default="")


# A network was connected: event 10000 of the network profiles' own log.
CONNECTED = (
    '<QueryList><Query Id="0" Path="{log}"><Select Path="{log}">*[System[EventID=10000]]</Select></Query></QueryList>'
).format(log="Microsoft-Windows-NetworkProfile/Operational")
TASK_XML = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>Volact licensing service</Description></RegistrationInfo>
  <Triggers>
    <BootTrigger><Delay>PT1M</Delay></BootTrigger>
    <EventTrigger><Subscription>@CONNECTED@</Subscription></EventTrigger>
    <TimeTrigger>
      <Repetition><Interval>PT2H</Interval></Repetition>
      <StartBoundary>2020-01-01T00:00:00</StartBoundary>
      <RandomDelay>PT20M</RandomDelay>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="System"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT10M</ExecutionTimeLimit>
    <Hidden>true</Hidden>
  </Settings>
  <Actions Context="System">
    <Exec><Command>@COMMAND@</Command><Arguments>@WORDS@</Arguments></Exec>
  </Actions>
</Task>
"""


# ---- the system's own calls


def is_administrator() -> bool:
    return bool(_library("shell32").IsUserAnAdmin())


def write_event(level: int, number: int, message: str) -> None:
    import ctypes

    api = _library("advapi32")
    log = api.RegisterEventSourceW(None, SOURCE)
    if not log:
        raise OSError("the event log cannot be written")
    texts = (ctypes.c_wchar_p * 1)(message)
    api.ReportEventW(log, _EVENT_TYPES.get(level, _INFORMATION), 0, number, None, 1, 0, texts, None)
    api.DeregisterEventSource(log)


def _run(command: tuple[str, ...]) -> int:
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} did not end within {COMMAND_SECONDS:.0f} seconds") from None


def _registry(key: str, name: str) -> str:
    winreg: Any = importlib.import_module("winreg")
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as opened:
        return str(winreg.QueryValueEx(opened, name)[0])


def _sub_keys(key: str) -> Iterable[str]:
    winreg: Any = importlib.import_module("winreg")
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as opened:
        return [winreg.EnumKey(opened, place) for place in range(winreg.QueryInfoKey(opened)[0])]


def _raw_smbios() -> bytes:
    import ctypes

    provider = int.from_bytes(b"RSMB")
    call = _library("kernel32").GetSystemFirmwareTable
    size = call(provider, 0, None, 0)
    buffer = ctypes.create_string_buffer(size)
    call(provider, 0, buffer, size)
    return buffer.raw


def _ioctl(path: str, code: int, question: bytes) -> bytes:
    """Opened without any right, which is enough to ask."""
    import ctypes

    kernel = _library("kernel32")
    kernel.CreateFileW.restype = ctypes.c_void_p
    shared, existing = 1 | 2, 3
    handle = kernel.CreateFileW(path, 0, shared, None, existing, 0, None)
    if handle in (None, ctypes.c_void_p(-1).value):
        raise OSError(f"{path} cannot be opened")
    answer, got = ctypes.create_string_buffer(4096), ctypes.c_ulong()
    try:
        done = kernel.DeviceIoControl(
            ctypes.c_void_p(handle), code, question, len(question), answer, len(answer), ctypes.byref(got), None
        )
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
    if not done:
        raise OSError(f"{path} does not answer")
    return answer.raw[: got.value]


def _library(name: str) -> Any:
    import ctypes

    return getattr(ctypes, "windll")[name]  # noqa: B009 - type checkers elsewhere do not know it
