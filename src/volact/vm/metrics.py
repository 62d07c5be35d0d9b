# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of a VM host, read from the store when they are asked for."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from volact.vm.application import VmFolder
from volact.vm.store import FAILED, REFUSED, STATE, TOTAL, VmStore


def registry(
    folder: VmFolder, store: VmStore, clock: Callable[[], int], channels: Callable[[], int]
) -> CollectorRegistry:
    """``channels``: how many are open now."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_VmCollector(folder, store, clock, channels))
    return made


def listen(made: CollectorRegistry, address: str, port: int) -> Callable[[], None]:
    """Answer on a thread of its own; returns what stops it."""
    server, thread = start_http_server(port, address, made)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class _VmCollector:
    def __init__(self, folder: VmFolder, store: VmStore, clock: Callable[[], int], channels: Callable[[], int]) -> None:
        self._folder, self._store, self._clock, self._channels = folder, store, clock, channels

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("volact_vm_channels", "Open channels of guests", value=self._channels())
        yield self._guests()
        yield from self._requests()
        yield self._certificates()

    def _guests(self) -> Metric:
        guests = GaugeMetricFamily(
            "volact_vm_guests", "Guests licensed in the last 30 days", labels=["root", "product", "edition"]
        )
        for (root, product, edition), number in self._store.licensed_guests(self._clock()).items():
            guests.add_metric([root[:23], product, edition], number)
        return guests

    def _requests(self) -> Iterator[Metric]:
        counters = self._store.counters()
        yield CounterMetricFamily("volact_vm_requests", "Requests answered", value=counters[TOTAL])
        yield CounterMetricFamily("volact_vm_failed_requests", "Requests refused", value=counters[FAILED])
        states = CounterMetricFamily(
            "volact_vm_requests_by_state", "Requests by the state that the guest claims", labels=["state"]
        )
        refusals = CounterMetricFamily("volact_vm_refusals", "Refusals by code", labels=["code"])
        for name, value in counters.items():
            if name.startswith(STATE):
                states.add_metric([name.removeprefix(STATE)], value)
            elif name.startswith(REFUSED):
                refusals.add_metric([name.removeprefix(REFUSED)], value)
        yield from (states, refusals)

    def _certificates(self) -> Metric:
        ends = GaugeMetricFamily(
            "volact_vm_certificate_seconds", "Seconds until the host's certificate ends", labels=["key"]
        )
        for key in self._folder.host_keys():
            if key.activated:
                end = key.certificates()[0].not_valid_after_utc.timestamp()
                ends.add_metric([key.key.key_id], end - self._clock())
        return ends
