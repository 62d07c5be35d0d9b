# SPDX-License-Identifier: Apache-2.0
"""Discovery: which KMS hosts a client tries, and in what order.

The order: the configured host alone; else the last good host, where caching is on, then the SRV records of the
configured domain, or of the DNS suffixes, and then, where there is no DNS, those that answer by multicast.  Candidates
come lazily: no question is sent before the ones before it were tried.  It contacts no KMS host and stores nothing; DNS
is not trusted, the answer's signature is.

Imports are the standard library's; DNS itself is `resolver`'s.
Spec: docs/spec/discovery.md §3.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from volact.client.folder.settings import SERVICE, HostPort, Settings, is_ipv4, is_ipv6, is_name
from volact.core.errors import TransportError

if TYPE_CHECKING:  # it costs start-up time that `volact client status` must not pay
    from random import Random


class NoHostFoundError(TransportError):
    """No candidate at all.  ``steps`` holds the whole search, as :meth:`DiscoveryTrace.to_list` gives it."""

    code = "no-host-found"
    fmt = "no KMS host was found: {why}"
    remedy = "set a host with 'volact client set-host NAME:PORT', or publish _volact._tcp in this machine's DNS suffix"


class Source(StrEnum):
    """Where a candidate's name comes from."""

    CONFIGURED_HOST = "configured-host"
    LAST_GOOD = "last-good-host"
    CONFIGURED_DOMAIN = "configured-domain"
    DNS_SUFFIX = "dns-suffix"
    MDNS = "mdns"


class Outcome(StrEnum):
    """How one step of the search ended."""

    USED = "used"
    ANSWERED = "answered"
    NXDOMAIN = "nxdomain"
    NO_ANSWER = "no-answer"
    NOT_AVAILABLE = "not-available"  # target ".": the domain says that it has no KMS host (RFC 2782)
    TIMEOUT = "timeout"
    REFUSED = "refused"
    SERVER_FAILURE = "server-failure"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"
    NO_RESOLVER = "no-resolver"
    NO_SUFFIX = "no-suffix"


_OUTCOME_TEXT = {
    Outcome.USED: "used",
    Outcome.ANSWERED: "answered",
    Outcome.NXDOMAIN: "the name does not exist",
    Outcome.NO_ANSWER: "the name has no SRV record",
    Outcome.NOT_AVAILABLE: "the domain says that it has no KMS host",
    Outcome.TIMEOUT: "no name server answered in time",
    Outcome.REFUSED: "the name server refused to answer",
    Outcome.SERVER_FAILURE: "the name server failed",
    Outcome.UNREACHABLE: "no name server could be reached",
    Outcome.MALFORMED: "the answer is malformed",
    Outcome.NO_RESOLVER: "this machine has no usable DNS settings",
    Outcome.NO_SUFFIX: "this machine has no DNS suffix",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A KMS host to try; ``source`` says why it is tried."""

    host: str
    port: int
    source: Source

    def __str__(self) -> str:
        return str(HostPort(self.host, self.port))


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One SRV answer; target "" is the root, "not available here"."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a search: what was asked or used, how it ended, and the particulars."""

    subject: str
    outcome: Outcome
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.subject}: {_OUTCOME_TEXT[self.outcome]}"
        return f"{text} ({self.detail})" if self.detail else text


@dataclass(slots=True)
class DiscoveryTrace:
    """Every step of one search, in order: what errors quote and what ``volact doctor`` shows."""

    steps: list[Step] = field(default_factory=list)

    def record(self, subject: str, outcome: Outcome, detail: str = "") -> None:
        self.steps.append(Step(subject, outcome, detail))

    def to_list(self) -> list[dict[str, str]]:
        return [{key: str(value) for key, value in asdict(step).items()} for step in self.steps]

    def __str__(self) -> str:
        return "; ".join(str(step) for step in self.steps)


class LookupFailedError(Exception):
    """Raised by a :class:`Resolver` for a name without records; it becomes a step, never a message of its own."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = detail


class Resolver(Protocol):
    """What discovery needs of DNS."""

    def suffixes(self) -> Iterable[str]:
        """The machine's DNS suffixes in the order to try, found as they are asked for."""

    def srv(self, name: str) -> Sequence[SrvRecord]:
        """The SRV records of an absolute name.  Raises :class:`LookupFailedError`, nothing else."""


Browse = Callable[[], Iterable[SrvRecord]]  # who answers by multicast; raises OSError where nobody can be asked


def candidates(
    settings: Settings,
    resolver: Resolver,
    last_good: tuple[str, int] | None,
    rng: "Random",
    trace: DiscoveryTrace | None = None,
    browse: Browse | None = None,
) -> Iterator[Candidate]:
    """The KMS hosts to try, best first; a dead one is followed by the next.  Each comes once.

    Steps are added to ``trace`` as they happen, so that a caller whose candidates all failed can say how they were
    found.  Raises :class:`NoHostFoundError` when there was none at all.
    """
    trace = DiscoveryTrace() if trace is None else trace
    seen = set[tuple[str, int]]()
    for candidate in _all_candidates(settings, resolver, last_good, rng, trace, browse):
        if (candidate.host, candidate.port) not in seen:
            seen.add((candidate.host, candidate.port))
            yield candidate
    if not seen:
        raise NoHostFoundError(why=str(trace), steps=trace.to_list())


