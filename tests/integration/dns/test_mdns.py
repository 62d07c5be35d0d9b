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
from volact.client import mdns
from volact.client.discovery import (
    DiscoveryTrace,
    NoHostFoundError,
    Outcome,
    Settings,
    Source,
    SrvRecord,
    candidates,
)
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
def responder(make: Callable[[dns.message.Message], list[bytes]]) -> Iterator[mdns.Target]:
    """Answers every question to it with what ``make`` makes of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
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
        yield mdns.Target("127.0.0.1", listening.getsockname()[1], ("127.0.0.1",))


def answer(question: dns.message.Message, *texts: tuple[str, str, str], id: int | None = None) -> bytes:
    made = dns.message.make_response(question)
    made.id = question.id if id is None else id
    made.answer.append(ptr(f"kms1.{mdns.NAME}"))
    made.additional += [dns.rrset.from_text(name, 10, "IN", kind, text) for name, kind, text in texts]
    return made.to_wire()


SRV = (f"kms1.{mdns.NAME}", "SRV", "0 0 1688 kms1.local.")


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


def test_rubbish_and_answers_to_others_are_passed_over() -> None:
    def make(question: dns.message.Message) -> list[bytes]:
        foreign = ("kms9._other._tcp.local.", "SRV", "0 0 1688 kms9.local.")
        return [b"", b"\0" * 11, b"\xff" * 200, question.to_wire(), answer(question, SRV, id=question.id ^ 1),
                answer(question, foreign), answer(question, SRV), answer(question, SRV)]  # fmt: skip

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
    browse = lambda: asked.append(1) or found  # noqa: E731
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


@pytest.mark.parametrize("text", ["192.0.2.250", "kms1", "::1", ""])
def test_an_interface_that_this_computer_has_not_is_refused(text: str) -> None:
    with pytest.raises(MdnsInterfaceError):
        check_interfaces([text])
    assert check_interfaces(["127.0.0.1"]) == ("127.0.0.1",)


@pytest.fixture
def wire() -> Iterator[Network]:
    with network() as made:
        made.add("kms", 1)
        made.add("pc", 2)
        for host in ("kms", "pc"):
            made.run(host, "ip", "route", "add", "default", "dev", "eth0")
        yield made


@pytest.mark.needs("netns")
def test_a_client_finds_its_host_on_a_network_without_dns_and_forgets_it_after_its_goodbye(
    wire: Network, tmp_path: Path
) -> None:
    """``volact host serve`` and ``volact client activate``, nothing configured on the client."""
    vendor, folder = Vendor.make(tmp_path), tmp_path / "host"
    vendor.give_host(folder)
    kms, pc = (Shell(wire, host, {"VOLACT_MDNS": "on"}) for host in ("kms", "pc"))
    serving = None
    try:
        kms.good("host", "dns", "mdns", "on", "--interface", "10.77.0.1", "--dir", folder)
        words = ["host", "serve", "--dir", folder, "--listen", "0.0.0.0", "--port", 1688, "--workers", 1]
        log = tmp_path / "host.log"
        serving = wire.start("kms", [sys.executable, "-m", "volact.cli.main", *words], log)
        where = ("--dir", tmp_path / "client")
        pc.good("client", "add-product", vendor.file, "--root", vendor.root, *where)
        pc.good("client", "install-key", "acme-cad", "--generic", "--edition", "client", *where)
        wait_for(lambda: "mdns-published" in kms.volact("host", "events", "--dir", folder).out, 30)
        done = pc.volact("client", "activate", "acme-cad", "--json", *where, machine=1)
        product = done.json["products"][0]
        assert (product["host"], product["host_source"]) == ("10.77.0.1:1688", "mdns"), done.err
        end(serving)
        serving = None
        assert "mdns-withdrawn" in kms.volact("host", "events", "--dir", folder).out
    finally:
        if serving is not None:
            end(serving)
        kms.close()
        pc.close()
