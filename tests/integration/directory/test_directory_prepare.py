# SPDX-License-Identifier: Apache-2.0
"""Preparing a real Active Directory: what would change is shown first, and who may not change it is told so."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.netns import network
from support.samba import CONFIGURATION, DOMAIN, PARTITION, Controller, provision

pytestmark = pytest.mark.needs("samba", "netns", "bonsai")

Domain = Any


@pytest.fixture(scope="module")
def domain(open_domain: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """As it was provisioned: nobody has prepared it."""
    with open_domain(tmp_path_factory.mktemp("bare")) as domain:
        yield domain


def steps(domain: Domain, *words: object, **how: Any) -> list[str]:
    return [step["dn"] for step in domain.good("prepare", *words, **how)["steps"]]


def test_a_forest_without_schema_changes_holds_objects_in_standard_classes(domain: Domain) -> None:
    planned = steps(domain, "--no-schema")
    assert planned == [
        f"CN=Volact,CN=Services,{CONFIGURATION}",
        f"CN=Activation Objects,CN=Volact,CN=Services,{CONFIGURATION}",
    ]
    assert domain.good("list")["prepared"] is False
    assert "volact directory prepare" in domain.directory("list").hints[0]
    hints = domain.directory("prepare", "--no-schema").hints
    assert hints == ["make them with the same command and --yes"], "there is nothing that could not be undone"
    asked = ["--definition", domain.vendor.definition, "--root", domain.vendor.root]
    early = domain.directory("activate", "--key-file", domain.vendor.keys["servers"], *asked)
    assert "no place for activation objects yet" in early.errors[0]
    refused = domain.directory("prepare", "--no-schema", "--yes", "--json", options=domain.forest.as_user())
    assert refused.json["error"]["code"] == "not-enterprise-admin"
    domain.good("prepare", "--no-schema", "--yes")
    assert steps(domain, "--no-schema") == []
    domain.activate("Standard")
    assert domain.good("show", "Standard")["status"] == "good"
    assert "serviceConnectionPoint" in _entry(domain)
    assert domain.member(1).activate()["licensed"]
    domain.clear()


def test_the_plan_changes_nothing_and_is_refused_where_it_could_not_be_carried_out(domain: Domain) -> None:
    forest, database = domain.forest, domain.forest.dc1.folder / "private" / "sam.ldb"
    planned = steps(domain)
    assert f"CN=volact-Object,CN=Schema,{CONFIGURATION}" in planned
    assert steps(domain) == planned
    # by somebody who may not change the schema
    refused = domain.directory("prepare", options=forest.as_user())
    assert refused.errors == [f"{forest.as_user()[3]} is not a member of Schema Admins, which this step needs"]
    # on a schema from before activation objects
    _set_schema_version(domain, database, 47)
    old = domain.directory("prepare")
    assert "has version 47, activation objects need 56 (Windows Server 2012) or newer" in old.errors[0]
    assert "--no-schema" in old.hints[0]
    _set_schema_version(domain, database, 88)
    # on a controller that is not the schema's master
    forest.dc2.start()
    try:
        elsewhere = domain.directory("prepare", options=forest.as_administrator(2))
    finally:
        forest.dc2.stop()
    assert f"is not the schema master of the forest; that is dc1.{DOMAIN}" in elsewhere.errors[0].lower()
    # and then it is carried out, once
    assert steps(domain, "--yes") == planned
    assert steps(domain) == []
    assert steps(domain, options=forest.as_user()) == []
    domain.activate("Own class")
    assert "volactActivationObject" in _entry(domain)
    assert domain.member(2).activate()["licensed"]


def test_a_forest_built_with_the_same_sid_and_guid_takes_the_object_which_ends_all_the_same(
    domain: Domain, tmp_path: Path, now: int
) -> None:
    """What an administrator with nothing but the object and two identifiers can do: stated in SECURITY.md."""
    domain.good("prepare", "--yes")
    domain.clear()
    domain.activate("Original")
    identity = domain.good("list")["forest"]
    token = _attribute(domain, "volactObject")
    with network() as elsewhere:
        elsewhere.add("dc1", 1, f"search {DOMAIN}\nnameserver 10.77.0.1\n", f"10.77.0.1 dc1.{DOMAIN} dc1\n")
        same = (f"--domain-sid={identity['domain_sid']}", f"--domain-guid={identity['id']}")
        provision(elsewhere, tmp_path / "dc1", *same)
        twin = Controller(1, tmp_path / "dc1", elsewhere)
        twin.start()
        try:
            found = elsewhere.run("dc1", *_python(_TWIN, twin.ca_file, token, domain.vendor, now))
        finally:
            twin.stop()
    assert found.split() == ["accepted", "object-expired"]


_TWIN = f"""
import sys
from pathlib import Path
from volact.core.errors import VolactError
from volact.core.forest import ForestKind
from volact.directory import objects, prepare
from volact.directory.connection import Password, Server, connect
from volact.directory.place import find_place
from volact.sealing.objects import verify_activation_object
from volact.sealing.verify import verify_definition
ca, token, definition, root, now = sys.argv[1:]
trust = verify_definition(Path(definition).read_text().strip(), root).trust
who = Password("Administrator@AD.EXAMPLE.TEST", "Passw0rd.for.tests")
with connect(Server("dc1.{DOMAIN}", 636, True, Path(ca)), who, ForestKind.AD) as session:
    prepare.carry_out(session, prepare.make_plan(session))
    place = find_place(session)
    made = verify_activation_object(token, trust).object
    objects.store_object(session, place, made, token, standard=False)
    (stored,) = objects.read_objects(session, place)
    for at in (int(now), made.expires_at):
        try:
            verify_activation_object(stored.token, trust).object.check(place.forest, 102, at)
            print("accepted")
        except VolactError as exc:
            print(exc.code)
"""


def _python(script: str, ca_file: Path, token: str, vendor: Any, now: int) -> list[object]:
    import sys

    return [sys.executable, "-c", script, ca_file, token, vendor.definition, vendor.root, now]


def _set_schema_version(domain: Domain, database: Path, version: int) -> None:
    """As an old forest has it; the controller reads its database at each question."""
    change = domain.folder / "version.ldif"
    change.write_text(
        f"dn: CN=Schema,{CONFIGURATION}\nchangetype: modify\nreplace: objectVersion\nobjectVersion: {version}\n"
    )
    domain.forest.net.run("dc1", "ldbmodify", "-H", database, change)


def _entry(domain: Domain) -> str:
    """The objects as another tool shows them."""
    database = domain.forest.dc1.folder / "private" / "sam.ldb"
    container = f"CN=Activation Objects,CN=Volact,CN=Services,CONFIG,{PARTITION}".replace("CONFIG", "CN=Configuration")
    return str(domain.forest.net.run("dc1", "ldbsearch", "-H", database, "-b", container, "-s", "one"))


def _attribute(domain: Domain, name: str) -> str:
    text = _entry(domain).replace("\n ", "")
    return next(line.partition(": ")[2] for line in text.splitlines() if line.startswith(f"{name}: "))
