# SPDX-License-Identifier: Apache-2.0
"""A computer for tests whose process 1 is a real systemd, booted in namespaces of its own within a second.

Its disk is an overlay over this machine's, so that nothing written there is seen here; it has a machine ID, a journal,
a network with nothing but ``lo``, SMBIOS serial numbers that root alone can read, and the product installed in
``/opt/volact`` as from wheels.  Of this machine's own units only the journal's run.  It takes itself for a computer
and not for a container, so it has no right to set the clock, to load modules or to change the kernel's settings.
Not here: limits of memory and processes, which a machine that still uses cgroups of version 1 has no controllers for.
Needs root, util-linux and systemd.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import volact
from support.processes import Done, wait_for

SYSTEMD = Path("/lib/systemd/systemd")
PREFIX = Path("/opt/volact")
PYTHON = Path("/opt/python")  # in place of an interpreter in somebody's home, which hardened services do not see
PROGRAM = PREFIX / "bin" / "volact"
UNITS = Path("/etc/systemd/system")
ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging" / "systemd"
BOOT_SECONDS = 60.0
STOP_SECONDS = 30.0
COMMAND_SECONDS = 120.0
VARIABLES = {
    "PATH": f"{PROGRAM.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}
SMBIOS = {"product_uuid": "7d1f6a52-3a1b-4d6e-9d55-0c2f6f1b8a10", "product_serial": "VB-2201", "board_serial": "BB-77"}
ENTRY = """\
import sys
from volact.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""  # as pip writes it for an entry point

# Keeps the disk, and boots again after each reboot, which the kernel tells by SIGHUP, and where the file is there.
COMPUTER = r"""
set -eu
base=$1
mount -t tmpfs -o mode=755 volact-test "$base"
cd "$base"
mkdir upper work root cgroup
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" volact-test root
mount -t cgroup2 cgroup2 cgroup
group=$base/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/volact-test-$$
mkdir "$group"
cd root
. "$2"
cd "$base"
code=129
while [ $code -eq 129 ] || rm again 2> /dev/null; do
    code=0
    (
        cd root
        sh -c 'echo $PPID' > "$group/cgroup.procs"
        exec setpriv --pdeathsig KILL unshare --fork --kill-child \
            --pid --uts --ipc --cgroup --net --mount --propagation private sh "$3"
    ) || code=$?
done
find "$group" -depth -type d -exec rmdir {} +
"""
# Run once in the new root: this machine's services are masked, its identity and settings replaced.
DISK = r"""
rm -rf etc/systemd/system etc/systemd/system-generators usr/lib/systemd/system-generators \
    usr/lib/systemd/system-environment-generators etc/volact var/lib/volact var/log/journal etc/resolv.conf .dockerenv
mkdir -p etc/systemd/system var/log/journal
: > etc/fstab
: > etc/resolv.conf
echo 127.0.0.1 localhost > etc/hosts
echo volact-test > etc/hostname
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
for unit in usr/lib/systemd/system/*.wants/*; do
    case ${unit##*/} in
        systemd-journald* | systemd-journal-flush.service) ;;
        *) ln -sf /dev/null "etc/systemd/system/${unit##*/}" ;;
    esac
done
"""
# Process 1 of a boot: what a kernel and its initramfs do, then systemd.
BOOT = r"""
set -eu
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t overlay -o "ro,lowerdir=$PWD/../class:$PWD/sys/class" class sys/class
mount -o remount,bind,ro sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir run/boot
: > run/boot/empty
cat /proc/sys/kernel/random/uuid > run/boot/id
mount --bind run/boot/empty proc/cmdline
mount --bind run/boot/empty proc/swaps
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind run/boot/id proc/sys/kernel/random/boot_id
mkdir -p mnt/machine
pivot_root . mnt/machine
cd /
umount -l mnt/machine
mount --make-rshared /
exec setpriv --bounding-set -sys_module,-sys_time,-sys_rawio,-syslog,-audit_control,-audit_read,-mac_admin \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
"""


