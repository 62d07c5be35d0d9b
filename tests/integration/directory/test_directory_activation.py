# SPDX-License-Identifier: Apache-2.0
"""Activation through a real Active Directory: an object that an administrator made, read through Kerberos."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import good
from support.samba import CONFIGURATION, DOMAIN, GROUP, MACHINES, PASSWORD, replicate

pytestmark = pytest.mark.needs("samba", "netns", "bonsai")

DAY = 86400
Domain = Any


@pytest.fixture(scope="module")
def prepared(open_domain: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with open_domain(tmp_path_factory.mktemp("domain")) as domain:
        domain.good("prepare", "--yes")
        yield domain


@pytest.fixture
def domain(prepared: Domain) -> Domain:
    """Without objects of an earlier test."""
    prepared.clear()
    return prepared


def test_an_enterprise_administrator_makes_an_object_and_an_ordinary_user_may_not(domain: Domain) -> None:
    refused = domain.directory(
        "activate", "--name", "x", "--key-file", domain.vendor.keys["servers"], "--definition",
        domain.vendor.definition, "--root", domain.vendor.root, options=domain.forest.as_user(),
    )  # fmt: skip
    assert refused.code == 1
    assert "may not create activation objects" in refused.errors[0]
    made = domain.activate("Head office")
    assert made["dn"] == f"CN={made['id']},CN=Activation Objects,CN=Volact,CN=Services,{CONFIGURATION}"
    assert made["groups"] == [101, 102]
    (listed,) = domain.objects()
    assert (listed["name"], listed["status"], listed["id"]) == ("Head office", "good", made["id"])
    # Whoever may read the forest may list its objects, and remove none.
    assert domain.objects(options=domain.forest.as_user())[0]["id"] == made["id"]
    removal = domain.directory("remove", "Head office", options=domain.forest.as_user())
    assert (removal.code, len(domain.objects())) == (1, 1)


def test_a_forest_is_activated_by_telephone_and_its_members_are_licensed_through_kerberos(domain: Domain) -> None:
    vendor = domain.vendor
    known = ("--key-file", vendor.keys["servers"], "--definition", vendor.definition, "--root", vendor.root)
    shown = domain.directory("installation-id", "--name", "Vault", "--text", *known)
    assert shown.code == 0, shown.err
    at_desk = ("--installation-id", shown.out.strip(), "--key", vendor.keys["servers"].read_text().strip())
    secret = ("--passphrase-file", vendor.folder.parent / "passphrase", "--reason", "no network in the vault")
    said = good("publisher", "phone", *at_desk, *secret, "--text", "--dir", vendor.folder).out.strip()
    made = domain.good("apply", said)
    assert made["groups"] == [101, 102]
    (listed,) = domain.objects()
    assert (listed["name"], listed["status"], listed["organisation"]) == ("Vault", "good", "")
    rows = [domain.member(number).activate() for number in (1, 2)]
    assert {row["state"] for row in rows} == {"licensed"}
    assert {row["last_attempt"]["tried"][0]["source"] for row in rows} == {"directory"}
    # the digits are one forest's: in the place of what they were made for, they confirm nothing
    assert domain.directory("apply", said).code == 1


def test_thirty_computers_activate_through_kerberos_and_nothing_is_written_back(domain: Domain, now: int) -> None:
    domain.activate()
    before = domain.objects()
    rows = [domain.member(number).activate() for number in range(1, MACHINES + 1)]
    assert {row["state"] for row in rows} == {"licensed"}
    assert {row["last_attempt"]["tried"][0]["source"] for row in rows} == {"directory"}
    assert {row["last_attempt"]["tried"][0]["host"] for row in rows} == {f"dc1.{DOMAIN}"}
    assert all(abs(_seconds(row["until"]) - (now + 180 * DAY)) < 300 for row in rows)
    assert all(abs(_seconds(row["next_attempt"]) - (now + 7 * DAY)) < 0.1 * 7 * DAY + 300 for row in rows)
    assert domain.objects() == before


def test_a_reading_slides_the_lease_and_never_past_the_end_of_the_object(domain: Domain, now: int) -> None:
    domain.activate()
    one = domain.member(1)
    assert one.activate()["licensed"]
    later = now + 7 * DAY
    assert abs(_seconds(one.activate(at=later)["until"]) - (later + 180 * DAY)) < 300
    late = now + 700 * DAY
    assert abs(_seconds(one.activate(at=late)["until"]) - (now + 730 * DAY)) < 300
    ended = one.activate(at=now + 731 * DAY)
    assert ended["error"]["code"] == "object-expired"
    assert not ended["licensed"]


def test_a_group_that_is_denied_by_acl_falls_back_to_kms_and_is_the_directory_s_again_later(domain: Domain) -> None:
    domain.activate()
    acl = domain.good("acl", "Head office", "--deny", GROUP)["acl"]
    assert {k: acl[0][k] for k in ("allow", "right", "name")} == {"allow": False, "right": "read", "name": GROUP}
    with domain.kms_host() as host:
        others, kiosk = domain.member(1, host=host), domain.member(30, host=host)
        assert others.activate()["last_attempt"]["tried"][-1]["source"] == "directory"
        row = kiosk.activate()
        assert row["licensed"]
        assert [one["code"] for one in row["last_attempt"]["tried"]] == ["no-activation-object", ""]
        assert row["host"].startswith(host)
        domain.good("acl", "Head office", "--reset")
        row = kiosk.activate()
        assert [one["source"] for one in row["last_attempt"]["tried"]] == ["directory"]


def test_only_a_named_group_may_be_let_in_and_the_list_is_shown_in_words(domain: Domain) -> None:
    domain.activate()
    domain.good("acl", "Head office", "--only", f"EXAMPLE\\{GROUP}")
    assert domain.member(29).activate()["licensed"]
    outside = domain.member(2).activate()
    assert outside["last_attempt"]["tried"][0]["code"] == "no-activation-object"
    shown = domain.directory("acl", "Head office").out
    assert f"may read: {GROUP}" in shown
    assert "every computer and user" not in shown
    assert "may do everything: Enterprise Admins" in shown
    unknown = domain.directory("acl", "Head office", "--deny", "no such group")
    assert "0 accounts or groups called 'no such group'" in unknown.errors[0]


def test_nobody_denies_the_object_to_himself_or_means_another_domain_s_group(domain: Domain) -> None:
    domain.activate()
    before = domain.good("acl", "Head office")["acl"]
    for name, code in (("Domain Users", "acl-locks-out"), ("Administrator", "acl-locks-out"),
                       ("S-1-5-11", "acl-locks-out"), ("OTHER\\Kiosks", "trustee-other-domain")):  # fmt: skip
        refused = domain.directory("acl", "Head office", "--deny", GROUP, name, "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, code)
    assert domain.good("acl", "Head office")["acl"] == before, "nothing of it was done"
    for name in (f"{DOMAIN}\\{GROUP}", "BUILTIN\\Guests"):
        domain.good("acl", "Head office", "--deny", name)
    shown = domain.directory("acl", "head OFFICE").out.splitlines()
    assert shown == [
        f"may not read: {GROUP}",
        "may not read: Guests",
        "may do everything: Enterprise Admins",
        "may do everything: the system",
        "may read: every computer and user of the forest",
    ], "what is inherited as well is said once"


def test_a_removed_object_licenses_nobody_anew_and_the_lease_of_readers_runs_out(domain: Domain, now: int) -> None:
    domain.activate()
    one = domain.member(3)
    assert one.activate()["licensed"]
    domain.good("remove", "Head office")
    row = one.activate()
    assert row["licensed"], "a failed attempt takes nothing away"
    assert "no-activation-object" in [tried["code"] for tried in row["last_attempt"]["tried"]]
    assert row["last_attempt"]["code"] != "licensed"
    assert one.status(at=now + 179 * DAY)["licensed"]
    assert one.status(at=now + 181 * DAY)["state"] == "out-of-tolerance-grace"
    with domain.kms_host() as host:
        one.run("set-host", host)
        assert [tried["code"] for tried in one.activate()["last_attempt"]["tried"]] == ["no-activation-object", ""]


def test_leaving_the_domain_ends_the_licence_at_the_next_start_and_kms_is_tried(domain: Domain) -> None:
    domain.activate()
    one = domain.member(4)
    assert one.activate()["licensed"]
    assert one.reading.exists()
    one.folder.with_suffix(".keytab").unlink()  # what leaving does on the computer itself
    # the service's first round, before anything is due
    domain.forest.net.run("member", sys.executable, "-m", "volact.cli.client.child", "round", "--dir", one.folder)
    assert not one.reading.exists()
    row = one.activate()
    assert not row["licensed"]
    assert "directory" not in [tried["source"] for tried in row["last_attempt"]["tried"]]
    with domain.kms_host() as host:
        one.run("set-host", host)
        assert one.activate()["licensed"]


def test_an_account_that_was_deleted_in_the_directory_reads_nothing_more(domain: Domain) -> None:
    domain.activate()
    one = domain.member(5)
    assert one.activate()["licensed"]
    domain.forest.dc1.tool("computer", "delete", "pc05", "-H", domain.forest.dc1.folder / "private" / "sam.ldb")
    with domain.kms_host() as host:
        one.run("set-host", host)
        row = one.activate()
    assert row["licensed"]
    assert [tried["code"] for tried in row["last_attempt"]["tried"]] == ["membership-unproven", ""]


def test_the_reading_of_one_computer_licenses_no_other(domain: Domain) -> None:
    domain.activate()
    one, other = domain.member(6), domain.member(7)
    assert one.activate()["licensed"]
    assert not other.status()["licensed"]
    other.activate()
    other.reading.write_bytes(one.reading.read_bytes())
    other.reading.with_name(other.reading.name + ".copy").unlink()
    assert not other.status()["licensed"]


def test_an_object_of_other_groups_and_one_of_another_forest_are_refused_by_name(domain: Domain) -> None:
    domain.activate("Clients only", key="clients")
    server = domain.member(8, edition="render-server")
    assert server.activate()["error"]["code"] == "object-other-groups"
    domain.clear()
    _store_for_another_forest(domain)
    (listed,) = domain.objects()
    assert listed["status"] == "forest-mismatch"
    row = domain.member(9).activate()
    assert row["error"]["code"] == "forest-mismatch"
    assert not row["licensed"]


def test_several_objects_lie_side_by_side_and_a_renewed_one_keeps_its_name_and_access(domain: Domain) -> None:
    domain.activate("Head office")
    domain.activate("Clients only", key="clients")
    old = next(one for one in domain.objects() if one["name"] == "Head office")
    assert {one["name"] for one in domain.objects()} == {"Head office", "Clients only"}
    renewed = domain.good("renew", "Head office", "--key-file", domain.vendor.keys["servers"])
    assert renewed["name"] == "Head office"
    assert renewed["id"] != old["id"]
    assert len(domain.objects()) == 2
    shown = domain.good("show", "Head office")
    assert shown["organisation"] == "Example Ltd"
    assert shown["key"] == domain.vendor.keys["servers"].read_text().strip()[-5:]
    assert abs(_seconds(shown["created"]) - time.time()) < 300
    assert (shown["forest"]["name"], shown["by_telephone"], shown["standard_class"]) == (DOMAIN, False, False)
    missing = domain.directory("remove", "Back office")
    assert missing.errors == ["there is no activation object 'Back office' in this directory"]


def test_an_object_that_is_to_be_renewed_says_so_in_the_list(domain: Domain, now: int) -> None:
    domain.activate("Head office")
    listed = domain.directory("list", at=now + 540 * DAY)
    (one,) = domain.objects()
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(_seconds(one["expires"])))
    assert (until in listed.out, listed.hints) == (True, [])
    for later in (560, 740):
        (hint,) = domain.directory("list", at=now + later * DAY).hints
        assert hint.startswith("Head office lasts until ")
        assert hint.endswith("only; renew it: `volact directory renew 'Head office'`")


def test_a_name_has_forty_characters_at_most_and_may_be_anything_that_is_printed(domain: Domain) -> None:
    longest = 'Büro "Süd" (1. Stock), a=b;c<d>#+\\/äöü€'.ljust(40, ".")
    made = domain.activate(longest)
    assert (len(longest), domain.good("show", longest)["name"]) == (40, longest)
    renewed = domain.good("renew", longest, "--key-file", domain.vendor.keys["servers"])
    assert (renewed["name"], renewed["id"] == made["id"]) == (longest, False)
    for refused in (f"{longest}.", "two\nlines"):
        words = ("activate", "--name", refused, "--key-file", domain.vendor.keys["servers"])
        done = domain.directory(*words, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "object-name")
    assert len(domain.objects()) == 1


def test_a_request_goes_to_the_publisher_by_file_and_its_answer_is_applied_once(domain: Domain) -> None:
    request, answer = domain.folder / "forest.volreq", domain.folder / "forest.volans"
    key = ("--key-file", domain.vendor.keys["servers"])
    known = ("--definition", domain.vendor.definition, "--root", domain.vendor.root)
    mistyped = domain.directory("installation-id", "-o", request, *key, *known[:-1], "sha256:0abc")
    assert (mistyped.code, "is not a root's fingerprint" in mistyped.errors[0]) == (2, True)
    waiting = domain.folder / "directory" / "pending"
    nowhere = domain.directory("installation-id", "-o", domain.folder / "none" / "x", *key, *known, "--json")
    assert (nowhere.json["error"]["code"], list(waiting.glob("*"))) == ("file-unwritable", []), "no key is left behind"
    domain.good("installation-id", "-o", request, "--name", "By file", *key, *known)
    secret = domain.vendor.folder.parent / "passphrase"
    shell = domain.shell("admin")
    told = shell.good(
        "publisher", "answer", request, "-o", answer, "--dir", domain.vendor.folder, "--passphrase-file", secret
    )
    assert "the forest ad.example.test for Example Ltd" in told.err
    assert domain.good("apply", answer)["name"] == "By file"
    assert [one["name"] for one in domain.objects()] == ["By file"]
    again = domain.directory("apply", answer)
    assert again.errors == ["no request waits for this answer"]


def test_a_second_controller_has_an_object_after_replication_and_serves_it_alone(domain: Domain) -> None:
    forest = domain.forest
    forest.dc2.start()
    try:
        # What the schema brought must have arrived before an object can.
        _replicate(domain)
        _let_replicate(domain, wanted=False)
        domain.activate()
        one = domain.member(10)
        alone = ("--server", f"dc2.{DOMAIN}", "--keytab", one.folder.with_suffix(".keytab"))
        one.shell.good("directory", "member", *alone, "--dir", one.folder)
        missing = one.activate()
        assert missing["last_attempt"]["tried"][0]["code"] == "no-activation-object", "not there yet"
        # Who is told of no controller asks two of them before it believes that there is none.
        asked = [domain.member(number).activate()["last_attempt"]["tried"][0]["host"] for number in (12, 13, 14)]
        assert asked == 3 * [f"dc1.{DOMAIN}"]
        _let_replicate(domain, wanted=True)
        _replicate(domain)
        assert one.activate()["last_attempt"]["tried"][0]["host"] == f"dc2.{DOMAIN}"
        # One controller stopped: DNS names both, and the other one answers.
        forest.dc1.stop()
        other = domain.member(11)
        row = other.activate()
        assert row["licensed"]
        assert row["last_attempt"]["tried"][0]["host"] == f"dc2.{DOMAIN}"
    finally:
        forest.dc2.stop()
        if forest.dc1.process is None:
            forest.dc1.start()


def _let_replicate(domain: Domain, *, wanted: bool) -> None:
    """Whether the second controller takes what is new, by itself within seconds."""
    option = f"--dsa-option={'-' if wanted else '+'}DISABLE_INBOUND_REPL"
    domain.forest.dc2.tool("drs", "options", f"dc2.{DOMAIN}", option, f"-UAdministrator%{PASSWORD}")


def _replicate(domain: Domain) -> None:
    replicate(domain.forest.dc1, 1, 2, f"CN=Schema,{CONFIGURATION}", CONFIGURATION)


def _store_for_another_forest(domain: Domain) -> None:
    """An object that the publisher signed for a forest with another SID, copied into this one."""
    server, _, ca = (str(domain.forest.as_administrator()[n]) for n in (1, 3, 7))
    domain.python(f"""
