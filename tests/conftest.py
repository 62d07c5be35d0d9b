# SPDX-License-Identifier: Apache-2.0
"""What every test may use: the ``needs`` marker for real parts, free ports, Hypothesis profiles.

Not here: helpers of one room (they live in that room's test folder or in ``tests/support``, which is importable).

``@pytest.mark.needs("bind", "dig")`` skips a test where a part is missing and says which; with
``VOLACT_REQUIRE_PARTS=1`` (set by ``make test`` once the parts are installed, and always in CI) it fails instead,
so that nothing goes green by skipping.
"""

import functools
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import booted_systemd, libvirt, postgresql, qemu, softhsm

# A shell that runs the tests in the background ignores Ctrl-C for them, and every process that they start would
# inherit that: some tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
NODE_FOLDER = ROOT / "build" / "node"  # tools/setup installs the test-only npm packages there

os.environ["VOLACT_MDNS"] = "off"  # no test asks the machine's real network; those in networks of their own turn it on

SAMBA_SETUP = Path("/usr/share/samba/setup")  # of samba-ad-provision, without which no domain can be made

# Daemons live in sbin, which an ordinary user's PATH leaves out on Debian.
COMMAND_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# Below Linux's ephemeral range (32768–60999), so that no outgoing connection takes a port between pick and bind.
FIRST_PORT, PORTS = 20_000, 12_000

# The same examples each run: a failure belongs to a change, not to luck.  No deadline: two cores, shared.
STEADY = settings(
    derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.register_profile("default", STEADY)
settings.register_profile("ci", STEADY, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@dataclass(frozen=True, slots=True)
class Part:
    """A real part of the machine: how to see that it is there, and where it comes from.

    ``allowed``: whether this computer lets it run.  Nothing that could be installed changes that, so where it does not,
    a test is skipped with the reason, whatever is required.
    """

    probe: Callable[[], bool]
    source: str
    allowed: Callable[[], bool] = lambda: True


def _command(name: str) -> Callable[[], bool]:
    return lambda: _which(name) is not None


@functools.cache
def _can_make_namespaces() -> bool:
    """Root in a container may still not be allowed to."""
    ip = _which("ip")
    if ip is None:
        return False
    name = f"volact-probe-{os.getpid()}"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, check=False).returncode == 0
    return made and subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False).returncode == 0


def _node_package(name: str) -> Callable[[], bool]:
    return lambda: _which("node") is not None and (NODE_FOLDER / "node_modules" / name / "package.json").is_file()


