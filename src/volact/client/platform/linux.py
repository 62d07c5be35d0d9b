# SPDX-License-Identifier: Apache-2.0
"""Linux: the places of the FHS, systemd, freedesktop notifications.  Events go to the journal by ``service.events``."""

from collections.abc import Mapping
from pathlib import Path

from volact.client.platform import ServicePlan
from volact.client.platform.unix import is_administrator as is_administrator
from volact.client.platform.unix import protect as protect
from volact.client.platform.unix import try_lock as try_lock
from volact.core.fingerprint import Trait

SYSTEM_FOLDER = Path("/var/lib/volact/client")
SYSTEM_SOCKET: Path | None = Path("/run/volact/client.sock")
HOOKS: tuple[str, ...] = ("reminder-hook",)
HOOK_FOLDER = Path("/etc/volact")
UNITS = Path("/etc/systemd/system")
SERVICE, SOCKET = "volact-client.service", "volact-client.socket"
UNSEEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - ProtectHome, PrivateTmp
PROGRAM = "/usr/bin/volact"  # in the unit that packages ship


def user_folder(variables: Mapping[str, str]) -> Path:
    home = variables.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "volact" / "client"


def collect(root: Path = Path("/")) -> dict[Trait, str]:
    from volact.client.platform import traits

    return traits.collect(root)


def write_event(level: int, number: int, message: str) -> None:
    """The journal has it already; without one, syslog gets it."""
    import syslog

    syslog.openlog("volact")
    syslog.syslog(level, f"{number} {message}")


def notifier(title: str, text: str, variables: Mapping[str, str]) -> list[str] | None:
    """A freedesktop notification, where this process belongs to somebody's session."""
    if not variables.get("DBUS_SESSION_BUS_ADDRESS"):
        return None
    import shutil

    path = variables.get("PATH")
    if (send := shutil.which("notify-send", path=path)) is not None:
        plain = text.replace("\\", "\\\\")  # it reads C's escapes in the text
        return [send, "--app-name=Volact", "--urgency=normal", "--", title, plain]
    if (gdbus := shutil.which("gdbus", path=path)) is not None:
        where = ["--dest=org.freedesktop.Notifications", "--object-path=/org/freedesktop/Notifications"]
        method = "--method=org.freedesktop.Notifications.Notify"
        words = ["Volact", "uint32 0", "", _variant(title), _variant(text), "@as []", "@a{sv} {}", "int32 -1"]
        return [gdbus, "call", "--session", *where, method, *words]
    return None


def service_plan(program: tuple[str, ...]) -> ServicePlan:
    units = {SERVICE: unit(program), SOCKET: SOCKET_UNIT}
    wants = {"multi-user.target.wants": SERVICE, "sockets.target.wants": SOCKET}
    return ServicePlan(
        files={UNITS / name: text.encode() for name, text in units.items()},
        links={UNITS / folder / name: f"../{name}" for folder, name in wants.items()},
        install=(
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", SOCKET, SERVICE),
            ("systemctl", "stop", SERVICE, SOCKET),  # what runs is of the unit, or the version, before
            ("systemctl", "start", SOCKET, SERVICE),
        ),
        remove=(("systemctl", "disable", "--now", SERVICE, SOCKET),),
        removed=(("systemctl", "daemon-reload"),),
        unseen=UNSEEN,
    )


def unit(program: tuple[str, ...]) -> str:
    import shlex

    words = " ".join(shlex.quote(word).replace("%", "%%") for word in program)
    return SERVICE_UNIT.replace("@PROGRAM@", words)


def _variant(text: str) -> str:
    """A string in GVariant's text format, whatever stands in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


SERVICE_UNIT = """\
# SPDX-License-Identifier: Apache-2.0
[Unit]
Description=Volact licensing service
# Not ordered after the network: what fails for want of it is tried again when it comes.
After=local-fs.target time-set.target
Wants=volact-client.socket

[Service]
Type=notify
ExecStart=@PROGRAM@ client serve
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=30
WatchdogSec=30min
# The first round may ask hosts that do not answer.
TimeoutStartSec=11min
TimeoutStopSec=15

StateDirectory=volact/client
StateDirectoryMode=0755
RuntimeDirectory=volact
RuntimeDirectoryPreserve=yes
UMask=0022
# Keys are in its memory: a fault leaves none of it on a disk.
LimitCORE=0
MemoryMax=256M
TasksMax=96
Nice=5

# It runs as root, because firmware's serial numbers are readable by root alone; it keeps nothing else of root's.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_VSOCK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
Also=volact-client.socket
"""
SOCKET_UNIT = """\
# SPDX-License-Identifier: Apache-2.0
[Unit]
Description=Volact licensing service, local API

[Socket]
ListenStream=/run/volact/client.sock
# Everyone may ask: nothing is told that the client's folder does not show to everyone.
SocketMode=0666
DirectoryMode=0755
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""
