# SPDX-License-Identifier: Apache-2.0
"""Names, domains and records as this host publishes them, each checked where it enters."""

import ipaddress
import re
from dataclasses import dataclass

import dns.exception
import dns.name

from volact.host.dns.errors import DnsDomainError, DnsRangeError, DnsServerError, DnsTargetError

SERVICE = "_volact._tcp"

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True, order=True)
class SrvRecord:
    """One SRV record's data, in the order RFC 2782 writes it; ``target`` is lower case, without the last dot."""

    priority: int
    weight: int
    port: int
    target: str

    def __str__(self) -> str:
        return f"{self.priority} {self.weight} {self.port} {self.target}."


def checked_target(target: str) -> str:
    """The host's name as it stands in the record.  Raises :class:`DnsTargetError` for addresses and short names."""
    try:
        name = checked_name(target)
    except ValueError as error:
        raise DnsTargetError(target=target, why=str(error)) from None
    if "." not in name:
        raise DnsTargetError(target=target, why="it is not fully qualified")
    return name


def checked_domain(text: str) -> str:
    try:
        name = checked_name(text)
        dns.name.from_text(f"{SERVICE}.{name}")
    except (ValueError, dns.exception.DNSException) as error:
        raise DnsDomainError(text=text, why=sentence(error)) from None
    return name


def checked_server(text: str) -> str:
    if is_address(text):
        return text
    try:
        return checked_name(text)
    except ValueError as error:
        raise DnsServerError(server=text, why=str(error)) from None


def checked_name(text: str) -> str:
    """A host or domain name in one spelling: lower case, A-labels (RFC 5890), no last dot.  Raises ValueError."""
    if is_address(text):
        raise ValueError("it is an address, not a name")
    try:
        name = text_of(dns.name.from_text(text)).lower()
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(sentence(error)) from None
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("its labels are not made of letters, digits and hyphens")
    if labels[-1].isdigit():
        raise ValueError("its last label is a number")
    return name


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_number(setting: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None:
        raise DnsRangeError(setting=setting, value=text, low=0, high=65535)
    return int(text)


def check_range(setting: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise DnsRangeError(setting=setting, value=value, low=low, high=high)


def text_of(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def sentence(error: BaseException) -> str:
    """Another library's message as the end of one of our sentences."""
    return (str(error) or type(error).__name__).rstrip(".")
