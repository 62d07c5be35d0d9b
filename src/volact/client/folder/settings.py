# SPDX-License-Identifier: Apache-2.0
"""What the administrator set about finding hosts; the names and addresses in it are read strictly.

Imports are the standard library's.  Spec: docs/spec/discovery.md §3.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple

from volact.core.errors import ConfigError, InputError

SERVICE = "_volact._tcp"
DEFAULT_PORT = 1688
DNS_PORT = 53
MAX_NAME = 253  # RFC 1035 §2.3.4 in text form

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
_PLAIN = re.compile(r"([^:\[\]]+)(?::([0-9]{1,5}))?")


class HostMalformedError(InputError):
    code = "host-malformed"
    fmt = "{text!r} is not a host: {why}"
    remedy = "write NAME, NAME:PORT, ADDRESS:PORT or [IPv6-ADDRESS]:PORT"


class LookupDomainError(ConfigError):
    code = "lookup-domain-invalid"
    fmt = "lookup domain {text!r} is not a DNS domain"
    remedy = "write the domain whose _volact._tcp records are to be used, such as example.com"


class ResolverAddressError(ConfigError):
    code = "resolver-address-invalid"
    fmt = "{text!r} is not the address of a DNS server"
    remedy = "write an IP address, or ADDRESS:PORT, or [IPv6-ADDRESS]:PORT"


class HostPort(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the administrator set about discovery.  ``host`` switches it off; ``domain`` replaces the DNS suffixes.

    ``resolver_address`` is the name server to ask instead of the system's.  ``mdns``: whether to ask by multicast where
    DNS names no host; ``None``, only on networks without DNS.
    """

    host: str | None = None
    port: int | None = None
    domain: str | None = None
    caching: bool = True
    resolver_address: str | None = None
    mdns: bool | None = None

    def __post_init__(self) -> None:
        if self.host is not None:
            object.__setattr__(self, "host", self.host_port(self.host).host)
        if self.domain is not None:
            object.__setattr__(self, "domain", _checked_domain(self.domain))
        if self.resolver_address is not None:
            parse_resolver_address(self.resolver_address)

    def host_port(self, host: str) -> HostPort:
        """``host`` with the port set, or the default one."""
        return _host_port(host, host, DEFAULT_PORT if self.port is None else self.port)


def parse_host_port(text: str, default_port: int = DEFAULT_PORT) -> HostPort:
    """``NAME``, ``NAME:PORT``, ``192.0.2.1:PORT`` or ``[2001:db8::1]:PORT``, strictly.

    Raises :class:`HostMalformedError`, nothing else.
    """
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        return _host_port(text, _ipv6(text, bracketed[1]), _port(text, bracketed[2], default_port))
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        raise HostMalformedError(text=text, why=_why_not_plain(text))
    return _host_port(text, plain[1], _port(text, plain[2], default_port))


def parse_resolver_address(text: str) -> HostPort:
    """The address and port of a DNS server.  Raises :class:`ResolverAddressError`, nothing else."""
    try:
        found = parse_host_port(text, DNS_PORT)
        ipaddress.ip_address(found.host)
    except (HostMalformedError, ValueError):
        raise ResolverAddressError(text=text) from None
    return found


def _host_port(text: str, host: str, port: int) -> HostPort:
    """Check the parts; ``text`` is what the error quotes."""
    if not 1 <= port <= 65535:
        raise HostMalformedError(text=text, why=f"port {port} is not between 1 and 65535")
    if ":" in host:
        return HostPort(_ipv6(text, host), port)
    name = host.lower().removesuffix(".")
    if not is_ipv4(name) and not is_name(name):
        raise HostMalformedError(text=text, why=f"{host!r} is neither a host name nor an address")
    return HostPort(name, port)


def _port(text: str, digits: str | None, default: int) -> int:
    if digits is None:
        return default
    if digits.startswith("0"):
        raise HostMalformedError(text=text, why=f"port {digits} starts with 0")
    return int(digits)


def _ipv6(text: str, address: str) -> str:
    try:
        return str(ipaddress.IPv6Address(address))
    except ValueError:
        raise HostMalformedError(text=text, why=f"{address!r} is not an IPv6 address") from None


def is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_name(text: str) -> bool:
    """Letters, digits, hyphens and underscores; a last label of digits would be an address that is none."""
    labels = text.split(".")
    return len(text) <= MAX_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def _checked_domain(text: str) -> str:
    domain = text.lower().removesuffix(".")
    if not is_name(domain) or len(f"{SERVICE}.{domain}") > MAX_NAME:
        raise LookupDomainError(text=text)
    return domain


def _why_not_plain(text: str) -> str:
    if text.count(":") > 1 and "[" not in text:
        return "an IPv6 address is written in brackets"
    return "it is not NAME or NAME:PORT" if text else "it is empty"
