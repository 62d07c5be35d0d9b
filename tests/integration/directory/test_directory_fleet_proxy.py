# SPDX-License-Identifier: Apache-2.0
"""A forest whose administrator reaches no publisher: the request is carried to a fleet tool, and its answer back."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.processes import Server, good, volact
from support.slapd import ADDRESS, BASE, Slapd, slapd
from volact.publisher.administration.publisher import Publisher
from volact.publisher.rows.ledger import Act

pytestmark = pytest.mark.needs("slapd", "bonsai")

PRODUCT = "acme-cad"


@dataclass
class Isolated:
    """A real directory and its administrator; the fleet tool elsewhere, which reaches the publisher's service."""

    ldap: Slapd
    vendor: Any
    folder: Path
    server: Server
    publisher: str

    def directory(self, *words: object) -> Any:
        return good("directory", *words, *self.ldap.options(), "--dir", self.folder / "directory", "--json").json

    def request(self, name: str, key: str = "servers") -> Path:
        target = self.folder / f"{name}.volreq"
        known = ("--definition", self.vendor.definition, "--root", self.vendor.root)
        key_file = self.vendor.keys[key]
        self.directory("installation-id", "--name", name, "--key-file", key_file, *known, "-o", target)
        return target

    def confirm(self, request: Path, publisher: str | None = None) -> Path:
        """By a computer with the internet and no fleet at all."""
        target = request.with_suffix(".volans")
        where = ("--publisher", publisher or self.publisher, "--dir", self.folder / "no fleet here")
        shown = good("fleet", "proxy", "confirm", request, "-o", target, *where, "--json").json
        assert shown == {"answer": str(target), "product": PRODUCT}
        return target

    def places(self) -> int:
        """How many forests were activated; one that has a place takes no other."""
        with Publisher.open(self.vendor.folder) as publisher:
            return sum(row.act == Act.FOREST_ACTIVATED for row in publisher.store.ledger())

    def member(self, number: int) -> Path:
        folder = self.folder / f"pc{number:02d}"
        own = ("--dir", folder)
        good("client", "add-product", self.vendor.definition, "--root", self.vendor.root, *own, machine=number)
        good("client", "install-key", PRODUCT, "--generic", "--edition", "professional", *own, machine=number)
        good("client", "set-host", f"{ADDRESS}:9", *own, machine=number)
        good("directory", "member", *self.ldap.options(f"cn=pc{number:02d},{BASE}"), *own)
        return folder


@pytest.fixture(scope="module")
def forest(vendor: Any, tmp_path_factory: pytest.TempPathFactory, pick_port: Callable[[], int]) -> Iterator[Isolated]:
    folder, port = tmp_path_factory.mktemp("isolated"), pick_port()
    (folder / "ldap").mkdir()
    words = ["publisher", "serve", "--dir", vendor.folder, "--listen", ADDRESS, "--port", port]
    words += ["--passphrase-file", vendor.folder.parent / "passphrase"]
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(slapd(folder / "ldap", pick_port()))
        server = Server(words, folder / "publisher.log", port)
        stack.callback(server.stop)
        server.wait_until("/readyz")
        made = Isolated(up, vendor, folder, server, f"http://{ADDRESS}:{port}")
        made.directory("prepare", "--yes")
        yield made


def test_a_forest_is_activated_by_the_fleet_tool_as_its_proxy_and_its_members_are_licensed(forest: Isolated) -> None:
    before = forest.places()
    request = forest.request("Vault")
    answer = forest.confirm(request)
    assert forest.places() == before + 1
    # carried a second time it is answered again, and takes no other place of the key's
    again = forest.confirm(request)
    assert forest.places() == before + 1
    # back in the forest
    forest.directory("apply", again)
    (listed,) = forest.directory("list")["objects"]
    assert (listed["name"], listed["status"], listed["organisation"]) == ("Vault", "good", "Example Ltd")
    done = [
        volact("client", "activate", PRODUCT, "--json", "--dir", forest.member(number), machine=number).json
        for number in (1, 2)
    ]
    assert {row["products"][0]["state"] for row in done} == {"licensed"}
    # an answer that was used up is not taken twice
    refused = volact(
        "directory", "apply", answer, *forest.ldap.options(), "--dir", forest.folder / "directory", "--json"
    )
    assert refused.code == 1
    assert len(forest.directory("list")["objects"]) == 1


def test_a_fleet_that_has_the_definition_asks_the_service_which_it_is_told(forest: Isolated, tmp_path: Path) -> None:
    good("fleet", "init", "--dir", tmp_path / "fleet")
    known = (forest.vendor.definition, "--root", forest.vendor.root)
    good("fleet", "keys", "add-product", *known, "--dir", tmp_path / "fleet")
    target = tmp_path / "forest.volans"
    words = ("fleet", "proxy", "confirm", forest.request("Annex"), "-o", target, "--dir", tmp_path / "fleet", "--json")
    unreached = volact(*words, "--publisher", f"http://{ADDRESS}:9")
    assert unreached.code == 1
    assert unreached.json["error"]["code"] == "host-unreachable"
    assert not target.exists()
    good(*words, "--publisher", forest.publisher)
    forest.directory("apply", target)
    assert {one["name"] for one in forest.directory("list")["objects"]} >= {"Annex"}
