# SPDX-License-Identifier: Apache-2.0
"""Keeps a host's records in DNS while it runs: published at start, renewed every day, withdrawn at a clean stop."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import dns.resolver

from volact.core.errors import VolactError
from volact.host.dns.domain import DnsDomain
from volact.host.dns.errors import DnsDomainError, DnsServerUnreachableError
from volact.host.dns.updates import DEFAULT_TTL, EXCHANGE_TIMEOUT, Published, Withdrawn, publish, withdraw

PUBLISH_INTERVAL = 24 * 3600  # renews what scavenging or a restored zone took away

RETRY_FIRST = 300  # a name server that restarts is back by then

RETRY_LONGEST = 3600

STOP_TIMEOUT = 10.0  # a stop must not outlast the service manager's patience because a name server is gone

_log = logging.getLogger("volact.host.dns")


@dataclass(frozen=True, slots=True)
class DnsEvent:
    """One outcome for the host's event log: a code, a sentence, and fields that ``json`` can write."""

    code: str
    domain: str
    text: str
    fields: dict[str, Any]


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
