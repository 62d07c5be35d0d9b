# SPDX-License-Identifier: Apache-2.0
"""The ledger's chain: every change of a row is found."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import MalformedError
from volact.publisher.rows.ledger import (
    GENESIS,
    Act,
    Comparison,
    LedgerBrokenError,
    Row,
    chain,
    check,
    read_export,
)
from volact.publisher.rows.verifying import Tally


def make(length: int) -> list[Row]:
    rows: list[Row] = []
    for number in range(length):
        last = rows[-1] if rows else None
        rows.append(chain(last, number, Act.HOST_ACTIVATED, "service", "key", {"serial": f"{number:x}", "name": "ü"}))
    return rows


def test_a_whole_chain_gives_its_head() -> None:
    rows = make(5)
    assert check(rows) == rows[-1]
    assert check([]) is None


def test_a_row_can_be_checked_with_standard_tools() -> None:
    line = json.loads(make(1)[0].to_line())
    told = line.pop("hash")
    assert line["previous"] == GENESIS
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == told


CHANGES: dict[str, Any] = {
    "seq": 99,
    "at": 99,
    "act": "key-issued",
    "actor": "nobody",
    "key_id": None,
    "data": '{"serial":"ff"}',
    "previous": "1" * 64,
    "hash": "1" * 64,
}


@pytest.mark.parametrize("column", CHANGES)
@pytest.mark.parametrize("index", [0, 2, 4])
def test_any_changed_column_of_any_row_is_found(column: str, index: int) -> None:
    rows = make(5)
    rows[index] = dataclasses.replace(rows[index], **{column: CHANGES[column]})
    with pytest.raises(LedgerBrokenError):
        check(rows)


def test_another_spelling_of_the_same_data_is_a_change() -> None:
    rows = make(2)
    rows[1] = dataclasses.replace(rows[1], data=rows[1].data.replace(":", ": "))
    with pytest.raises(LedgerBrokenError):
        check(rows)


@given(st.integers(0, 4), st.integers(0, 4))
def test_removed_and_exchanged_rows_are_found(one: int, other: int) -> None:
    rows = make(5)
    if one == other:
        del rows[one]
        if one == 4:
            return  # the end alone is only found against an export
    else:
        rows[one], rows[other] = rows[other], rows[one]
    with pytest.raises(LedgerBrokenError):
        check(rows)


def test_an_export_shows_a_cut_end_and_a_chain_that_was_written_anew() -> None:
    rows = make(5)
    exported = list(read_export(f"{row.to_line()}\n".encode() for row in rows))
    Comparison.with_export(exported).check([*rows, chain(rows[-1], 9, Act.KEY_ISSUED, "tester", None, {})])
    Comparison.with_export(exported[2:]).check(rows)
    with pytest.raises(LedgerBrokenError, match="row 5 of the export is missing"):
        Comparison.with_export(exported).check(rows[:4])
    forged = chain(rows[3], 9, Act.KEY_ISSUED, "tester", None, {})
    with pytest.raises(LedgerBrokenError, match="row 5 is not the one"):
        Comparison.with_export(exported).check([*rows[:4], forged])


def test_an_export_that_is_not_in_order_is_malformed() -> None:
    lines = [f"{row.to_line()}\n".encode() for row in make(3)]
    for wrong in (lines[::-1], [*lines, lines[-1]]):
        with pytest.raises(MalformedError, match="comes after row 3"):
            list(read_export(wrong))


def compare(rows: Iterable[Row], serials: Iterable[str]) -> None:
    with Tally.open() as tally:
        for row in rows:
            tally.tell(row)
        tally.compare_certificates(serials)


def test_activations_that_the_ledger_does_not_tell_of_are_found() -> None:
    rows = make(2)
    compare(rows, ["1", "0"])
    with pytest.raises(LedgerBrokenError, match="removed"):
        compare(rows, ["0"])
    with pytest.raises(LedgerBrokenError, match="put in"):
        compare(rows, ["0", "1", "2"])


@pytest.mark.parametrize("data", [{}, {"units": "many"}, {"units": 1, "activation": 1 << 99, "machine": "ab"}])
def test_a_row_of_a_chain_made_anew_that_says_nothing_of_its_act_is_found(data: dict[str, Any]) -> None:
    with Tally.open() as tally, pytest.raises(LedgerBrokenError, match="row 1 does not say"):
        tally.tell(chain(None, 1, Act.MACHINE_ACTIVATED, "service", "key", data))


def test_a_pool_of_which_nothing_is_left_in_use_is_told_of_as_one_that_was_never_used() -> None:
    taken = {"activation": 1, "units": 1, "machine": "ab"}
    first = chain(None, 1, Act.MACHINE_ACTIVATED, "service", "key", taken)
    with Tally.open() as tally:
        for row in (first, chain(first, 2, Act.MACHINE_RETURNED, "service", "key", {**taken, "units": -1})):
            tally.tell(row)
        tally.compare_pools([])
        tally.compare_holders([])


@given(st.binary(max_size=100))
def test_any_bytes_are_an_export_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        list(read_export(data.splitlines()))
