# SPDX-License-Identifier: Apache-2.0
"""The KMS host's store on real SQLite files: what it counts, reports, keeps, and survives."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count as numbers
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from volact.core.count import SECONDS_PER_DAY, Verdict, count
from volact.host.schema import METADATA
from volact.host.store import HOST_SCOPE, HostStore, Recorded, Refused, Scope, Seen
from volact.sql.engine import open_engine
from volact.sql.errors import DatabaseTooNewError
from volact.sql.transaction import read

ROOT = "sha256:" + "ab" * 32
TODAY = 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host.db"


@pytest.fixture
def store(path: Path) -> Iterator[HostStore]:
    store = HostStore.open(path)
    yield store
    store.close()


@pytest.fixture
def scope(store: HostStore) -> Scope:
    return store.scope(ROOT, 1)


def machine_id(number: int) -> bytes:
    return b"machine %024d" % number


def hardware(number: int) -> bytes:
    return b"board %010d" % number


def seen(scope_id: int, machine: int, board: int | None = None, day: int = TODAY, **fields: Any) -> Seen:
    at = day * SECONDS_PER_DAY + 3600
    values = {"name": f"ws{machine}", "product": "acme-cad", "edition": "pro", "state": "initial-grace"} | fields
    board = machine if board is None else board
    return Seen(scope_id, machine_id(machine), hardware(board), at, at - 5, **values)


def histogram_by_hand(path: Path) -> dict[tuple[int, int], int]:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        return Counter((scope, day) for scope, day in conn.execute("SELECT scope_id, last_seen_day FROM machine"))


def histogram_kept(path: Path) -> dict[tuple[int, int], int]:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        return {(scope, day): machines for scope, day, machines in conn.execute("SELECT * FROM seen_day")}


# -- counting --------------------------------------------------------------------------------------------------------


def test_each_machine_of_a_batch_gets_its_own_count(store: HostStore, scope: Scope) -> None:
    first = store.record([seen(scope.id, 1), seen(scope.id, 2), seen(scope.id, 1)], TODAY)
    assert first == [Recorded(1, Verdict.NEW), Recorded(2, Verdict.NEW), Recorded(2, Verdict.SAME)]
    assert store.record([seen(scope.id, 3)], TODAY) == [Recorded(3, Verdict.NEW)]
    assert store.count(scope.id, TODAY) == 3
    assert [one.requests for one in store.machines(scope.id)] == [2, 1, 1]


def test_machine_leaves_the_count_after_thirty_days_and_comes_back(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, 1), seen(scope.id, 2)], TODAY)
    assert store.count(scope.id, TODAY + 29) == 2
    assert store.count(scope.id, TODAY + 30) == 0
    assert store.record([seen(scope.id, 1, day=TODAY + 30)], TODAY + 30) == [Recorded(1, Verdict.SAME)]
    assert store.histogram(scope.id) == {TODAY: 1, TODAY + 30: 1}


def test_what_a_clock_that_was_ahead_wrote_does_not_count_until_the_machine_asks_again(
    store: HostStore, scope: Scope
) -> None:
    store.record([seen(scope.id, number, day=TODAY + 700) for number in range(3)], TODAY + 700)
    assert store.count(scope.id, TODAY + 700) == 3
    assert store.count(scope.id, TODAY) == 0
    assert [one.count for one in store.record([seen(scope.id, 0), seen(scope.id, 9)], TODAY)] == [1, 2]
    assert store.count(scope.id, TODAY) == 2
    assert store.count(scope.id, TODAY + 1) == 2


def test_groups_and_publishers_count_for_themselves(store: HostStore, scope: Scope) -> None:
    other_group, other_root = store.scope(ROOT, 2), store.scope("sha256:" + "cd" * 32, 1)
    batch = [seen(scope.id, 1), seen(other_group.id, 1), seen(other_root.id, 1), seen(other_root.id, 2)]
    assert [one.count for one in store.record(batch, TODAY)] == [1, 1, 1, 2]
    assert store.scopes() == [scope, other_group, other_root]


def test_scope_is_made_once_and_follows_its_policy(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, 1)], TODAY)
    assert store.scope(ROOT, 1) == scope
    assert store.scope(ROOT, 1, window_days=7).id == scope.id
    assert store.count(scope.id, TODAY + 6) == 1
    assert store.record([seen(scope.id, 2, day=TODAY + 7)], TODAY + 7)[0].count == 1


def test_batch_larger_than_one_statements_variables_is_one_transaction(store: HostStore, scope: Scope) -> None:
    batch = [seen(scope.id, number) for number in range(1200)]
    assert [one.count for one in store.record(batch, TODAY)] == list(range(1, 1201))
    assert {one.verdict for one in store.record(batch, TODAY)} == {Verdict.SAME}
    assert store.count(scope.id, TODAY) == 1200


def test_request_for_an_unknown_scope_records_nothing(store: HostStore, scope: Scope) -> None:
    with pytest.raises(KeyError):
        store.record([seen(scope.id, 1), seen(999, 1)], TODAY)
    assert store.count(scope.id, TODAY) == 0
    assert store.events() == []


def test_history_has_the_last_count_of_each_day(store: HostStore, scope: Scope) -> None:
    for day, machine in ((TODAY, 1), (TODAY, 2), (TODAY + 1, 3), (TODAY + 1, 3)):
        store.record([seen(scope.id, machine, day=day)], day)
    store.note_counts(TODAY + 31)
    assert store.history(scope.id, TODAY + 31, 40) == {TODAY: 2, TODAY + 1: 3, TODAY + 31: 0}
    assert store.history(scope.id, TODAY + 31, 31) == {TODAY + 1: 3, TODAY + 31: 0}


# -- clones and identical hardware -----------------------------------------------------------------------------------


def test_clone_counts_once_and_is_proven_by_coming_back(store: HostStore, scope: Scope) -> None:
    boards = [1, 2, 1, 2, 2]
    recorded = [store.record([seen(scope.id, 7, board)], TODAY)[0] for board in boards]
    assert [one.count for one in recorded] == [1, 1, 1, 1, 1]
    expected = [Verdict.NEW, Verdict.CHANGED, Verdict.CLONE, Verdict.CLONE, Verdict.SAME]
    assert [one.verdict for one in recorded] == expected
    (clone,) = store.clones()
    assert (clone.machine_id, clone.proved_at) == (machine_id(7), TODAY * SECONDS_PER_DAY + 3600)
    assert {use.fingerprint: use.times for use in clone.fingerprints} == {hardware(1): 2, hardware(2): 2}
    warned = [event.code for event in store.events() if event.level == "warning"]
    assert warned == ["fingerprint-changed", "clone-detected", "clone-detected"]


def test_clones_within_one_batch_are_seen(store: HostStore, scope: Scope) -> None:
    recorded = store.record([seen(scope.id, 7, board) for board in (1, 2, 1)], TODAY)
    assert [one.verdict for one in recorded] == [Verdict.NEW, Verdict.CHANGED, Verdict.CLONE]
    assert store.count(scope.id, TODAY) == 1


def test_exchanged_hardware_is_a_change_without_proof(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, 7, 1)], TODAY)
    store.record([seen(scope.id, 7, 2, TODAY + 7)], TODAY + 7)
    store.record([seen(scope.id, 7, 2, TODAY + 14)], TODAY + 14)
    (change,) = store.clones()
    assert change.proved_at is None
    assert store.clones(since=(TODAY + 8) * SECONDS_PER_DAY) == []
    put_back = store.record([seen(scope.id, 7, 1, TODAY + 40)], TODAY + 40)
    assert put_back == [Recorded(1, Verdict.CHANGED)]


def test_products_comparison_decides_what_is_a_change(path: Path) -> None:
    store = HostStore.open(path, same_hardware=lambda one, other: one[:5] == other[:5])
    scope = store.scope(ROOT, 1)
    recorded = store.record([seen(scope.id, 7, 1), seen(scope.id, 7, 2)], TODAY)
    assert [one.verdict for one in recorded] == [Verdict.NEW, Verdict.SAME]
    assert store.clones() == []
    store.close()


def test_machine_that_invents_fingerprints_cannot_fill_the_disk(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, 7, board) for board in range(100)], TODAY)
    (clone,) = store.clones()
    assert len(clone.fingerprints) == 16


def test_one_fingerprint_under_many_machine_ids_is_reported(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, 1, 5), seen(scope.id, 2, 5), seen(scope.id, 3, 6)], TODAY)
    (shared,) = store.shared_fingerprints()
    assert (shared.fingerprint, shared.machine_ids) == (hardware(5), (machine_id(1), machine_id(2)))
    assert store.count(scope.id, TODAY) == 3


def test_collapsing_scope_counts_identical_hardware_once(store: HostStore) -> None:
    scope = store.scope(ROOT, 1, collapse=True)
    recorded = store.record([seen(scope.id, 1, 5), seen(scope.id, 2, 5), seen(scope.id, 3, 6)], TODAY)
    assert recorded == [Recorded(1, Verdict.NEW), Recorded(1, Verdict.SHARED), Recorded(2, Verdict.NEW)]
    (shared,) = store.shared_fingerprints()
    assert shared.machine_ids == (machine_id(1), machine_id(2))


def test_collapsing_scope_counts_a_machine_with_changed_hardware_once(store: HostStore) -> None:
    scope = store.scope(ROOT, 1, collapse=True)
    recorded = [store.record([seen(scope.id, 1, board)], TODAY)[0] for board in (5, 6, 5)]
    assert recorded == [Recorded(1, Verdict.NEW), Recorded(1, Verdict.CHANGED), Recorded(1, Verdict.CLONE)]
    assert store.machines(scope.id)[0].machine_id == machine_id(1)
    assert len(store.clones()) == 1


def test_policy_may_begin_and_cease_to_collapse(store: HostStore, scope: Scope, path: Path) -> None:
    store.record([seen(scope.id, 1, 5), seen(scope.id, 2, 5), seen(scope.id, 3, 6)], TODAY)
    assert store.scope(ROOT, 1, collapse=True).collapse
    assert store.count(scope.id, TODAY) == 2
    assert store.record([seen(scope.id, 2, 5), seen(scope.id, 3, 6)], TODAY)[-1].count == 2
    assert store.shared_fingerprints()[0].machine_ids == (machine_id(1), machine_id(2))
    assert not store.scope(ROOT, 1).collapse
    assert store.count(scope.id, TODAY) == 2
    assert store.record([seen(scope.id, number, 5) for number in (1, 2)], TODAY)[-1].count == 3
    assert histogram_kept(path) == histogram_by_hand(path)


# -- records ---------------------------------------------------------------------------------------------------------


def test_counters_tell_states_and_refusals(store: HostStore, scope: Scope) -> None:
    batch = [seen(scope.id, 1, state="licensed"), seen(scope.id, 2), seen(scope.id, 3)]
    store.record(batch, TODAY, [Refused(scope.id, "clock-skew", 5)])
    store.record_refusals([Refused(scope.id, "clock-skew", 6), Refused(HOST_SCOPE, "malformed", 7)])
    assert store.counters(scope.id) == {
        "total": 5,
        "failed": 2,
        "state:licensed": 1,
        "state:initial-grace": 2,
        "refused:clock-skew": 2,
    }
    assert store.counters(HOST_SCOPE) == {"total": 1, "failed": 1, "refused:malformed": 1}
    assert store.counters(999) == {"total": 0, "failed": 0}


def test_each_activation_and_refusal_leaves_an_event(store: HostStore, scope: Scope) -> None:
    awkward = 'a "quoted"\\ näme\n'
    store.record([seen(scope.id, 1, name=awkward)], TODAY, [Refused(scope.id, "clock-skew", 5, b"m", {"by": 9})])
    activated, refused = store.events()
    assert (activated.code, activated.machine_id, activated.scope_id) == ("machine-activated", machine_id(1), scope.id)
    assert activated.data == {
        "name": awkward,
        "product": "acme-cad",
        "edition": "pro",
        "state": "initial-grace",
        "count": 1,
    }
    assert (refused.level, refused.code, refused.machine_id, refused.data) == (
        "warning",
        "clock-skew",
        b"m",
        {"by": 9},
    )


def test_events_are_read_in_pages_and_by_code(store: HostStore) -> None:
    for at in range(10):
        store.log(at, "info", "dns-published" if at % 2 else "host-started", {"at": at})
    page = store.events(limit=4)
    assert [event.at for event in page] == [0, 1, 2, 3]
    assert [event.at for event in store.events(limit=3, after_id=page[-1].id)] == [4, 5, 6]
    assert [event.at for event in store.events(codes=["dns-published"], since=4)] == [5, 7, 9]
    assert [event.at for event in store.events(limit=2, newest_first=True)] == [9, 8]


def test_machines_are_read_in_pages(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, number) for number in range(5)], TODAY)
    page = store.machines(scope.id, limit=3)
    assert [one.name for one in page] == ["ws0", "ws1", "ws2"]
    assert [one.name for one in store.machines(scope.id, after=page[-1].identity)] == ["ws3", "ws4"]
    assert page[0].request_iat == page[0].last_seen - 5


def test_settings_keep_json(store: HostStore) -> None:
    assert store.setting("port", 1688) == 1688
    store.set_setting("port", 1689)
    store.set_setting("domains", [{"name": "example.test", "priority": 10}])
    store.set_setting("port", 1690)
    assert store.settings() == {"port": 1690, "domains": [{"name": "example.test", "priority": 10}]}
    store.clear_setting("port")
    assert store.setting("port") is None


# -- housekeeping ----------------------------------------------------------------------------------------------------


def test_machines_unseen_for_a_year_are_forgotten(store: HostStore, scope: Scope, path: Path) -> None:
    other = store.scope(ROOT, 2)
    store.record([seen(scope.id, number) for number in range(25)] + [seen(other.id, 1)], TODAY)
    store.record([seen(scope.id, 25, day=TODAY + 1)], TODAY + 1)
    assert store.prune_machines(TODAY + 364, chunk=7) == 0
    assert store.prune_machines(TODAY + 365, chunk=7) == 26
    assert [one.name for one in store.machines(scope.id)] == ["ws25"]
    assert histogram_kept(path) == histogram_by_hand(path) == {(scope.id, TODAY + 1): 1}


def test_no_machine_that_counts_is_forgotten(store: HostStore, scope: Scope) -> None:
    store.record([seen(scope.id, 1)], TODAY)
    assert store.prune_machines(TODAY + 29, keep_days=1) == 0
    assert store.count(scope.id, TODAY + 29) == 1


def test_event_log_is_cut_by_number_and_by_age_without_reusing_numbers(store: HostStore) -> None:
    for at in range(20):
        store.log(at, "info", "host-started", {})
    assert store.prune_events(keep=15, chunk=2) == 5
    assert store.prune_events(before=18, chunk=3) == 13
    assert [event.at for event in store.events()] == [18, 19]
    assert store.prune_events(before=100) == 2
    store.log(20, "info", "host-started", {})
    assert store.events()[0].id == 21


# -- the database ----------------------------------------------------------------------------------------------------


def test_migrations_make_the_tables_that_the_statements_expect(store: HostStore, path: Path) -> None:
    HostStore.open(path).close()  # migrating a second time changes nothing
    engine = open_engine(path)
    with read(engine) as conn:
        context = MigrationContext.configure(
            conn, opts={"version_table": "host_version", "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_tables_are_strict_and_keyed_by_themselves(store: HostStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        tables = {row[1]: row[4:6] for row in conn.execute("PRAGMA table_list") if row[1] in METADATA.tables}
    assert {name for name, (_, strict) in tables.items() if strict} == set(METADATA.tables)
    assert {name for name, (keyed, _) in tables.items() if not keyed} == {"scope", "event"}


def test_database_of_a_later_version_is_refused(store: HostStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE host_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNewError):
        HostStore.open(path)


def test_count_survives_a_restart(path: Path) -> None:
    store = HostStore.open(path)
    scope = store.scope(ROOT, 1)
    store.record([seen(scope.id, number) for number in range(30)], TODAY)
    store.close()
    again = HostStore.open(path)
    assert again.scope(ROOT, 1) == scope
    assert again.count(scope.id, TODAY) == 30
    assert again.record([seen(scope.id, 30)], TODAY)[0].count == 31
    again.close()


def test_failed_batch_leaves_nothing_and_the_next_one_works(store: HostStore, scope: Scope, path: Path) -> None:
    unwritable = seen(scope.id, 2, name="\ud800")
    with pytest.raises(UnicodeEncodeError):
        store.record([seen(scope.id, 1), unwritable], TODAY)
    assert store.count(scope.id, TODAY) == 0
    assert store.counters(scope.id)["total"] == 0
    assert store.record([seen(scope.id, 1)], TODAY)[0].count == 1
    assert store.history(scope.id, TODAY, 1) == {TODAY: 1}


def test_processes_share_one_exact_count(store: HostStore, scope: Scope, path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.starmap(record_range, [(path, scope.id, 0, 400), (path, scope.id, 200, 600)])
    assert store.count(scope.id, TODAY) == 600
    assert max(map(max, counts)) == 600
    assert store.counters(scope.id)["total"] == 800
    assert histogram_kept(path) == histogram_by_hand(path)


def record_range(path: Path, scope_id: int, first: int, end: int) -> list[int]:
    store = HostStore.open(path)
    counts = [store.record([seen(scope_id, number)], TODAY)[0].count for number in range(first, end)]
    store.close()
    return counts


@pytest.mark.parametrize("acknowledged", [50, 137])
def test_killed_host_has_lost_no_acknowledged_machine(path: Path, acknowledged: int) -> None:
    command = [sys.executable, __file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        batches = [host.stdout.readline() for _ in range(acknowledged)]
        os.kill(host.pid, signal.SIGKILL)
        batches += host.stdout.readlines()
    promised = {int(number) for line in batches if line.endswith("\n") for number in line.split()}
    store = HostStore.open(path)
    stored = {int(one.name.removeprefix("ws")) for one in store.machines(1, limit=1_000_000)}
    assert len(promised) >= acknowledged
    assert promised <= stored
    assert histogram_kept(path) == histogram_by_hand(path)
    days = Counter({day: machines for (_, day), machines in histogram_by_hand(path).items()})
    last_day = max(days)
    assert store.count(1, last_day) == count(days, last_day)
    store.close()


def record_until_killed(path: Path) -> None:
    """A host that says which machines it has made durable; days pass, so that the histogram moves."""
    store = HostStore.open(path)
    scope = store.scope(ROOT, 1)
    for batch in numbers():
        day = TODAY + batch // 10
        machines = [batch * 5 + offset for offset in range(8)]
        store.record([seen(scope.id, machine, day=day) for machine in machines], day)
        print(*machines, flush=True)


if __name__ == "__main__":
    record_until_killed(Path(sys.argv[1]))
