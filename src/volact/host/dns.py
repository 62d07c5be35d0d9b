# SPDX-License-Identifier: Apache-2.0
"""DNS publishing: the KMS host's SRV record, added, renewed and withdrawn by dynamic update (RFC 2136).

A record belongs to the host its target names.  Those of other hosts under the same name are read and reported, and
no message sent from here ever names one.  Updates travel over TCP, signed with TSIG (RFC 8945) where a key is set.

It is not discovery (that is ``client.discovery``) and not an event log: outcomes go to a callback.
Spec: docs/spec/discovery.md §2.
"""

import base64
import binascii
import ipaddress
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
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

from volact.core.errors import ConfigError, TransportError, VolactError

SERVICE = "_volact._tcp"
DEFAULT_TTL = 3600  # a dead host's record is forgotten by caches within the hour; clients ask at most every 15 minutes
MAX_TTL = 2**31 - 1  # RFC 2181 §8
PUBLISH_INTERVAL = 24 * 3600  # renews what scavenging or a restored zone took away
RETRY_FIRST = 300  # a name server that restarts is back by then
RETRY_LONGEST = 3600
EXCHANGE_TIMEOUT = 5.0  # one question and its answer, over all addresses of a server
STOP_TIMEOUT = 10.0  # a stop must not outlast the service manager's patience because a name server is gone
MAX_KEY_FILE = 64 * 1024  # tsig-keygen writes 120 bytes a key

# RFC 8945 §6 forbids or discourages MD5 and SHA-1; BIND, Knot, PowerDNS and NSD all speak those left.
_TSIG = "hmac-sha224 hmac-sha256 hmac-sha256-128 hmac-sha384 hmac-sha384-192 hmac-sha512 hmac-sha512-256"
TSIG_ALGORITHMS = frozenset(_TSIG.split())

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_COMMENT = re.compile(r"(?<![^\s;{}])(?://[^\n]*|#[^\n]*|/\*.*?\*/)", re.DOTALL)
_KEY_STATEMENT = re.compile(r'\s*key\s+("?)([\w.-]+)\1\s*\{([^{}]*)\}\s*;\s*', re.ASCII)
_KEY_CLAUSE = re.compile(r'\s*(algorithm|secret)\s+("?)([\w+/=.-]+)\2\s*;\s*', re.ASCII)

_log = logging.getLogger("volact.host.dns")


class DnsDomainError(ConfigError):
    code = "dns-domain-invalid"
    fmt = "DNS domain {text!r} is not valid: {why}"
    remedy = "write it as example.com or example.com,PRIORITY,WEIGHT"


class DnsRangeError(ConfigError):
    code = "dns-setting-out-of-range"
    fmt = "{setting} {value!r} is not a whole number from {low} to {high}"
    remedy = "set {setting} to a number from {low} to {high}"


class DnsTargetError(ConfigError):
    code = "dns-target-invalid"
    fmt = "{target!r} cannot be the target of an SRV record: {why}"
    remedy = "give the host's fully qualified name, such as kms1.example.com, that has an A or AAAA record"


class DnsKeyFileError(ConfigError):
    code = "dns-key-file-invalid"
    fmt = "TSIG key file {path} cannot be used: {why}"
    remedy = "make one with 'tsig-keygen NAME > FILE' and add the same key to the name server"


class DnsServerUnreachableError(TransportError):
    code = "dns-server-unreachable"
    fmt = "DNS server {server} did not answer: {why}"
    remedy = "check the server's address and that 53/TCP is open from here, or set another server for {domain}"


class DnsZoneNotFoundError(TransportError):
    code = "dns-zone-not-found"
    fmt = "no DNS zone was found that holds {domain}: {why}"
    remedy = "create the zone, or set the DNS server that is its primary"


class DnsServerNotPrimaryError(TransportError):
    code = "dns-server-not-primary"
    fmt = "DNS server {server} is not the primary server of zone {zone}"
    remedy = "set the zone's primary server for {domain}"


