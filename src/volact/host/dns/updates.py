# SPDX-License-Identifier: Apache-2.0
"""One question or one update to a zone's primary server, over TCP, signed where there is a key (RFC 2136, RFC 8945).

A record belongs to the host its target names.  Those of other hosts under the same name are read and reported, and no
message sent from here ever names one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import dns.tsig
import dns.update

from volact.host.dns.domain import DnsDomain
from volact.host.dns.errors import (
    DnsAliasError,
    DnsNameOwnedError,
    DnsServerNotPrimaryError,
    DnsServerUnreachableError,
    DnsUpdateBadKeyError,
    DnsUpdateClockError,
    DnsUpdateFailedError,
    DnsUpdateRefusedError,
    DnsZoneNotFoundError,
)
from volact.host.dns.kerberos import KerberosKey, negotiate
from volact.host.dns.key_file import TsigKey
from volact.host.dns.names import SrvRecord, check_range, checked_target, is_address, sentence, text_of

DEFAULT_TTL = 3600  # a dead host's record is forgotten by caches within the hour; clients ask at most every 15 minutes

MAX_TTL = 2**31 - 1  # RFC 2181 §8

EXCHANGE_TIMEOUT = 5.0  # one question and its answer, over all addresses of a server

Key = TsigKey | KerberosKey


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in DNS under one domain's name: this host's records and those of other hosts."""

    domain: str
    zone: str
    server: str
    ours: tuple[SrvRecord, ...]
    others: tuple[SrvRecord, ...]
    ttl: int | None


@dataclass(frozen=True, slots=True)
class Published:
    domain: str
    zone: str
    server: str
    record: SrvRecord
    replaced: tuple[SrvRecord, ...]
    others: tuple[SrvRecord, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    domain: str
    zone: str
    server: str
    removed: tuple[SrvRecord, ...]
    others: tuple[SrvRecord, ...]


def lookup(
    domain: DnsDomain,
    target: str,
    *,
    resolver: dns.resolver.Resolver | None = None,
    timeout: float = EXCHANGE_TIMEOUT,
) -> Found:
    """Read the records at the zone's primary: no cache in between.  Raises a :class:`TransportError` by its name."""
    return _records(_open_zone(domain, resolver, timeout), checked_target(target))


def publish(
    domain: DnsDomain,
    target: str,
    port: int,
    ttl: int = DEFAULT_TTL,
    *,
    resolver: dns.resolver.Resolver | None = None,
    timeout: float = EXCHANGE_TIMEOUT,
) -> Published:
    """Add this host's record and take away its older ones, in one message that the server applies whole or not at all.

    Publishing again renews.  The TTL is that of the whole record set (RFC 2181 §5.2), so the last publisher sets it.
    Raises a :class:`TransportError` by its name; then nothing was changed, or the server's answer was lost.
    """
    check_range("TTL", ttl, 0, MAX_TTL)
    record = domain.record(target, port)
    zone = _open_zone(domain, resolver, timeout)
    found = _records(zone, record.target)
    replaced = tuple(old for old in found.ours if old != record)
    zone.update(add=record, ttl=ttl, delete=replaced)
    return Published(domain.domain, found.zone, found.server, record, replaced, found.others)


def withdraw(
    domain: DnsDomain,
    target: str,
    *,
    resolver: dns.resolver.Resolver | None = None,
    timeout: float = EXCHANGE_TIMEOUT,
) -> Withdrawn:
    """Take away this host's records and no others.  Doing it twice is no error.  Raises as :func:`publish` does."""
    zone = _open_zone(domain, resolver, timeout)
    found = _records(zone, checked_target(target))
    if found.ours:
        zone.update(delete=found.ours)
    return Withdrawn(domain.domain, found.zone, found.server, found.ours, found.others)


@dataclass(frozen=True, slots=True)
class _Server:
    """A name server as this host speaks to it: over TCP, each message signed where there is a key."""

    domain: str
    name: str
    addresses: tuple[str, ...]
    port: int
    key: Key | None
    timeout: float

    def __str__(self) -> str:
        return self.name if self.port == 53 else f"{self.name} port {self.port}"

    def query(self, name: str, rdtype: dns.rdatatype.RdataType) -> dns.message.Message:
        return self.exchange(dns.message.make_query(name, rdtype))

    def exchange(self, message: dns.message.Message) -> dns.message.Message:
        """The first answer of any address.  Raises by name when there is none, or none that the key verifies."""
        if isinstance(self.key, TsigKey):
            message.use_tsig(dns.tsig.Key(self.key.name, self.key.secret, self.key.algorithm))
        silent = []
        for address in self.addresses:
            try:
                return self._exchange_with(address, message)
            except (OSError, EOFError, dns.exception.Timeout) as error:
                silent.append(f"{address}: {_silence(error)}")
        raise DnsServerUnreachableError(domain=self.domain, server=str(self), why="; ".join(silent))

    def _exchange_with(self, address: str, message: dns.message.Message) -> dns.message.Message:
        timeout = self.timeout / len(self.addresses)
        try:
            if isinstance(self.key, KerberosKey) and isinstance(message, dns.update.UpdateMessage):
                negotiate(self.key, self.name, address, self.port, timeout).sign(message)
            return dns.query.tcp(message, address, timeout, self.port)
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime):
            raise DnsUpdateClockError(domain=self.domain, server=str(self)) from None
        except (dns.tsig.PeerError, dns.tsig.BadKey, dns.tsig.BadSignature, dns.tsig.BadAlgorithm) as error:
            if isinstance(self.key, KerberosKey):  # Samba does not sign a refusal as it should
                raise DnsNameOwnedError(domain=self.domain, server=str(self), account=self.key.name) from None
            key = self.key.name if self.key else None
            raise DnsUpdateBadKeyError(
                domain=self.domain, server=str(self), key=key, why=_TSIG_WHY.get(type(error), sentence(error))
            ) from None
        except dns.exception.Timeout:
            raise
        except dns.exception.DNSException as error:
            raise DnsUpdateFailedError(domain=self.domain, server=str(self), why=sentence(error)) from None


