# SPDX-License-Identifier: Apache-2.0
"""Traits: the raw values of a Linux machine that make its fingerprint, read from ``/etc``, ``/proc`` and ``/sys``.

Standard library only, a few milliseconds, and it never raises: what cannot be read is left out.  Nothing here leaves
the machine; ``core.fingerprint`` hashes it first.  Spec: docs/spec/fingerprint.md, which also says what other systems
and containers give.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from volact.client.platform import endorsement
from volact.core.fingerprint import Trait, normalise

_PAGE = 4096  # all of any sysfs attribute, and the first processor of cpuinfo
_MOUNTS_LIMIT = 1 << 16  # `/` is among the first; container hosts have thousands of mounts

_MACHINE_ID_FILES = ("etc/machine-id", "var/lib/dbus/machine-id")
_SMBIOS_FILES = {
    Trait.SMBIOS_UUID: "sys/class/dmi/id/product_uuid",
    Trait.SMBIOS_SERIAL: "sys/class/dmi/id/product_serial",
    Trait.BOARD_SERIAL: "sys/class/dmi/id/board_serial",
}
_DISK_SERIAL_FILES = ("serial", "device/serial", "wwid", "device/wwid")  # virtio, NVMe and MMC, NVMe, SCSI and SATA
_CPU_MODEL_FIELDS = (
    ("model name",),
    ("cpu model",),
    ("CPU implementer", "CPU part"),
    ("cpu",),
)  # x86, MIPS, ARM, POWER

_PERMANENT_ADDRESS = "0"  # addr_assign_type: not random, not set by software, not borrowed from another device
_ETHERNET = "1"  # ARPHRD_ETHER, Wi-Fi included

_CONTAINER_MARKS = (
    ".dockerenv",
    "run/.containerenv",  # Podman
    "run/systemd/container",  # any manager of systemd's container interface
    "run/secrets/kubernetes.io",
    "var/run/secrets/kubernetes.io",
)
_CONTAINER_PATHS = re.compile(r"docker|kubepods|containerd|libpod|lxc|machine\.slice|containers/storage")


def collect(root: Path = Path("/")) -> dict[Trait, str]:
    """The raw values of the machine whose file tree is ``root``; those that identify nothing are left out.

    In a container the hardware is the host's: it is shared with neighbours and changes when the container moves, so
    only the container's own machine ID is taken, where it has one.
    """
    traits = {Trait.MACHINE_ID: _machine_id} if in_container(root) else _COLLECTORS
    values = {trait: _quietly(reader, root) for trait, reader in traits.items()}
    return {trait: value for trait, value in values.items() if normalise(trait, value) is not None}


def in_container(root: Path = Path("/")) -> bool:
    """Is this a container (Docker, Podman, Kubernetes, LXC, systemd-nspawn), as far as it can be seen from inside?"""
    return (
        any(os.path.lexists(root / mark) for mark in _CONTAINER_MARKS)
        or any(line.startswith("container=") for line in _read(root / "proc/1/environ").split("\0"))
        or _CONTAINER_PATHS.search(_read(root / "proc/1/cgroup")) is not None
        or _root_is_container_image(root)
    )


def _root_is_container_image(root: Path) -> bool:
    """Catches containerd without Docker, whose other marks a private cgroup namespace hides.

    An overlay alone is no sign: live systems and network boot use it as well.
    """
    return any(
        fstype == "overlay" and _CONTAINER_PATHS.search(options) is not None
        for _, fstype, _, options in _root_mounts(root)
    )


def _machine_id(root: Path) -> str:
    return next(filter(None, (_text(root / file) for file in _MACHINE_ID_FILES)), "")


def _smbios(trait: Trait) -> Callable[[Path], str]:
    return lambda root: _text(root / _SMBIOS_FILES[trait])


def _disk_serial(root: Path) -> str:
    """The serial of the disk the system is on; else the lowest of the built-in disks, as their order changes."""
    system = _system_disk(root)
    serials = {disk.name: _first_serial(disk) for disk in _entries(root / "sys/block") if _is_built_in(disk)}
    return serials.get(system) or min(filter(None, serials.values()), default="")


def _system_disk(root: Path) -> str:
    """Name in ``/sys/block`` of the disk under the root file system, below partitions, LVM, RAID and encryption."""
    for number, _, source, _ in _root_mounts(root):
        by_number = root / "sys/dev/block" / number
        by_source = root / "sys/class/block" / Path(os.path.realpath(root / source.lstrip("/"))).name
        device = by_number if by_number.exists() else by_source  # Btrfs has no device number of its own
        return _whole_disk(device)
    return ""


def _whole_disk(device: Path) -> str:
    for _ in range(8):  # deeper stacks than LVM on LUKS on RAID do not occur; links that turn in a circle do not hang
        below = _entries(device / "slaves")
        if not below:
            break
        device = below[0]
    real = Path(os.path.realpath(device))
    return real.parent.name if (real / "partition").exists() else real.name


def _first_serial(disk: Path) -> str:
    texts = (_text(disk / file) for file in _DISK_SERIAL_FILES)
    return next((text for text in texts if normalise(Trait.DISK_SERIAL, text) is not None), "")


def _mac(root: Path) -> str:
    """The lowest permanent address of the built-in network cards."""
    cards = (
        card for card in _entries(root / "sys/class/net") if _is_built_in(card) and _text(card / "type") == _ETHERNET
    )
    macs = (address for card in cards if (address := _permanent_address(card)) and normalise(Trait.MAC, address))
    return min(macs, default="")


def _permanent_address(card: Path) -> str:
    own = _text(card / "bonding_slave/perm_hwaddr")  # the cards of a bond all show the bond's address
    if own:
        return own
    return _text(card / "address") if _text(card / "addr_assign_type") == _PERMANENT_ADDRESS else ""


def _is_built_in(device: Path) -> bool:
    """Has hardware behind it (no loop, RAM, mapper, bridge, bond), and is neither removable nor plugged into USB."""
    return (
        (device / "device").exists()
        and _text(device / "removable") != "1"
        and "/usb" not in os.path.realpath(device / "device")
    )


def _cpu(root: Path) -> str:
    lines = (line.partition(":") for line in _read(root / "proc/cpuinfo").splitlines())
    fields = {name.strip(): value.strip() for name, _, value in reversed(list(lines))}  # the first processor's stay
    known = (names for names in _CPU_MODEL_FIELDS if all(fields.get(name) for name in names))
    return " ".join(fields[name] for name in next(known, ()))


def _root_mounts(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Of each mount on ``/``: device number, file system type, source and options (proc_pid_mountinfo(5))."""
    for line in _read(root / "proc/self/mountinfo", _MOUNTS_LIMIT).splitlines():
        mount, _, source = line.partition(" - ")
        left, right = mount.split(), source.split()
        if len(left) >= 5 and len(right) >= 3 and left[4] == "/":
            yield left[2], right[0], right[1], right[2]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    return _read(path).strip("\0 \t\r\n")


def _read(path: Path, limit: int = _PAGE) -> str:
    """The file's start; empty where it cannot be read (serial numbers are root's; sysfs files can fail when read)."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _quietly(reader: Callable[[Path], str], root: Path) -> str:
    try:
        return reader(root)
    except (OSError, ValueError):  # permissions on a folder on the way
        return ""


_COLLECTORS: dict[Trait, Callable[[Path], str]] = {
    Trait.MACHINE_ID: _machine_id,
    Trait.DISK_SERIAL: _disk_serial,
    Trait.MAC: _mac,
    Trait.CPU: _cpu,
    Trait.TPM_EK: endorsement.read,
    **{trait: _smbios(trait) for trait in _SMBIOS_FILES},
}
