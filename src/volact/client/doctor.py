# SPDX-License-Identifier: Apache-2.0
"""The doctor: walks from a product to its licence, and names the one cause that it is not licensed, with its remedy.

It asks and changes nothing: no activation is made, no file written.  Every step is kept, so that the whole walk can be
shown; the cause is the first thing on the way that would have to be mended before anything after it can help.
Guide: docs/guide/doctor.md.
"""

import secrets
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from volact.client.activation import LICENSED
from volact.client.causes import (
    ClockWrong,
    CountLow,
    FolderFromOtherMachine,
    GroupMissing,
    HostDoubtful,
    HostInactive,
    HostNameUnknown,
    HostRevoked,
    HostRogue,
    HostSilent,
    KeyForGuests,
    LastAnswer,
    NameServersSilent,
    NoHostPublished,
    NotAskedYet,
    OtherServer,
    PortClosed,
    RecordStale,
)
from volact.client.discovery import (
    Browse,
    Candidate,
    DiscoveryTrace,
    LookupFailedError,
    NoHostFoundError,
    Outcome,
    Resolver,
    Settings,
    candidates,
)
from volact.client.machine import LocalMachine
from volact.client.products import LoadedProduct, NoKeyError, load_product
from volact.client.resolver import DnsResolver
from volact.client.rounds import load_memory
from volact.client.routes import IssuerServer, is_address, last_good
from volact.client.store import ClientStore
from volact.core.binding import NONCE_SIZE
from volact.core.errors import REGISTRY, TransportError, TrustError, VolactError
from volact.core.evaluation import CounterUnreadReason, Evaluation, MarkerMismatchReason, MarkerMissingReason, Reason
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.states import State
from volact.sealing import answers
from volact.sealing.answers import TrustedDescriptor
from volact.sealing.verify import RevokedError, UntrustedRootError
from volact.wire.client import NotVolactError, Server, ServerError

CONNECT_SECONDS = 5.0  # to one host; a firewall that drops what it gets is told from a closed port by that
MOST_HOSTS = 8  # that are visited; a site has six a key
INACTIVE = ("no-activated-key", "product-unknown")  # how a host's unsigned error begins that has no key to answer with
_OF_PUBLISHER = (Channel.MAK, Channel.RETAIL)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk.  ``ok``: ``None`` where there was nothing to judge."""

    what: str
    ok: bool | None
    detail: str

    def to_dict(self) -> dict[str, Any]:
        return {"step": self.what, "ok": self.ok, "detail": self.detail}


@dataclass(slots=True)
class Examination:
    """The walk of one product.  ``cause``: ``None`` where it is licensed and will be renewed."""

    product: str
    steps: list[Step] = field(default_factory=list)
    cause: VolactError | None = None
    state: State | None = None
    licensed: bool = False

    def note(self, what: str, ok: bool | None, detail: object) -> None:
        self.steps.append(Step(what, ok, str(detail)))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the doctor looks at beside the folder.  ``account``: who this computer is to its directory, a word or an
    error; ``vm_host``: the channel to the VM host, where there is one; ``browse``: who answers by multicast."""

    machine: LocalMachine
    resolver: Resolver
    clock: Callable[[], int]
    random: Random
    account: Callable[[], str | None] = lambda: None
    vm_host: Callable[[], IssuerServer | None] = lambda: None
    browse: Browse | None = None


@dataclass(frozen=True, slots=True)
class _Visit:
    """What one host came to: a descriptor that was verified, or the cause that it is none."""

    host: str
    cause: Reason | None
    difference: int = 0


def examine(product: str, store: ClientStore, around: Surroundings) -> Examination:
    """Walk; whatever is wrong ends in the examination, nothing is raised."""
    done = Examination(product)
    try:
        loaded, evaluation = _look(product, store, around, done)
        done.cause = _cause(loaded, evaluation, store, around, done)
    except VolactError as exc:
        done.note("folder", False, f"{exc.code}: {exc}")
        done.cause = exc
    for note in store.notes:
        done.note("folder", False, note)
    return done


# ---- what is here


def _look(
    product: str, store: ClientStore, around: Surroundings, done: Examination
) -> tuple[LoadedProduct, Evaluation]:
    loaded = load_product(store, product)
    done.note("product", True, f"{product} version {loaded.definition.version} of {loaded.definition.publisher}")
    evaluation = loaded.evaluate(around.machine.fingerprint(loaded.trust.fingerprint), around.clock())
    done.state, done.licensed = evaluation.state, evaluation.licensed
    installed = loaded.installation
    key = f"{installed.channel} key ending in {installed.partial}, edition {installed.edition}"
    done.note("key", installed.channel is not None, key if installed.channel else "none is installed")
    done.note("state", evaluation.licensed, _state(evaluation, around.clock()))
    attempt = store.attempt(product)
    if attempt is None:
        done.note("last attempt", None, "none yet")
    else:
        done.note("last attempt", attempt.code == LICENSED, f"{attempt.code} {attempt.message}".strip())
    return loaded, evaluation


