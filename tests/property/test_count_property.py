# SPDX-License-Identifier: Apache-2.0
"""Random histories of requests over days and restarts, against a model that keeps every request and counts by hand."""

import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from volact.core.count import SECONDS_PER_DAY, Verdict
from volact.host.store import HostStore, Seen

FIRST_DAY = 20_000
WINDOW = 30

Request = tuple[int, int, int]  # scope, machine, board

requests = st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3))
batches = st.lists(requests, max_size=6)
# Days until the batch (mostly few, sometimes most of a window), the batch, and whether the host restarts before it.
steps = st.tuples(st.one_of(st.integers(0, 3), st.integers(0, 45)), batches, st.booleans())
histories = st.lists(steps, max_size=12)


class Model:
    """All requests ever made: (day, machine, board) of each scope."""

    def __init__(self) -> None:
        self.seen: dict[int, list[Request]] = {0: [], 1: []}

    def count(self, scope: int, today: int) -> int:
        """Distinct machine IDs whose latest request is less than 30 days old."""
        latest = {machine: day for day, machine, _ in self.seen[scope]}
        return sum(1 for day in latest.values() if today - day < WINDOW)

    def distinct(self, scope: int, today: int, place: int) -> int:
        return len({request[place] for request in self.seen[scope] if today - request[0] < WINDOW})


def as_seen(scope_id: int, machine: int, board: int, day: int) -> Seen:
    at = day * SECONDS_PER_DAY
    return Seen(scope_id, b"machine %d" % machine, b"board %d" % board, at, at, "ws", "acme-cad", "pro", "licensed")


@settings(max_examples=40, deadline=None)
@given(histories)
def test_every_answer_has_the_count_of_a_brute_force_model(history: list[tuple[int, list[Request], bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, model, today = Path(folder) / "host.db", Model(), FIRST_DAY
        store = HostStore.open(path)
        ids = [store.scope("sha256:one", 1).id, store.scope("sha256:two", 1).id]
        for days, batch, restart in history:
            today += days
            if restart:
                store.close()
                store = HostStore.open(path)
            seen = [as_seen(ids[scope], machine, board, today) for scope, machine, board in batch]
            recorded = store.record(seen, today)
            for (scope, machine, board), answer in zip(batch, recorded, strict=True):
                known = {before[1] for before in model.seen[scope]}
                model.seen[scope].append((today, machine, board))
                assert answer.count == model.count(scope, today)
                assert (answer.verdict is Verdict.NEW) is (machine not in known)
            assert [store.count(scope_id, today) for scope_id in ids] == [model.count(scope, today) for scope in (0, 1)]
        store.close()
        assert_histogram_is_exact(path)


@settings(max_examples=40, deadline=None)
@given(histories, st.booleans())
def test_collapsing_scope_never_counts_more_than_its_machine_ids_or_its_hardware(
    history: list[tuple[int, list[Request], bool]], collapse_at_first: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, model, today, collapse = Path(folder) / "host.db", Model(), FIRST_DAY, collapse_at_first
        store = HostStore.open(path)
        for days, batch, toggle in history:
            today, collapse = today + days, collapse is not toggle
            scope = store.scope("sha256:one", 1, collapse=collapse)
            recorded = store.record([as_seen(scope.id, machine, board, today) for _, machine, board in batch], today)
            for (_, machine, board), answer in zip(batch, recorded, strict=True):
                model.seen[0].append((today, machine, board))
                assert 1 <= answer.count <= model.distinct(0, today, 1)
                assert not collapse or answer.count <= model.distinct(0, today, 2)
        store.close()
        assert_histogram_is_exact(path)


def assert_histogram_is_exact(path: Path) -> None:
    conn = sqlite3.connect(path)
    by_hand = Counter(conn.execute("SELECT scope_id, last_seen_day FROM machine"))
    kept = {(scope, day): machines for scope, day, machines in conn.execute("SELECT * FROM seen_day")}
    conn.close()
    assert kept == by_hand
