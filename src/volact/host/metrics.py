# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of a KMS host, read from the store, so that they are right whichever worker is asked.

Everybody who reaches the port may read them: keys are named by their IDs, which licences carry as well, and never by
their last symbols (docs/spec/product-key.md).
"""

import asyncio
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from volact.core.count import day_of
from volact.host.folder import HostFolder
from volact.host.recording import REFUSED, STATE
from volact.host.store import HOST_SCOPE, HostStore


def metrics_page(folder: HostFolder, store: HostStore, now: int) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_HostCollector(folder, store, now))
    return generate_latest(registry)


class MetricsPage:
    """The page of this second, made once for all who ask meanwhile: to make it costs 3 ms and more, as many as a dozen
    activations, and whoever asks all the time shall not keep others from their licences."""

    def __init__(self, folder: HostFolder, store: HostStore, clock: Callable[[], int]) -> None:
        self._folder, self._store, self._clock = folder, store, clock
        self._lock = asyncio.Lock()
        self._made_at: int | None = None
        self._page = b""

    async def read(self) -> bytes:
        async with self._lock:
            now = self._clock()
            if now != self._made_at:
                self._page = await asyncio.to_thread(metrics_page, self._folder, self._store, now)
                self._made_at = now
            return self._page


class _HostCollector:
    def __init__(self, folder: HostFolder, store: HostStore, now: int) -> None:
        self._folder, self._store, self._now = folder, store, now

    def collect(self) -> Iterator[Metric]:
        yield from self._counts()
        yield from self._requests()
        yield self._certificates()

    def _counts(self) -> Iterator[Metric]:
        labels = ["root", "group"]
        counted = GaugeMetricFamily("volact_host_count", "Machines that count today", labels=labels)
        needed = GaugeMetricFamily("volact_host_threshold", "Lowest threshold of the group's editions", labels=labels)
        thresholds = self._thresholds()
        for scope in self._store.scopes():
            values = [scope.root[:23], str(scope.product_group)]
            counted.add_metric(values, self._store.count(scope.id, day_of(self._now)))
            if (scope.root, scope.product_group) in thresholds:
                needed.add_metric(values, thresholds[scope.root, scope.product_group])
        yield counted
        yield needed

    def _thresholds(self) -> dict[tuple[str, int], int]:
        found: dict[tuple[str, int], int] = {}
        for trusted in self._folder.products():
            for edition in trusted.definition.editions:
                key = (trusted.trust.fingerprint, edition.group)
                found[key] = min(edition.policy.threshold, found.get(key, edition.policy.threshold))
        return found

    def _requests(self) -> Iterator[Metric]:
        labels = ["root", "group"]
        total = CounterMetricFamily("volact_host_requests", "Requests answered", labels=labels)
        failed = CounterMetricFamily("volact_host_failed_requests", "Requests refused", labels=labels)
        states = CounterMetricFamily(
            "volact_host_requests_by_state", "Requests by the client's licence state", labels=[*labels, "state"]
        )
        refusals = CounterMetricFamily("volact_host_refusals", "Refusals by code", labels=[*labels, "code"])
        scopes = [(scope.id, [scope.root[:23], str(scope.product_group)]) for scope in self._store.scopes()]
        for scope_id, values in [(HOST_SCOPE, ["", ""]), *scopes]:
            for name, value in self._store.counters(scope_id).items():
                if name.startswith(STATE):
                    states.add_metric([*values, name.removeprefix(STATE)], value)
                elif name.startswith(REFUSED):
                    refusals.add_metric([*values, name.removeprefix(REFUSED)], value)
                else:
                    (total if name == "total" else failed).add_metric(values, value)
        yield from (total, failed, states, refusals)

    def _certificates(self) -> Metric:
        ends = GaugeMetricFamily(
            "volact_host_certificate_seconds", "Seconds until the host's certificate ends", labels=["key"]
        )
        for key in self._folder.host_keys():
            if key.activated:
                end = key.certificates()[0].not_valid_after_utc.timestamp()
                ends.add_metric([key.key.key_id], end - self._now)
        return ends
