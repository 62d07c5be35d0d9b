# SPDX-License-Identifier: Apache-2.0
"""Real guests under QEMU's software emulation: a kernel, a disk with Python and the production client, no network.

A guest has two virtio-serial ports: the product's, whose socket lies in a folder that a VM host watches, and the test's
own, over which commands run in the guest.  What they run from, ``tools/make_guest_image`` has made.
"""

import base64
import contextlib
import json
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volact.vm.messages import PORT_NAME

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "build" / "guest"
BINARY = "qemu-system-x86_64"
TEST_PORT = "org.volact.test.0"
BOOT_SECONDS = 90.0  # 5 s on an idle machine
COMMAND_SECONDS = 120.0  # an emulated processor on a machine that runs other tests too
MEMORY_MB = 320

# pc: the one machine type on which migration was reliable.  Emulation is asked for, never probed: /dev/kvm can be there
# and not work.
MACHINE = ["-M", "pc", "-accel", "tcg", "-m", str(MEMORY_MB), "-smp", "1"]
BARE = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]
KERNEL_LINE = "console=ttyS0 quiet mitigations=off tsc=unstable random.trust_cpu=on i8042.noaux panic=-1"


def is_present() -> bool:
    return shutil.which(BINARY) is not None


def has_image() -> bool:
    return all((IMAGE / name).is_file() for name in ("vmlinuz", "initrd.gz", "root.squashfs"))


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command in the guest ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


class Guest:
    """One QEMU process.  ``sockets`` is where the licence channel's socket comes to be, as NAME.sock."""

    def __init__(self, folder: Path, sockets: Path, name: str, extra: Sequence[str] = ()) -> None:
        self.name, self._folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = sockets / f"{name}.sock"
        self._log = folder / "console.log"
        with (folder / "qemu.log").open("wb") as errors:
            self._process = subprocess.Popen(
                [BINARY, *MACHINE, *BARE, *self._devices(), *extra],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._test: socket.socket | None = None
        self._pending = b""

    def _devices(self) -> list[str]:
        at = self._folder
        return [
            *("-kernel", str(IMAGE / "vmlinuz"), "-initrd", str(IMAGE / "initrd.gz"), "-append", KERNEL_LINE),
            *("-serial", f"file:{self._log}"),
            *("-drive", f"file={IMAGE / 'root.squashfs'},if=none,id=root,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=root"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=licence,path={self.socket},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=licence,name={PORT_NAME}"),
            *("-chardev", f"socket,id=test,path={at / 'test.sock'},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=test,name={TEST_PORT}"),
            *("-qmp", f"unix:{at / 'qmp.sock'},server=on,wait=off"),
        ]

    @property
    def log(self) -> str:
        texts = [path.read_text(errors="replace") for path in (self._log, self._folder / "qemu.log") if path.exists()]
        return "\n".join(texts)

    def wait_until_ready(self) -> "Guest":
        """Until the guest's first process says that it runs commands."""
        assert self._line(BOOT_SECONDS) == "ready", self.log
        return self

    def run(self, command: str, seconds: float = COMMAND_SECONDS) -> Ran:
        """A command line for the guest's sh."""
        self._channel().sendall(command.encode() + b"\n")
        return decode(self._line(seconds))

    def volact(self, *words: object, seconds: float = COMMAND_SECONDS) -> Ran:
        """The production command in the guest."""
        return self.run("volact " + " ".join(shlex.quote(str(word)) for word in words), seconds)

    def put(self, path: str, data: bytes) -> None:
        """A file in the guest, in pieces that a line holds."""
        self.run(f": >{path}")
        text = base64.b64encode(data).decode()
        for at in range(0, len(text), 2000):
            done = self.run(f"echo {text[at : at + 2000]} | base64 -d >>{path}")
            assert done.code == 0, done.err

    def migrate(self, to: "Guest", through: Path) -> float:
        """Move the running guest to a process that was started with ``incoming(through)``; the seconds it took."""
        began = time.monotonic()
        while not through.exists():
            assert to._process.poll() is None, to.log
            time.sleep(0.02)
        with Qmp(self._folder / "qmp.sock") as source:
            source("migrate-set-parameters", **{"max-bandwidth": 4 << 30})
            source("migrate", uri=f"unix:{through}")
            while (state := source("query-migrate").get("status")) not in ("completed", "failed"):
                time.sleep(0.02)
            assert state == "completed", source("query-migrate")
        if self._test is not None:
            self._test.close()
            self._test = None
        self.stop()
        to._channel()
        return time.monotonic() - began

    def stop(self) -> None:
        if self._test is not None:
            self._test.close()
            self._test = None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        with contextlib.suppress(OSError):
            self.socket.unlink()

    def _channel(self) -> socket.socket:
        if self._test is None:
            self._test = _connect(self._folder / "test.sock", self._process)
        return self._test

    def _line(self, seconds: float) -> str:
        channel, end = self._channel(), time.monotonic() + seconds
        while b"\n" not in self._pending:
            channel.settimeout(max(end - time.monotonic(), 0.01))
            try:
                data = channel.recv(65536)
            except TimeoutError:
                raise AssertionError(f"{self.name} did not answer in {seconds:g} s:\n{self.log}") from None
            assert data, f"{self.name} is gone:\n{self.log}"
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()


def decode(line: str) -> Ran:
    """What the guest's first process answers to a command."""
    code, _, streams = line.partition(" ")
    out, _, err = streams.partition(":")
    return Ran(int(code), *(base64.b64decode(text).decode(errors="replace") for text in (out, err)))


def incoming(through: Path) -> list[str]:
    """For the process that a guest is moved to."""
    return ["-incoming", f"unix:{through}"]


class Qmp:
    """QEMU's own control channel."""

    def __init__(self, path: Path) -> None:
        self._socket = _connect(path)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self("qmp_capabilities")

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer:
                return answer["return"]
            assert "error" not in answer, answer


def _connect(path: Path, process: "subprocess.Popen[bytes] | None" = None) -> socket.socket:
    """Once QEMU has made its socket."""
    end = time.monotonic() + 20
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            alive = process is None or process.poll() is None
            assert alive, f"the process that makes {path} has ended"
            assert time.monotonic() < end, f"no socket {path}"
            time.sleep(0.02)
        else:
            return sock