class DnsUpdateRefusedError(TransportError):
    code = "dns-update-refused"
    fmt = "DNS server {server} refused to change zone {zone} {signed}"
    remedy = "allow this host's key to update SRV records of _volact._tcp.{domain} (BIND: update-policy)"


class DnsUpdateBadKeyError(TransportError):
    code = "dns-update-bad-key"
    fmt = "DNS server {server} and this host do not agree on TSIG key {key!r}: {why}"
    remedy = "use the same key name, algorithm and secret on the server and in this host's key file"


class DnsUpdateClockError(TransportError):
    code = "dns-update-clock"
    fmt = "DNS server {server} and this host's clock differ by more than TSIG allows (5 minutes)"
    remedy = "set the clocks of both by NTP"


class DnsAliasError(TransportError):
    code = "dns-name-is-alias"
    fmt = "_volact._tcp.{domain} is an alias of {alias}, so no SRV record can stand there"
    remedy = "delete the CNAME record, or publish in the domain of {alias} instead"


class DnsUpdateFailedError(TransportError):
    code = "dns-update-failed"
    fmt = "DNS server {server} could not do what was asked for {domain}: {why}"
    remedy = "read the name server's log; it says why it answered so"


@dataclass(frozen=True, slots=True, order=True)
class SrvRecord:
    """One SRV record's data, in the order RFC 2782 writes it; ``target`` is lower case, without the last dot."""

    priority: int
    weight: int
    port: int
    target: str

    def __str__(self) -> str:
        return f"{self.priority} {self.weight} {self.port} {self.target}."


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret of this host and a name server; its ``repr`` does not show the secret."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DnsDomain:
    """One domain to publish in, and how to reach the server that takes its updates.

    ``server`` is an address or a name; without it the primary is found by the zone's SOA record.  ``port`` is that
    of the name server.  The key file is read at each use, so that a changed key needs no restart.
    """

    domain: str
    priority: int = 0
    weight: int = 0
    server: str | None = None
    port: int = 53
    key_file: Path | None = None
    key_name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "domain", _checked_domain(self.domain))
        _check_range("priority", self.priority, 0, 65535)
        _check_range("weight", self.weight, 0, 65535)
        _check_range("DNS server port", self.port, 1, 65535)
        if self.server is not None:
            object.__setattr__(self, "server", _checked_server(self.server))

    @classmethod
    def parse(cls, text: str, **where: Any) -> "DnsDomain":
        """``example.com[,priority[,weight]]`` as an administrator types it; ``where`` fills the other fields."""
        domain, *numbers = (part.strip() for part in text.split(","))
        if len(numbers) > 2:
            raise DnsDomainError(text=text, why="it has more than a domain, a priority and a weight")
        for setting, number in zip(("priority", "weight"), numbers, strict=False):
            where[setting] = _number(setting, number)
        return cls(domain, **where)

    @property
    def owner(self) -> str:
        """The name the record stands under."""
        return f"{SERVICE}.{self.domain}"

    def key(self) -> TsigKey | None:
        """The TSIG key, or None for unsigned updates.  Raises :class:`DnsKeyFileError`."""
        return None if self.key_file is None else read_key_file(self.key_file, self.key_name)

    def record(self, target: str, port: int) -> SrvRecord:
        """What this host publishes here."""
        _check_range("port", port, 1, 65535)
        return SrvRecord(self.priority, self.weight, port, checked_target(target))


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


@dataclass(frozen=True, slots=True)
class DnsEvent:
    """One outcome for the host's event log: a code, a sentence, and fields that ``json`` can write."""

    code: str
    domain: str
    text: str
    fields: dict[str, Any]


def checked_target(target: str) -> str:
    """The host's name as it stands in the record.  Raises :class:`DnsTargetError` for addresses and short names."""
    try:
        name = _checked_name(target)
    except ValueError as error:
        raise DnsTargetError(target=target, why=str(error)) from None
    if "." not in name:
        raise DnsTargetError(target=target, why="it is not fully qualified")
    return name


