# SPDX-License-Identifier: Apache-2.0
"""Visits: each host that a product could ask is found, reached, and its descriptor judged; no activation is made."""

import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass

from volact.client.discovery.hosts import (
    Candidate,
    DiscoveryTrace,
    LookupFailedError,
    NoHostFoundError,
    Outcome,
    candidates,
)
from volact.client.discovery.resolver import DnsResolver
from volact.client.discovery.routes import IssuerServer, is_address, last_good
from volact.client.doctor.causes import (
    ClockWrong,
    GroupMissing,
    HostDoubtful,
    HostInactive,
    HostNameUnknown,
    HostRevoked,
    HostRogue,
    HostSilent,
    NameServersSilent,
    NoHostPublished,
    OtherServer,
    PortClosed,
    RecordStale,
)
from volact.client.doctor.examination import Examination, Surroundings
from volact.client.folder.settings import Settings
from volact.client.folder.store import ClientStore
from volact.client.products.loading import LoadedProduct
from volact.core.binding import NONCE_SIZE
from volact.core.errors import TransportError, VolactError
from volact.core.evaluation import Reason
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.sealing import answers
from volact.sealing.answers import TrustedDescriptor
from volact.sealing.verify import RevokedError, UntrustedRootError
from volact.wire.client import NotVolactError, Server, ServerError

