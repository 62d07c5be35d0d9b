# SPDX-License-Identifier: Apache-2.0
"""The system's DNS as discovery needs it: suffixes, SRV records, and why a name has none.

dnspython is imported when the first question is asked.  Spec: docs/spec/discovery.md §3.
"""

import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from volact.client.discovery.hosts import LookupFailedError, Outcome, SrvRecord
from volact.client.folder.settings import is_name, parse_resolver_address

if TYPE_CHECKING:
    import dns.resolver

QUERY_TIMEOUT = 5.0  # for one name over all name servers; a machine with three dead suffixes waits 15 s, not minutes
RESOLV_CONF = "/etc/resolv.conf"


class DnsResolver:
    """The system's DNS, or one name server at ``address`` ("IP:port"); suffixes are the system's in both cases.

    Suffixes: the search list (or ``domain``) of resolv.conf, then the domain of the machine's own full name.
    """

    def __init__(
        self, address: str | None = None, *, timeout: float = QUERY_TIMEOUT, resolv_conf: str = RESOLV_CONF
    ) -> None:
        self._address = None if address is None else parse_resolver_address(address)
        self._timeout, self._resolv_conf = timeout, resolv_conf
        self._opened: dns.resolver.Resolver | None = None
        self._problem = ""

    def suffixes(self) -> Iterator[str]:
        resolver = self._open()
        listed = resolver.search or [resolver.domain]
        seen = set[str]()
        for suffix in _then_own_domain(name.to_text(omit_final_dot=True).lower() for name in listed):
            if suffix not in ("", ".") and suffix not in seen:
                seen.add(suffix)
                yield suffix

    def srv(self, name: str) -> list[SrvRecord]:
        import dns.exception

        resolver = self._open()
        if not resolver.nameservers:
            raise LookupFailedError(Outcome.NO_RESOLVER, self._problem)
        try:
            answer = resolver.resolve(name.rstrip(".") + ".", "SRV", lifetime=self._timeout)
        except dns.exception.DNSException as error:
            raise _lookup_failed(error) from None
        return [_srv_record(rdata) for rdata in answer]

    def addresses(self, host: str) -> list[str]:
        """The addresses of a host by the name server that is set.  Raises :class:`LookupFailedError`."""
        import dns.exception

        resolver, found = self._open(), list[str]()
        failed: Exception | None = None
        for kind in ("A", "AAAA"):
            try:
                found += [rdata.address for rdata in resolver.resolve(f"{host}.", kind, lifetime=self._timeout)]
            except dns.exception.DNSException as error:
                failed = failed or error
        if not found and failed is not None:
            raise _lookup_failed(failed)
        return found

    def _open(self) -> "dns.resolver.Resolver":
        if self._opened is None:
            self._opened = self._configured()
        return self._opened

    def _configured(self) -> "dns.resolver.Resolver":
        """A resolver without name servers, and the reason kept, where the system's settings give none."""
        import dns.exception
        import dns.resolver

        resolver = dns.resolver.Resolver(configure=False)
        try:
            resolver.read_resolv_conf(self._resolv_conf)
        except (dns.exception.DNSException, ValueError) as error:
            self._problem = f"{self._resolv_conf}: {_sentence(error)}"
        if self._address is not None:
            resolver.nameservers, resolver.port = [self._address.host], self._address.port
        return resolver


def _then_own_domain(suffixes: Iterable[str]) -> Iterator[str]:
    yield from suffixes
    yield own_domain(socket.gethostname())


def own_domain(name: str) -> str:
    """The domain of this machine's full name, as ``hostname -d`` shows it; "" when it has none."""
    if "." not in name:
        try:
            name = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)[0][3]
        except OSError:
            return ""
    domain = name.rstrip(".").partition(".")[2].lower()
    return domain if is_name(domain) and domain != "localdomain" else ""


def _srv_record(rdata: Any) -> SrvRecord:
    target = rdata.target.to_text(omit_final_dot=True).lower()
    return SrvRecord(rdata.priority, rdata.weight, rdata.port, "" if target == "." else target)


def _lookup_failed(error: Exception) -> LookupFailedError:
    import dns.resolver

    match error:
        case dns.resolver.NXDOMAIN():
            return LookupFailedError(Outcome.NXDOMAIN)
        case dns.resolver.NoAnswer():
            return LookupFailedError(Outcome.NO_ANSWER)
        case dns.resolver.LifetimeTimeout():
            return LookupFailedError(Outcome.TIMEOUT, _tried(error))
        case dns.resolver.NoNameservers():
            return LookupFailedError(_worst(error), _tried(error))
        case _:
            return LookupFailedError(Outcome.MALFORMED, _sentence(error))


def _worst(error: Any) -> Outcome:
    """Why no name server was of use, by the last one's fault: an rcode in text, or an exception."""
    *_, last = error.kwargs["errors"]
    return {"REFUSED": Outcome.REFUSED, "SERVFAIL": Outcome.SERVER_FAILURE}.get(str(last[3]), _fault(last[3]))


def _fault(fault: object) -> Outcome:
    if isinstance(fault, OSError | EOFError):
        return Outcome.UNREACHABLE
    return Outcome.SERVER_FAILURE if isinstance(fault, str) else Outcome.MALFORMED


def _tried(error: Any) -> str:
    """The name servers and what each said, once each."""
    said = [f"{where}: {_sentence(fault)}" for where, _, _, fault, _ in error.kwargs["errors"]]
    return ", ".join(dict.fromkeys(said))


def _sentence(error: object) -> str:
    return (str(error) or type(error).__name__).rstrip(".")