def selection_order(records: Iterable[SrvRecord], rng: "Random") -> list[SrvRecord]:
    """RFC 2782: priorities ascending, within one at random by weight.

    dnspython's ``processing_order`` does the same from the ``random`` module's global state; here the randomness is
    the caller's, so that a test can repeat a draw and fleets that start from one image need not draw alike.
    """
    by_priority: dict[int, list[SrvRecord]] = {}
    for record in records:
        by_priority.setdefault(record.priority, []).append(record)
    return [record for priority in sorted(by_priority) for record in _by_weight(by_priority[priority], rng)]


def _all_candidates(
    settings: Settings,
    resolver: Resolver,
    last_good: tuple[str, int] | None,
    rng: "Random",
    trace: DiscoveryTrace,
    browse: Browse | None,
) -> Iterator[Candidate]:
    if settings.host is not None:
        yield _used(Candidate(*settings.host_port(settings.host), Source.CONFIGURED_HOST), trace)
        return
    if settings.caching and last_good is not None:
        yield _used(Candidate(*last_good, Source.LAST_GOOD), trace)
    found = False
    for domain, source in _domains(settings, resolver, trace):
        for record in selection_order(_usable(f"{SERVICE}.{domain}", resolver, trace), rng):
            found = True
            yield Candidate(record.target, record.port, source)
    if browse is not None and _asks_by_multicast(settings, trace, found=found):
        for record in selection_order(_browsed(browse, trace), rng):
            yield Candidate(record.target, record.port, Source.MDNS)


def _asks_by_multicast(settings: Settings, trace: DiscoveryTrace, *, found: bool) -> bool:
    """On a network without DNS: no suffix to ask under, or nobody to ask; or as the administrator wants it."""
    if settings.mdns is not None:
        return settings.mdns and not found
    missing = (Outcome.NO_SUFFIX, Outcome.NO_RESOLVER)
    return settings.domain is None and any(step.outcome in missing for step in trace.steps)


def _browsed(browse: Browse, trace: DiscoveryTrace) -> list[SrvRecord]:
    name = f"{SERVICE}.local by multicast"
    try:
        records = list(browse())
    except OSError as exc:
        trace.record(name, Outcome.UNREACHABLE, exc.strerror or str(exc))
        return []
    usable = [record for record in records if _is_usable(name, record, trace, addresses=True)]
    if usable:
        targets = ", ".join(str(HostPort(record.target, record.port)) for record in usable)
        trace.record(name, Outcome.ANSWERED, targets)
    elif not records:
        trace.record(name, Outcome.NO_ANSWER)
    return usable


def _used(candidate: Candidate, trace: DiscoveryTrace) -> Candidate:
    trace.record(f"{candidate.source} {candidate}", Outcome.USED)
    return candidate


def _domains(settings: Settings, resolver: Resolver, trace: DiscoveryTrace) -> Iterator[tuple[str, Source]]:
    if settings.domain is not None:
        yield settings.domain, Source.CONFIGURED_DOMAIN
        return
    found = False
    for suffix in resolver.suffixes():
        found = True
        yield suffix, Source.DNS_SUFFIX
    if not found:
        trace.record("DNS suffixes", Outcome.NO_SUFFIX, "no search list, and this machine's name has no domain")


def _usable(name: str, resolver: Resolver, trace: DiscoveryTrace) -> list[SrvRecord]:
    """The records of one name that a client can try; each of the others becomes a step."""
    try:
        records = resolver.srv(name)
    except LookupFailedError as failed:
        trace.record(name, failed.outcome, failed.detail)
        return []
    usable = [record for record in records if _is_usable(name, record, trace)]
    if usable:
        targets = ", ".join(str(HostPort(record.target, record.port)) for record in usable)
        trace.record(name, Outcome.ANSWERED, targets)
    return usable


def _is_usable(name: str, record: SrvRecord, trace: DiscoveryTrace, *, addresses: bool = False) -> bool:
    """``addresses``: those of IPv6 may stand in the name's place, as no name of DNS could be written."""
    if record.target == "":
        trace.record(name, Outcome.NOT_AVAILABLE)
        return False
    named = is_name(record.target) or is_ipv4(record.target) or (addresses and is_ipv6(record.target))
    if record.port == 0 or not named:
        trace.record(name, Outcome.MALFORMED, f"target {record.target!r} port {record.port}")
        return False
    return True


def _by_weight(records: list[SrvRecord], rng: "Random") -> Iterator[SrvRecord]:
    """RFC 2782's draw.  Shuffled first: hosts that all have weight 0, the default, must share the load as well."""
    waiting = list(records)
    rng.shuffle(waiting)
    waiting.sort(key=lambda record: record.weight != 0)  # those of weight 0 first, as the RFC says
    while waiting:
        draw = rng.randint(0, sum(record.weight for record in waiting))
        yield waiting.pop(_first_reaching(draw, waiting))


def _first_reaching(draw: int, records: list[SrvRecord]) -> int:
    running = 0
    for index, record in enumerate(records):
        running += record.weight
        if running >= draw:
            return index
    raise RuntimeError("the draw exceeds the sum of the weights")
