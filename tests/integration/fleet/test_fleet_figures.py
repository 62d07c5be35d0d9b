# SPDX-License-Identifier: Apache-2.0
"""The fleet in numbers and every report: alike on SQLite and PostgreSQL, and held against a plain count of the rows."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from support import postgresql
from support.fleet_rows import NOW, fill
from volact.fleet import figures
from volact.fleet.figures import Compliance, samples
from volact.fleet.figures.forecast import DAY, Forecast, Unforeseen
from volact.fleet.keys import agreements
from volact.fleet.keys.agreements import Bought
from volact.fleet.reports.asked import Asked, scope_of
from volact.fleet.reports.catalogue import REPORTS, make_report
from volact.fleet.reports.data import as_dict
from volact.fleet.schema import HISTORY, KEYS, MACHINES, PRODUCTS, SAMPLES
from volact.fleet.store import FleetStore

MACHINES_FILLED = 3_000


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path_factory.mktemp("figures") / "fleet.sqlite") as store:
        fill(store, MACHINES_FILLED)
        yield store


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def store(request: pytest.FixtureRequest) -> Iterator[FleetStore]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    address = request.getfixturevalue("fleet_postgresql")
    postgresql.execute(address, "CREATE DATABASE figures")
    with FleetStore.open(f"{address}figures") as store:
        fill(store, MACHINES_FILLED)
        yield store


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "fleet.sqlite") as store:
        yield store


def test_the_size_is_what_a_plain_count_of_the_rows_gives(store: FleetStore) -> None:
    with store.read() as conn:
        size = figures.fleet_size(conn, NOW)
        machines = conn.execute(select(MACHINES)).all()
        states = Counter(conn.execute(select(PRODUCTS.c.state)).scalars())
    assert size.machines == MACHINES_FILLED
    assert size.never_refreshed == sum(row.refreshed_at is None for row in machines)
    assert size.failing == sum(row.last_result not in (None, "ok") for row in machines)
    assert size.installations == states.total()
    assert size.licensed == states["licensed"]
    assert size.in_grace == sum(number for state, number in states.items() if state.endswith("grace"))


def test_buckets_hold_each_end_once(store: FleetStore) -> None:
    with store.read() as conn:
        buckets = figures.expiry_buckets(conn, NOW)
        rows = conn.execute(select(PRODUCTS.c.state, PRODUCTS.c.expires_at, PRODUCTS.c.grace_ends_at)).all()
    leases = [row.expires_at for row in rows if row.state == "licensed" and row.expires_at is not None]
    assert sum(bucket.licences for bucket in buckets) == len(leases)
    assert buckets[0].licences == sum(end <= NOW for end in leases)
    assert buckets[2].licences == sum(NOW + 7 * DAY < end <= NOW + 30 * DAY for end in leases)


def test_a_scope_counts_only_its_machines(store: FleetStore) -> None:
    scope = scope_of("tag=site-3", NOW)
    with store.read() as conn:
        part, whole = figures.fleet_size(conn, NOW, scope), figures.fleet_size(conn, NOW)
        found = figures.expiring(conn, NOW, 30, scope)
        everything = figures.expiring(conn, NOW, 30)
    assert part.machines == whole.machines // 12
    assert 0 < len(found) < len(everything)
    assert set(found) <= set(everything)


def test_clones_are_machines_with_one_machine_id(store: FleetStore) -> None:
    with store.read() as conn:
        found = [row for row in figures.clones(conn) if row.kind == "machine-id"]
    assert {row.machine for row in found} == {f"pc{n:06}.example.net" for n in (997, 1994, 2991)}
    assert {row.together for row in found} == {3}


def test_the_newest_count_of_a_host_is_the_one_that_is_told(store: FleetStore) -> None:
    with store.read() as conn:
        found = figures.hosts(conn)
        row = found[0]
        newest = conn.execute(
            select(PRODUCTS.c.count)
            .where(PRODUCTS.c.last_host == row.host, PRODUCTS.c.product == row.product, PRODUCTS.c.channel == "volume")
            .order_by(PRODUCTS.c.last_attempt_at.desc())
            .limit(1)
        ).scalar()
    assert row.count == newest


def test_pools_come_with_the_day_they_run_out(store: FleetStore) -> None:
    with store.read() as conn:
        found = {pool.partial: pool for pool in figures.pools(conn)}
    assert found["7TTQ4"].forecast is Unforeseen.SPENT
    assert isinstance(found["9QXTR"].forecast, Forecast)
    assert next(iter(found)) == "7TTQ4"


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_the_same_on_both_databases(name: str, sqlite: FleetStore, store: FleetStore) -> None:
    assert _told(store, name) == _told(sqlite, name)


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_of_an_empty_fleet_says_so(name: str, empty: FleetStore) -> None:
    with empty.read() as conn:
        report = make_report(conn, name, Asked(NOW))
    assert not report.rows
    assert report.summary


def test_changes_tell_before_and_after_and_leave_out_what_changed_back(empty: FleetStore) -> None:
    with empty.write() as conn:
        for id_ in (1, 2, 3):
            conn.execute(insert(MACHINES).values(id=id_, name=f"m{id_}", source="t", reach_state="new", added_at=0))
        for machine, at, state in (
            (1, -40, "licensed"), (1, -2, "notification"),
            (2, -40, "licensed"), (2, -3, "notification"), (2, -1, "licensed"),
            (3, -1, "licensed"),
        ):  # fmt: skip
            row = {"machine_id": machine, "root": "r", "product": "cad", "at": NOW + at * DAY, "state": state}
            conn.execute(insert(HISTORY).values(**row))
    with empty.read() as conn:
        report = make_report(conn, "changes", Asked(NOW, since=NOW - 7 * DAY))
    assert [row[:4] for row in report.rows] == [
        ("m3", "cad", "new", "licensed"),
        ("m1", "cad", "licensed", "notification"),
    ]
    assert report.facts == {"changed": 2, "gained": 1, "lost": 1, "back_again": 1}


def test_compliance_holds_machines_against_the_agreements_in_force(empty: FleetStore) -> None:
    with empty.write() as conn:
        bought = [Bought("EA-1", 101, 1, "cad"), Bought("EA-2", 101, 1, "cad", ends_at=NOW - 1), Bought("EA-3", 7, 5)]
        agreements.keep(conn, bought, "test", NOW, "tester")
        for id_, channel in ((1, "volume"), (2, "mak"), (3, "retail")):
            conn.execute(insert(MACHINES).values(id=id_, name=f"m{id_}", source="t", reach_state="new", added_at=0))
            values = {"machine_id": id_, "root": "r", "product": "cad", "product_group": 101, "channel": channel}
            values |= {"state": "licensed", "licensed": 1, "first_seen_at": 0, "refreshed_at": 0}
            conn.execute(insert(PRODUCTS).values(**values))
    with empty.read() as conn:
        rows = {row.product_group: row for row in figures.compliance(conn, NOW)}
    assert (rows[101].bought, rows[101].installed, rows[101].left) == (1, 2, -1)
    assert (rows[7].bought, rows[7].installed) == (5, 0)


def test_what_is_left_of_a_group_covers_volume_keys_below_it_and_no_mak() -> None:
    rows = [
        Compliance(101, "cad", 1, 5, 30, 30, None, by_kms=12),
        Compliance(102, "render", 1, 10, 4, 4, None, by_kms=4),
        Compliance(103, "farm", 1, 50, 0, 0, None),
        Compliance(7, "other", 0, 0, 3, 3, None, by_kms=3),
    ]
    found = {row.product_group: row for row in figures.cover_from_above(rows, {101: 102, 102: 103})}
    assert (found[101].covered, found[101].left) == (12, -13)
    assert (found[102].lent, found[102].left) == (6, 0)
    assert (found[103].lent, found[103].left) == (6, 44)
    assert found[7].left == -3
    circle = figures.cover_from_above(rows[:2], {101: 102, 102: 101})
    assert [row.left for row in circle] == [-19, 0]


def test_samples_are_one_a_day_and_never_repeat_an_old_answer_of_the_publisher(empty: FleetStore) -> None:
    with empty.write() as conn:
        key = {"key_id": "k", "partial": "ABCDE", "channel": "mak", "publisher_tag": "1", "product_group": 1}
        key |= {"description": "", "sealed": b"\0", "added_at": 0, "added_by": "t", "remaining": 7, "activations": 10}
        conn.execute(insert(KEYS).values(**key, refreshed_at=NOW))
        samples.take_samples(conn, NOW)
        conn.execute(update(KEYS).values(remaining=6))
        samples.take_samples(conn, NOW + 60)
        samples.take_samples(conn, NOW + DAY)
    with empty.read() as conn:
        kept = conn.execute(select(SAMPLES.c.kind, SAMPLES.c.value).where(SAMPLES.c.key == "k")).all()
    assert sorted(map(tuple, kept)) == [("activations", 10), ("remaining", 6)]


def _told(store: FleetStore, name: str) -> dict[str, Any]:
    with store.read() as conn:
        report = make_report(conn, name, Asked(NOW, since=NOW - 30 * DAY if name == "changes" else 0))
    told = as_dict(report)
    told["rows"] = sorted(told["rows"], key=repr)  # where two rows are alike in all that orders them
    told["charts"] = sorted(map(repr, told["charts"])) if name in ("hosts", "failures", "clones") else told["charts"]
    return told
