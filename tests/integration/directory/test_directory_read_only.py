# SPDX-License-Identifier: Apache-2.0
"""A branch office with a read-only domain controller of Samba's: it serves what the forest has, and takes nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.read_only import NAME, SITE, Branch, open_branch
from support.samba import DOMAIN

pytestmark = pytest.mark.needs("samba", "netns", "bonsai")

Domain = Any
READ = {"host": NAME, "source": "directory", "code": "", "message": ""}


@pytest.fixture(scope="module")
def domain(open_domain: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with open_domain(tmp_path_factory.mktemp("branch")) as domain:
        domain.good("prepare", "--no-schema", "--yes")
        yield domain


@pytest.fixture(scope="module")
def branch(domain: Domain) -> Iterator[Branch]:
    office = open_branch(domain.forest)
    try:
        office.trust("pc01", "pc02")
        yield office
    finally:
        office.controller.stop()


def behind(branch: Branch, domain: Domain, number: int) -> Any:
    """A computer of the office, whose site was told to it."""
    one = replace(domain.member(number), shell=branch.shell)
    keytab = one.folder.with_suffix(".keytab")
    branch.shell.good("directory", "member", "--keytab", keytab, "--site", SITE, "--dir", one.folder)
    return one


def test_a_computer_that_reaches_only_a_read_only_controller_activates_through_it(
    domain: Domain, branch: Branch
) -> None:
    one = behind(branch, domain, 1)
    domain.activate()
    branch.replicate()
    row = one.activate()
    assert row["licensed"], row["last_attempt"]
    assert row["last_attempt"]["tried"] == [READ]
    domain.clear()
    branch.replicate()
    row = one.activate()
    assert row["last_attempt"]["tried"][0]["code"] == "no-activation-object", "the removal has arrived as well"


def test_without_its_site_such_a_computer_finds_no_controller(domain: Domain, branch: Branch) -> None:
    one = replace(domain.member(2), shell=branch.shell)
    tried = one.activate()["last_attempt"]["tried"][0]
    assert (tried["source"], tried["code"]) == ("directory", "directory-unreachable")


def test_a_computer_finds_its_site_by_the_forest_s_subnets_and_remembers_it(domain: Domain, branch: Branch) -> None:
    domain.clear()
    domain.activate()
    branch.replicate()
    branch.add_subnets()
    one = replace(domain.member(2), shell=branch.shell)
    with branch.line():  # to the head office, whose controllers DNS names to everybody
        assert one.activate()["last_attempt"]["tried"] == [READ], "the nearer one"
    assert one.activate()["last_attempt"]["tried"] == [READ], "and it alone, by the site that was found"
    known = one.shell.good("directory", "member", "--dir", one.folder, "--json").json
    assert (known["site_found"], "site" in known) == (SITE, False)
    branch.replicate()
    # a computer of the head office is in the wider subnet, whose site's controller it asked first
    other = domain.member(3)
    assert other.activate()["last_attempt"]["tried"][0]["host"] == f"dc1.{DOMAIN}"
    shown = other.shell.good("directory", "member", "--dir", other.folder).out
    assert "Default-First-Site-Name, found by the forest's subnets" in shown
    # one that moves is told so by whoever answers
    (other.folder / "directory.site").write_text(f"{SITE}\n")
    assert other.activate()["last_attempt"]["tried"][0]["host"] == f"dc1.{DOMAIN}"
    assert (other.folder / "directory.site").read_text() == "Default-First-Site-Name\n"


def test_a_site_without_controllers_of_its_own_is_served_by_the_others(domain: Domain) -> None:
    domain.clear()
    domain.activate()
    one = domain.member(3)
    one.shell.good("directory", "member", "--site", "Elsewhere", "--dir", one.folder)
    assert one.activate()["last_attempt"]["tried"][0]["host"] == f"dc1.{DOMAIN}"
    refused = one.shell.volact("directory", "member", "--site", "a.b", "--dir", one.folder)
    assert refused.errors == ["'a.b' cannot be the name of a site"]


def test_nothing_is_made_or_changed_on_a_read_only_controller_and_no_key_is_spent(
    domain: Domain, branch: Branch
) -> None:
    domain.clear()
    domain.activate("Head office")
    branch.replicate()
    there = branch.as_administrator()
    key: tuple[object, ...] = ("--key-file", domain.vendor.keys["servers"])
    known = ("--definition", domain.vendor.definition, "--root", domain.vendor.root)
    made = domain.directory("activate", "--name", "Branch", *key, *known, options=there)
    assert f"{NAME} is a read-only copy of the directory and cannot add activation objects" in made.errors[0]
    assert "leave --server out" in made.hints[0]
    for words in (
        ("remove", "Head office"),
        ("acl", "Head office", "--deny", "Kiosks"),
        ("renew", "Head office", *key),
    ):
        refused = domain.directory(*words, options=there)
        assert (refused.code, f"{NAME} is a read-only copy" in refused.errors[0]) == (1, True), refused.err
    assert [one["name"] for one in domain.objects(options=there)] == ["Head office"]
    assert [one["name"] for one in domain.objects()] == ["Head office"]


def test_an_object_of_our_own_class_is_served_too_once_its_attributes_are_there(domain: Domain, branch: Branch) -> None:
    """Last here: a schema stays extended."""
    domain.clear()
    domain.good("prepare", "--yes")
    branch.copy()
    domain.activate("Own class")
    branch.copy()
    assert "volactActivationObject" in domain.directory("show", "Own class").out
    assert behind(branch, domain, 2).activate()["last_attempt"]["tried"][0] == READ
