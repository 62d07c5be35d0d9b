# SPDX-License-Identifier: Apache-2.0
"""How a guest finds its channel, and what it says where there is none."""

import os
import time
import tty
from pathlib import Path

import pytest

from volact.vm import door
from volact.vm.application import is_virtual
from volact.vm.messages import PORT_NAME
from volact.vm.ports import Finder, NoVmHostError, SerialPort, VmChannelError


def ports(folder: Path, **names: str) -> Finder:
    for device, name in names.items():
        (folder / "sys" / device).mkdir(parents=True)
        (folder / "sys" / device / "name").write_text(name + "\n")
    (folder / "dev").mkdir(exist_ok=True)
    return Finder(folder / "sys", folder / "dev", vsock=False)


def test_the_port_is_found_by_its_name_among_others(tmp_path: Path) -> None:
    finder = ports(tmp_path, vport0p1="org.qemu.guest_agent.0", vport0p2=PORT_NAME)
    assert finder.serial_port() == tmp_path / "dev" / "vport0p2"
    assert door.is_guest(finder)


def test_a_computer_without_a_channel_says_so(tmp_path: Path) -> None:
    finder = ports(tmp_path, vport0p1="org.qemu.guest_agent.0")
    assert not door.is_guest(finder)
    with pytest.raises(NoVmHostError):
        door.open_door(finder).get_issuer("sha256:0", "acme-cad", 101, bytes(16))


def test_a_port_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    finder = ports(tmp_path, vport0p2=PORT_NAME)
    with pytest.raises(VmChannelError, match="No such file"):
        finder.open()


def test_a_serial_port_carries_bytes_both_ways_and_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    host, guest = os.openpty()
    port = SerialPort(Path(os.ttyname(guest)))
    try:
        tty.setraw(guest)
        port.send(b"\x01up\xff", time.monotonic() + 5)
        assert os.read(host, 100) == b"\x01up\xff"
        os.write(host, b"down")
        assert port.receive(time.monotonic() + 5) == b"down"
        assert port.receive(time.monotonic() + 0.05) == b""
    finally:
        port.close()
        os.close(host)
        os.close(guest)


@pytest.mark.parametrize(
    ("flags", "virtual"), [("fpu vme hypervisor sse", True), ("fpu vme sse", False), ("fpu hypervisors", False)]
)
def test_a_host_knows_a_hypervisor_below_it_by_the_processors_flag(tmp_path: Path, flags: str, virtual: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert is_virtual(tmp_path / "cpuinfo") is virtual
    assert is_virtual(tmp_path / "none") is False
