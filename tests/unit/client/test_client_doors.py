# SPDX-License-Identifier: Apache-2.0
"""Doors as plugs: Volact's own, a stranger's from an installed package, broken ones, and their order."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.processes import good, volact
from volact.cli.client.door import BUILT_IN
from volact.client.activation.doors import GROUP, entry_points, find_plugs, open_doors
from volact.core.product_key import Channel
from volact.testing import Site


def plug(channels: tuple[str, ...], door: Any, *, first: bool = True, **names: str) -> Any:
    return SimpleNamespace(CHANNELS=channels, FIRST=first, open_door=lambda folder, say: door, **names)


ISSUER = SimpleNamespace(get_issuer=None, activate=None)
DIRECTORY = SimpleNamespace(account=None, read=None)


def test_doors_open_for_their_channels_in_their_order(tmp_path: Path) -> None:
    plugs = [
        ("late", plug(("volume", "mak"), ISSUER, first=False, ADDRESS="a dongle", SOURCE="usb")),
        ("directory", plug(("volume",), DIRECTORY)),
        ("early", plug(("volume",), ISSUER)),
        ("none", plug(("volume",), None)),
    ]
    opened = open_doors(Channel.VOLUME, tmp_path, plugs, pytest.fail)
    assert opened.directory is DIRECTORY
    assert [(one.address, one.source) for one in opened.first] == [("early", "early")]
    assert [(one.address, one.source) for one in opened.last] == [("a dongle", "usb")]
    of_mak = open_doors(Channel.MAK, tmp_path, plugs, pytest.fail)
    assert (of_mak.directory, of_mak.first, len(of_mak.last)) == (None, [], 1)


def test_a_door_that_cannot_be_loaded_or_opened_is_told_of_and_the_others_are_asked(tmp_path: Path) -> None:
    said: list[str] = []

    def broken(folder: Path, say: Callable[[str], None]) -> None:
        raise ZeroDivisionError("no luck")

    found = [EntryPoint("gone", "volact_no_such_module", GROUP), EntryPoint("vm", "volact_another_vm", GROUP)]
    plugs = list(find_plugs(BUILT_IN, said.append, lambda: found))
    assert [name for name, _ in plugs] == ["directory", "vm"]  # nobody takes the place of our own
    assert len(said) == 1
    assert said[0].startswith("note: the door gone cannot be loaded")
    bad = ("bad", SimpleNamespace(CHANNELS=("mak",), FIRST=True, open_door=broken))
    opened = open_doors(Channel.MAK, tmp_path, [bad, ("good", plug(("mak",), ISSUER))], said.append)
    assert [route.address for route in opened.first] == ["good"]
    assert said[-1] == "note: the door bad is broken: ZeroDivisionError: no luck"


def test_the_built_in_table_is_what_the_package_declares() -> None:
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared[GROUP] == BUILT_IN


def test_looking_at_a_product_searches_for_no_door(tmp_path: Path) -> None:
    code = (
        "import sys; from volact.cli.main import main; main(sys.argv[1:]);"
        "print('volact.client.activation.doors' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "client", "status", "--dir", tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


PACKAGE = """
from pathlib import Path
from volact.wire.client import Server

CHANNELS, FIRST, ADDRESS, SOURCE = ("volume",), True, "a stranger's", "stranger"


class Door:
    def get_issuer(self, root, product, group, nonce):
        Path("{log}").write_text(product)
        raise OSError("nobody there")

    def activate(self, issuer, sealed):
        raise NotImplementedError


def open_door(folder, say):
    from volact.client.discovery.routes import Route
    from volact.core.errors import TransportError

    class Silent(TransportError):
        code, fmt, remedy = "stranger-silent", "the stranger is silent", "none"

    class Mute(Door):
        def get_issuer(self, root, product, group, nonce):
            Path("{log}").write_text(product)
            raise Silent()

    return Mute()
"""


def test_a_door_of_another_package_is_asked_before_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is installed as pip would leave it: a module, and metadata that names it."""
    site, log = Site.make(), tmp_path / "asked"
    packages = tmp_path / "packages"
    metadata = packages / "volact_stranger-1.0.dist-info"
    metadata.mkdir(parents=True)
    (packages / "volact_stranger.py").write_text(PACKAGE.format(log=log))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: volact-stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nstranger = volact_stranger\n")
    monkeypatch.syspath_prepend(str(packages))
    assert "stranger" in {one.name for one in entry_points()}

    definition = tmp_path / "acme-cad.volproduct"
    definition.write_text(site.token)
    where = ("--dir", tmp_path / "client")
    good("client", "add-product", definition, "--root", site.publisher.fingerprint, *where, clock=site.clock)
    good("client", "install-key", "acme-cad", "--generic", "--edition", "client", *where, clock=site.clock)
    good("client", "set-host", "127.0.0.1:9", *where, clock=site.clock)
    done = volact("client", "activate", "acme-cad", "--json", *where, clock=site.clock)
    tried = done.json["products"][0]["error"]["fields"]["attempts"]
    assert [(one["host"], one["source"]) for one in tried] == [
        ("a stranger's", "stranger"),
        ("127.0.0.1:9", "configured-host"),
    ]
    assert log.read_text() == "acme-cad"