class Computer:
    """Runs from ``start`` to ``close``; commands are run in it as root, or as ``user``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "computer.log"
        self._base = folder / "base"
        self._process: subprocess.Popen[bytes] | None = None
        self.systemd = 0

    def start(self) -> None:
        self._base.mkdir()
        disk, boot = self._folder / "disk.sh", self._folder / "boot.sh"
        disk.write_text(DISK + _installation(self._folder) + _smbios())
        boot.write_text(BOOT)
        alone = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*alone, "sh", "-c", COMPUTER, "computer", str(self._base), str(disk), str(boot)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_booted()

    def run(self, *words: object, user: str = "root", stdin: str = "") -> Done:
        """A command in the computer, with a login's clean environment."""
        variables = [f"{name}={value}" for name, value in VARIABLES.items()]
        enter = ["nsenter", f"--target={self.systemd}", "--all", "--root"]
        become = [] if user == "root" else ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"]
        done = subprocess.run(
            [*enter, "env", "--chdir=/", "-i", *variables, *become, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def good(self, *words: object, **how: Any) -> Done:
        done = self.run(*words, **how)
        assert done.code == 0, (words, done.err, done.out)
        return done

    def volact(self, *words: object, **how: Any) -> Done:
        return self.run("volact", *words, **how)

    def path(self, inside: str | Path) -> Path:
        """A file of the computer, as this machine reaches it."""
        return Path(f"/proc/{self.systemd}/root") / str(inside).lstrip("/")

    def show(self, unit: str, name: str) -> str:
        return self.good("systemctl", "show", unit, f"--property={name}", "--value").out.strip()

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Its entries, oldest first; ``matches`` as journalctl takes them."""
        done = self.run("journalctl", "--output=json", "--all", "--quiet", *matches)
        return [json.loads(line) for line in done.out.splitlines()]

    def reboot(self) -> None:
        """As an administrator does it: units are stopped, what is mounted is unmounted."""
        before = self.systemd
        self.run("systemctl", "reboot")
        self._wait_until_booted(before)

    def cut_power(self) -> None:
        """Every process is gone at once; nothing is said to any.  Then it boots again."""
        before = self.systemd
        (self._inner / "again").touch()
        os.kill(before, signal.SIGKILL)
        self._wait_until_booted(before)

    def close(self) -> None:
        if self._process is None:
            return
        for process in self._first() or [self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    @property
    def _inner(self) -> Path:
        """The folder of its disk, in the mount namespace that it lies in."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/root") / str(self._base).lstrip("/")

    def _wait_until_booted(self, before: int = 0) -> None:
        wait_for(lambda: self._find(before), BOOT_SECONDS)
        wait_for(lambda: self.run("systemctl", "is-active", "multi-user.target").out == "active\n", BOOT_SECONDS)

    def _find(self, before: int) -> int:
        """Process 1, once it is systemd, by its ID on this machine."""
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        for first in self._first():
            if first != before and Path(f"/proc/{first}/comm").read_text() == "systemd\n":
                self.systemd = first
                return first
        return 0

    def _first(self) -> list[int]:
        """Process 1, by its ID on this machine: below the shell, and ``unshare``."""
        assert self._process is not None
        return [first for boot in _children(self._process.pid) for first in _children(boot)]


def place_unit(computer: Computer, shipped: Path) -> None:
    """As an administrator does it who writes this computer's program into the unit."""
    computer.path(UNITS / shipped.name).write_text(with_program(shipped.read_text(encoding="utf-8")), encoding="utf-8")


def with_program(unit: str) -> str:
    return re.sub(r"^ExecStart=\S+", f"ExecStart={PROGRAM}", unit, flags=re.MULTILINE)


def drop_in(computer: Computer, unit: str, name: str, text: str) -> Path:
    file = computer.path(UNITS / f"{unit}.d" / f"{name}.conf")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    computer.good("systemctl", "daemon-reload")
    return file


def units_of_guide(name: str) -> list[str]:
    """What a guide shows as parts of units, in order."""
    text = (ROOT / "docs" / "guide" / name).read_text(encoding="utf-8")
    return re.findall(r"```ini\n(.*?)```", text, re.DOTALL)


def is_active(computer: Computer, unit: str) -> bool:
    return computer.run("systemctl", "is-active", unit).out == "active\n"


def rights_of(computer: Computer, unit: str) -> set[str]:
    """The sets of capabilities of a running service, as the kernel writes them."""
    status = computer.path(f"/proc/{computer.show(unit, 'MainPID')}/status").read_text()
    assert "NoNewPrivs:\t1\nSeccomp:\t2\n" in status
    return set(re.findall(r"^Cap(?!Inh)\w+:\t(\w+)$", status, re.MULTILINE))


@contextmanager
def booted(folder: Path) -> Iterator[Computer]:
    computer = Computer(folder)
    try:
        computer.start()
        yield computer
    finally:
        computer.close()


def is_installed() -> bool:
    return SYSTEMD.exists() and all(map(shutil.which, ("unshare", "nsenter", "setpriv")))


@functools.cache
def is_allowed() -> bool:
    """Everything that a boot needs is allowed here?  In many a container it is not."""
    if os.geteuid() != 0:
        return False
    tried = (
        "set -e; mount -t tmpfs x /mnt; mkdir /mnt/u /mnt/w /mnt/r; "
        "mount -t overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w x /mnt/r; "
        "mount -t proc x /mnt/u; mount -t cgroup2 x /mnt/w; mknod /mnt/null c 1 3; : > /mnt/null"
    )
    spaces = ["--pid", "--fork", "--uts", "--ipc", "--cgroup", "--net", "--mount", "--propagation", "private"]
    return subprocess.run(["unshare", *spaces, "sh", "-c", tried], capture_output=True, check=False).returncode == 0


def _installation(folder: Path) -> str:
    """The virtual environment of the tests at another place, with the package in it and not in a checkout."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own, packages = folder / "installation", Path("lib") / version / "site-packages"
    base = Path(sys.base_prefix).resolve()
    home = PYTHON if base.is_relative_to("/root") or base.is_relative_to("/home") else base
    (own / "bin").mkdir(parents=True)
    (own / packages / "volact").mkdir(parents=True)
    for file in (Path(sys.prefix) / packages).glob("__editable__.volact-*"):
        (own / packages / file.name).touch()
    (own / "bin" / "python").symlink_to(home / "bin" / version)
    (own / "pyvenv.cfg").write_text(f"home = {home / 'bin'}\ninclude-system-site-packages = false\n")
    program = own / "bin" / "volact"
    program.write_text(f"#!{PREFIX}/bin/python\n{ENTRY}")
    program.chmod(0o755)
    lines = [
        f"mkdir -p .{PREFIX} .{home}",
        f"mount -t overlay -o 'ro,lowerdir={own}:{sys.prefix}' volact .{PREFIX}",
        f"mount --bind '{Path(volact.__file__).parent}' .{PREFIX / packages / 'volact'}",
    ]
    if home == PYTHON:
        lines += [
            f"mount --bind '{base}' .{home}",
            f"echo {home}/lib > etc/ld.so.conf.d/00-python.conf",
            "ldconfig -r .",
        ]
    return "\n".join(lines) + "\n"


def _smbios() -> str:
    lines = ["mkdir -p ../class/dmi/id"]
    for name, value in SMBIOS.items():
        lines += [f"echo {value} > ../class/dmi/id/{name}", f"chmod 400 ../class/dmi/id/{name}"]
    return "\n".join(lines) + "\n"


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