PARTS: dict[str, Part] = {
    "bind": Part(_command("named"), "Debian package bind9"),
    "dig": Part(_command("dig"), "Debian package bind9-dnsutils"),
    "samba": Part(
        lambda: os.geteuid() == 0 and SAMBA_SETUP.is_dir(), "root, and Debian package samba-ad-dc of backports"
    ),
    "slapd": Part(_command("slapd"), "Debian package slapd"),
    "ldapsearch": Part(_command("ldapsearch"), "Debian package ldap-utils"),
    "adcli": Part(_command("adcli"), "Debian package adcli"),
    "netns": Part(lambda: os.geteuid() == 0 and _can_make_namespaces(), "root, and Debian package iproute2"),
    "bonsai": Part(lambda: importlib.util.find_spec("bonsai") is not None, "pip install 'volact[directory]'"),
    "gssapi": Part(lambda: importlib.util.find_spec("gssapi") is not None, "pip install 'volact[directory]'"),
    "openssl": Part(_command("openssl"), "Debian package openssl"),
    "postgresql": Part(postgresql.is_present, "Debian package postgresql and the extra postgresql"),
    "curl": Part(_command("curl"), "Debian package curl"),
    "qemu": Part(qemu.is_present, "Debian package qemu-system-x86"),
    "libvirt": Part(libvirt.is_present, "Debian packages libvirt-daemon-driver-qemu and libvirt-clients"),
    "setfacl": Part(_command("setfacl"), "Debian package acl"),
    "guest-image": Part(qemu.has_image, "tools/make_guest_image"),
    "softhsm": Part(softhsm.is_present, "Debian package softhsm2 and the extra pkcs11"),
    "sshd": Part(_command("sshd"), "Debian package openssh-server"),
    "chromium": Part(_command("chromium"), "Debian package chromium"),
    "swtpm": Part(_command("swtpm"), "Debian package swtpm"),
    "tpm2-pytss": Part(lambda: importlib.util.find_spec("tpm2_pytss") is not None, "pip install 'volact[tpm]'"),
    "pdftoppm": Part(_command("pdftoppm"), "Debian package poppler-utils"),
    "dbus": Part(_command("dbus-daemon"), "Debian package dbus"),
    "notify-send": Part(_command("notify-send"), "Debian package libnotify-bin"),
    "systemd": Part(_command("systemd-analyze"), "Debian package systemd"),
    "booted-systemd": Part(
        booted_systemd.is_installed,
        "Debian package systemd, and root that may make namespaces and mount in them",
        booted_systemd.is_allowed,
    ),
    "go": Part(_command("go"), "Debian package golang-go"),
    "mono": Part(lambda: all(map(_which, ("mcs", "mono"))), "Debian packages mono-mcs and mono-runtime"),
    "gdbus": Part(_command("gdbus"), "Debian package libglib2.0-bin"),
    "node": Part(_command("node"), "Debian package nodejs"),
    "jose": Part(_node_package("jose"), "npm package jose in build/node"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [name for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in needed if not _part(name).probe()]
    if not missing:
        _skip_what_is_not_allowed(needed)
        return
    reason = "missing: " + ", ".join(f"{name} ({_part(name).source}; see tools/setup)" for name in missing)
    if os.environ.get("VOLACT_REQUIRE_PARTS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _skip_what_is_not_allowed(needed: list[str]) -> None:
    refused = [name for name in needed if not _part(name).allowed()]
    if refused:
        pytest.skip("this computer does not allow: " + ", ".join(f"{name} ({_part(name).source})" for name in refused))


@pytest.fixture(scope="session")
def node_folder() -> Path:
    """Where a Node.js script must stand (``cwd`` or file) to import the test-only npm packages."""
    return NODE_FOLDER


@pytest.fixture(scope="session")
def find_command() -> Callable[[str], str]:
    """The path of a command, daemons in sbin included; the test says ``needs`` for it first."""

    def find(name: str) -> str:
        path = _which(name)
        assert path is not None, f"{name} is not installed: mark the test with needs"
        return path

    return find


@pytest.fixture(scope="session")
def pick_port() -> Callable[[], int]:
    """Gives another port at each call, free for TCP and UDP on both loopback addresses."""
    candidates = _candidate_ports()
    return lambda: next(port for port in candidates if _is_free(port))


@pytest.fixture
def free_port(pick_port: Callable[[], int]) -> int:
    """One free port; ``pick_port`` where a test needs several."""
    return pick_port()


def _part(name: str) -> Part:
    if name not in PARTS:
        raise pytest.UsageError(f"needs({name!r}): no such part in tests/conftest.py; known: {', '.join(PARTS)}")
    return PARTS[name]


def _which(name: str) -> str | None:
    return shutil.which(name, path=COMMAND_PATH)


def _candidate_ports() -> Iterator[int]:
    """A range for each parallel worker, begun at a place of the process's own: two never hand out the same port, and
    another run on the same computer hardly ever does."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    each = PORTS // workers
    return (FIRST_PORT + worker * each + (os.getpid() * 97 + step) % each for step in itertools.count())


def _is_free(port: int) -> bool:
    return all(
        _can_bind(family, kind, host, port)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        if family == socket.AF_INET or _has_ipv6()
    )


def _has_ipv6() -> bool:
    return socket.has_ipv6 and _can_bind(socket.AF_INET6, socket.SOCK_DGRAM, "::1", 0)


def _can_bind(family: int, kind: int, host: str, port: int) -> bool:
    try:
        with socket.socket(family, kind) as probe:
            probe.bind((host, port))
    except OSError:
        return False
    return True