# What dnspython's TSIG exceptions mean to an administrator.
_TSIG_WHY: dict[type[BaseException], str] = {
    dns.tsig.PeerBadKey: "the server does not know a key of this name and algorithm",
    dns.tsig.PeerBadSignature: "the secrets differ",
    dns.tsig.PeerBadTruncation: "the server wants a longer signature",
    dns.tsig.BadSignature: "the server's answer is not signed with this secret",
    dns.tsig.BadKey: "the server answered with another key",
    dns.tsig.BadAlgorithm: "the server answered with another algorithm",
}


@dataclass(frozen=True, slots=True)
class _Zone:
    """The zone that holds a domain's record, at its primary server."""

    domain: DnsDomain
    name: dns.name.Name
    server: _Server

    def update(self, *, add: SrvRecord | None = None, ttl: int = DEFAULT_TTL, delete: Iterable[SrvRecord] = ()) -> None:
        """One atomic update that names only the records given."""
        owner = dns.name.from_text(self.domain.owner)
        message = dns.update.UpdateMessage(self.name)
        for record in delete:
            message.delete(owner, _rdata(record))
        if add is not None:
            message.add(owner, ttl, _rdata(add))
        self._check(self.server.exchange(message).rcode())

    def _check(self, rcode: dns.rcode.Rcode) -> None:
        where = {"domain": self.domain.domain, "server": str(self.server), "zone": text_of(self.name)}
        match rcode:
            case dns.rcode.NOERROR:
                return
            case dns.rcode.REFUSED:
                key = self.server.key
                if isinstance(key, KerberosKey):
                    server = str(self.server)
                    raise DnsNameOwnedError(domain=self.domain.domain, server=server, account=key.name)
                signed = f"with key {key.name!r}" if key else "without a TSIG key"
                raise DnsUpdateRefusedError(**where, signed=signed)
            case dns.rcode.NOTAUTH | dns.rcode.NOTZONE:
                raise DnsServerNotPrimaryError(**where)
            case _:
                raise DnsUpdateFailedError(**where, why=f"it answered {dns.rcode.to_text(rcode)}")


def _open_zone(domain: DnsDomain, resolver: dns.resolver.Resolver | None, timeout: float) -> _Zone:
    """Ask the domain's server which zone holds the record, or the system's resolver where no server is set."""
    key = domain.key()
    if domain.server is not None:
        server = _server(domain, domain.server, key, resolver, timeout)
        return _Zone(domain, _zone_at(server, domain), server)
    zone, primary = _zone_by_resolver(domain, _resolver(domain, resolver), timeout)
    return _Zone(domain, zone, _server(domain, primary, key, resolver, timeout))


