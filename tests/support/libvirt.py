# SPDX-License-Identifier: Apache-2.0
"""A libvirt of an ordinary user with one domain: the guest of ``support.qemu`` with the channel of our example.

Sockets have short names only, so everything lies in a short folder of its own, which goes away with it.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.qemu import BOOT_SECONDS, IMAGE, KERNEL_LINE, MEMORY_MB, ROOT, TEST_PORT, Ran, decode

NOBODY = 65534
EXAMPLE = ROOT / "examples" / "vm" / "domain.xml"
SEARCH = "/usr/sbin:/usr/bin"


def is_present() -> bool:
    return all(shutil.which(name, path=SEARCH) for name in ("libvirtd", "virsh"))


@dataclass
class Domain:
    """``channels`` is the folder in which libvirt makes one for each domain."""

    folder: Path
    name: str
    channels: Path

    def run(self, command: str, seconds: float = 120) -> Ran:
        """A command line for the guest's sh."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(seconds)
            channel.connect(str(self.folder / "test.sock"))
            channel.sendall(command.encode() + b"\n")
            return decode(_line(channel))


@contextmanager
def domain(name: str) -> Iterator[Domain]:
    folder = Path(tempfile.mkdtemp(prefix="vlv-", dir="/tmp"))
    daemon: subprocess.Popen[bytes] | None = None
    try:
        variables = _prepare(folder, name)
        with (folder / "libvirtd.log").open("wb") as log:
            daemon = subprocess.Popen(
                _as_user(["/usr/sbin/libvirtd"]), env=variables, stdout=log, stderr=log, cwd=folder
            )
        _wait(folder / "run" / "libvirt" / "libvirt-sock")
        _virsh(variables, "create", str(folder / "domain.xml"))
        try:  # its QEMU outlives the daemon
            _wait_until_ready(folder)
            yield Domain(folder, name, folder / "home" / ".config" / "libvirt" / "qemu" / "channel" / "target")
        finally:
            _virsh(variables, "destroy", name)
    finally:
        if daemon is not None:
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(BOOT_SECONDS)
        channel.connect(str(folder / "test.sock"))
        assert _line(channel) == "ready"


def _prepare(folder: Path, name: str) -> dict[str, str]:
    """The guest's files where an ordinary user can read them, and the domain's description."""
    folder.chmod(0o755)
    for part in ("vmlinuz", "initrd.gz", "root.squashfs"):
        shutil.copy(IMAGE / part, folder / part)
    for part in ("run", "home"):
        (folder / part).mkdir()
    (folder / "domain.xml").write_text(_description(folder, name))
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    places = {
        "HOME": "home",
        "XDG_RUNTIME_DIR": "run",
        "XDG_CONFIG_HOME": "home/.config",
        "XDG_CACHE_HOME": "home/.cache",
    }
    return {"PATH": SEARCH, **{variable: str(folder / place) for variable, place in places.items()}}


def _description(folder: Path, name: str) -> str:
    channel = ET.tostring(ET.parse(EXAMPLE).getroot(), encoding="unicode")
    return f"""
<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>{MEMORY_MB}</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{folder}/vmlinuz</kernel><initrd>{folder}/initrd.gz</initrd>
    <cmdline>{KERNEL_LINE}</cmdline></os>
  <devices>
    <emulator>{shutil.which("qemu-system-x86_64", path=SEARCH)}</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{folder}/root.squashfs'/>
      <target dev='vda' bus='virtio'/><readonly/></disk>
    {channel}
    <channel type='unix'><source mode='bind' path='{folder}/test.sock'/>
      <target type='virtio' name='{TEST_PORT}'/></channel>
  </devices>
</domain>
"""


def _as_user(command: list[str]) -> list[str]:
    """libvirt's session mode is for ordinary users; root becomes one."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def _virsh(variables: dict[str, str], *words: str) -> None:
    command = _as_user(["virsh", "-q", "-c", "qemu:///session", *words])
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _wait(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


def _line(channel: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\n"):
        piece = channel.recv(65536)
        assert piece, "the guest is gone"
        data += piece
    return data.decode().strip()