def _state(evaluation: Evaluation, now: int) -> str:
    """How long it lasts is told in days, which no time zone changes."""
    reason = f": {evaluation.reason}" if evaluation.reason else ""
    left = "" if evaluation.until is None else f" for another {max(0, evaluation.until - now) / DAY:.1f} days"
    return f"{evaluation.state}{left}{reason}"


def _cause(
    loaded: LoadedProduct, evaluation: Evaluation, store: ClientStore, around: Surroundings, done: Examination
) -> VolactError | None:
    product, channel = loaded.product, loaded.installation.channel
    if loaded.edition is None or channel is None:
        return NoKeyError(product=product)
    copied = load_memory(store).copied_at > 0
    done.note("identity", not copied, "of another machine" if copied else "this machine's own")
    unmarked = _firmware(loaded, evaluation, done)
    if unmarked is not None:
        return unmarked
    unread = _counter(evaluation, done)
    if unread is not None:
        return unread
    wrong_key = _key_does_not_fit(loaded, store, around, done)
    if wrong_key is not None:
        return wrong_key
    visits = _visits(loaded, store, around, done)
    account = _directory(channel, around, done)
    if evaluation.licensed and (_renewed(store, product) or account):
        return next((visit.cause for visit in visits if isinstance(visit.cause, _DISTRUST)), None)
    if copied and not evaluation.licensed:
        return FolderFromOtherMachine()
    good = [visit for visit in visits if visit.cause is None]
    if not good and isinstance(visits, _Nowhere):
        return visits.cause
    if not good:
        return min(visits, key=_telling).cause
    return _behind_a_good_host(loaded, evaluation, store)


def _renewed(store: ClientStore, product: str) -> bool:
    attempt = store.attempt(product)
    return attempt is None or attempt.code == LICENSED


def _behind_a_good_host(loaded: LoadedProduct, evaluation: Evaluation, store: ClientStore) -> VolactError | None:
    """A host is there and may license: what it said the last time, if it said anything, is the cause."""
    product, attempt = loaded.product, store.attempt(loaded.product)
    assert loaded.edition is not None
    threshold, count = loaded.edition.policy.threshold, evaluation.count
    if not evaluation.licensed and count is not None and count < threshold:
        return CountLow(count=count, product=product, threshold=threshold, missing=threshold - count)
    if attempt is None:
        return NotAskedYet(product=product, since="yet")
    kind = REGISTRY.get(attempt.code)
    mended = kind is None or issubclass(kind, TransportError | TrustError) or attempt.code in _SEEN_OTHERWISE
    if attempt.code != LICENSED and not mended:
        return _as_it_was(attempt.code, attempt.message)
    return NotAskedYet(product=product, since="since that was mended")


# Refusals whose cause the walk has looked for itself, and not found any more.
_SEEN_OTHERWISE = frozenset({"clock-skew", "group-not-granted", "host-not-activated", "count-below-threshold"})


def _as_it_was(code: str, message: str) -> LastAnswer:
    return LastAnswer(answer=code, message=message)


def _key_does_not_fit(
    loaded: LoadedProduct, store: ClientStore, around: Surroundings, done: Examination
) -> Reason | None:
    product, channel = loaded.product, loaded.installation.channel
    if channel is Channel.VM:
        why = _no_vm_host(loaded, around)
        done.note("VM host", not why, why or "it answers")
        return KeyForGuests(channel="vm", product=product, why=why, option="--generic") if why else None
    if channel in _OF_PUBLISHER and store.settings().publisher is None and loaded.definition.url is None:
        done.note("publisher", False, "the definition names no service, and none is set")
        why = "only the publisher's service activates it, and no address of one is known"
        return KeyForGuests(channel=str(channel), product=product, why=why, option="--generic")
    return None


def _firmware(loaded: LoadedProduct, evaluation: Evaluation, done: Examination) -> Reason | None:
    """The maker's marker, where the edition asks for one; as the last look saw it, for only administrators may look."""
    assert loaded.edition is not None
    if loaded.installation.channel is not Channel.OEM and not loaded.edition.policy.requires_marker:
        return None
    seen, reason = loaded.firmware, evaluation.reason
    done.note("firmware", seen is not None and seen.marked, "not looked into yet" if seen is None else seen.sight)
    if isinstance(reason, MarkerMissingReason | MarkerMismatchReason):
        return reason
    return None


def _counter(evaluation: Evaluation, done: Examination) -> Reason | None:
    """Of a licence that is bound to the TPM's counter: whether somebody has read it lately."""
    if evaluation.licence is None or evaluation.licence.counter is None:
        return None
    unread = evaluation.reason if isinstance(evaluation.reason, CounterUnreadReason) else None
    done.note("TPM counter", unread is None, "not read for 30 days" if unread else "read lately, or not needed yet")
    return unread


