# SPDX-License-Identifier: Apache-2.0
"""What a computer's maker wrote into its firmware for Volact: an ACPI table, or SMBIOS OEM strings.  Linux.

Parsers of untrusted bytes, which give a marker or raise ``MalformedError``, and one reader of the system's places,
which skips what cannot be read.  A marker is text and proves nothing by itself: a hypervisor can show any table.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from volact.core.errors import MalformedError

ACPI = Path("/sys/firmware/acpi/tables")
DMI = Path("/sys/firmware/dmi/entries")

SIGNATURE = "VLCT"  # of the table; its contents are the marker's text, zero-padded
PREFIX = "volact:"  # of an SMBIOS OEM string (type 11) that is a marker
MOST_TABLE = 64 * 1024
MOST_SMBIOS = 1024 * 1024  # all structures together; servers with much memory have some 20 KiB
MOST_MARKER = 4096

_HEADER = struct.Struct("<4sIBB6s8sI4sI")  # ACPI 6.5, 5.2.6
_STRINGS_TYPE, _END_TYPE = 11, 127  # SMBIOS 3.7, 7.12 and 7.45
_TABLE, _ENTRY, _SMBIOS = "ACPI table", "SMBIOS OEM strings", "SMBIOS table"


@dataclass(frozen=True, slots=True)
class Marker:
    """``source`` is ``acpi`` or ``smbios``; the maker's names are of the ACPI table, else empty."""

    source: str
    text: str
    oem_id: str = ""
    oem_table_id: str = ""


def read_markers(acpi: Path = ACPI, dmi: Path = DMI) -> tuple[Marker, ...]:
    """Every marker of this computer, those of ACPI tables first; damaged ones are skipped.

    Linux shows the SMBIOS structures one by one where the module dmi-sysfs is loaded, and always all in one file.
    """
    strings = tuple(_from(sorted(dmi.glob("11-*/raw")), parse_strings))
    if not strings:
        strings = tuple(_from([whole_table(dmi)], parse_structures))
    return (*_from(sorted(acpi.glob(f"{SIGNATURE}*")), _tables), *strings)


def whole_table(dmi: Path = DMI) -> Path:
    return dmi.parent / "tables" / "DMI"


def parse_table(data: bytes) -> Marker:
    """An ACPI table with our signature."""
    if not _HEADER.size < len(data) <= MOST_TABLE:
        raise MalformedError(what=_TABLE, why="its size is not that of a table with contents")
    signature, length, _, _, oem_id, oem_table_id, *_ = _HEADER.unpack_from(data)
    if signature != SIGNATURE.encode():
        raise MalformedError(what=_TABLE, why="it has another signature")
    if length != len(data):
        raise MalformedError(what=_TABLE, why="it is not as long as it says")
    if sum(data) % 256:
        raise MalformedError(what=_TABLE, why="its checksum is wrong")
    text = _text(data[_HEADER.size :].rstrip(b"\0"), _TABLE)
    return Marker("acpi", text, _name(oem_id), _name(oem_table_id))


def parse_strings(data: bytes) -> tuple[Marker, ...]:
    """One SMBIOS entry of type 11, as Linux gives it: header, then strings that end in zero bytes."""
    if not 5 <= len(data) <= MOST_TABLE or data[0] != _STRINGS_TYPE or not 5 <= data[1] <= len(data):
        raise MalformedError(what=_ENTRY, why="not an entry of that type")
    strings = data[data[1] :].split(b"\0")[: data[4]]
    if len(strings) < data[4]:
        raise MalformedError(what=_ENTRY, why="it has fewer strings than it says")
    marked = [one for one in strings if one.startswith(PREFIX.encode())]
    return tuple(Marker("smbios", _text(one[len(PREFIX) :], _ENTRY)) for one in marked)


def parse_structures(data: bytes) -> tuple[Marker, ...]:
    """All SMBIOS structures one after the other: those of type 11 among them."""
    found: list[Marker] = []
    at = 0
    while at < len(data):
        end = data.find(b"\0\0", at + data[at + 1]) if at + 4 <= len(data) and data[at + 1] >= 4 else -1
        if end < 0:
            raise MalformedError(what=_SMBIOS, why="a structure does not end")
        if data[at] == _END_TYPE:
            break
        if data[at] == _STRINGS_TYPE:
            found += parse_strings(data[at : end + 2])
        at = end + 2
    return tuple(found)


def _from(paths: list[Path], parse: Callable[[bytes], tuple[Marker, ...]]) -> Iterator[Marker]:
    for path in paths:
        with contextlib.suppress(OSError, MalformedError), path.open("rb") as file:
            yield from parse(file.read(MOST_SMBIOS + 1))


def _tables(data: bytes) -> tuple[Marker, ...]:
    return (parse_table(data),)


def _text(data: bytes, what: str) -> str:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not 0 < len(text) <= MOST_MARKER or not text.isprintable():
        raise MalformedError(what=what, why=f"its contents are not a printable text of at most {MOST_MARKER} symbols")
    return text


def _name(data: bytes) -> str:
    text = data.rstrip(b"\0 ").decode("ascii", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
