# SPDX-License-Identifier: Apache-2.0
"""macOS: the places of Apple's guidelines, launchd, Notification Center, the unified log by syslog.

Traits come from commands that every Mac has, as property lists where they print such; the readers of what they print
are functions of their own.  Spec: docs/spec/fingerprint.md.
"""

import plistlib
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from volact.client.platform import ServicePlan
from volact.client.platform.unix import is_administrator as is_administrator
from volact.client.platform.unix import protect as protect
from volact.client.platform.unix import try_lock as try_lock
from volact.core.fingerprint import Trait, normalise

SYSTEM_FOLDER = Path("/Library/Application Support/Volact/client")
SYSTEM_SOCKET: Path | None = Path("/var/run/volact-client.sock")
HOOKS: tuple[str, ...] = ("reminder-hook",)
HOOK_FOLDER = Path("/Library/Application Support/Volact")
LABEL = "org.volact.client"
DAEMON = Path("/Library/LaunchDaemons") / f"{LABEL}.plist"
COMMAND_SECONDS = 10

PLATFORM = ("/usr/sbin/ioreg", "-a", "-r", "-d1", "-c", "IOPlatformExpertDevice")
VOLUME = ("/usr/sbin/diskutil", "info", "-plist", "/")
PORTS = ("/usr/sbin/networksetup", "-listallhardwareports")
PROCESSOR = ("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")

_PORT = re.compile(r"Hardware Port: (.+)\nDevice: (\S+)\nEthernet Address: ([0-9a-fA-F:]{17})")
_BUILT_IN = re.compile(r"^(Wi-Fi|AirPort|Ethernet)( \d+)?$")  # adapters and bridges have longer names

Run = Callable[[tuple[str, ...]], bytes]


def user_folder(variables: Mapping[str, str]) -> Path:  # noqa: ARG001 - the form of all systems
    return Path.home() / "Library/Application Support/Volact/client"


def collect(root: Path = Path("/"), run: Run | None = None) -> dict[Trait, str]:  # noqa: ARG001
    """The disk is soldered to the board and shows no serial number; there is no TPM.  Both are left out by rule."""
    run = run or _run
    values = {
        **read_platform(run(PLATFORM)),
        Trait.MACHINE_ID: read_volume(run(VOLUME)),
        Trait.MAC: read_ports(run(PORTS)),
        Trait.CPU: run(PROCESSOR).decode("utf-8", "replace").strip(),
    }
    return {trait: value for trait, value in values.items() if normalise(trait, value) is not None}


def read_platform(output: bytes) -> dict[Trait, str]:
    """``IOPlatformExpertDevice``: the computer's UUID and serial number."""
    found = _plist(output)
    device = found[0] if isinstance(found, list) and found else {}
    return {
        Trait.SMBIOS_UUID: _text(device, "IOPlatformUUID"),
        Trait.SMBIOS_SERIAL: _text(device, "IOPlatformSerialNumber"),
    }


def read_volume(output: bytes) -> str:
    """The group of the volumes that this installation consists of: made anew when the system is installed anew."""
    return _text(_plist(output), "APFSVolumeGroupID")


def read_ports(output: bytes) -> str:
    """The lowest address of the built-in ports."""
    ports = _PORT.findall(output.decode("utf-8", "replace"))
    found = (address.lower() for name, _, address in ports if _BUILT_IN.match(name))
    return min((one for one in found if normalise(Trait.MAC, one)), default="")


def write_event(level: int, number: int, message: str) -> None:
    import syslog

    syslog.openlog("volact")
    syslog.syslog(level, f"{number} {message}")


def notifier(title: str, text: str, variables: Mapping[str, str]) -> list[str] | None:  # noqa: ARG001
    """Notification Center shows it to the user of this session; a daemon of the system has none and needs the hook."""
    if is_administrator():
        return None
    return ["/usr/bin/osascript", "-e", f"display notification {_quoted(text)} with title {_quoted(title)}"]


def service_plan(program: tuple[str, ...]) -> ServicePlan:
    definition = {
        "Label": LABEL,
        "ProgramArguments": [*program, "client", "serve"],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Umask": 0o022,
    }
    return ServicePlan(
        files={DAEMON: plistlib.dumps(definition)},
        install=(("/bin/launchctl", "bootstrap", "system", str(DAEMON)),),
        remove=(("/bin/launchctl", "bootout", f"system/{LABEL}"),),
    )


def _run(command: tuple[str, ...]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout


def _plist(output: bytes) -> Any:
    try:
        return plistlib.loads(output)
    except Exception:  # expat's errors, and plistlib's own of many kinds
        return {}


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _quoted(text: str) -> str:
    """A string of AppleScript."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
