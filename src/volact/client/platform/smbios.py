# SPDX-License-Identifier: Apache-2.0
"""The traits in a firmware's SMBIOS table, for systems that show it in one piece.  DMTF DSP0134 3.7, §7.2 and 7.3."""

import uuid
from collections.abc import Iterator

from volact.core.fingerprint import Trait

_SYSTEM, _BOARD, _END = 1, 2, 127
_UUID = slice(8, 24)
_SERIAL = 7  # where both structures have the number of their serial number's string


def read(table: bytes) -> dict[Trait, str]:
    """Never raises: what is damaged is left out."""
    found: dict[Trait, str] = {}
    for kind, fixed, strings in _structures(table):
        if kind == _SYSTEM:
            found.setdefault(Trait.SMBIOS_SERIAL, _string(fixed, strings, _SERIAL))
            if len(fixed) >= _UUID.stop:
                found.setdefault(Trait.SMBIOS_UUID, str(uuid.UUID(bytes_le=fixed[_UUID])))
        elif kind == _BOARD:
            found.setdefault(Trait.BOARD_SERIAL, _string(fixed, strings, _SERIAL))
    return found


def _structures(table: bytes) -> Iterator[tuple[int, bytes, list[bytes]]]:
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        yield kind, table[at : at + length], table[at + length : end].split(b"\0")
        if kind == _END:
            return
        at = end + 2


def _string(fixed: bytes, strings: list[bytes], place: int) -> str:
    number = fixed[place] if place < len(fixed) else 0
    return strings[number - 1].decode("latin-1") if 1 <= number <= len(strings) else ""
