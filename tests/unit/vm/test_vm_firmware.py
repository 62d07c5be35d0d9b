# SPDX-License-Identifier: Apache-2.0
"""Markers in a computer's firmware: read where they are good, skipped where they are not."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.client.platform.firmware import Marker, parse_strings, parse_table, read_markers
from volact.core.errors import MalformedError

TEXT = "acme-oem model-7"


def table(text: bytes = TEXT.encode(), signature: bytes = b"VLCT", **changes: int) -> bytes:
    length = changes.get("length", 36 + len(text))
    head = struct.pack("<4sIBB6s8sI4sI", signature, length, 1, 0, b"ACMEPC", b"MODEL-7\0", 1, b"BXPC", 1)
    data = head + text
    return data[:9] + bytes([(data[9] - sum(data) + changes.get("off", 0)) % 256]) + data[10:]


def strings(*texts: bytes, count: int | None = None) -> bytes:
    return bytes([11, 5, 0, 14, len(texts) if count is None else count]) + b"".join(t + b"\0" for t in texts) + b"\0"


def test_a_table_is_read_with_its_makers_names() -> None:
    assert parse_table(table()) == Marker("acpi", TEXT, "ACMEPC", "MODEL-7")
    assert parse_table(table(TEXT.encode() + b"\0\0\0")).text == TEXT


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (table(off=1), "checksum"),
        (table(length=35), "as long as it says"),
        (table()[:-1], "as long as it says"),
        (table(signature=b"MSDM"), "another signature"),
        (table(b""), "size"),
        (table(b"\0\0"), "printable"),
        (table("köln".encode()), "printable"),
        (table(b"two\nlines"), "printable"),
        (b"", "size"),
        (table(b"x" * 70_000), "size"),
    ],
)
def test_a_damaged_table_is_malformed(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        parse_table(data)


def test_oem_strings_that_begin_like_a_marker_are_markers() -> None:
    data = strings(b"something else", b"volact:" + TEXT.encode(), b"volact:second")
    assert parse_strings(data) == (Marker("smbios", TEXT), Marker("smbios", "second"))
    assert parse_strings(strings(b"nothing")) == ()


@pytest.mark.parametrize("data", [b"", b"\1\5\0\0\1x\0\0", strings(b"volact:a", count=9), b"\x0b\xff\0\0\1"])
def test_a_damaged_entry_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_strings(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_marker_or_malformed(data: bytes) -> None:
    for parse in (parse_table, parse_strings):
        try:
            parse(data)
        except MalformedError:
            continue


def test_the_system_is_read_and_what_is_damaged_is_skipped(tmp_path: Path) -> None:
    acpi, dmi = tmp_path / "tables", tmp_path / "entries"
    for name, data in (("VLCT1", table()), ("VLCT2", table(off=1)), ("MSDM", table(signature=b"MSDM"))):
        acpi.mkdir(exist_ok=True)
        (acpi / name).write_bytes(data)
    (dmi / "11-0").mkdir(parents=True)
    (dmi / "11-0" / "raw").write_bytes(strings(b"volact:board"))
    assert [marker.text for marker in read_markers(acpi, dmi)] == [TEXT, "board"]
    assert read_markers(tmp_path / "none", tmp_path / "none") == ()
