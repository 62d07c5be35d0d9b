# SPDX-License-Identifier: Apache-2.0
"""Cells of CSV files that a spreadsheet opens."""

import pytest

from volact.core.spreadsheet import as_text


@pytest.mark.parametrize(
    "text", ["=1+1", "+49 30", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20A"]
)
def test_a_text_that_would_be_a_formula_is_kept_as_a_text(text: str) -> None:
    assert as_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Example Ltd", "a=b", "ws-17", "1204", " =1", "'=1"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert as_text(text) == text
