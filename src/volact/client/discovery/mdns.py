# SPDX-License-Identifier: Apache-2.0
"""KMS hosts on a network without DNS: one question by multicast, and who answers.  RFC 6762 §5.1, RFC 6763 §4.

A one-shot querier, by IPv4 and IPv6: the question goes out from ports of its own, so that answers come back to them
alone and nothing else on this computer is disturbed.  Nothing is believed: an answer is a place to ask, as an SRV
record is.
Spec: docs/spec/discovery.md §5.
"""

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.client.discovery.hosts import SrvRecord
from volact.client.folder.settings import MAX_NAME, SERVICE

if TYPE_CHECKING:  # dnspython is imported when a question is asked
    import dns.message

GROUPS, PORT = ("224.0.0.251", "ff02::fb"), 5353
NAME = f"{SERVICE}.local."
WAIT_SECONDS = 1.5  # responders wait up to 0.12 s (RFC 6762 §6), and Wi-Fi asks for patience
ASK_AGAIN = 0.5  # once: multicast on Wi-Fi gets lost
MOST_PACKET, MOST_RECORDS, MOST_ANSWERS = 9000, 100, 1000
MOST_ID = 0xFFFF
HOP_LIMIT = 255
SWITCH = "VOLACT_MDNS"  # "off" keeps this computer from asking, whatever is set


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask; another one than the network's exists only in tests."""

    groups: tuple[str, ...] = GROUPS
    port: int = PORT
    interfaces: tuple[str, ...] = ()  # by name; empty: every interface that there is


class Answer(NamedTuple):
    """A packet, the address it came from, and the interface, which IPv6 tells for link-local ones."""

    message: "dns.message.Message"
    sender: ipaddress.IPv4Address | ipaddress.IPv6Address
    zone: str


def browse(target: Target | None = None, *, wait: float = WAIT_SECONDS) -> list[SrvRecord]:
    """The hosts that answer within ``wait`` seconds, an address as the record's target where one came along.

    Raises ``OSError`` where nothing can be sent.
    """
    target, question = target or Target(), _Question()
    with ExitStack() as opened:
        ways = [way for group in target.groups for way in _ways(group, opened)]
        if not _ask(ways, question, target):
            raise OSError("no network interface could be asked")
        return list(_records(list(_answers(ways, question, target, wait))))


class _Question:
    """PTR ``_volact._tcp.local``, each time under another ID: responders pass over the very packet that they have just
    had, by whichever protocol and network it came, and then only one of them would be answered."""

    def __init__(self) -> None:
        from dns import flags, message, rdataclass, rdatatype

        self._message = message.make_query(NAME, rdatatype.PTR, rdataclass.IN)
        self._message.flags &= ~flags.RD
        self._first, self._asked = self._message.id, 0

    def to_wire(self) -> bytes:
        self._message.id = (self._first + self._asked) & MOST_ID
        self._asked += 1
        return self._message.to_wire()

    def is_answered_by(self, message: "dns.message.Message") -> bool:
        from dns import flags

        return bool(message.flags & flags.QR) and (message.id - self._first) & MOST_ID < self._asked


class _Way(NamedTuple):
    """A protocol's group, and the socket that asks it."""

    group: str
    asking: socket.socket

    @property
    def is_ipv6(self) -> bool:
        return self.asking.family == socket.AF_INET6

    def ask(self, wire: bytes, port: int, interface: int) -> None:
        """By one interface; 0 is the usual one."""
        if self.is_ipv6:
            self.asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
            self.asking.sendto(wire, (self.group, port, 0, interface if self.group in GROUPS else 0))
            return
        mreqn = struct.pack("4s4si", bytes(4), bytes(4), interface)
        self.asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn if interface else bytes(4))
        self.asking.sendto(wire, (self.group, port))


def _ways(group: str, opened: ExitStack) -> Iterator[_Way]:
    """None where this computer does not speak the group's protocol."""
    with suppress(OSError):
        if ":" in group:
            made = opened.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        else:
            made = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOP_LIMIT)
        made.bind(("", 0))
        yield _Way(group, made)


