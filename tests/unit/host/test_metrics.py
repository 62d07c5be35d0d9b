# SPDX-License-Identifier: Apache-2.0
"""The metrics page, read back by Prometheus' own parser."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.site import Vendor
from volact.core.count import day_of
from volact.core.policy import DAY
from volact.host.application import load_serving, open_store
from volact.host.metrics import MetricsPage, metrics_page
from volact.host.recording import Refused, Seen
from volact.testing import FakeClock
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP


@pytest.fixture
def samples(tmp_path: Path):
    """{(name, labels): value} after three machines, a refusal and something unproven."""
    clock = FakeClock()
    vendor = Vendor.make(tmp_path, clock=clock)
    folder = vendor.give_host(tmp_path / "host")
    store = open_store(folder)
    load_serving(folder, store, "kms1")
    scope = next(one.id for one in store.scopes() if one.product_group == CLIENT_GROUP)
    today = day_of(clock())
    store.record(
        [
            Seen(scope, bytes([n]) * 32, b"f", clock(), clock(), 'a "name"\n', "acme-cad", "client", "licensed")
            for n in range(3)
        ],
        today,
        [Refused(scope, "clock-skew", clock()), Refused(0, "seal-broken", clock())],
    )
    page = metrics_page(folder, store, clock()).decode()
    store.close()
    families = text_string_to_metric_families(page)
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = {name: value for name, value in sample.labels.items() if name != "root"}
        found[sample.name, *sorted(labels.values())] = sample.value
    return found


def test_counts_stand_beside_their_thresholds(samples):
    assert samples["volact_host_count", str(CLIENT_GROUP)] == 3
    assert samples["volact_host_count", str(SERVER_GROUP)] == 0
    assert samples["volact_host_threshold", str(CLIENT_GROUP)] == 25
    assert samples["volact_host_threshold", str(SERVER_GROUP)] == 5


def test_requests_are_counted_by_outcome_state_and_code(samples):
    group = str(CLIENT_GROUP)
    assert samples["volact_host_requests_total", group] == 4
    assert samples["volact_host_failed_requests_total", group] == 1
    assert samples["volact_host_requests_by_state_total", group, "licensed"] == 3
    assert samples["volact_host_refusals_total", group, "clock-skew"] == 1
    assert samples["volact_host_refusals_total", "", "seal-broken"] == 1


def test_the_certificates_rest_of_life_is_there_to_be_watched(samples):
    (rest,) = [value for (name, *_), value in samples.items() if name == "volact_host_certificate_seconds"]
    assert rest == 365 * DAY


def test_a_key_is_named_by_its_id_and_none_of_its_symbols(tmp_path):
    clock = FakeClock()
    folder = Vendor.make(tmp_path, clock=clock).give_host(tmp_path / "host")
    store = open_store(folder)
    page = metrics_page(folder, store, clock()).decode()
    store.close()
    (installed,) = folder.host_keys()
    assert installed.key.key_id in page
    assert installed.key.partial not in page


def test_all_who_ask_within_a_second_get_one_page(tmp_path):
    clock = FakeClock()
    folder = Vendor.make(tmp_path, clock=clock).give_host(tmp_path / "host")
    store = open_store(folder)
    page = MetricsPage(folder, store, clock)

    async def ask() -> None:
        first = await asyncio.gather(*(page.read() for _ in range(50)))
        assert len({id(one) for one in first}) == 1
        clock.advance(seconds=1)
        assert await page.read() is not first[0]

    asyncio.run(ask())
    store.close()