CONNECT_SECONDS = 5.0  # to one host; a firewall that drops what it gets is told from a closed port by that
MOST_HOSTS = 8  # that are visited; a site has six a key
INACTIVE = ("no-activated-key", "product-unknown")  # how a host's unsigned error begins that has no key to answer with
OF_PUBLISHER = (Channel.MAK, Channel.RETAIL)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one host came to: a descriptor that was verified, or the cause that it is none."""

    host: str
    cause: Reason | None
    difference: int = 0


# ---- finding them


class Nowhere(list[Visit]):
    """No host to visit, and why."""

    def __init__(self, cause: Reason) -> None:
        super().__init__()
        self.cause = cause


def visit_all(loaded: LoadedProduct, store: ClientStore, around: Surroundings, done: Examination) -> list[Visit]:
    channel, settings = loaded.installation.channel, store.settings()
    if channel is Channel.OEM:  # nobody is asked
        return [Visit("firmware", None)]
    vm_host = around.vm_host() if channel is Channel.VM else None
    if vm_host is not None:
        return [_converse(vm_host, "vm-host", loaded, around, done)]
    if channel in OF_PUBLISHER:
        url = settings.publisher or loaded.definition.url or ""
        server = Server.from_url(url)
        return [_visit(Server(server.host, server.port, server.tls, CONNECT_SECONDS), url, "set", loaded, around, done)]
    trace = DiscoveryTrace()
    found = _candidates(loaded, store, around, trace)
    for step in trace.steps:
        done.note("discovery", step.outcome in (Outcome.USED, Outcome.ANSWERED), step)
    if not found:
        return Nowhere(_why_none(trace))
    return [
        _visit(_server(one, settings.discovery), str(one), str(one.source), loaded, around, done)
        for one in found[:MOST_HOSTS]
    ]


def _candidates(
    loaded: LoadedProduct, store: ClientStore, around: Surroundings, trace: DiscoveryTrace
) -> list[Candidate]:
    known, settings = last_good(store.issuer(loaded.product)), store.settings().discovery
    with suppress(NoHostFoundError):
        return list(candidates(settings, around.resolver, known, around.random, trace, around.browse))
    return []


def _server(one: Candidate, settings: Settings) -> Server:
    """By the name server that is set, where one is; what it does not know, connecting says."""
    host = one.host
    if settings.resolver_address is not None and not is_address(host):
        with suppress(LookupFailedError):
            host = DnsResolver(settings.resolver_address).addresses(host)[0]
    return Server(host, one.port, timeout=CONNECT_SECONDS)


def _why_none(trace: DiscoveryTrace) -> Reason:
    silent = {Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.NO_RESOLVER, Outcome.SERVER_FAILURE, Outcome.REFUSED}
    if trace.steps and all(step.outcome in silent for step in trace.steps):
        return NameServersSilent(why=str(trace))
    return NoHostPublished(why=str(trace))


# ---- at one host


def _visit(
    server: Server, host: str, source: str, loaded: LoadedProduct, around: Surroundings, done: Examination
) -> Visit:
    cause = _connect(server, host, source)
    done.note("reachable", cause is None, host if cause is None else cause)
    if cause is not None:
        return Visit(host, cause)
    return _converse(server, host, loaded, around, done)


def _converse(server: IssuerServer, host: str, loaded: LoadedProduct, around: Surroundings, done: Examination) -> Visit:
    try:
        issuer, difference = introduce(server, loaded, around)
    except VolactError as exc:
        cause = _why_not_believed(exc, host, loaded.product)
        done.note("certificate", False, cause)
        return Visit(host, cause)
    done.note("certificate", True, f"{host}: {issuer.descriptor.name}")
    return _judge(host, issuer, difference, loaded, done)


def _judge(host: str, issuer: TrustedDescriptor, difference: int, loaded: LoadedProduct, done: Examination) -> Visit:
    assert loaded.edition is not None
    tolerance, group = loaded.edition.policy.clock_tolerance, loaded.edition.group
    done.note("clock", abs(difference) <= tolerance, f"{difference:+d} seconds from {host}, {tolerance} are allowed")
    if abs(difference) > tolerance:
        direction = "ahead of" if difference > 0 else "behind"
        seconds = abs(difference)
        return Visit(host, ClockWrong(difference=seconds, direction=direction, host=host, tolerance=tolerance))
    if issuer.grant.groups:
        granted = group in issuer.grant.groups
        groups = ", ".join(map(str, sorted(issuer.grant.groups)))
        done.note("product group", granted, f"{group}; {host} may license {groups}")
        if not granted:
            return Visit(host, GroupMissing(host=host, group=group, product=loaded.product, groups=groups))
    return Visit(host, None, difference)


def _connect(server: Server, host: str, source: str) -> Reason | None:
    try:
        with socket.create_connection((server.host, server.port), CONNECT_SECONDS):
            return None
    except socket.gaierror as exc:
        kind = RecordStale if source in ("dns-suffix", "configured-domain") else HostNameUnknown
        return kind(host=host, why=exc.strerror or str(exc))
    except ConnectionRefusedError as exc:
        return PortClosed(host=host, why=exc.strerror or str(exc))
    except OSError as exc:
        why = "it took no connection in time" if isinstance(exc, TimeoutError) else exc.strerror or str(exc)
        return HostSilent(host=host, why=why)


def introduce(server: IssuerServer, loaded: LoadedProduct, around: Surroundings) -> tuple[TrustedDescriptor, int]:
    """The host's descriptor, verified, and how far this machine's clock is ahead of it."""
    edition, channel = loaded.edition, loaded.installation.channel
    assert edition is not None
    assert channel is not None
    nonce = secrets.token_bytes(NONCE_SIZE)
    token = server.get_issuer(loaded.trust.fingerprint, loaded.product, edition.group, nonce)
    now = around.clock()
    trusted = answers.verify_descriptor(
        token,
        loaded.trust,
        channel,
        now=now,
        nonce=nonce,
        suites=edition.policy.suites,
        status_max_age=edition.policy.status_max_age_days * DAY,
    )
    return trusted, now - trusted.descriptor.issued_at


def _why_not_believed(exc: VolactError, host: str, product: str) -> Reason:
    if isinstance(exc, NotVolactError):
        return OtherServer(host=host, why=exc.fields["why"])
    if isinstance(exc, ServerError) and str(exc.fields["message"]).startswith(INACTIVE):
        return HostInactive(host=host, product=product, why=exc.fields["message"])
    if isinstance(exc, RevokedError):
        return HostRevoked(host=host)
    if isinstance(exc, UntrustedRootError):
        return HostRogue(host=host, product=product, why=str(exc))
    if isinstance(exc, TransportError):
        return HostSilent(host=host, why=str(exc))
    return HostDoubtful(host=host, why=f"{exc.code}: {exc}", help=exc.hint)


def telling(visit: Visit) -> int:
    return _ORDER.index(type(visit.cause)) if type(visit.cause) in _ORDER else len(_ORDER)


# Of several hosts that all fail: the one that is nearest to licensing tells most.
_ORDER: list[type[Reason] | type[None]] = [
    ClockWrong,
    HostRevoked,
    GroupMissing,
    HostInactive,
    HostDoubtful,
    HostRogue,
    OtherServer,
    PortClosed,
    HostSilent,
    RecordStale,
    HostNameUnknown,
]