def _zone_at(server: _Server, domain: DnsDomain) -> dns.name.Name:
    """The zone of the SOA that an authoritative answer carries: in the answer, or beside "no such name"."""
    answer = server.query(domain.owner, dns.rdatatype.SOA)
    owner = dns.name.from_text(domain.owner)
    for rrset in (*answer.answer, *answer.authority):
        if rrset.rdtype == dns.rdatatype.SOA and owner.is_subdomain(rrset.name) and rrset.name != dns.name.root:
            return rrset.name
    why = f"DNS server {server} answered {dns.rcode.to_text(answer.rcode())} without the zone's SOA record"
    raise DnsZoneNotFoundError(domain=domain.domain, why=why)


def _zone_by_resolver(domain: DnsDomain, resolver: dns.resolver.Resolver, timeout: float) -> tuple[dns.name.Name, str]:
    """The zone and the primary that its SOA record names."""
    try:
        zone = dns.resolver.zone_for_name(domain.owner, resolver=resolver, lifetime=timeout)
        soa = resolver.resolve(zone, dns.rdatatype.SOA, lifetime=timeout)[0]
    except dns.exception.DNSException as error:
        raise DnsZoneNotFoundError(domain=domain.domain, why=sentence(error)) from None
    if zone == dns.name.root:  # a name nobody has registered: the root servers take no updates and should not be asked
        raise DnsZoneNotFoundError(domain=domain.domain, why="no name server knows the domain")
    return zone, text_of(soa.mname)


def _server(
    domain: DnsDomain,
    name: str,
    key: TsigKey | KerberosKey | None,
    resolver: dns.resolver.Resolver | None,
    timeout: float,
) -> _Server:
    if is_address(name):
        return _Server(domain.domain, name, (name,), domain.port, key, timeout)
    try:
        answers = _resolver(domain, resolver).resolve_name(dns.name.from_text(name), lifetime=timeout)
    except dns.exception.DNSException as error:
        why = f"its address was not found: {sentence(error)}"
        raise DnsServerUnreachableError(domain=domain.domain, server=name, why=why) from None
    return _Server(domain.domain, name, tuple(answers.addresses()), domain.port, key, timeout)


def _resolver(domain: DnsDomain, given: dns.resolver.Resolver | None) -> dns.resolver.Resolver:
    try:
        return given or dns.resolver.Resolver()
    except (dns.exception.DNSException, ValueError) as error:
        why = f"this machine's resolver cannot be used: {sentence(error)}"
        raise DnsZoneNotFoundError(domain=domain.domain, why=why) from None


def _records(zone: _Zone, target: str) -> Found:
    owner = zone.domain.owner
    answer = zone.server.query(owner, dns.rdatatype.SRV)
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        why = f"it answered {dns.rcode.to_text(answer.rcode())} to a question for {owner}"
        raise DnsUpdateFailedError(domain=zone.domain.domain, server=str(zone.server), why=why)
    rrset = _srv_set(zone.domain, answer)
    records = sorted(_srv_record(rdata) for rdata in rrset or ())
    ours = tuple(record for record in records if record.target == target)
    others = tuple(record for record in records if record.target != target)
    ttl = None if rrset is None else rrset.ttl
    return Found(zone.domain.domain, text_of(zone.name), str(zone.server), ours, others, ttl)


def _srv_set(domain: DnsDomain, answer: dns.message.Message) -> dns.rrset.RRset | None:
    """The answer's records; a CNAME is an error, because servers ignore additions beside it (RFC 2136 §3.4.2.2)."""
    owner = dns.name.from_text(domain.owner)
    alias = answer.get_rrset(dns.message.ANSWER, owner, dns.rdataclass.IN, dns.rdatatype.CNAME)
    if alias is not None:
        raise DnsAliasError(domain=domain.domain, alias=text_of(alias[0].target))
    return answer.get_rrset(dns.message.ANSWER, owner, dns.rdataclass.IN, dns.rdatatype.SRV)


def _rdata(record: SrvRecord) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SRV, str(record))


def _srv_record(rdata: Any) -> SrvRecord:
    return SrvRecord(rdata.priority, rdata.weight, rdata.port, text_of(rdata.target).lower())


def _silence(error: BaseException) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "it closed the connection"
    return getattr(error, "strerror", None) or str(error)
