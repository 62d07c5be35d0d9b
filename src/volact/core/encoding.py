# SPDX-License-Identifier: Apache-2.0
"""The strict parser of untrusted text: JSON objects and unpadded base64url.  Spec: docs/spec/encoding.md.

Every format of Volact that crosses a trust boundary is read through :func:`parse_object` and :class:`Fields`, which
either return typed values or raise :class:`~volact.core.errors.MalformedError`, nothing else.  There is one accepted
encoding of bytes (RFC 4648 §5 without padding, unused bits zero) and no duplicate member names (RFC 8259 §4 leaves
them open, which is how two parsers come to read two different licences from the same bytes).
"""

import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from volact.core.errors import MalformedError

MAX_DEPTH = 8  # a product definition is the deepest object we write; it has 5 levels
MAX_INT = 2**53 - 1  # what every JSON reader holds exactly (RFC 8259 §6)


def b64encode(data: bytes) -> str:
    """Unpadded base64url."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def b64decode(text: str, what: str = "base64url text") -> bytes:
    """Decode unpadded base64url; any other spelling of the same bytes is refused."""
    left = len(text) % 4
    try:
        data = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL) + _PADDING[left], strict_mode=True)
    except ValueError:
        raise MalformedError(what=what, why="not unpadded base64url") from None
    if left and text[-1] not in _LAST[left]:
        raise MalformedError(what=what, why="base64url with unused bits set")
    return data


def dump_object(value: Mapping[str, Any]) -> bytes:
    """The one way Volact writes JSON: UTF-8, no spaces, members in the order given."""
    return _ENCODER.encode(value).encode()


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object; numbers are integers within ±2⁵³, names occur once, nesting is bounded."""
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except _ReasonError as reason:
        raise MalformedError(what=what, why=str(reason)) from None
    except (ValueError, RecursionError):
        raise MalformedError(what=what, why="not a JSON text in UTF-8") from None
    if type(value) is not dict:
        raise MalformedError(what=what, why="not a JSON object")
    # Fewer brackets than that cannot nest deeper, and nearly every message has fewer.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH, what)
    return value


class Fields:
    """Typed access to a parsed object's members; each method raises ``MalformedError`` naming the member."""

    __slots__ = ("_value", "what")

    def __init__(self, value: Any, what: str) -> None:
        if type(value) is not dict:
            raise MalformedError(what=what, why="not a JSON object")
        self._value: dict[str, Any] = value
        self.what = what

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def names(self) -> Iterable[str]:
        return self._value.keys()

    def text(self, name: str, *, most: int = 200, least: int = 1) -> str:
        value = self._value.get(name)
        if type(value) is not str or not least <= len(value) <= most or not _clean(value):
            self.fail(name, f"text of {least} to {most} characters without control characters")
        return value

    def optional_text(self, name: str, *, most: int = 200) -> str | None:
        return self.text(name, most=most) if name in self._value else None

    def integer(self, name: str, *, least: int = 0, most: int = MAX_INT) -> int:
        value = self._value.get(name)
        if type(value) is not int or not least <= value <= most:
            self.fail(name, f"a whole number from {least} to {most}")
        return value

    def boolean(self, name: str) -> bool:
        value = self._value.get(name)
        if type(value) is not bool:
            self.fail(name, "true or false")
        return value

    def octets(self, name: str, *, size: int | None = None, most: int = 4096) -> bytes:
        value = self._value.get(name)
        if type(value) is not str or len(value) > most * 2:
            self.fail(name, "base64url text")
        data = b64decode(value, f"{self.what}: {name}")
        if (size is not None and len(data) != size) or len(data) > most:
            self.fail(name, f"{size} bytes" if size is not None else f"at most {most} bytes")
        return data

    def fields(self, name: str) -> "Fields":
        return Fields(self._value.get(name), f"{self.what}: {name}")

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._value.get(name)
        if type(value) is not dict:
            self.fail(name, "an object")
        return value

    def items(self, name: str, *, most: int = 1000) -> list[Any]:
        value = self._value.get(name)
        if type(value) is not list or len(value) > most:
            self.fail(name, f"a list of at most {most} entries")
        return value

    def integers(self, name: str, *, most: int = 1000) -> tuple[int, ...]:
        values = self.items(name, most=most)
        if any(type(value) is not int or value < 0 for value in values):
            self.fail(name, "a list of whole numbers")
        return tuple(values)

    def texts(self, name: str, *, most: int = 1000) -> tuple[str, ...]:
        values = self.items(name, most=most)
        if any(type(value) is not str or not value or not _clean(value) for value in values):
            self.fail(name, "a list of texts")
        return tuple(values)

    def fail(self, name: str, expected: str) -> NoReturn:
        state = "is missing" if name not in self._value else "is wrong"
        raise MalformedError(what=self.what, why=f"{name} {state}: it should be {expected}")


_TO_URL = bytes.maketrans(b"+/", b"-_")
# The characters of the other alphabet, and padding, become one that strict decoding refuses.
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"", b"==", b"=")  # by the length modulo 4; 1 is no length of base64 and fails in decoding
# Which last characters leave the unused bits zero: 4 bits of them after 2 characters, 2 bits after 3.
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")


class _ReasonError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _ReasonError("a member name occurs twice")
    return value


def _no_float(text: str) -> NoReturn:
    raise _ReasonError(f"{text[:20]} is not a whole number")


def _bounded_int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INT:
        raise _ReasonError("a number is larger than 2^53")
    return int(text)


def _clean(text: str) -> bool:
    return text.isprintable()


def _check_depth(value: Any, left: int, what: str) -> None:
    if left == 0:
        raise MalformedError(what=what, why="nested too deeply")
    children = value.values() if type(value) is dict else value
    for child in children:
        if type(child) in (dict, list):
            _check_depth(child, left - 1, what)


# Made once: json.loads and json.dumps would make one a call.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float, parse_int=_bounded_int
)
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