def _no_vm_host(loaded: LoadedProduct, around: Surroundings) -> str:
    """Why this is no guest of a VM host; "" where one answers, be it with an error."""
    server = around.vm_host()
    if server is None:
        return "it is for guests of a VM host, and this is none"
    try:
        _introduce(server, loaded, around)
    except ServerError:
        return ""
    except TransportError as exc:
        return f"it is for guests of a VM host, and none answers: {exc}"
    except VolactError:
        return ""
    return ""


def _directory(channel: Channel, around: Surroundings, done: Examination) -> str | None:
    if channel is not Channel.VOLUME:
        return None
    try:
        account = around.account()
    except VolactError as exc:
        done.note("directory", None, f"{exc.code}: {exc}")
        return None
    if account is not None:
        done.note("directory", True, f"this computer is {account}")
    return account


# ---- the hosts


class _Nowhere(list[_Visit]):
    """No host to visit, and why."""

    def __init__(self, cause: Reason) -> None:
        super().__init__()
        self.cause = cause


def _visits(loaded: LoadedProduct, store: ClientStore, around: Surroundings, done: Examination) -> list[_Visit]:
    channel, settings = loaded.installation.channel, store.settings()
    if channel is Channel.OEM:  # nobody is asked
        return [_Visit("firmware", None)]
    vm_host = around.vm_host() if channel is Channel.VM else None
    if vm_host is not None:
        return [_converse(vm_host, "vm-host", loaded, around, done)]
    if channel in _OF_PUBLISHER:
        url = settings.publisher or loaded.definition.url or ""
        server = Server.from_url(url)
        return [_visit(Server(server.host, server.port, server.tls, CONNECT_SECONDS), url, "set", loaded, around, done)]
    trace = DiscoveryTrace()
    found: list[Candidate] = []
    with suppress(NoHostFoundError):
        found = list(
            candidates(
                settings.discovery,
                around.resolver,
                last_good(store.issuer(loaded.product)),
                around.random,
                trace,
                around.browse,
            )
        )
    for step in trace.steps:
        done.note("discovery", step.outcome in (Outcome.USED, Outcome.ANSWERED), step)
    if not found:
        return _Nowhere(_why_none(trace))
    return [
        _visit(_server(one, settings.discovery), str(one), str(one.source), loaded, around, done)
        for one in found[:MOST_HOSTS]
    ]


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


def _visit(
    server: Server, host: str, source: str, loaded: LoadedProduct, around: Surroundings, done: Examination
) -> _Visit:
    cause = _connect(server, host, source)
    done.note("reachable", cause is None, host if cause is None else cause)
    if cause is not None:
        return _Visit(host, cause)
    return _converse(server, host, loaded, around, done)


def _converse(
    server: IssuerServer, host: str, loaded: LoadedProduct, around: Surroundings, done: Examination
) -> _Visit:
    try:
        issuer, difference = _introduce(server, loaded, around)
    except VolactError as exc:
        cause = _why_not_believed(exc, host, loaded.product)
        done.note("certificate", False, cause)
        return _Visit(host, cause)
    done.note("certificate", True, f"{host}: {issuer.descriptor.name}")
    return _judge(host, issuer, difference, loaded, done)


def _judge(host: str, issuer: TrustedDescriptor, difference: int, loaded: LoadedProduct, done: Examination) -> _Visit:
    assert loaded.edition is not None
    tolerance, group = loaded.edition.policy.clock_tolerance, loaded.edition.group
    done.note("clock", abs(difference) <= tolerance, f"{difference:+d} seconds from {host}, {tolerance} are allowed")
    if abs(difference) > tolerance:
        direction = "ahead of" if difference > 0 else "behind"
        seconds = abs(difference)
        return _Visit(host, ClockWrong(difference=seconds, direction=direction, host=host, tolerance=tolerance))
    if issuer.grant.groups:
        granted = group in issuer.grant.groups
        groups = ", ".join(map(str, sorted(issuer.grant.groups)))
        done.note("product group", granted, f"{group}; {host} may license {groups}")
        if not granted:
            return _Visit(host, GroupMissing(host=host, group=group, product=loaded.product, groups=groups))
    return _Visit(host, None, difference)


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


def _introduce(server: IssuerServer, loaded: LoadedProduct, around: Surroundings) -> tuple[TrustedDescriptor, int]:
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


def _telling(visit: _Visit) -> int:
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


_DISTRUST = (HostRevoked, HostRogue, HostDoubtful)  # matters to a machine that is licensed, too


def products_of(store: ClientStore, named: Iterable[str]) -> list[str]:
    """Those named, or all; at least one, so that a folder without any says so."""
    return list(dict.fromkeys(named)) or store.products()
