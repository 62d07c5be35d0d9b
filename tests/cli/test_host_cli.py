# SPDX-License-Identifier: Apache-2.0
"""``volact host`` by transcripts: what is said, the exit code, and what is left behind after a failure.

Making, filling and activating a host is here, and what it shows; running it is in tests/integration/host.
"""

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.processes import Done, good, volact
from support.site import RealPublisher, Vendor, now, served
from volact.cli.demo.product import ACME_CAD
from volact.core.count import day_of
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.host.recording import Refused, Seen
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP

DAY = 86400


class Host:
    """A host's folder and its commands."""

    def __init__(self, folder: Path, clock: Callable[[], int] = now) -> None:
        self.folder, self.clock = folder, clock

    def run(self, *words: object, **how: Any) -> Done:
        return volact("host", *words, "--dir", self.folder, hostname="kms1.example.com", clock=self.clock, **how)

    def good(self, *words: object, **how: Any) -> Done:
        done = self.run(*words, **how)
        assert done.code == 0, (words, done.err)
        return done

    def fails(self, code: str, *words: object, **how: Any) -> Done:
        """Fails by that name, changes nothing in the folder but the event log, and says what to do."""
        before = self.files()
        done = self.run(*words, "--json", **how)
        assert done.code == 1, done
        error = done.json["error"]
        assert error["code"] == code, error
        assert error["remedy"]
        assert self.files() == before
        plain = self.run(*words, **how)
        assert plain.errors == [error["message"]]
        assert plain.hints == [error["remedy"]]
        assert plain.out == ""
        return done

    def files(self) -> dict[str, bytes]:
        """Every file but the database's own, with its bytes."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("host.db"))
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    def status(self) -> dict[str, Any]:
        return dict(self.good("status", "--json").json)

    def codes(self) -> list[str]:
        return [event["code"] for event in self.good("events", "--json").json]


@pytest.fixture(scope="module")
def acme(tmp_path_factory) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("acme") / "acme")


@pytest.fixture(scope="module")
def beta(tmp_path_factory) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("beta") / "beta", "Beta Tools", "beta-tool")


@pytest.fixture(scope="module")
def empty_host(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("host") / "kms"
    good("host", "init", "--dir", path)
    return path


@pytest.fixture
def host(empty_host, tmp_path) -> Host:
    shutil.copytree(empty_host, tmp_path / "kms")
    return Host(tmp_path / "kms")


@pytest.fixture
def keyed(host, acme) -> Host:
    """With a product and its key, not yet activated."""
    host.good("add-product", acme.file, "--root", acme.root)
    host.good("install-key", acme.host_key())
    return host


# ---- a lost database


@pytest.mark.parametrize("lost", ["gone", "empty"])
def test_a_lost_database_is_an_error_and_no_new_one_takes_its_place(keyed, lost):
    database = keyed.folder / "host.db"
    for path in keyed.folder.glob("host.db*"):
        path.unlink()
    if lost == "empty":
        database.touch()
    for words in (["status"], ["activate"], ["set-port", "1700"]):
        done = keyed.fails("host-database-missing", *words)
        assert "volact host restore" in done.json["error"]["remedy"]
    assert database.exists() is (lost == "empty")


# ---- init


def test_init_makes_a_folder_that_only_its_owner_reads(tmp_path):
    host = Host(tmp_path / "a" / "kms")
    done = host.good("init")
    assert done.out == ""
    assert f"made a KMS host in {host.folder}" in done.err
    assert stat.S_IMODE(host.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((host.folder / "passphrase").stat().st_mode) == 0o600
    assert host.status()["keys"] == []


def test_init_twice_changes_nothing(host):
    host.fails("host-folder-exists", "init")


def test_init_in_a_folder_that_holds_something_takes_nothing_away(tmp_path):
    host = Host(tmp_path)
    (tmp_path / "notes.txt").write_text("keep me")
    (tmp_path / "passphrase").write_text("my own\n")
    host.good("init")
    assert (tmp_path / "notes.txt").read_text() == "keep me"
    assert (tmp_path / "passphrase").read_text() == "my own\n"


def test_init_that_fails_leaves_nothing_behind(tmp_path):
    missing = tmp_path / "no-such-passphrase"
    done = volact("host", "init", "--dir", tmp_path / "a" / "kms", "--passphrase-file", missing, "--json")
    assert done.json["error"]["code"] == "key-file"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    done = volact("host", "init", "--dir", tmp_path / "file" / "kms", "--json")
    assert done.json["error"]["code"] == "host-folder-unusable"


def test_init_whose_database_cannot_be_made_leaves_nothing_behind(tmp_path):
    (tmp_path / "host.db").mkdir()
    done = volact("host", "init", "--dir", tmp_path, "--json")
    assert (done.code, [path.name for path in tmp_path.iterdir()]) == (1, ["host.db"]), done
    (tmp_path / "host.db").rmdir()
    good("host", "init", "--dir", tmp_path)


def test_any_other_verb_without_a_host_says_so(tmp_path):
    host = Host(tmp_path / "nothing")
    for words in (["status"], ["events"], ["machines"], ["clones"], ["set-port", 1700], ["dns", "status"], ["serve"]):
        assert host.run(*words, "--json").json["error"]["code"] == "host-folder-missing"
    assert not host.folder.exists()


# ---- products


def test_a_product_of_a_new_publisher_needs_its_root_confirmed(host, acme):
    done = host.fails("root-unconfirmed", "add-product", acme.file)
    assert acme.root in done.json["error"]["message"]
    host.good("add-product", acme.file, "--root", acme.root)
    (product,) = host.status()["products"]
    assert (product["product"], product["root"]) == ("acme-cad", acme.root)
    host.good("add-product", acme.file)  # its root is known by now


def test_a_product_under_another_root_is_refused(host, acme, beta):
    host.fails("issuer-untrusted", "add-product", acme.file, "--root", beta.root)
    host.good("add-product", acme.file, "--root", acme.root)
    host.fails("root-unconfirmed", "add-product", beta.file)


def test_a_file_that_is_missing_empty_or_changed_is_named(host, acme, tmp_path):
    host.fails("file-unreadable", "add-product", tmp_path / "missing", "--root", acme.root)
    (tmp_path / "empty").write_text("")
    host.fails("malformed", "add-product", tmp_path / "empty", "--root", acme.root)
    changed = acme.file.read_text()
    place = len(changed) // 2
    (tmp_path / "changed").write_text(changed[:place] + ("A" if changed[place] != "A" else "B") + changed[place + 1 :])
    done = host.run("add-product", tmp_path / "changed", "--root", acme.root, "--json")
    assert done.json["error"]["code"] in ("signature-invalid", "malformed")
    assert host.status()["products"] == []


def test_another_file_than_a_definition_is_named(host, tmp_path):
    for text in (ACME_CAD, "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE\n", "\N{SNOWMAN}"):
        file = tmp_path / "other"
        file.write_text(text)
        message = host.fails("malformed", "add-product", file, "--root", "sha256:" + "0" * 64).json["error"]["message"]
        assert message.startswith(f"{file} is malformed: it is not a signed definition")


def test_an_older_version_of_a_product_is_refused(host, tmp_path):
    publisher = RealPublisher.make(tmp_path / "publisher")
    old = publisher.file.read_bytes()
    (publisher.folder / "product.toml").write_text(ACME_CAD.replace("version = 1", "version = 2"))
    publisher.run("product", "add", publisher.folder / "product.toml")
    publisher.run("product", "export", "acme-cad", "-o", publisher.file)
    host.good("add-product", publisher.file, "--root", publisher.root)
    (tmp_path / "old.volproduct").write_bytes(old)
    host.fails("definition-too-old", "add-product", tmp_path / "old.volproduct")
    assert host.status()["products"][0]["version"] == 2


# ---- keys


def test_a_key_is_installed_from_an_argument_or_from_stdin_and_once(host, acme):
    host.good("add-product", acme.file, "--root", acme.root)
    key = acme.host_key()
    done = host.good("install-key", "-", stdin=f"  {key.lower().replace('-', ' ')} \n")
    assert f"installed the host key ending in {key[-5:]}" in done.err
    assert done.hints == ["activate it: `volact host activate`"]
    before = host.files()
    host.good("install-key", key)
    assert host.files() == before
    (shown,) = host.status()["keys"]
    assert (shown["partial"], shown["activated"], shown["organisation"]) == (key[-5:], False, None)
    assert key not in host.good("status").out
    assert all(key.encode() not in text for name, text in host.files().items() if not name.endswith("key.json"))


def test_a_typing_error_is_located_by_its_group(host, acme):
    host.good("add-product", acme.file, "--root", acme.root)
    groups = acme.host_key().split("-")
    groups[2] = groups[2][:-1] + ("X" if groups[2][-1] != "X" else "Y")
    done = host.run("install-key", "-".join(groups), "--json")
    assert done.code == 1
    assert "group 3" in done.json["error"]["message"]
    assert host.status()["keys"] == []


def test_keys_that_belong_elsewhere_are_refused(host, acme, beta):
    host.good("add-product", acme.file, "--root", acme.root)
    tag = publisher_tag(acme.root)
    for channel in (Channel.VOLUME, Channel.MAK, Channel.RETAIL):
        done = host.fails("key-not-for-hosts", "install-key", str(ProductKey.new(channel, tag, 102, bytes(7))))
        assert str(channel) in done.json["error"]["message"]
    host.fails("host-product-missing", "install-key", beta.host_key())
    host.fails("host-product-missing", "install-key", str(ProductKey.new(Channel.KMS_HOST, tag, 999, bytes(7))))


def test_a_key_is_removed_by_its_last_symbols(keyed):
    (key,) = keyed.status()["keys"]
    keyed.fails("host-key-missing", "remove-key", "ZZZZZ")
    done = keyed.good("remove-key", key["partial"].lower())
    assert f"removed the host key ending in {key['partial']}" in done.err
    assert keyed.status()["keys"] == []
    assert not any(name.startswith("keys") for name in keyed.files())
    assert keyed.codes()[-2:] == ["host-key-installed", "host-key-removed"]


# ---- activation, online


def test_a_host_is_activated_online_and_says_for_whom_and_until_when(keyed, acme):
    with served(acme) as port:
        done = keyed.good("activate", "--publisher", f"http://127.0.0.1:{port}")
    assert "activated for Contoso: product groups 101, 102" in done.err
    (key,) = keyed.status()["keys"]
    assert key["activated"]
    assert (key["organisation"], key["groups"]) == ("Contoso", [101, 102])
    shown = keyed.good("status").out
    assert "Contoso" in shown
    assert keyed.codes()[-1] == "host-activated"
    act = acme.run("activations").json[-1]
    assert act["name"] == "kms1.example.com"


def test_a_host_that_is_activated_again_stays_one_host(keyed, acme):
    with served(acme) as port:
        keyed.good("activate", "--publisher", f"http://127.0.0.1:{port}")
        (before,) = keyed.status()["keys"]
        done = keyed.good("activate", "--json")  # the address is remembered
    assert done.json["groups"] == [101, 102]
    acts = [act for act in acme.run("activations").json if act["partial"] == before["partial"]]
    assert len({act["machine"] for act in acts}) == 1


def test_a_key_that_nobody_issued_is_refused_by_the_publisher(host, acme):
    host.good("add-product", acme.file, "--root", acme.root)
    unknown = ProductKey.new(Channel.KMS_HOST, publisher_tag(acme.root), 102, os.urandom(7))
    host.good("install-key", str(unknown))
    with served(acme) as port:
        host.fails("key-unknown", "activate", "--publisher", f"http://127.0.0.1:{port}")
    assert host.codes()[-1] == "host-activation-failed"
    assert not host.status()["keys"][0]["activated"]


def test_a_blocked_key_is_refused_and_what_was_activated_before_stays(keyed, acme):
    with served(acme) as port:
        keyed.good("activate", "--publisher", f"http://127.0.0.1:{port}")
        acme.run("key", "block", keyed.status()["keys"][0]["partial"], "--reason", "published")
        keyed.fails("key-blocked", "activate")
    assert keyed.status()["keys"][0]["activated"]


def test_a_key_that_is_used_up_is_refused(host, acme, tmp_path):
    host.good("add-product", acme.file, "--root", acme.root)
    shutil.copytree(host.folder, tmp_path / "second")
    key, second = acme.host_key(hosts=1), Host(tmp_path / "second")
    with served(acme) as port:
        for one in (host, second):
            one.good("install-key", key)
        host.good("activate", "--publisher", f"http://127.0.0.1:{port}")
        second.fails("host-limit-reached", "activate", "--publisher", f"http://127.0.0.1:{port}")


def test_a_publisher_that_is_down_unknown_or_somebody_else_is_named(keyed, beta):
    keyed.fails("publisher-unknown", "activate")  # this definition names none
    with served(beta) as port:
        url = f"http://127.0.0.1:{port}"
        keyed.fails("server-error", "activate", "--publisher", url)
    keyed.fails("host-unreachable", "activate", "--publisher", url)
    keyed.fails("url-invalid", "activate", "--publisher", "acme.example")
    assert not keyed.status()["keys"][0]["activated"]


def test_a_host_whose_clock_is_wrong_is_told_so(keyed, acme):
    keyed.clock = lambda: now() + 5 * 3600
    with served(acme) as port:
        done = keyed.run("activate", "--publisher", f"http://127.0.0.1:{port}", "--json")
    assert done.json["error"]["code"] == "clock-skew"
    assert done.json["error"]["fields"]["tolerance"] == 4 * 3600


def test_each_of_two_publishers_keys_goes_to_its_own_publisher(keyed, acme, beta):
    keyed.good("add-product", beta.file, "--root", beta.root)
    key = beta.host_key()
    keyed.good("install-key", key)
    first = next(k["partial"] for k in keyed.status()["keys"] if k["product"] == "acme-cad")
    done = keyed.fails("host-key-ambiguous", "activate")
    assert first in done.json["error"]["message"]
    with served(acme) as acme_port, served(beta) as beta_port:
        keyed.good("activate", "--key", first, "--publisher", f"http://127.0.0.1:{acme_port}")
        said = keyed.good("set-publisher", f"http://127.0.0.1:{beta_port}", "--key", key[-5:]).err
        assert f"is asked at http://127.0.0.1:{beta_port} now" in said
        keyed.good("activate", "--key", key[-5:])
        keyed.good("activate", "--key", first)  # still at its own
    publishers = {one["publisher"]: one["activated"] for one in keyed.status()["keys"]}
    assert publishers == {"Acme Software": True, "Beta Tools": True}


# ---- activation, by file


def test_a_host_behind_an_air_gap_is_activated_by_files(keyed, acme, tmp_path):
    request, answer = tmp_path / "kms1.volreq", tmp_path / "kms1.volans"
    done = keyed.good("activate", "--request", request)
    assert done.hints == ["bring it to the publisher, and its answer back: `volact host activate --answer FILE`"]
    assert keyed.status()["keys"][0]["partial"].encode() not in request.read_bytes(), "the key travels sealed"
    acme.run("answer", request, "-o", answer)
    keyed.good("activate", "--answer", answer)
    assert keyed.status()["keys"][0]["activated"]
    keyed.fails("no-pending-request", "activate", "--answer", answer)


def test_an_answer_to_an_older_request_is_refused_and_the_newer_ones_fits(keyed, acme, tmp_path):
    old_request, request = tmp_path / "old.volreq", tmp_path / "new.volreq"
    keyed.good("activate", "--request", old_request)
    acme.run("answer", old_request, "-o", tmp_path / "old.volans")
    keyed.good("activate", "--request", request)
    acme.run("answer", request, "-o", tmp_path / "new.volans")
    keyed.fails("answer-to-another-request", "activate", "--answer", tmp_path / "old.volans")
    keyed.good("activate", "--answer", tmp_path / "new.volans")


def test_a_file_that_is_garbled_cut_or_of_another_kind_is_refused(keyed, acme, tmp_path):
    request, answer = tmp_path / "kms1.volreq", tmp_path / "kms1.volans"
    keyed.good("activate", "--request", request)
    acme.run("answer", request, "-o", answer)
    whole = answer.read_bytes()
    sealed = json.loads(whole)["sealed"]
    other = sealed[:50] + ("A" if sealed[50] != "A" else "B") + sealed[51:]
    for text, code in (
        (whole[:100], "malformed"),
        (b"", "malformed"),
        (b"\xff" * 400_000, "malformed"),
        (request.read_bytes(), "malformed"),
        (whole.replace(sealed.encode(), other.encode()), "answer-to-another-request"),
    ):
        (tmp_path / "bad").write_bytes(text)
        keyed.fails(code, "activate", "--answer", tmp_path / "bad")
    keyed.fails("file-unreadable", "activate", "--answer", tmp_path / "missing")
    keyed.fails("file-unwritable", "activate", "--request", tmp_path / "no" / "such" / "folder")
    keyed.good("activate", "--answer", answer)


def test_an_answer_without_a_request_is_refused(keyed, acme, tmp_path, host):
    shutil.copytree(keyed.folder, tmp_path / "other")
    request, answer = tmp_path / "kms1.volreq", tmp_path / "kms1.volans"
    Host(tmp_path / "other").good("activate", "--request", request)
    acme.run("answer", request, "-o", answer)
    keyed.fails("no-pending-request", "activate", "--answer", answer)


# ---- settings


def test_the_port_and_the_address_are_set_within_their_bounds(host):
    assert "port is 1700 now (was 1688)" in host.good("set-port", 1700).err
    assert host.status()["settings"]["port"] == 1700
    for wrong in (0, 65536):
        host.fails("setting-invalid", "set-port", wrong)
    host.good("set-listen", "127.0.0.1")
    host.fails("setting-invalid", "set-listen", "nowhere")
    assert host.run("set-port", "many").code == 2
    assert host.status()["settings"]["address"] == "127.0.0.1"


@pytest.mark.parametrize(("minutes", "fits"), [(14, False), (15, True), (43200, True), (43201, False)])
def test_intervals_are_from_fifteen_minutes_to_thirty_days(host, minutes, fits):
    for name in ("activation", "renewal"):
        if fits:
            host.good("set-intervals", f"--{name}", minutes)
            assert host.status()["settings"][f"{name}_minutes"] == minutes
        else:
            done = host.fails("setting-invalid", "set-intervals", f"--{name}", minutes)
            assert "from 15 to 43200" in done.json["error"]["message"]


def test_intervals_go_back_to_the_policys(host):
    host.good("set-intervals", "--activation", 30, "--renewal", 1440)
    assert "30 minutes" in host.good("status").out
    said = host.good("set-intervals", "--policy").err
    assert "activation interval is the product's policy now (was 30 minutes)" in said
    assert "renewal interval is the product's policy now (was 1440 minutes)" in said
    assert "activation_minutes the product's policy, renewal_minutes the product's policy" in host.good("events").out
    settings = host.status()["settings"]
    assert (settings["activation_minutes"], settings["renewal_minutes"]) == (None, None)
    assert host.run("set-intervals").code == 2
    assert host.run("set-intervals", "--policy", "--renewal", 1440).code == 2


def test_a_change_of_a_setting_is_an_event(host):
    host.good("set-port", 1700)
    (event,) = host.good("events", "--json").json
    assert (event["code"], event["data"]) == ("setting-changed", {"port": 1700})


def test_serve_refuses_a_port_or_address_that_does_not_fit(host):
    for words in (["--port", 70000], ["--port", 0], ["--listen", "nowhere"]):
        host.fails("setting-invalid", "serve", *words)
    assert host.run("serve", "--workers", 0).code == 2
    host.fails("address-in-use", "serve", "--listen", "192.0.2.1", "--port", 1700)


# ---- DNS settings


def test_a_domain_is_added_changed_and_removed(host):
    host.good("dns", "add", "example.com,10,60")
    host.good("dns", "add", "Branch.Example.COM.", "--server", "192.0.2.53")
    host.good("dns", "add", "example.com,20", "--target", "kms1.example.com")
    settings = host.status()["settings"]
    assert [(d["domain"], d["priority"], d["weight"]) for d in settings["dns"]] == [
        ("branch.example.com", 0, 0),
        ("example.com", 20, 0),
    ]
    host.good("dns", "remove", "branch.example.com")
    host.fails("dns-domain-unknown", "dns", "remove", "branch.example.com")
    host.good("dns", "off")
    assert host.status()["settings"]["dns_publishing"] is False
    host.good("dns", "on")
    assert [event["data"] for event in host.good("events", "--code", "setting-changed", "--json").json] == [
        {"publishes_in": "example.com"},
        {"publishes_in": "branch.example.com"},
        {"publishes_in": "example.com"},
        {"publishes_no_more_in": "branch.example.com"},
        {"dns_publishing": False},
        {"dns_publishing": True},
    ]


def test_a_domain_key_file_or_target_that_does_not_fit_is_refused(host, tmp_path):
    host.fails("dns-domain-invalid", "dns", "add", "not a domain")
    host.fails("dns-setting-out-of-range", "dns", "add", "example.com", "--server-port", 70000)
    host.fails("dns-key-file-invalid", "dns", "add", "example.com", "--key-file", tmp_path / "missing")
    host.fails("dns-target-invalid", "dns", "add", "example.com", "--target", "kms1")
    host.fails("dns-server-invalid", "dns", "add", "example.com", "--server", "dns_1!")
    host.fails("dns-setting-out-of-range", "dns", "add", "example.com", "--server", "192.0.2.53:70000")
    assert host.status()["settings"]["dns"] == []


@pytest.mark.parametrize(
    ("words", "server", "port"),
    [
        (("192.0.2.53",), "192.0.2.53", 53),
        (("192.0.2.53:5353",), "192.0.2.53", 5353),
        (("ns1.example.com:5353",), "ns1.example.com", 5353),
        (("2001:db8::53",), "2001:db8::53", 53),
        (("[2001:db8::53]:5353",), "2001:db8::53", 5353),
        (("192.0.2.53", "--server-port", "5353"), "192.0.2.53", 5353),
    ],
)
def test_a_dns_servers_port_may_stand_behind_its_address(host, words, server, port):
    host.good("dns", "add", "example.com", "--server", *words)
    (domain,) = host.status()["settings"]["dns"]
    assert (domain["server"], domain["port"]) == (server, port)


def test_without_a_domain_there_is_nothing_to_publish_and_it_is_said(host):
    for verb in ("publish", "withdraw", "status"):
        assert host.good("dns", verb).hints == ["no domain is configured: `volact host dns add DOMAIN`"]
    assert host.good("dns", "publish", "--json").json == {"published": [], "failed": []}
    assert host.good("dns", "withdraw", "--json").json == {"withdrawn": [], "failed": []}


# ---- looking


@pytest.fixture
def counted(host, tmp_path) -> Host:
    """A host that has seen machines: 30 clients, a clone, two under one hardware, and refusals."""
    vendor = Vendor.make(tmp_path)
    folder = vendor.give_host(tmp_path / "counted")
    store = open_store(folder)
    scope = store.scope(vendor.root, CLIENT_GROUP).id
    store.scope(vendor.root, SERVER_GROUP)
    today, at = day_of(now()), now()

    def seen(machine: int, hardware: int, when: int = at, name: str = "") -> Seen:
        shown = name or f"pc-{machine}"
        packed = bytes([1]) + hardware.to_bytes(6, "big")
        return Seen(scope, machine.to_bytes(32, "big"), packed, when, when, shown, "acme-cad", "client", "licensed")

    store.record([seen(n, n) for n in range(1, 31)], today)
    for hardware in (101, 1, 101):
        store.record([seen(1, hardware)], today)
    store.record([seen(40, 50), seen(41, 50)], today)
    refused = [Refused(scope, "clock-skew", at, bytes(32), {"name": "late", "difference": 20000})]
    store.record((), today, [*refused, Refused(0, "seal-broken", at, None, {"message": "cannot be opened"})])
    store.record([seen(60, 60, at - 40 * DAY, "bad\x1b[31mname")], today - 40)
    store.close()
    return Host(folder.path)


def test_status_shows_counts_against_thresholds(counted):
    group = next(g for g in counted.status()["groups"] if g["group"] == CLIENT_GROUP)
    assert group["count"] == 32
    assert group["thresholds"] == {"acme-cad/client": 25}
    assert (group["total"], group["failed"]) == (37, 1)
    assert group["states"]["licensed"] == 36
    assert group["refusals"] == {"clock-skew": 1}
    status = counted.status()
    assert (status["clones"], status["shared_hardware"], status["unproven_requests"]) == (1, 1, 1)
    done = counted.good("status")
    assert re.search(r"^101 clients +32 +acme-cad/client: 25 +yes +37 +1 +licensed 36$", done.out, re.MULTILINE)
    assert done.hints == ["some machines look like clones of each other: `volact host clones`"]


def test_status_of_an_empty_host_says_what_is_next(host):
    assert host.good("status").hints == ["no host key is installed: `volact host install-key -`"]


def test_certificates_that_are_damaged_are_named(keyed):
    file = next((keyed.folder / "keys").iterdir()) / "certificates.pem"
    file.write_text("junk")
    error = keyed.fails("key-file", "status").json["error"]
    assert error["fields"]["path"] == str(file)


def test_status_of_a_key_that_is_not_activated_says_so(keyed):
    assert keyed.good("status").hints == ["no host key is activated: `volact host activate`"]


def test_events_are_filtered_and_exported(counted):
    events = counted.good("events", "--limit", "1000", "--json").json
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    (late,) = counted.good("events", "--code", "clock-skew", "--json").json
    assert (late["level"], late["group"], late["machine"]) == ("warning", CLIENT_GROUP, bytes(32).hex())
    assert late["data"]["difference"] == 20000
    (unproven,) = counted.good("events", "--code", "seal-broken", "--json").json
    assert (unproven["machine"], unproven["group"]) == (None, None)
    assert counted.good("events", "--limit", 5, "--json").json == events[-5:]
    assert len(counted.good("events", "--last", "1h", "--limit", 1000, "--json").json) == len(events) - 1
    lines = counted.good("events", "--jsonl").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event["id"] for event in events]
    two = counted.good("events", "--jsonl", "--code", "clone-detected", "--code", "clock-skew").out.splitlines()
    assert {json.loads(line)["code"] for line in two} == {"clone-detected", "clock-skew"}


def test_events_of_a_span_that_cannot_be_read_are_an_error_and_a_long_one_is_all(counted):
    counted.fails("duration-invalid", "events", "--last", "soon")
    counted.fails("duration-invalid", "events", "--last", "7")
    assert counted.good("events", "--last", "99999999999999999999d", "--limit", 1000).out
    assert counted.run("events", "--limit", "-1").code == 2


def test_what_machines_call_themselves_does_not_reach_the_terminal_raw(counted):
    for words in (["events", "--limit", 1000], ["machines"], ["clones"], ["status"]):
        assert "\x1b" not in counted.good(*words).out


def test_machines_are_listed_limited_and_exported(counted):
    rows = counted.good("machines", "--json").json
    assert len(rows) == 33
    assert {row["group"] for row in rows} == {CLIENT_GROUP}
    few = counted.good("machines", "--limit", 7, "--json")
    assert len(few.json) == 7
    assert few.hints == ["there are more than these 7: --limit N shows more, --jsonl exports all"]
    assert counted.good("machines", "--limit", len(rows), "--json").hints == []
    assert counted.good("machines", "--group", SERVER_GROUP, "--json").json == []
    lines = counted.good("machines", "--jsonl").out.splitlines()
    assert sorted(json.loads(line)["machine"] for line in lines) == sorted(row["machine"] for row in rows)
    shown = counted.good("machines").out
    assert "pc-2" in shown
    assert re.search(r"last seen +requests\n", shown)
    assert re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ ", shown)  # as the reader's zone has it


def test_times_in_events_are_shown_as_times(keyed, acme):
    with served(acme) as port:
        keyed.good("activate", "--publisher", f"http://127.0.0.1:{port}")
    (row,) = (line for line in keyed.good("events").out.splitlines() if "host-activated" in line)
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+, groups [\d ]+$", row), row


def test_clones_are_told_from_shared_hardware(counted):
    found = counted.good("clones", "--json").json
    (clone,) = found["one_id_on_several_machines"]
    assert clone["machine"] == (1).to_bytes(32, "big").hex()
    assert clone["proved"]
    (shared,) = found["one_machine_under_several_ids"]
    assert shared["machines"] == [(40).to_bytes(32, "big").hex(), (41).to_bytes(32, "big").hex()]
    done = counted.good("clones")
    assert "two machines share this ID" in done.out
    assert "one hardware under several IDs" in done.out
    assert "generalize" in done.hints[0]


# ---- what is broken


def test_a_wrong_passphrase_file_is_named(keyed, acme, tmp_path):
    (tmp_path / "wrong").write_text("something else\n")
    keyed.fails("passphrase-wrong", "activate", "--request", tmp_path / "r", "--passphrase-file", tmp_path / "wrong")
    keyed.fails("key-file", "activate", "--request", tmp_path / "r", "--passphrase-file", tmp_path / "missing")
    assert not (tmp_path / "r").exists()


def test_a_database_that_is_damaged_or_newer_is_named(host):
    (host.folder / "host.db").write_bytes(b"this is no database" * 100)
    for name in ("host.db-wal", "host.db-shm"):
        (host.folder / name).unlink(missing_ok=True)
    assert host.run("status", "--json").json["error"]["code"] == "database-corrupt"


@pytest.mark.parametrize("value", ["{bad", "[]", '"text"', '{"dns": 7}', '{"dns": [{"zone": "x"}]}'])
def test_settings_that_cannot_be_read_are_named(host, value):
    with closing(sqlite3.connect(host.folder / "host.db")) as db, db:
        db.execute("INSERT INTO setting (key, value) VALUES ('host', ?)", (value,))
    host.fails("host-settings-damaged", "status")
    host.fails("host-settings-damaged", "set-port", 1700)


def test_a_definition_that_was_changed_on_disk_is_not_served(keyed):
    (path,) = (keyed.folder / "products").rglob("*.volproduct")
    path.write_text(path.read_text()[:-20] + "A" * 19)
    assert keyed.run("status", "--json").json["error"]["code"] in ("signature-invalid", "malformed")


def test_help_of_every_verb_has_its_options(capsys):
    done = volact("host", "--help")
    assert done.code == 0
    shown = capsys.readouterr().out
    for verb in ("init", "add-product", "install-key", "activate", "serve", "status", "events", "dns", "set-intervals"):
        assert verb in shown
        assert volact("host", verb, "--help").code == 0


def test_the_database_is_in_wal_mode(host):
    with closing(sqlite3.connect(HostFolder(host.folder).database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_history_draws_each_group_and_names_causes(acme: RealPublisher, tmp_path: Path) -> None:
    host = Host(tmp_path / "host", clock=lambda: 20_000 * DAY + 3600)
    host.good("init")
    host.good("add-product", acme.file, "--root", acme.root)
    store = open_store(HostFolder(host.folder))
    scope = store.scope(acme.root, CLIENT_GROUP)
    for number, day in ((1, 19_998), (2, 19_999), (3, 20_000)):
        identity, at = b"%032d" % number, day * DAY + 60
        seen = Seen(scope.id, identity, identity, at, at, "ws", "acme-cad", "client", "unlicensed")
        store.record([seen], day, [Refused(scope.id, "clock-skew", at)])
    store.close()
    shown = host.good("history").out
    assert re.search(r"^101 acme-clients +3 +1 +3 +3 +▃▅█$", shown, re.MULTILINE), shown
    assert re.search(r"^2024-10-04 +101 +0 +1 +1 +clock-skew 1$", shown, re.MULTILINE), shown
    told = host.good("history", "--days", "1", "--json").json
    assert [group["days"] for group in told["groups"]] == [[{"day": "2024-10-04", "count": 3}]]
    assert told["requests"][0]["states"] == {"unlicensed": 1}
    assert host.run("history", "--days", "500").code == 2


def test_a_host_far_away_is_given_files_and_gives_them_through_a_pipe(acme: RealPublisher, tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path / "host"))
    run_piped("host", "init", *where)
    run_piped("host", "add-product", "-", "--root", acme.root, *where, given=acme.file.read_bytes())
    run_piped("host", "install-key", "-", *where, given=acme.host_key().encode())
    request = tmp_path / "host.volreq"
    request.write_bytes(run_piped("host", "activate", "--request", "-", "--json", *where))
    acme.run("answer", request, "-o", tmp_path / "host.volans")
    answer = (tmp_path / "host.volans").read_bytes()
    told = json.loads(run_piped("host", "activate", "--answer", "-", "--json", *where, given=answer))
    assert told["organisation"] == "Contoso"


def run_piped(*words: str, given: bytes = b"") -> bytes:
    command = [sys.executable, "-m", "volact.cli.main", *words]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout
