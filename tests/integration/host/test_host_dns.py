# SPDX-License-Identifier: Apache-2.0
"""From the host's record in a real BIND 9 to the machine's licence: published at start, found, withdrawn at the stop.

Names under example.test are this computer's own: only that step of name resolution is the test's.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bind import Bind, bind
from support.processes import Server, good, host_words, serving, volact, wait_for
from support.site import PRODUCT, Machine, Vendor, now, served
from volact.host import dns
from volact.host.folder import HostFolder
from volact.testing.issuers import CLIENT_GROUP, KmsHostSimulator, PublisherSimulator

pytestmark = pytest.mark.needs("bind", "dig")

NAME = "_volact._tcp.example.test"


@pytest.fixture(scope="module")
def server() -> Iterator[Bind]:
    with bind(["example.test"]) as running:
        yield running


@pytest.fixture(scope="module")
def vendor(tmp_path_factory) -> Vendor:
    return Vendor.make(tmp_path_factory.mktemp("vendor"), threshold=1)


@pytest.fixture(autouse=True)
def _names_of_this_computer(monkeypatch):
    real = socket.getaddrinfo

    def resolve(host, *rest, **named):
        return real("127.0.0.1" if str(host).rstrip(".").endswith(".example.test") else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture
def machine(vendor: Vendor, server: Bind, tmp_path: Path) -> Machine:
    made = Machine.make(tmp_path / "machine", 1, vendor)
    made.good("set-host", "--domain", "example.test", "--resolver", server.address)
    return made


def publishing(host: HostFolder, server: Bind, target: str, domain: str = "example.test") -> HostFolder:
    where = ("--server", "127.0.0.1", "--server-port", server.port, "--key-file", server.key_file())
    good("host", "dns", "add", domain, "--target", target, *where, "--dir", host.path)
    return host


def events(host: HostFolder, *codes: str) -> list[dict[str, object]]:
    words = [word for code in codes for word in ("--code", code)]
    return list(volact("host", "events", "--dir", host.path, *words, "--json").json)


def test_a_record_is_published_found_and_withdrawn(vendor, server, machine, tmp_path, pick_port):
    host = publishing(vendor.give_host(tmp_path / "kms1"), server, "kms1.example.test", "example.test,10,60")
    with serving(host.path, pick_port()) as running:
        wait_for(lambda: server.dig(NAME) == [f"10 60 {running.port} kms1.example.test."])
        row = machine.activate()
        assert row["licensed"], row
        assert (row["host"], row["host_source"]) == (f"kms1.example.test:{running.port}", "configured-domain")
        status = volact("host", "dns", "status", "--dir", host.path, "--json").json
        assert [(one["whose"], one["record"].split()[-1].rstrip(".")) for one in status["records"]] == [
            ("this host", "kms1.example.test")
        ]
    assert server.dig(NAME) == []
    assert [event["code"] for event in events(host, "dns-published", "dns-withdrawn")] == [
        "dns-published",
        "dns-withdrawn",
    ]
    row = machine.activate()  # the last good host is down by now and nothing stands in DNS
    assert row["error"]["code"] == "host-unreachable"
    assert row["licensed"]


def test_publishing_that_is_off_sends_nothing(vendor, server, tmp_path, pick_port):
    host = publishing(vendor.give_host(tmp_path / "kms1"), server, "kms1.example.test")
    good("host", "dns", "off", "--dir", host.path)
    with serving(host.path, pick_port()):
        pass
    assert events(host, "dns-published", "dns-publish-failed", "dns-withdrawn") == []
    good("host", "dns", "publish", "--dir", host.path)
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]
    good("host", "dns", "withdraw", "--dir", host.path)
    assert server.dig(NAME) == []


def test_a_domain_whose_name_server_is_gone_keeps_no_other_from_being_published(vendor, server, tmp_path, pick_port):
    host = vendor.give_host(tmp_path / "kms1")
    gone = ("--server", "127.0.0.1", "--server-port", pick_port())
    good("host", "dns", "add", "gone.test", "--target", "kms1.example.test", *gone, "--dir", host.path)
    publishing(host, server, "kms1.example.test")
    record = {"domain": "example.test", "record": "0 0 1688 kms1.example.test."}
    done = volact("host", "dns", "publish", "--dir", host.path, "--json")
    assert (done.code, done.json["published"]) == (1, [record])
    assert [(one["domain"], one["error"]["code"]) for one in done.json["failed"]] == [
        ("gone.test", "dns-server-unreachable")
    ]
    assert done.json["error"]["code"] == "dns-server-unreachable"
    assert server.dig(NAME) == ["0 0 1688 kms1.example.test."]
    plain = volact("host", "dns", "withdraw", "--dir", host.path)
    assert (plain.code, len(plain.errors)) == (1, 1)
    assert "withdrew 0 0 1688 kms1.example.test. from example.test" in plain.err
    assert server.dig(NAME) == []


def test_a_name_server_that_refuses_or_is_gone_keeps_no_host_from_serving(vendor, server, machine, tmp_path, pick_port):
    host = vendor.give_host(tmp_path / "kms1")
    where = ("--server", "127.0.0.1", "--server-port", pick_port())
    good("host", "dns", "add", "example.test", "--target", "kms1.example.test", *where, "--dir", host.path)
    with serving(host.path, pick_port()) as running:
        (event,) = wait_for(lambda: events(host, "dns-publish-failed"))
        assert event["level"] == "warning"
        assert machine.activate("--host", f"127.0.0.1:{running.port}")["licensed"]


def test_the_next_host_answers_when_one_is_dead_and_is_asked_first_afterwards(
    vendor, server, machine, tmp_path, pick_port
):
    """Two hosts under one name; the better one is killed, so that its record stays."""
    first, second = (
        publishing(vendor.give_host(tmp_path / name), server, f"{name}.example.test", f"example.test,{priority}")
        for name, priority in (("kms1", 0), ("kms2", 10))
    )
    port1, port2 = pick_port(), pick_port()
    dying = Server(host_words(first.path, port1), tmp_path / "kms1.log", port1).wait_until()
    with serving(second.path, port2):
        both = [f"0 0 {port1} kms1.example.test.", f"10 0 {port2} kms2.example.test."]
        wait_for(lambda: server.dig(NAME) == both)
        assert machine.activate()["host"] == f"kms1.example.test:{port1}"
        dying.kill()
        assert server.dig(NAME) == both, "nobody was there to withdraw the record"
        row = machine.activate()
        assert (row["error"], row["licensed"]) == (None, True)
        assert (row["host"], row["host_source"]) == (f"kms2.example.test:{port2}", "configured-domain")
        tried = [(one["host"], one["code"]) for one in row["last_attempt"]["tried"]]
        assert tried == [(f"kms1.example.test:{port1}", "host-unreachable"), (f"kms2.example.test:{port2}", "")]
        row = machine.activate()
        assert (row["host"], row["host_source"]) == (f"kms2.example.test:{port2}", "last-good-host")
        assert len(row["last_attempt"]["tried"]) == 1
    assert server.dig(NAME) == both[:1], "the other host's record is not its to take away"
    dns.withdraw(_domain(server), "kms1.example.test")


def test_a_rogue_host_behind_the_name_is_passed_by_and_told_nothing(vendor, server, machine, tmp_path, pick_port):
    """The attacker's record comes first; the machine notices, goes on to its own host, and names the attacker."""
    rogue = KmsHostSimulator(
        PublisherSimulator("Acme Software", now), vendor.definition, frozenset({CLIENT_GROUP}), now
    )
    host = publishing(vendor.give_host(tmp_path / "kms1"), server, "kms1.example.test", "example.test,10")
    with served(rogue) as rogue_port, serving(host.path, pick_port()) as running:
        dns.publish(_domain(server), "rogue.example.test", rogue_port)
        try:
            wait_for(lambda: len(server.dig(NAME)) == 2)
            row = machine.activate()
            assert (row["error"], row["licensed"]) == (None, True)
            tried = [(one["host"], one["code"]) for one in row["last_attempt"]["tried"]]
            assert tried == [
                (f"rogue.example.test:{rogue_port}", "issuer-untrusted"),
                (f"kms1.example.test:{running.port}", ""),
            ]
            before = machine.licence
            running.stop()
            row = machine.activate()
            assert row["error"]["code"] == "issuer-untrusted", "what an impostor did says more than that one is down"
            assert machine.licence == before
            assert row["licensed"]
        finally:
            dns.withdraw(_domain(server), "rogue.example.test")
    assert rogue.requests == []


def test_a_domain_without_hosts_is_said_with_what_was_asked(vendor, server, machine):
    row = machine.activate()
    assert row["error"]["code"] == "no-host-found"
    assert NAME in json.dumps(row["error"])
    assert row["product"] == PRODUCT


def _domain(server: Bind) -> dns.DnsDomain:
    return dns.DnsDomain("example.test", server="127.0.0.1", port=server.port, key_file=server.key_file())