def read_key_file(path: Path, name: str | None = None) -> TsigKey:
    """The key called ``name`` of a BIND key file, or its only key.  Raises :class:`DnsKeyFileError`, nothing else."""
    keys = parse_key_file(_key_file_text(path), str(path))
    wanted = [key for key in keys if name is None or key.name == name.lower().rstrip(".")]
    if len(wanted) == 1:
        return wanted[0]
    raise DnsKeyFileError(path=str(path), why=f"it holds no key {name}" if name else "it holds several keys: name one")


def parse_key_file(text: str, path: str) -> tuple[TsigKey, ...]:
    """The keys of a file in BIND's syntax, as ``tsig-keygen`` writes it.  Raises :class:`DnsKeyFileError`."""
    rest = _COMMENT.sub(" ", text).strip()
    keys: dict[str, TsigKey] = {}
    while rest:
        statement = _KEY_STATEMENT.match(rest)
        if statement is None:
            raise DnsKeyFileError(path=path, why='it is not a list of: key "NAME" { algorithm …; secret "…"; };')
        key = _key(statement[2], statement[3], path)
        if keys.setdefault(key.name, key) is not key:
            raise DnsKeyFileError(path=path, why=f"it holds key {key.name} twice")
        rest = rest[statement.end() :]
    if not keys:
        raise DnsKeyFileError(path=path, why="it holds no key")
    return tuple(keys.values())


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
    _check_range("TTL", ttl, 0, MAX_TTL)
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


