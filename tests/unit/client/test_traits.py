# SPDX-License-Identifier: Apache-2.0
"""Collection of traits, on file trees laid out as Linux lays out sysfs (devices under /sys/devices, links to them)."""

import os
from pathlib import Path

import pytest

from volact.client.platform.traits import collect, in_container
from volact.core.fingerprint import Fingerprint, Trait

UUID = "4c4c4544-0042-3510-8052-b4c04f4e4232"
MACHINE_ID = "3d1219c7c4c5404aaa1f6d2a48adfda4"
PCI = "sys/devices/pci0000:00"
ROOT_ON_SDA2 = "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
CPUINFO = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5-6500\n\nprocessor\t: 1\nmodel name\t: Another\n"


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


class Machine:
    """A file tree that grows hardware."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write(root / "etc/machine-id", MACHINE_ID + "\n")
        write(root / "proc/cpuinfo", CPUINFO)
        write(root / "proc/self/mountinfo", ROOT_ON_SDA2)
        write(root / "sys/class/dmi/id/product_uuid", UUID + "\n")
        write(root / "sys/class/dmi/id/product_serial", "5B5RNB2\n")
        write(root / "sys/class/dmi/id/board_serial", "/5B5RNB2/CN1296356S00AB/\n")

    def disk(self, name: str, files: dict[str, str], *, number: str, partitions: int = 0, bus: str = "ata1") -> Path:
        device = self.root / PCI / bus / name / "device-of-disk"
        device.mkdir(parents=True)
        disk = device / "block" / name
        link(disk / "device", device)
        for file, text in {"removable": "0\n", **files}.items():
            write(device / file.removeprefix("device/") if file.startswith("device/") else disk / file, text)
        self._block(disk, number)
        major, minor = map(int, number.split(":"))
        for n in range(1, partitions + 1):
            partition = disk / f"{name}{'p' if name[-1].isdigit() else ''}{n}"
            write(partition / "partition", f"{n}\n")
            self._block(partition, f"{major}:{minor + n}", whole=False)
        return disk

    def mapper(self, name: str, number: str, below: Path) -> Path:
        device = self.root / "sys/devices/virtual/block" / name
        link(device / "slaves" / below.name, below)
        self._block(device, number)
        return device

    def card(self, name: str, address: str, *, assigned: str = "0", kind: str = "1", bus: str = "0000:00:1f.6") -> Path:
        card = self.root / PCI / bus / "net" / name
        for file, text in {"address": address, "addr_assign_type": assigned, "type": kind}.items():
            write(card / file, text + "\n")
        link(card / "device", self.root / PCI / bus)
        link(self.root / "sys/class/net" / name, card)
        return card

    def _block(self, path: Path, number: str, *, whole: bool = True) -> None:
        path.mkdir(parents=True, exist_ok=True)
        link(self.root / "sys/dev/block" / number, path)
        link(self.root / "sys/class/block" / path.name, path)
        if whole:
            link(self.root / "sys/block" / path.name, path)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_desktop_shows_all_its_traits(machine):
    machine.disk("sda", {"device/wwid": "naa.5002538d40b1a2c3\n"}, number="8:0", partitions=2)
    machine.card("enp0s31f6", "64:00:6a:12:34:56")
    assert collect(machine.root) == {
        Trait.MACHINE_ID: MACHINE_ID,
        Trait.DISK_SERIAL: "naa.5002538d40b1a2c3",
        Trait.MAC: "64:00:6a:12:34:56",
        Trait.CPU: "Intel(R) Core(TM) i5-6500",
        Trait.SMBIOS_UUID: UUID,
        Trait.SMBIOS_SERIAL: "5B5RNB2",
        Trait.BOARD_SERIAL: "/5B5RNB2/CN1296356S00AB/",
    }


def test_the_systems_disk_is_taken_whichever_order_disks_come_up_in(machine):
    machine.disk("sda", {"device/wwid": "naa.2222"}, number="8:0", partitions=2)
    machine.disk("sdb", {"device/wwid": "naa.1111"}, number="8:16", partitions=2, bus="ata2")
    assert collect(machine.root)[Trait.DISK_SERIAL] == "naa.2222"
    write(machine.root / "proc/self/mountinfo", ROOT_ON_SDA2.replace("8:2", "8:18"))
    assert collect(machine.root)[Trait.DISK_SERIAL] == "naa.1111"


def test_the_disk_below_lvm_and_encryption_is_found(machine):
    machine.disk("nvme0n1", {"device/serial": "S3Z8NB0K812345      \n"}, number="259:0", partitions=3, bus="nvme0")
    crypt = machine.mapper("dm-0", "253:0", machine.root / "sys/class/block/nvme0n1p3")
    machine.mapper("dm-1", "253:1", crypt)
    machine.disk("sda", {"device/wwid": "LOWEST-1111"}, number="8:0")
    write(machine.root / "proc/self/mountinfo", ROOT_ON_SDA2.replace("8:2", "253:1"))
    assert collect(machine.root)[Trait.DISK_SERIAL] == "S3Z8NB0K812345"


def test_btrfs_is_found_by_its_source(machine):
    machine.disk("sda", {"device/wwid": "naa.2222"}, number="8:0", partitions=2)
    machine.disk("sdb", {"device/wwid": "naa.1111"}, number="8:16", bus="ata2")
    write(machine.root / "proc/self/mountinfo", "30 1 0:27 /@ / rw shared:1 - btrfs /dev/sda2 rw,subvol=/@\n")
    assert collect(machine.root)[Trait.DISK_SERIAL] == "naa.2222"


def test_without_a_known_system_disk_the_lowest_built_in_serial_is_taken(machine):
    write(machine.root / "proc/self/mountinfo", "1 0 0:2 / / rw - rootfs rootfs rw\n")
    machine.disk("sda", {"device/wwid": "naa.2222"}, number="8:0")
    machine.disk("sdb", {"device/wwid": "naa.1111"}, number="8:16", bus="ata2")
    machine.disk("sdc", {"device/wwid": "naa.0001", "removable": "1"}, number="8:32", bus="ata3")
    machine.disk("sdd", {"device/wwid": "naa.0002"}, number="8:48", bus="usb1")
    assert collect(machine.root)[Trait.DISK_SERIAL] == "naa.1111"


def test_a_virtio_disk_has_its_serial_beside_it(machine):
    machine.disk("vda", {"serial": "vol-0a1b2c3d4e5f"}, number="254:0", bus="virtio1")
    write(machine.root / "proc/self/mountinfo", ROOT_ON_SDA2.replace("8:2", "254:0"))
    assert collect(machine.root)[Trait.DISK_SERIAL] == "vol-0a1b2c3d4e5f"


def test_links_that_turn_in_a_circle_do_not_hang(machine):
    first = machine.root / "sys/class/block/dm-0"
    second = machine.mapper("dm-1", "253:1", first)
    machine.mapper("dm-0", "253:0", second)
    write(machine.root / "proc/self/mountinfo", ROOT_ON_SDA2.replace("8:2", "253:1"))
    assert Trait.DISK_SERIAL not in collect(machine.root)


def test_the_lowest_permanent_address_of_built_in_cards_is_taken(machine):
    machine.card("eth0", "64:00:6a:99:99:99")
    machine.card("eth1", "64:00:6a:12:34:56", bus="0000:00:02.0")
    machine.card("eth2", "02:00:00:00:00:01", bus="0000:00:03.0")  # locally administered
    machine.card("wlan0", "00:11:22:33:44:55", assigned="3", bus="0000:00:04.0")  # randomised by software
    machine.card("ib0", "00:00:02:08:fe:80", kind="32", bus="0000:00:05.0")  # InfiniBand
    machine.card("enx0", "00:00:01:00:00:01", bus="usb2")  # a dock
    bridge = machine.root / "sys/devices/virtual/net/br0"
    write(bridge / "address", "00:00:00:00:00:02\n")
    link(machine.root / "sys/class/net/br0", bridge)
    assert collect(machine.root)[Trait.MAC] == "64:00:6a:12:34:56"


def test_a_bonded_card_keeps_its_own_address(machine):
    card = machine.card("eth0", "64:00:6a:00:00:00", assigned="3")
    write(card / "bonding_slave/perm_hwaddr", "64:00:6a:12:34:56\n")
    assert collect(machine.root)[Trait.MAC] == "64:00:6a:12:34:56"


def test_an_arm_processor_is_named_by_implementer_and_part(machine):
    write(machine.root / "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n")
    assert collect(machine.root)[Trait.CPU] == "0x41 0xd0c"


def test_placeholders_are_left_out(machine):
    write(machine.root / "sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009\n")
    write(machine.root / "sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n")
    write(machine.root / "sys/class/dmi/id/board_serial", b"\xff\xff\xff\n")
    assert set(collect(machine.root)) == {Trait.MACHINE_ID, Trait.CPU}


def test_the_older_place_of_the_machine_id_is_read_too(machine):
    (machine.root / "etc/machine-id").unlink()
    write(machine.root / "var/lib/dbus/machine-id", MACHINE_ID)
    assert collect(machine.root)[Trait.MACHINE_ID] == MACHINE_ID


CONTAINERS = {
    "docker": (".dockerenv", ""),
    "podman": ("run/.containerenv", 'engine="podman"\n'),
    "systemd's interface": ("run/systemd/container", "systemd-nspawn\n"),
    "kubernetes": ("run/secrets/kubernetes.io/serviceaccount/token", "x"),
    "environment": ("proc/1/environ", "PATH=/bin\0container=lxc\0"),
    "cgroup v1": ("proc/1/cgroup", "1:cpu:/kubepods/burstable/pod1\n"),
    "containerd, private cgroups": (
        "proc/self/mountinfo",
        "900 800 0:99 / / rw - overlay overlay rw,upperdir=/var/lib/containerd/snapshots/7/fs\n",
    ),
}


@pytest.mark.parametrize("mark", CONTAINERS)
def test_in_a_container_only_its_own_machine_id_is_taken(machine, mark):
    machine.disk("sda", {"device/wwid": "naa.5002538d40b1a2c3"}, number="8:0", partitions=2)
    machine.card("eth0", "64:00:6a:12:34:56")
    file, text = CONTAINERS[mark]
    assert not in_container(machine.root)
    write(machine.root / file, text)
    assert in_container(machine.root)
    assert collect(machine.root) == {Trait.MACHINE_ID: MACHINE_ID}
    write(machine.root / "etc/machine-id", "")
    assert collect(machine.root) == {}


def test_a_live_system_on_an_overlay_is_not_a_container(machine):
    write(machine.root / "proc/self/mountinfo", "22 1 0:20 / / rw - overlay overlay rw,upperdir=/cow/upper\n")
    assert not in_container(machine.root)


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"\xff" * 5000, b" - - - / / /\n" * 400, b":\n" * 3000])
def test_whatever_the_files_hold_nothing_is_raised(machine, content):
    machine.disk("sda", {"device/wwid": "naa.1"}, number="8:0")
    machine.card("eth0", "64:00:6a:12:34:56")
    for path in [path for path in machine.root.rglob("*") if path.is_file() and not path.is_symlink()]:
        path.write_bytes(content)
    Fingerprint.of(collect(machine.root), b"\x11" * 32)


def test_folders_where_files_are_expected_raise_nothing(machine):
    for file in ("etc/machine-id", "proc/cpuinfo", "sys/class/dmi/id/product_uuid"):
        (machine.root / file).unlink()
        (machine.root / file).mkdir()
    write(machine.root / "sys/block", "not a folder")
    assert set(collect(machine.root)) == {Trait.SMBIOS_SERIAL, Trait.BOARD_SERIAL}


def test_other_systems_give_nothing(tmp_path):
    assert collect(tmp_path) == {}


def test_this_machine_is_read_without_error_and_alike_each_time():
    assert collect() == collect()
