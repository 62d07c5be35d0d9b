# SPDX-License-Identifier: Apache-2.0
"""The same through OpenLDAP with TLS: a directory that is known by its identity and its authority's key."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.processes import Done, Server, good, serving, volact
from support.slapd import ADDRESS, ADMINISTRATOR, BASE, MACHINES, USER, Slapd, make_authority, slapd

pytestmark = pytest.mark.needs("slapd", "bonsai")

PRODUCT, DAY = "acme-cad", 86400
CONTAINER = f"ou=Activation Objects,ou=Volact,{BASE}"


@dataclass
class Site:
    ldap: Slapd
    vendor: Any
    folder: Path
    publisher: str
    made: int = 0

    def directory(self, *words: object, options: list[object] | None = None) -> Done:
        as_whom = self.ldap.options() if options is None else options
        return volact("directory", *words, *as_whom, "--dir", self.folder / "directory")

    def good(self, *words: object, **how: Any) -> Any:
        done = self.directory(*words, "--json", **how)
        assert done.code == 0, (words, done.err, done.out)
        return done.json

    def activate(self, name: str = "Head office", key: str = "servers") -> Any:
        known = ("--definition", self.vendor.definition, "--root", self.vendor.root, "--publisher", self.publisher)
        return self.good("activate", "--name", name, "--key-file", self.vendor.keys[key], *known)

    def clear(self) -> None:
        for one in self.good("list")["objects"]:
            self.good("remove", one["id"])

    def member(self, number: int, host: str = f"{ADDRESS}:9", ca_file: Path | None = None) -> Path:
        """A computer with an account in the directory; its client's folder."""
        self.made += 1
        folder = self.folder / f"pc{number:02d}-{self.made}"
        own = ("--dir", folder)
        good("client", "add-product", self.vendor.definition, "--root", self.vendor.root, *own, machine=number)
        good("client", "install-key", PRODUCT, "--generic", "--edition", "professional", *own, machine=number)
        good("client", "set-host", host, *own, machine=number)
        good("directory", "member", *self.ldap.options(f"cn=pc{number:02d},{BASE}", ca_file), *own)
        return folder


def activate(folder: Path, number: int, at: int | None = None) -> dict[str, Any]:
    clock = None if at is None else (lambda: at)
    done = volact("client", "activate", PRODUCT, "--json", "--dir", folder, machine=number, clock=clock)
    return dict(done.json["products"][0])


