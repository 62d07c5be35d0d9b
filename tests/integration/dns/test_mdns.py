# SPDX-License-Identifier: Apache-2.0
"""Multicast DNS: a host and its client on a network of their own without a DNS server, and answers of all kinds.

Never the machine's own network: a network namespace, or a responder on loopback.
"""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import dns.flags
import dns.message
import dns.rrset
import pytest

from support.netns import Network, Shell, end, network
from support.processes import wait_for
from support.site import Vendor
from volact.client.discovery import mdns
from volact.client.discovery.hosts import DiscoveryTrace, NoHostFoundError, Outcome, Source, SrvRecord, candidates
from volact.client.folder.settings import Settings
from volact.host.dns.mdns import MdnsInterfaceError, check_interfaces


class NoDns:
    """A computer without a DNS suffix."""

    def suffixes(self) -> list[str]:
        return []

    def srv(self, name: str) -> list[SrvRecord]:
        raise AssertionError("there is nobody to ask")


def ptr(name: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(mdns.NAME, 10, "IN", "PTR", name)


@contextmanager
def responder(make: Callable[[dns.message.Message], list[bytes]], at: str = "127.0.0.1") -> Iterator[mdns.Target]:
    """Answers every question to it with what ``make`` makes of it."""
    with socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((at, 0))
        listening.settimeout(10)

        def serve() -> None:
            while True:
                try:
                    data, asker = listening.recvfrom(9000)
                except OSError:
                    return
                for packet in make(dns.message.from_wire(data)):
                    listening.sendto(packet, asker)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield mdns.Target((at,), listening.getsockname()[1], ("lo",))


def answer(question: dns.message.Message, *texts: tuple[str, str, str], id: int | None = None) -> bytes:
    made = dns.message.make_response(question)
    made.id = question.id if id is None else id
    made.answer.append(ptr(f"kms1.{mdns.NAME}"))
    made.additional += [dns.rrset.from_text(name, 10, "IN", kind, text) for name, kind, text in texts]
    return made.to_wire()


SRV = (f"kms1.{mdns.NAME}", "SRV", "0 0 1688 kms1.local.")


def of_class(packet: bytes, other: bytes) -> bytes:
    """The same packet with its SRV, A and AAAA records in another class than IN."""
    header, records = packet[:12], packet[12:]
    for kind in (b"\0\x21", b"\0\x01", b"\0\x1c"):
        records = records.replace(kind + b"\0\x01", kind + other)
    return header + records


def test_the_question_is_one_that_any_responder_answers_to_its_asker() -> None:
    asked: list[dns.message.Message] = []

    def make(question: dns.message.Message) -> list[bytes]:
        asked.append(question)
        return [answer(question, SRV, ("kms1.local.", "A", "192.0.2.7"))]

    with responder(make) as target:
        assert mdns.browse(target, wait=0.3) == [SrvRecord(0, 0, 1688, "192.0.2.7")]
    assert asked[0].question[0].to_text() == "_volact._tcp.local. IN PTR"
    assert not asked[0].flags & dns.flags.RD


def test_an_address_that_can_be_reached_is_preferred_and_without_one_the_name_is_taken() -> None:
    both = [("kms1.local.", "A", "169.254.7.7"), ("KMS1.local.", "A", "192.0.2.7")]
    with responder(lambda q: [answer(q, SRV, *both)]) as target:
        assert mdns.browse(target, wait=0.3)[0].target == "192.0.2.7"
    with responder(lambda q: [answer(q, SRV)]) as target:
        assert mdns.browse(target, wait=0.3)[0].target == "kms1.local"


EVERY_KIND = [
    ("kms1.local.", "A", "192.0.2.7"), ("kms1.local.", "A", "169.254.7.7"),
    ("kms1.local.", "AAAA", "fe80::7"), ("kms1.local.", "AAAA", "2001:db8::7"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("at", "offered", "taken"),
    [
        ("127.0.0.1", EVERY_KIND, "192.0.2.7"),
        ("::1", EVERY_KIND, "2001:db8::7"),  # it came by IPv6: that this computer's IPv4 leads there is not known
        ("127.0.0.1", EVERY_KIND[2:], "2001:db8::7"),
        ("127.0.0.1", EVERY_KIND[2:3], "kms1.local"),  # of no use without its interface, which was not told
    ],
)  # fmt: skip
def test_of_a_hosts_addresses_the_one_that_is_most_likely_reached_is_taken(
    at: str, offered: list[tuple[str, str, str]], taken: str
) -> None:
    with responder(lambda q: [answer(q, SRV, *offered)], at) as target:
        assert [one.target for one in mdns.browse(target, wait=0.3)] == [taken]


def test_an_address_of_ipv6_is_a_candidate_with_its_interface_but_never_a_dns_answer() -> None:
    found = [SrvRecord(0, 0, 1688, "fe80::7%eth0"), SrvRecord(1, 0, 1688, "2001:db8::7")]
    browsed = candidates(Settings(), NoDns(), None, Random(1), browse=lambda: found)
    assert [str(one) for one in browsed] == ["[fe80::7%eth0]:1688", "[2001:db8::7]:1688"]

    class Lying(NoDns):
        def suffixes(self) -> list[str]:
            return ["example.test"]

        def srv(self, name: str) -> list[SrvRecord]:
            return found

    with pytest.raises(NoHostFoundError):
        list(candidates(Settings(), Lying(), None, Random(1)))


def test_rubbish_and_answers_to_others_are_passed_over() -> None:
    def make(question: dns.message.Message) -> list[bytes]:
        foreign = ("kms9._other._tcp.local.", "SRV", "0 0 1688 kms9.local.")
        good = answer(question, SRV, ("kms1.local.", "A", "192.0.2.7"), ("kms1.local.", "AAAA", "2001:db8::7"))
        others = [of_class(good, other) for other in (b"\0\x03", b"\x80\x01", b"\0\xff")]
        return [b"", b"\0" * 11, b"\xff" * 200, *others, question.to_wire(),
                answer(question, SRV, id=question.id ^ 0x8000), answer(question, foreign),
                answer(question, SRV), answer(question, SRV)]  # fmt: skip

    with responder(make) as target:
        assert mdns.browse(target, wait=0.3) == [SrvRecord(0, 0, 1688, "kms1.local")]


def test_a_question_that_got_lost_is_asked_again() -> None:
    asked: list[int] = []

    def make(question: dns.message.Message) -> list[bytes]:
        asked.append(question.id)
        return [] if len(asked) == 1 else [answer(question, SRV)]

    with responder(make) as target:
        assert len(mdns.browse(target, wait=0.6)) == 1
    assert len(asked) == 2


def test_multicast_comes_last_and_only_where_there_is_no_dns() -> None:
    found = [SrvRecord(0, 0, 1688, "192.0.2.7")]
    trace = DiscoveryTrace()
    (one,) = candidates(Settings(), NoDns(), None, Random(1), trace, lambda: found)
    assert (str(one), one.source) == ("192.0.2.7:1688", Source.MDNS)
    assert [step.outcome for step in trace.steps] == [Outcome.NO_SUFFIX, Outcome.ANSWERED]

    class WithDns(NoDns):
        def suffixes(self) -> list[str]:
            return ["example.test"]

        def srv(self, name: str) -> list[SrvRecord]:
            return []

    asked: list[int] = []

    def browse() -> list[SrvRecord]:
        asked.append(1)
        return found

    with pytest.raises(NoHostFoundError):
        list(candidates(Settings(), WithDns(), None, Random(1), browse=browse))
    assert not asked
    assert [one.source for one in candidates(Settings(mdns=True), WithDns(), None, Random(1), browse=browse)] == [
        "mdns"
    ]
    with pytest.raises(NoHostFoundError):
        list(candidates(Settings(mdns=False), NoDns(), None, Random(1), browse=browse))
    assert [one.source for one in candidates(Settings(host="kms1"), NoDns(), None, Random(1), browse=browse)] == [
        "configured-host"
    ]
    assert asked == [1]


def test_a_network_that_cannot_be_asked_is_one_of_the_steps() -> None:
    def browse() -> list[SrvRecord]:
        raise OSError(101, "network is unreachable")

    with pytest.raises(NoHostFoundError) as caught:
        list(candidates(Settings(), NoDns(), None, Random(1), browse=browse))
    assert "by multicast: no name server could be reached (network is unreachable)" in str(caught.value)


@pytest.mark.parametrize("text", ["192.0.2.250", "kms1", "2001:db8::250", ""])
def test_an_interface_that_this_computer_has_not_is_refused(text: str) -> None:
    with pytest.raises(MdnsInterfaceError):
        check_interfaces([text])
    assert check_interfaces(["127.0.0.1", "0::1"]) == ("127.0.0.1", "::1")


@pytest.fixture
def wire() -> Iterator[Network]:
    with network() as made:
        made.add("kms", 1)
        made.add("pc", 2)
        for number, host in enumerate(("kms", "pc"), 1):
            made.run(host, "ip", "route", "add", "default", "dev", "eth0")
            for prefix in ("fd77::", "fe80::7"):
                made.run(host, "ip", "addr", "add", f"{prefix}{number}/64", "dev", "eth0", "nodad")
        yield made


@pytest.mark.needs("netns")
def test_a_client_finds_its_host_on_a_network_without_dns_and_forgets_it_after_its_goodbye(
    wire: Network, tmp_path: Path
) -> None:
    """``volact host serve`` and ``volact client activate``, nothing configured on the client: by IPv4, and by IPv6 once
    it has no other."""
    vendor, folder = Vendor.make(tmp_path), tmp_path / "host"
    vendor.give_host(folder)
    kms, pc = (Shell(wire, host, {"VOLACT_MDNS": "on"}) for host in ("kms", "pc"))
    serving = None
    where = ("--dir", tmp_path / "client")

    def activated(*by: object) -> tuple[str, str]:
        done = pc.volact("client", "activate", "acme-cad", "--json", *by, *where, machine=1)
        product = done.json["products"][0]
        return product["host"], product["host_source"]

    try:
        both = ("--interface", "10.77.0.1", "--interface", "fd77::1")
        kms.good("host", "dns", "mdns", "on", *both, "--dir", folder)
        words = ["host", "serve", "--dir", folder, "--listen", "::", "--port", 1688, "--workers", 1]
        log = tmp_path / "host.log"
        serving = wire.start("kms", [sys.executable, "-m", "volact.cli.main", *words], log)
        pc.good("client", "add-product", vendor.file, "--root", vendor.root, *where)
        pc.good("client", "install-key", "acme-cad", "--generic", "--edition", "client", *where)
        wait_for(lambda: "mdns-published" in kms.volact("host", "events", "--dir", folder).out, 30)
        assert activated() == ("10.77.0.1:1688", "mdns")
        wire.run("pc", "ip", "-4", "route", "flush", "dev", "eth0")
        wire.run("pc", "ip", "-4", "addr", "flush", "dev", "eth0")
        assert activated() == ("[fd77::1]:1688", "mdns")
        link_local = "[fe80::71%eth0]:1688"
        assert activated("--host", link_local) == (link_local, "given")
        end(serving)
        serving = None
        assert "mdns-withdrawn" in kms.volact("host", "events", "--dir", folder).out
    finally:
        if serving is not None:
            end(serving)
        kms.close()
        pc.close()