from dataclasses import replace
from pathlib import Path
import time
from volact.core.fingerprint import Fingerprint
from volact.core.forest import ForestKind
from volact.core.product_key import ProductKey
from volact.directory import activation, objects
from volact.directory.connection import Password, Server, connect
from volact.directory.folder import DirectoryFolder
from volact.directory.place import find_place
from volact.wire.client import Server as Publisher

folder = DirectoryFolder(Path({str(domain.folder / "directory")!r}))
key = ProductKey.parse(Path({str(domain.vendor.keys["servers"])!r}).read_text())
with connect(Server({server!r}, 636, True, Path({ca!r})), Password("Administrator@AD.EXAMPLE.TEST", {PASSWORD!r}), ForestKind.AD) as session:
    place = find_place(session)
    other = replace(place.forest, domain_sid="S-1-5-21-1-2-3")
    wanted = activation.Wanted(other, "Copied", key, "pc", Fingerprint({{"machine-id": bytes(16)}}))
    made = activation.activate_online(folder, wanted, Publisher.from_url("http://10.77.0.20:1690"), int(time.time()))
    objects.store_object(session, place, made.object, made.token, standard=False)
""")  # noqa: E501 - one line of a script


def _seconds(text: str) -> int:
    return int(time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))) - time.timezone