@pytest.fixture(scope="module")
def prepared(vendor: Any, tmp_path_factory: pytest.TempPathFactory, pick_port: Callable[[], int]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("openldap")
    (folder / "ldap").mkdir()
    port = pick_port()
    words = ["publisher", "serve", "--dir", vendor.folder, "--listen", ADDRESS, "--port", port]
    words += ["--passphrase-file", vendor.folder.parent / "passphrase"]
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(slapd(folder / "ldap", pick_port()))
        server = Server(words, folder / "publisher.log", port)
        stack.callback(server.stop)
        server.wait_until("/healthz")
        site = Site(up, vendor, folder, f"http://{ADDRESS}:{port}")
        site.good("prepare", "--yes")
        yield site


@pytest.fixture
def site(prepared: Site) -> Site:
    prepared.clear()
    return prepared


def test_preparing_again_changes_nothing_and_an_ordinary_user_may_not_make_objects(site: Site) -> None:
    assert site.good("prepare")["steps"] == []
    made = site.activate()
    assert made["dn"] == f"CN={made['id']},{CONTAINER}"
    user = site.ldap.options(USER)
    assert [one["name"] for one in site.good("list", options=user)["objects"]] == ["Head office"]
    removal = site.directory("remove", "Head office", options=user)
    assert removal.errors[0].startswith(f"{USER} may not delete")


def test_thirty_computers_activate_over_tls(site: Site) -> None:
    site.activate()
    rows = [activate(site.member(number), number) for number in range(1, MACHINES - 1)]
    assert {row["state"] for row in rows} == {"licensed"}
    assert {row["last_attempt"]["tried"][0]["host"] for row in rows} == {site.ldap.server}


def test_the_next_server_answers_where_the_first_is_down(site: Site, pick_port: Callable[[], int]) -> None:
    site.activate()
    one, down = site.member(4), f"{ADDRESS}:{pick_port()}"
    good("directory", "member", "--server", f"{down},{site.ldap.server}", "--dir", one)
    row = activate(one, 4)
    assert (row["licensed"], row["last_attempt"]["tried"][0]["host"]) == (True, site.ldap.server)
    options = site.ldap.options()
    options[options.index("--server") + 1] = f"{down}, {site.ldap.server}"
    assert [one["name"] for one in site.good("list", options=options)["objects"]] == ["Head office"]


def test_a_group_that_the_server_denies_falls_back_to_kms(
    site: Site, tmp_path: Path, free_port: int, vendor: Any
) -> None:
    site.activate()
    folder = tmp_path / "kms"
    good("host", "init", "--dir", folder)
    good("host", "add-product", vendor.definition, "--root", vendor.root, "--dir", folder)
    good("host", "install-key", "-", "--dir", folder, stdin=vendor.keys["servers"].read_text())
    good("host", "activate", "--publisher", site.publisher, "--dir", folder)
    with serving(folder, free_port):
        row = activate(site.member(30, f"{ADDRESS}:{free_port}"), 30)
    assert row["licensed"]
    assert [one["code"] for one in row["last_attempt"]["tried"]] == ["no-activation-object", ""]


def test_the_access_list_is_the_server_s_and_its_rule_is_named(site: Site) -> None:
    site.activate()
    refused = site.directory("acl", "Head office", "--deny", "kiosks")
    assert "keeps no permissions with its entries" in refused.errors[0]
    assert "access to dn.subtree=" in refused.hints[0]


def test_a_removed_object_licenses_nobody_anew_and_an_ended_one_is_named(site: Site) -> None:
    site.activate()
    one = site.member(1)
    assert activate(one, 1)["licensed"]
    assert activate(one, 1, int(time.time()) + 731 * DAY)["error"]["code"] == "object-expired"
    site.clear()
    row = activate(site.member(2), 2)
    assert (row["licensed"], row["last_attempt"]["tried"][0]["code"]) == (False, "no-activation-object")


def test_a_computer_without_its_password_is_no_member_and_one_that_left_keeps_nothing(site: Site) -> None:
    site.activate()
    one = site.member(3)
    assert activate(one, 3)["licensed"]
    good("directory", "member", "--off", "--dir", one)
    row = activate(one, 3)
    assert not row["licensed"]
    assert not (one / "products" / PRODUCT / "answers" / "directory.volreading").exists()


def test_a_server_under_another_authority_is_not_this_directory(site: Site, tmp_path: Path) -> None:
    site.activate()
    other, _, _ = make_authority(tmp_path, "other")
    refused = site.directory("list", options=site.ldap.options(ADMINISTRATOR, other))
    assert refused.errors[0].startswith(f"the TLS certificate of directory server {site.ldap.server}")
    row = activate(site.member(4, ca_file=other), 4)
    assert row["last_attempt"]["tried"][0]["code"] == "directory-tls"


def test_a_directory_whose_schema_may_not_change_holds_objects_in_standard_classes(
    site: Site, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    with slapd(tmp_path, pick_port()) as elsewhere:
        plain = Site(elsewhere, site.vendor, tmp_path, site.publisher)
        refused = plain.directory("prepare", "--yes", options=elsewhere.options(USER))
        assert "does not let its schema be changed" in refused.errors[0]
        assert "--no-schema" in refused.hints[0]
        assert [step["schema"] for step in plain.good("prepare", "--no-schema")["steps"]] == [False, False]
        plain.good("prepare", "--no-schema", "--yes")
        made = plain.activate()
        assert "applicationProcess" in _dump(plain, made["dn"]).all("objectClass")
        assert plain.good("show", "Head office")["status"] == "good"
        assert activate(plain.member(6), 6)["licensed"]


def test_an_object_copied_into_another_directory_is_refused_by_name(
    site: Site, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    """The same entries, the same identity, but another authority: all that can be copied was."""
    made = site.activate()
    dump = _dump(site, made["dn"])
    with slapd(tmp_path, pick_port()) as elsewhere:
        copy = Site(elsewhere, site.vendor, tmp_path, site.publisher)
        copy.good("prepare", "--yes")
        _copy_identity(site, copy)
        _add(copy, dump)
        (listed,) = copy.good("list")["objects"]
        row = activate(copy.member(5), 5)
    assert listed["id"] == made["id"]
    assert row["error"]["code"] == "forest-mismatch"
    assert not row["licensed"]


def _session(site: Site) -> Any:
    from volact.core.forest import ForestKind
    from volact.directory.connection import Password, connect
    from volact.directory.connection import Server as LdapServer

    password = (site.ldap.folder / "password").read_text().strip()
    server = LdapServer(ADDRESS, site.ldap.port, True, site.ldap.ca_file)
    return connect(server, Password(ADMINISTRATOR, password), ForestKind.LDAP)


def _dump(site: Site, dn: str) -> Any:
    with _session(site) as session:
        return session.read(dn)


def _add(site: Site, entry: Any) -> None:
    with _session(site) as session:
        session.add(entry.dn, {name: values for name, values in entry.values.items() if name != "cn"})


def _copy_identity(source: Site, target: Site) -> None:
    entry = _dump(source, f"ou=Volact,{BASE}")
    with _session(target) as session:
        session.replace(entry.dn, "description", entry.all("description"))