class DnsPublisher:
    """Keeps one host's records in DNS from :meth:`start` to :meth:`stop`, in one background thread.

    Each domain stands for itself: one that fails is retried after 5 minutes, then ever longer up to an hour, while
    the others are renewed every 24 hours.  Every attempt ends in one event: ``dns-published``, ``dns-publish-failed``,
    ``dns-withdrawn`` or ``dns-withdraw-failed``.  No domains means that publishing is off: no thread, no packets.

    ``on_event`` is called in the thread.  ``clock`` is monotonic seconds; ``wait`` waits for the event at most that
    long and says whether it is set.
    """

    def __init__(
        self,
        domains: Iterable[DnsDomain],
        target: str,
        port: int,
        on_event: Callable[[DnsEvent], None],
        *,
        ttl: int = DEFAULT_TTL,
        resolver: dns.resolver.Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._domains = tuple(domains)
        _check_once(self._domains)
        for domain in self._domains:
            domain.record(target, port)
        self._target, self._port, self._ttl, self._resolver = target, port, ttl, resolver
        self._on_event, self._clock, self._wait = on_event, clock, wait
        self._failures = dict.fromkeys(self._domains, 0)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Publish at once and keep it published; returns without waiting for the name servers."""
        if self._thread is not None:
            raise RuntimeError("a DnsPublisher starts once")
        if self._domains:
            self._thread = threading.Thread(target=self._run, name="volact-dns", daemon=True)
            self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Withdraw the records and end the thread; False when it has not ended within ``timeout`` seconds."""
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        due = dict.fromkeys(self._domains, self._clock())
        while not self._stopping.is_set():
            for domain in self._due(due):
                due[domain] = self._clock() + self._publish(domain)
            self._wait(self._stopping, max(0.0, min(due.values()) - self._clock()))
        self._withdraw_all()

    def _due(self, due: dict[DnsDomain, float]) -> Iterator[DnsDomain]:
        now = self._clock()
        for domain in self._domains:
            if due[domain] <= now and not self._stopping.is_set():
                yield domain

    def _publish(self, domain: DnsDomain) -> float:
        """One attempt; returns the seconds until the next."""
        try:
            done = publish(domain, self._target, self._port, self._ttl, resolver=self._resolver)
        except Exception as error:
            retry = retry_delay(self._failures[domain])
            self._failures[domain] += 1
            self._report(_failed("dns-publish-failed", domain, error, retry_in=retry))
            return retry
        self._failures[domain] = 0
        self._report(_published(done))
        return PUBLISH_INTERVAL

    def _withdraw_all(self) -> None:
        end = self._clock() + STOP_TIMEOUT
        for domain in self._domains:
            try:
                timeout = _time_left(domain, end - self._clock())
                done = withdraw(domain, self._target, resolver=self._resolver, timeout=timeout)
            except Exception as error:
                self._report(_failed("dns-withdraw-failed", domain, error))
            else:
                self._report(_withdrawn(done))

    def _report(self, event: DnsEvent) -> None:
        try:
            self._on_event(event)
        except Exception:  # a full disk under the event log must not end the publishing
            _log.exception("event %s of %s could not be written: %s", event.code, event.domain, event.text)


def retry_delay(failures: int) -> int:
    """Seconds to wait after one more failure on top of ``failures``: doubling from 5 minutes up to an hour."""
    return int(min(RETRY_FIRST * 2 ** min(failures, 10), RETRY_LONGEST))


@dataclass(frozen=True, slots=True)
class _Server:
    """A name server as this host speaks to it: over TCP, each message signed where there is a key."""

    domain: str
    name: str
    addresses: tuple[str, ...]
    port: int
    key: TsigKey | None
    timeout: float

    def __str__(self) -> str:
        return self.name if self.port == 53 else f"{self.name} port {self.port}"

    def query(self, name: str, rdtype: dns.rdatatype.RdataType) -> dns.message.Message:
        return self.exchange(dns.message.make_query(name, rdtype))

    def exchange(self, message: dns.message.Message) -> dns.message.Message:
        """The first answer of any address.  Raises by name when there is none, or none that the key verifies."""
        if self.key is not None:
            message.use_tsig(dns.tsig.Key(self.key.name, self.key.secret, self.key.algorithm))
        silent = []
        for address in self.addresses:
            try:
                return self._exchange_with(address, message)
            except (OSError, EOFError, dns.exception.Timeout) as error:
                silent.append(f"{address}: {_silence(error)}")
        raise DnsServerUnreachableError(domain=self.domain, server=str(self), why="; ".join(silent))

    def _exchange_with(self, address: str, message: dns.message.Message) -> dns.message.Message:
        try:
            return dns.query.tcp(message, address, self.timeout / len(self.addresses), self.port)
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime):
            raise DnsUpdateClockError(domain=self.domain, server=str(self)) from None
        except (dns.tsig.PeerError, dns.tsig.BadKey, dns.tsig.BadSignature, dns.tsig.BadAlgorithm) as error:
            key = self.key.name if self.key else None
            raise DnsUpdateBadKeyError(
                domain=self.domain, server=str(self), key=key, why=_TSIG_WHY.get(type(error), _sentence(error))
            ) from None
        except dns.exception.Timeout:
            raise
        except dns.exception.DNSException as error:
            raise DnsUpdateFailedError(domain=self.domain, server=str(self), why=_sentence(error)) from None


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
        where = {"domain": self.domain.domain, "server": str(self.server), "zone": _text(self.name)}
        match rcode:
            case dns.rcode.NOERROR:
                return
            case dns.rcode.REFUSED:
                key = self.server.key
                signed = f"with key {key.name!r}" if key else "without a TSIG key"
                raise DnsUpdateRefusedError(**where, signed=signed)
            case dns.rcode.NOTAUTH | dns.rcode.NOTZONE:
                raise DnsServerNotPrimaryError(**where)
            case _:
                raise DnsUpdateFailedError(**where, why=f"it answered {dns.rcode.to_text(rcode)}")