def _ask(ways: Sequence[_Way], question: _Question, target: Target) -> int:
    """By every protocol and interface, since none is the one by right; how many took it."""
    sent = 0
    for way in ways:
        for interface in _interfaces(target.interfaces):
            with suppress(OSError):
                way.ask(question.to_wire(), target.port, interface)
                sent += 1
    return sent


def _interfaces(given: tuple[str, ...]) -> list[int]:
    if given:
        return [socket.if_nametoindex(name) for name in given]
    return [number for number, _ in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else [0]


def _answers(ways: Sequence[_Way], question: _Question, target: Target, wait: float) -> Iterator[Answer]:
    """What comes back, until the time is over; what is no answer to our question is passed over."""
    ends = time.monotonic() + wait
    again = time.monotonic() + min(ASK_AGAIN, wait / 2)
    asking, kept = [way.asking for way in ways], 0
    while (left := ends - time.monotonic()) > 0 and kept < MOST_ANSWERS:
        ready = select.select(asking, [], [], max(0.001, min(left, again - time.monotonic()) if again else left))[0]
        if not ready and again and time.monotonic() >= again:
            again = 0.0
            _ask(ways, question, target)
        for one in ready:
            answer = _received(one, question)
            if answer is not None:
                kept += 1
                yield answer


def _received(asking: socket.socket, question: _Question) -> Answer | None:
    import dns.exception
    from dns import message

    try:
        data, sender = asking.recvfrom(MOST_PACKET)
    except OSError:  # a port that is closed, said by ICMP
        return None
    address, _, zone = sender[0].partition("%")
    with suppress(dns.exception.DNSException, ValueError):
        found = message.from_wire(data, ignore_trailing=True, continue_on_error=True)  # as far as it can be read
        if question.is_answered_by(found):
            return Answer(found, ipaddress.ip_address(address), zone)
    return None


def _records(answers: Sequence[Answer]) -> Iterator[SrvRecord]:
    """SRV records of our service, with the best address of their target that came along."""
    seen, addresses = set[SrvRecord](), _addresses(answers)
    for answer in answers:
        for owner, rdata in _of_type(answer.message, "SRV"):
            if not owner.endswith(f".{NAME}".lower()) or len(seen) >= MOST_RECORDS:
                continue
            name = rdata.target.to_text(omit_final_dot=True).lower()
            record = SrvRecord(rdata.priority, rdata.weight, rdata.port, addresses.get(name, name))
            if record not in seen and len(record.target) <= MAX_NAME:
                seen.add(record)
                yield record


def _addresses(answers: Iterable[Answer]) -> dict[str, str]:
    """Of each name the one that is most likely reached: of a protocol by which the answer came; not link-local, since
    those of IPv6 need their interface named; of IPv4; the sender's own."""
    found: dict[str, tuple[tuple[bool, bool, int, bool], str]] = {}
    for answer in answers:
        for owner, rdata in (*_of_type(answer.message, "A"), *_of_type(answer.message, "AAAA")):
            name, address = owner.removesuffix("."), ipaddress.ip_address(rdata.address)
            text = str(address)
            if address.version == 6 and address.is_link_local:
                if not answer.zone:
                    continue
                text = f"{address}%{answer.zone}"
            unheard, other = address.version != answer.sender.version, address != answer.sender
            rank = (unheard, address.is_link_local, address.version, other)
            if name not in found or rank < found[name][0]:
                found[name] = rank, text
    return {name: text for name, (_, text) in found.items()}


def _of_type(answer: "dns.message.Message", kind: str) -> Iterator[tuple[str, Any]]:
    from dns import rdataclass, rdatatype

    wanted = rdatatype.from_text(kind)
    for section in (answer.answer, answer.additional):
        for rrset in section:
            if rrset.rdtype == wanted and rrset.rdclass == rdataclass.IN:  # of another class it has other fields
                yield from ((rrset.name.to_text().lower(), rdata) for rdata in rrset)
