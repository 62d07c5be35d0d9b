# SPDX-License-Identifier: Apache-2.0
"""The count window and the judgement on fingerprints, by example."""

import pytest

from volact.core.count import KnownFingerprint, Verdict, classify, count, day_of, first_day, in_window

DAY = 86_400
TODAY = 20_000
NOW = TODAY * DAY + 3600
OLD, NEW, OTHER = b"old board", b"new board", b"other board"


def test_day_changes_at_midnight_utc() -> None:
    assert day_of(0) == 0
    assert day_of(DAY - 1) == 0
    assert day_of(DAY) == 1


@pytest.mark.parametrize(
    ("days_ago", "counts"), [(0, True), (29, True), (30, False), (400, False), (-1, True), (-2, False)]
)
def test_machine_counts_for_less_than_thirty_days(days_ago: int, counts: bool) -> None:
    assert in_window(TODAY - days_ago, TODAY) is counts


def test_window_of_one_day_is_today() -> None:
    assert first_day(TODAY, 1) == TODAY
    assert not in_window(TODAY - 1, TODAY, 1)


def test_count_sums_the_days_of_the_window() -> None:
    histogram = {TODAY - 30: 100, TODAY - 29: 10, TODAY - 1: 5, TODAY: 1, TODAY + 700: 1000}
    assert count(histogram, TODAY) == 16
    assert count(histogram, TODAY, window_days=2) == 6
    assert count({}, TODAY) == 0


def test_unknown_machine_id_is_new() -> None:
    assert classify([], OLD, TODAY) is Verdict.NEW


def test_same_hardware_is_same() -> None:
    assert classify([KnownFingerprint(OLD, NOW)], OLD, TODAY) is Verdict.SAME


def test_first_change_proves_no_clone() -> None:
    assert classify([KnownFingerprint(OLD, NOW)], NEW, TODAY) is Verdict.CHANGED


def test_replaced_hardware_that_comes_back_proves_a_clone() -> None:
    known = [KnownFingerprint(OLD, NOW - 10 * DAY), KnownFingerprint(NEW, NOW)]
    assert classify(known, OLD, TODAY) is Verdict.CLONE
    assert classify(known, OTHER, TODAY) is Verdict.CHANGED


def test_hardware_put_back_after_the_proof_window_is_a_change() -> None:
    known = [KnownFingerprint(OLD, NOW - 30 * DAY), KnownFingerprint(NEW, NOW)]
    assert classify(known, OLD, TODAY) is Verdict.CHANGED


def test_the_products_own_comparison_decides_what_is_the_same_hardware() -> None:
    def same_board(one: bytes, other: bytes) -> bool:
        return one.split()[-1] == other.split()[-1]

    assert classify([KnownFingerprint(OLD, NOW)], NEW, TODAY, same=same_board) is Verdict.SAME
