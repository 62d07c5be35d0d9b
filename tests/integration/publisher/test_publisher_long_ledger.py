# SPDX-License-Identifier: Apache-2.0
"""A ledger that is longer than what one would hold in memory, on both databases."""

import tracemalloc
from collections.abc import Callable

import pytest

from volact.publisher.rows.ledger import Act, Comparison, LedgerBrokenError, lines, read_export
from volact.publisher.rows.reader import LEDGER_PAGE

ROWS = 2_500


@pytest.fixture
def store(site):
    with site.publisher.store.change() as change:
        for number in range(ROWS):
            change.append(site.clock(), Act.REQUEST_REFUSED, "service", None, {"code": "key-unknown", "n": number})
    return site.publisher.store


def peak(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_it_is_verified_compared_and_exported_without_being_held_in_memory(store, monkeypatch):
    last = store.check_ledger()
    assert last.seq > ROWS

    def verify():
        exported = (line.encode() for line in lines(store.ledger_rows(1, last.seq)))
        comparison = Comparison.with_export(read_export(exported))
        store.check_ledger(comparison.see)
        comparison.finish()
        assert comparison.compared == last.seq

    monkeypatch.setattr("volact.publisher.rows.queries.READ_AT_ONCE", 100)
    monkeypatch.setattr("volact.publisher.rows.reader.LEDGER_PAGE", 100)
    assert peak(verify) < peak(store.ledger) / 4


def test_a_part_of_it_is_exported_and_a_row_that_was_changed_ends_the_export(site, store):
    assert [row.seq for row in store.ledger_rows(LEDGER_PAGE, LEDGER_PAGE + 1)] == [LEDGER_PAGE, LEDGER_PAGE + 1]
    assert [row.seq for row in store.ledger_rows(ROWS, ROWS + 1)] == [ROWS, ROWS + 1]
    assert sum(1 for _ in store.ledger_rows(5)) == store.last_row().seq - 4
    site.tamper(f"UPDATE ledger SET actor = 'nobody' WHERE seq = {LEDGER_PAGE + 7}")
    with pytest.raises(LedgerBrokenError, match=f"row {LEDGER_PAGE + 7} was changed"):
        list(store.ledger_rows(5))
    with pytest.raises(LedgerBrokenError, match=f"row {LEDGER_PAGE + 7} was changed"):
        store.check_ledger()
