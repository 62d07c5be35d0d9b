# SPDX-License-Identifier: Apache-2.0
"""A forest that is activated by telephone, in a real OpenLDAP: digits typed at both ends, computers licensed."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import good, volact
from support.slapd import ADDRESS, BASE, Slapd, slapd
from support.typist import Typist, slow

pytestmark = pytest.mark.needs("slapd", "bonsai")

PRODUCT = "acme-cad"


class Forest:
    """An administrator with a directory, and the operator of the publisher's desk."""

    def __init__(self, ldap: Slapd, vendor: Any, folder: Path) -> None:
        self.ldap, self.vendor, self.folder, self.made = ldap, vendor, folder, 0
        now = lambda: int(time.time())  # noqa: E731
        passphrase = {"VOLACT_PUBLISHER_PASSPHRASE_FILE": str(vendor.folder.parent / "passphrase")}
        self.desk = Typist(vendor.folder, ("publisher",), now, variables=passphrase)
        self.tool = Typist(folder / "directory", ("directory",), now)
        self.known = ("--key-file", vendor.keys["servers"], "--definition", vendor.definition, "--root", vendor.root)

    @property
    def secret(self) -> str:
        return str(self.vendor.keys["servers"].read_text()).strip()[-5:]

    def directory(self, *words: object) -> Any:
        done = self.tool.type(*words, *self.ldap.options(), "--json", terminal=False)
        assert done.code == 0, (words, done.err)
        return done.json

    def confirmation(self, *words: object) -> str:
        shown = self.tool.good("installation-id", "--name", "Vault", *self.known, *words, *self.ldap.options())
        answered = self.desk.good("phone", lines=f"{slow(shown.digits)}{self.secret}\nMs Jones, no network\n")
        assert "for a forest: " in answered.err
        return answered.digits

    def member(self, number: int) -> Path:
        self.made += 1
        folder = self.folder / f"pc{number:02d}-{self.made}"
        own = ("--dir", folder)
        good("client", "add-product", self.vendor.definition, "--root", self.vendor.root, *own, machine=number)
        good("client", "install-key", PRODUCT, "--generic", "--edition", "professional", *own, machine=number)
        good("client", "set-host", f"{ADDRESS}:9", *own, machine=number)
        good("directory", "member", *self.ldap.options(f"cn=pc{number:02d},{BASE}"), *own)
        return folder


def activate(folder: Path, number: int) -> dict[str, Any]:
    return dict(volact("client", "activate", PRODUCT, "--json", "--dir", folder, machine=number).json["products"][0])


@pytest.fixture(scope="module")
def forest(vendor: Any, tmp_path_factory: pytest.TempPathFactory, pick_port: Callable[[], int]) -> Iterator[Forest]:
    folder = tmp_path_factory.mktemp("telephone")
    (folder / "ldap").mkdir()
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(slapd(folder / "ldap", pick_port()))
        made = Forest(up, vendor, folder)
        made.directory("prepare", "--yes")
        yield made


def test_a_forest_is_activated_by_telephone_and_its_members_are_licensed(forest: Forest) -> None:
    stored = forest.tool.good("apply", *forest.ldap.options(), lines=slow(forest.confirmation()))
    assert "it activates product groups 101, 102" in stored.err
    (listed,) = forest.directory("list")["objects"]
    assert (listed["name"], listed["status"], listed["key"], listed["organisation"]) == ("Vault", "good", "", "")
    rows = [activate(forest.member(number), number) for number in (1, 2, 3)]
    assert {row["state"] for row in rows} == {"licensed"}
    # renewed by a second call, in the place of the first object
    again = forest.confirmation("--new")
    forest.tool.good("apply", "--replace", "Vault", *forest.ldap.options(), lines=slow(again))
    (renewed,) = forest.directory("list")["objects"]
    assert renewed["id"] != listed["id"]
    assert activate(forest.member(4), 4)["state"] == "licensed"
    assert forest.desk.good("ledger", "verify").code == 0


def test_a_member_without_the_phone_extra_refuses_the_object_by_name_and_asks_kms(
    forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not forest.directory("list")["objects"]:
        forest.tool.good("apply", *forest.ldap.options(), lines=slow(forest.confirmation()))
    one = forest.member(5)
    monkeypatch.setitem(sys.modules, "pyblst", None)
    row = activate(one, 5)
    tried = row["last_attempt"]["tried"]
    assert [tried[0]["code"], len(tried)] == ["phone-part-missing", 2]
    assert tried[1]["source"] != "directory"


def test_digits_of_another_forest_are_refused(forest: Forest) -> None:
    before = forest.directory("list")["objects"]
    refused = forest.tool.type("apply", "0" * 140, *forest.ldap.options(), terminal=False)
    assert refused.code == 1
    assert forest.directory("list")["objects"] == before
