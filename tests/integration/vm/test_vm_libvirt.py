# SPDX-License-Identifier: Apache-2.0
"""A domain of a real libvirt with the channel of the guide: the VM host finds it in libvirt's folder."""

import socket
import subprocess
from pathlib import Path

import pytest

from support.guest import PRODUCT, Publisher, VmHost, short_folder
from support.libvirt import NOBODY, domain
from support.qemu import ROOT

ASK = "from volact.vm.door import open_door; print(len(open_door().get_issuer('{root}', '{product}', 101, bytes(16))))"


@pytest.mark.needs("qemu", "guest-image", "libvirt")
def test_a_libvirt_domain_with_the_documented_channel_reaches_its_host(tmp_path: Path) -> None:
    with domain("web1") as guest:
        publisher = Publisher.make(tmp_path / "acme")
        host = VmHost.make(tmp_path / "host", publisher)
        with host.serving(guest.channels):
            done = guest.run(f'python3 -c "{ASK.format(root=publisher.root, product=PRODUCT)}"')
    assert done.code == 0, done.err
    assert int(done.out) > 1000  # the issuer's descriptor


@pytest.mark.needs("setfacl")
def test_the_hook_lets_the_hosts_user_reach_the_channel_and_nothing_else() -> None:
    with short_folder() as channels:
        _try_hook(channels)


def _try_hook(channels: Path) -> None:
    folder = channels / "domain-1-web1"
    folder.mkdir()
    other = folder.parent / "domain-2-db1"
    other.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as second:
        listener.bind(str(folder / "org.volact.activation.0"))
        second.bind(str(other / "org.volact.activation.0"))
        variables = {"PATH": "/usr/bin:/bin", "VOLACT_USER": str(NOBODY), "VOLACT_CHANNELS": str(folder.parent)}
        hook: list[str | Path] = ["sh", ROOT / "examples" / "vm" / "hook", "web1"]
        for operation in ("prepare", "started"):
            subprocess.run([*hook, operation, "begin", "-"], env=variables, check=True, stdin=subprocess.DEVNULL)
    assert f"user:{NOBODY}:rw-" in _acl(folder / "org.volact.activation.0")
    assert f"user:{NOBODY}:r-x" in _acl(folder)
    assert f"user:{NOBODY}" not in _acl(other / "org.volact.activation.0")


def _acl(path: Path) -> str:
    return subprocess.run(["getfacl", "-n", path], capture_output=True, text=True, check=True).stdout