# What dnspython's TSIG exceptions mean to an administrator.
_TSIG_WHY: dict[type[BaseException], str] = {
    dns.tsig.PeerBadKey: "the server does not know a key of this name and algorithm",
    dns.tsig.PeerBadSignature: "the secrets differ",
    dns.tsig.PeerBadTruncation: "the server wants a longer signature",
    dns.tsig.BadSignature: "the server's answer is not signed with this secret",
    dns.tsig.BadKey: "the server answered with another key",
    dns.tsig.BadAlgorithm: "the server answered with another algorithm",
}


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
        raise DnsZoneNotFoundError(domain=domain.domain, why=_sentence(error)) from None
    if zone == dns.name.root:  # a name nobody has registered: the root servers take no updates and should not be asked
        raise DnsZoneNotFoundError(domain=domain.domain, why="no name server knows the domain")
    return zone, _text(soa.mname)


def _server(
    domain: DnsDomain, name: str, key: TsigKey | None, resolver: dns.resolver.Resolver | None, timeout: float
) -> _Server:
    if _is_address(name):
        return _Server(domain.domain, name, (name,), domain.port, key, timeout)
    try:
        answers = _resolver(domain, resolver).resolve_name(dns.name.from_text(name), lifetime=timeout)
    except dns.exception.DNSException as error:
        why = f"its address was not found: {_sentence(error)}"
        raise DnsServerUnreachableError(domain=domain.domain, server=name, why=why) from None
    return _Server(domain.domain, name, tuple(answers.addresses()), domain.port, key, timeout)


def _resolver(domain: DnsDomain, given: dns.resolver.Resolver | None) -> dns.resolver.Resolver:
    try:
        return given or dns.resolver.Resolver()
    except (dns.exception.DNSException, ValueError) as error:
        why = f"this machine's resolver cannot be used: {_sentence(error)}"
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
    return Found(zone.domain.domain, _text(zone.name), str(zone.server), ours, others, ttl)


def _srv_set(domain: DnsDomain, answer: dns.message.Message) -> dns.rrset.RRset | None:
    """The answer's records; a CNAME is an error, because servers ignore additions beside it (RFC 2136 §3.4.2.2)."""
    owner = dns.name.from_text(domain.owner)
    alias = answer.get_rrset(dns.message.ANSWER, owner, dns.rdataclass.IN, dns.rdatatype.CNAME)
    if alias is not None:
        raise DnsAliasError(domain=domain.domain, alias=_text(alias[0].target))
    return answer.get_rrset(dns.message.ANSWER, owner, dns.rdataclass.IN, dns.rdatatype.SRV)


def _rdata(record: SrvRecord) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SRV, str(record))


def _srv_record(rdata: Any) -> SrvRecord:
    return SrvRecord(rdata.priority, rdata.weight, rdata.port, _text(rdata.target).lower())


def _published(done: Published) -> DnsEvent:
    text = f"published {done.record} in {done.domain}"
    replaced = [str(record) for record in done.replaced]
    fields = _fields(done) | {"record": str(done.record), "replaced": replaced}
    return DnsEvent("dns-published", done.domain, text, fields)


def _withdrawn(done: Withdrawn) -> DnsEvent:
    removed = [str(record) for record in done.removed]
    text = f"withdrew {', '.join(removed)} from {done.domain}" if removed else f"nothing to withdraw from {done.domain}"
    return DnsEvent("dns-withdrawn", done.domain, text, _fields(done) | {"removed": removed})


def _fields(done: Published | Withdrawn) -> dict[str, Any]:
    return {"zone": done.zone, "server": done.server, "others": [str(record) for record in done.others]}


def _failed(code: str, domain: DnsDomain, error: Exception, retry_in: int | None = None) -> DnsEvent:
    """The failure by its own name; what has none is a fault of ours and is logged whole."""
    if not isinstance(error, VolactError):
        _log.error("unexpected failure in DNS publishing", exc_info=error)
        return DnsEvent(code, domain.domain, f"internal error: {error!r}", {"cause": "internal", "retry_in": retry_in})
    fields = {"cause": error.code, "remedy": error.hint, "retry_in": retry_in}
    return DnsEvent(code, domain.domain, str(error), fields)


