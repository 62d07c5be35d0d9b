# SPDX-License-Identifier: Apache-2.0
"""What spreadsheets make of a CSV file's cells.  Pure."""

# A spreadsheet takes a cell that begins so for a formula, and runs it (OWASP, CSV injection).  Full-width forms count
# in some languages.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_text(text: str) -> str:
    """The cell of a text, whoever wrote it: never a formula.  Names come from customers and from other machines."""
    return f"'{text}" if text.startswith(FORMULA) else text
