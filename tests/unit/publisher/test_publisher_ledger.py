# SPDX-License-Identifier: Apache-2.0
"""The ledger's chain: every change of a row is found."""

import contextlib
import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import MalformedError
from volact.publisher.ledger import (
    GENESIS,
    Act,
    LedgerBrokenError,
    Row,
    chain,
    check,
    check_activations,
    check_against,
    read_export,
)


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
    exported = read_export("".join(row.to_line() + "\n" for row in rows).encode())
    check_against([*rows, chain(rows[-1], 9, Act.KEY_ISSUED, "tester", None, {})], exported)
    with pytest.raises(LedgerBrokenError, match="row 5 of the export is missing"):
        check_against(rows[:4], exported)
    forged = chain(rows[3], 9, Act.KEY_ISSUED, "tester", None, {})
    with pytest.raises(LedgerBrokenError, match="row 5 is not the one"):
        check_against([*rows[:4], forged], exported)


def test_activations_that_the_ledger_does_not_tell_of_are_found() -> None:
    rows = make(2)
    check_activations(rows, ["0", "1"])
    with pytest.raises(LedgerBrokenError, match="removed"):
        check_activations(rows, ["0"])
    with pytest.raises(LedgerBrokenError, match="put in"):
        check_activations(rows, ["0", "1", "2"])


@given(st.binary(max_size=100))
def test_any_bytes_are_an_export_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        read_export(data)