def _time_left(domain: DnsDomain, seconds: float) -> float:
    if seconds <= 0:
        server = domain.server or "of the zone"
        raise DnsServerUnreachableError(domain=domain.domain, server=server, why="no time was left at the stop")
    return min(EXCHANGE_TIMEOUT, seconds)


def _check_once(domains: tuple[DnsDomain, ...]) -> None:
    names = [domain.domain for domain in domains]
    for name in names:
        if names.count(name) > 1:
            raise DnsDomainError(text=name, why="it is listed twice")


def _checked_domain(text: str) -> str:
    try:
        name = _checked_name(text)
        dns.name.from_text(f"{SERVICE}.{name}")
    except (ValueError, dns.exception.DNSException) as error:
        raise DnsDomainError(text=text, why=_sentence(error)) from None
    return name


def _checked_server(text: str) -> str:
    if _is_address(text):
        return text
    try:
        return _checked_name(text)
    except ValueError as error:
        raise DnsDomainError(text=text, why=f"as a DNS server: {error}") from None


def _checked_name(text: str) -> str:
    """A host or domain name in one spelling: lower case, A-labels (RFC 5890), no last dot.  Raises ValueError."""
    if _is_address(text):
        raise ValueError("it is an address, not a name")
    try:
        name = _text(dns.name.from_text(text)).lower()
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(_sentence(error)) from None
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("its labels are not made of letters, digits and hyphens")
    if labels[-1].isdigit():
        raise ValueError("its last label is a number")
    return name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _number(setting: str, text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None:
        raise DnsRangeError(setting=setting, value=text, low=0, high=65535)
    return int(text)


def _check_range(setting: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise DnsRangeError(setting=setting, value=value, low=low, high=high)


def _key_file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
        text = data.decode("ascii")
    except OSError as error:
        raise DnsKeyFileError(path=str(path), why=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise DnsKeyFileError(path=str(path), why="it is not ASCII text") from None
    if len(data) > MAX_KEY_FILE:
        raise DnsKeyFileError(path=str(path), why=f"it is longer than {MAX_KEY_FILE} bytes")
    return text


def _key(name: str, body: str, path: str) -> TsigKey:
    clauses = dict[str, str]()
    rest = body.strip()
    while rest:
        clause = _KEY_CLAUSE.match(rest)
        if clause is None or clause[1] in clauses:
            raise DnsKeyFileError(path=path, why=f"key {name} is not one algorithm and one secret")
        clauses[clause[1]] = clause[3]
        rest = rest[clause.end() :]
    if clauses.keys() != {"algorithm", "secret"}:
        raise DnsKeyFileError(path=path, why=f"key {name} lacks its algorithm or its secret")
    return TsigKey(_key_name(name, path), _algorithm(clauses["algorithm"], path), _secret(clauses["secret"], path))


def _key_name(text: str, path: str) -> str:
    try:
        return _text(dns.name.from_text(text)).lower()
    except dns.exception.DNSException as error:
        raise DnsKeyFileError(path=path, why=f"key name {text!r}: {_sentence(error)}") from None


def _algorithm(text: str, path: str) -> str:
    algorithm = text.lower().rstrip(".")
    if algorithm not in TSIG_ALGORITHMS:
        known = ", ".join(sorted(TSIG_ALGORITHMS))
        raise DnsKeyFileError(path=path, why=f"algorithm {text} is not one of {known}")
    return algorithm


def _secret(text: str, path: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except binascii.Error:
        secret = b""
    if not secret:
        raise DnsKeyFileError(path=path, why="its secret is not base64")
    return secret


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def _silence(error: BaseException) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "it closed the connection"
    return getattr(error, "strerror", None) or str(error)


def _sentence(error: BaseException) -> str:
    """Another library's message as the end of one of our sentences."""
    return (str(error) or type(error).__name__).rstrip(".")
