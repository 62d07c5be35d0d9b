# SPDX-License-Identifier: Apache-2.0
"""KMS hosts on a network without DNS: one question by multicast, and who answers.  RFC 6762 §5.1, RFC 6763 §4.

A one-shot querier: the question goes out from a port of its own, so that answers come back to it alone and nothing else
on this computer is disturbed.  Nothing is believed: an answer is a place to ask, as an SRV record is.  IPv4.
Spec: docs/spec/discovery.md §5.
"""

import ipaddress
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volact.client.discovery import MAX_NAME, SERVICE, SrvRecord

if TYPE_CHECKING:  # dnspython is imported when a question is asked
    import dns.message

GROUP, PORT = "224.0.0.251", 5353
NAME = f"{SERVICE}.local."
WAIT_SECONDS = 1.5  # responders wait up to 0.12 s (RFC 6762 §6), and Wi-Fi asks for patience
ASK_AGAIN = 0.5  # once: multicast on Wi-Fi gets lost
MOST_PACKET, MOST_RECORDS = 9000, 100
HOP_LIMIT = 255
SWITCH = "VOLACT_MDNS"  # "off" keeps this computer from asking, whatever is set


@dataclass(frozen=True, slots=True)
class Target:
    """Where to bind and whom to ask; another one than the network's exists only in tests."""

    group: str = GROUP
    port: int = PORT
    interfaces: tuple[str, ...] = ()  # addresses of our own; empty: every interface that there is


def browse(target: Target | None = None, *, wait: float = WAIT_SECONDS) -> list[SrvRecord]:
    """The hosts that answer within ``wait`` seconds, an address as the record's target where one came along.

    Raises ``OSError`` where nothing can be sent.
    """
    from dns import flags, message, rdataclass, rdatatype

    target = target or Target()
    question = message.make_query(NAME, rdatatype.PTR, rdataclass.IN)
    question.flags &= ~flags.RD
    with _socket() as asking:
        sent = _ask(asking, question.to_wire(), target)
        if not sent:
            raise OSError("no network interface could be asked")
        return list(_records(_answers(asking, question, target, wait)))


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOP_LIMIT)
    made.bind(("", 0))
    return made


def _ask(asking: socket.socket, wire: bytes, target: Target) -> int:
    """By every interface, since none is the one by right; how many took it."""
    sent = 0
    for choice in _interfaces(target.interfaces):
        with suppress(OSError):
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
            asking.sendto(wire, (target.group, target.port))
            sent += 1
    return sent


def _interfaces(given: tuple[str, ...]) -> Iterator[bytes]:
    if given or not hasattr(socket, "if_nameindex"):
        yield from (socket.inet_aton(address) for address in given or ("0.0.0.0",))  # noqa: S104 - the usual interface
        return
    for number, _ in socket.if_nameindex():
        yield struct.pack("4s4si", bytes(4), bytes(4), number)  # struct ip_mreqn


def _answers(
    asking: socket.socket, question: "dns.message.Message", target: Target, wait: float
) -> "Iterator[dns.message.Message]":
    """What comes back, until the time is over; what is no answer to our question is passed over."""
    import dns.exception
    from dns import flags, message

    ends = time.monotonic() + wait
    again = time.monotonic() + min(ASK_AGAIN, wait / 2)
    while (left := ends - time.monotonic()) > 0:
        asking.settimeout(max(0.001, min(left, again - time.monotonic()) if again else left))
        try:
            data = asking.recv(MOST_PACKET)
        except TimeoutError:
            if again and time.monotonic() >= again:
                again = 0.0
                _ask(asking, question.to_wire(), target)
            continue
        except OSError:  # a port that is closed, said by ICMP
            continue
        with suppress(dns.exception.DNSException, ValueError):
            found = message.from_wire(data, ignore_trailing=True, continue_on_error=True)  # as far as it can be read
            if found.id == question.id and found.flags & flags.QR:
                yield found


def _records(answers: "Iterable[dns.message.Message]") -> Iterator[SrvRecord]:
    """SRV records of our service, with the first address of their target that the same answer brought."""
    seen = set[SrvRecord]()
    for answer in answers:
        addresses = _addresses(answer)
        for owner, rdata in _of_type(answer, "SRV"):
            if not owner.endswith(f".{NAME}".lower()) or len(seen) >= MOST_RECORDS:
                continue
            name = rdata.target.to_text(omit_final_dot=True).lower()
            record = SrvRecord(rdata.priority, rdata.weight, rdata.port, addresses.get(name, name))
            if record not in seen and len(record.target) <= MAX_NAME:
                seen.add(record)
                yield record


def _addresses(answer: "dns.message.Message") -> dict[str, str]:
    """Link-local ones only where there is no other: they need an interface beside them."""
    found: dict[str, str] = {}
    for owner, rdata in _of_type(answer, "A"):
        name = owner.removesuffix(".")
        if name not in found or ipaddress.ip_address(found[name]).is_link_local:
            found[name] = rdata.address
    return found


def _of_type(answer: "dns.message.Message", kind: str) -> Iterator[tuple[str, Any]]:
    from dns import rdatatype

    wanted = rdatatype.from_text(kind)
    for section in (answer.answer, answer.additional):
        for rrset in section:
            if rrset.rdtype == wanted:
                yield from ((rrset.name.to_text().lower(), rdata) for rdata in rrset)
