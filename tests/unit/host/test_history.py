# SPDX-License-Identifier: Apache-2.0
"""What a host tells of the past, as values."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.site import Vendor
from volact.core.count import day_of
from volact.core.policy import DAY
from volact.host.application import load_serving, open_store
from volact.host.folder import HostFolder
from volact.host.history import Answered, host_history
from volact.host.recording import HOST_SCOPE, Refused, Seen
from volact.host.store import HostStore
from volact.testing import FakeClock
from volact.testing.issuers import CLIENT_GROUP

NOW = 20_000 * DAY + 12 * 3600


@pytest.fixture
def folder(tmp_path: Path) -> HostFolder:
    return Vendor.make(tmp_path, clock=FakeClock(NOW)).give_host(tmp_path / "host")


@pytest.fixture
def store(folder: HostFolder) -> Iterator[HostStore]:
    opened = open_store(folder)
    load_serving(folder, opened, "kms1")
    yield opened
    opened.close()


def ask(store: HostStore, number: int, at: int, state: str = "unlicensed") -> None:
    scope_id = next(scope.id for scope in store.scopes() if scope.product_group == CLIENT_GROUP)
    identity = b"%032d" % number
    store.record([Seen(scope_id, identity, identity, at, at, "ws", "acme-cad", "client", state)], day_of(at))


def refuse(store: HostStore, code: str, at: int, scope_id: int = HOST_SCOPE) -> None:
    store.record_refusals([Refused(scope_id, code, at)])


def test_each_day_that_the_host_ran_has_its_count_and_today_has_the_present_one(folder, store):
    for ago, number in ((40, 1), (12, 2), (12, 3), (5, 4)):
        ask(store, number, NOW - ago * DAY)
    (group,) = [g for g in host_history(folder, store, NOW).groups if g.status.group == CLIENT_GROUP]
    assert [(day.at // DAY, day.count) for day in group.days] == [(19_988, 3), (19_995, 3), (20_000, 3)]
    assert group.status.thresholds["acme-cad/client"] == 25


def test_requests_are_told_by_day_group_state_and_cause(folder, store):
    ask(store, 1, NOW - DAY)
    ask(store, 1, NOW - DAY + 3600, state="licensed")
    ask(store, 2, NOW - 60)
    refuse(store, "clock-skew", NOW - 50)
    refuse(store, "clock-skew", NOW - 40)
    history = host_history(folder, store, NOW)
    root = history.groups[0].status.root
    yesterday, today = NOW - DAY - 12 * 3600, NOW - 12 * 3600
    assert history.period == DAY
    assert list(history.answered) == [
        Answered(yesterday, root, CLIENT_GROUP, {"licensed": 1, "unlicensed": 1}, {}),
        Answered(today, None, None, {}, {"clock-skew": 2}),
        Answered(today, root, CLIENT_GROUP, {"unlicensed": 1}, {}),
    ]


def test_a_single_day_is_told_hour_by_hour(folder, store):
    ask(store, 1, NOW - 2 * 3600)
    ask(store, 2, NOW - 3600)
    history = host_history(folder, store, NOW, days=1)
    assert history.period == 3600
    assert [row.at for row in history.answered] == [NOW - 2 * 3600, NOW - 3600]


def test_hours_of_more_than_a_year_ago_are_forgotten(folder, store):
    for days in (500, 399, 0):
        ask(store, days, NOW - days * DAY)
    assert store.prune_hours(NOW) == 1
    assert [(NOW - hour.at) // DAY for hour in store.hours(0, NOW)] == [399, 0]
