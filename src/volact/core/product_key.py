# SPDX-License-Identifier: Apache-2.0
"""Product keys: 25 symbols that say channel, publisher and product group, and hold 56 bits nobody can guess.

Pure: the random bytes of a new key come in as an argument.  Whether a key was ever issued, or is blocked, only its
publisher's ledger knows; a key that parses is well formed, no more.  Spec: docs/spec/product-key.md.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

from .errors import InputError

# 23 symbols: a prime, so that check symbols can be computed in a field. None of 0 O Q, 1 I L, 5 S, 2 Z, 8 B, U.
ALPHABET = "34679ACDEFGHJKMNPRTVWXY"
GROUPS = 5
GROUP_SYMBOLS = 5
SYMBOLS = GROUPS * GROUP_SYMBOLS

FORMAT_VERSION = 1
SECRET_BYTES = 7
KEY_ID_BYTES = 16

_BASE = len(ALPHABET)
_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)}

# Check symbol c = Σ wᵢ·dᵢ + k (mod 23), that is, weight −1 for c itself. The five weights differ and none is 0, so a
# wrong symbol or two exchanged ones never pass; no two add up to 0, so neither does a pair mistyped alike (AA → CC).
_WEIGHTS = (2, 3, 4, 5)
# k differs from group to group, so a group in another's place never passes.
_GROUP_CONSTANTS = (1, 2, 3, 4, 5)

# Widths of the fields below the format version, most significant first.
_CHANNEL_BITS, _TAG_BITS, _GROUP_BITS, _SECRET_BITS = 4, 12, 16, 8 * SECRET_BYTES

# A key ID is public, so it must not give a guesser the secret: scrypt (RFC 7914) makes each guess cost 4 MiB and some
# 8 ms, which whoever holds the key pays once. Part of the format; why these figures: docs/spec/product-key.md.
_KEY_ID_SALT = b"volact/product-key/v1"
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 12, 8, 1

_SEPARATOR_CATEGORIES = frozenset({"Pd", "Zs", "Cf"})  # dashes, spaces, invisible marks such as U+200B and U+FEFF
_SEPARATORS = frozenset("\u2212\u2043\u30fc")  # minus sign, hyphen bullet, Katakana dash: of other categories


class ProductKeyMalformedError(InputError):
    """Not 25 symbols (``have`` says how many), or, where it is demanded, not the canonical spelling."""

    code = "product-key-malformed"
    fmt = "product key is malformed: {why}"
    remedy = "enter all five groups of five symbols, as in {example}"

    def __init__(self, *, why: str, have: int) -> None:
        super().__init__(why=why, have=have, need=SYMBOLS, example="-".join(["XXXXX"] * GROUPS))


class ProductKeySymbolError(InputError):
    """A character that no key contains.  Names the first; ``positions`` lists all of them, counted from 1."""

    code = "product-key-symbol"
    fmt = "product key cannot contain {symbol!r}, the {nth} symbol of group {group}"
    remedy = "compare with the original: keys use only {alphabet}, never the look-alikes 0 O Q, 1 I L, 5 S, 2 Z, 8 B, U"

    def __init__(self, *, symbol: str, positions: Sequence[int]) -> None:
        group, nth = divmod(positions[0] - 1, GROUP_SYMBOLS)
        super().__init__(
            symbol=symbol,
            position=positions[0],
            group=group + 1,
            nth=("1st", "2nd", "3rd", "4th", "5th")[nth],
            positions=list(positions),
            alphabet=ALPHABET,
        )


class ProductKeyTypoError(InputError):
    """Check symbols do not agree.  ``groups`` lists the numbers, 1 to 5, of the groups that are wrong."""

    code = "product-key-typo"
    fmt = "product key has a typing error in {where}"
    remedy = "compare {where} with the original, symbol by symbol"

    def __init__(self, *, groups: Sequence[int]) -> None:
        super().__init__(groups=list(groups), where=_name_groups(groups))


class ProductKeyFormatError(InputError):
    """Typed without error, but of a format or channel that this version does not know."""

    code = "product-key-format"
    fmt = "product key is not of a known kind: {found}"
    remedy = "update the software that reads the key; if it is new, ask the publisher where the key belongs"


class Channel(StrEnum):
    """How a key activates."""

    RETAIL = "retail"
    OEM = "oem"
    MAK = "mak"
    KMS_HOST = "kms-host"
    VOLUME = "volume"
    VM = "vm"
    VM_HOST = "vm-host"


# Part of the format: append, never renumber.
CHANNEL_TAGS = {
    Channel.RETAIL: 1,
    Channel.OEM: 2,
    Channel.MAK: 3,
    Channel.KMS_HOST: 4,
    Channel.VOLUME: 5,
    Channel.VM: 6,
    Channel.VM_HOST: 7,
}
_CHANNELS = {tag: channel for channel, tag in CHANNEL_TAGS.items()}


@dataclass(frozen=True, slots=True, repr=False)
class ProductKey:
    """One product key.  ``str(key)`` is its canonical spelling, and a secret; ``repr(key)`` may be logged."""

    channel: Channel
    publisher_tag: int
    group: int
    secret: int

    def __post_init__(self) -> None:
        _require_width("publisher tag", self.publisher_tag, _TAG_BITS)
        _require_width("product group", self.group, _GROUP_BITS)
        _require_width("secret", self.secret, _SECRET_BITS)

    @classmethod
    def new(cls, channel: Channel, publisher_tag: int, group: int, secret_bytes: bytes) -> Self:
        """A key from seven bytes, which must come from a cryptographic random source."""
        if len(secret_bytes) != SECRET_BYTES:
            raise RuntimeError(f"a product key takes {SECRET_BYTES} secret bytes, not {len(secret_bytes)}")
        return cls(channel, publisher_tag, group, int.from_bytes(secret_bytes, "big"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key a person typed or pasted: any case, any spaces and dashes, or none.

        Raises :class:`ProductKeyMalformedError`, :class:`ProductKeySymbolError`, :class:`ProductKeyTypoError` or
        :class:`ProductKeyFormatError`.
        """
        pieces = _pieces(text)
        _require_length(pieces)
        values = _values("".join(pieces))
        _require_checks(values)
        return cls._from_number(_number(values))

    @classmethod
    def strict(cls, text: str) -> Self:
        """The key in its canonical spelling and no other, for files and messages."""
        key = cls.parse(text)
        if str(key) != text:
            raise ProductKeyMalformedError(why="it is not in its canonical spelling", have=SYMBOLS)
        return key

    @classmethod
    def _from_number(cls, number: int) -> Self:
        number, secret = divmod(number, 1 << _SECRET_BITS)
        number, group = divmod(number, 1 << _GROUP_BITS)
        number, tag = divmod(number, 1 << _TAG_BITS)
        version, channel = divmod(number, 1 << _CHANNEL_BITS)
        if version != FORMAT_VERSION:  # also every number of more than 90 bits
            raise ProductKeyFormatError(found=f"format {version}")
        if channel not in _CHANNELS:
            raise ProductKeyFormatError(found=f"channel {channel}")
        return cls(_CHANNELS[channel], tag, group, secret)

    @property
    def partial(self) -> str:
        """The last group: what status displays show, enough to tell an administrator's keys apart."""
        return str(self)[-GROUP_SYMBOLS:]

    @property
    def key_id(self) -> str:
        """The key's public identity in licences, logs and ledgers: 32 hexadecimal digits, some 8 ms to compute."""
        return _key_id(str(self))

    def __str__(self) -> str:
        number = FORMAT_VERSION
        for width, field in (
            (_CHANNEL_BITS, CHANNEL_TAGS[self.channel]),
            (_TAG_BITS, self.publisher_tag),
            (_GROUP_BITS, self.group),
            (_SECRET_BITS, self.secret),
        ):
            number = number << width | field
        return _spell(number)

    def __repr__(self) -> str:
        return f"<ProductKey {self.channel} group={self.group} …{self.partial}>"


def publisher_tag(root: str) -> int:
    """The publisher's mark in its keys: the first 12 bits of its root certificate's fingerprint (``sha256:…``).

    Two publishers share a tag once in 4096: it tells an administrator of a mix-up, and proves nothing.
    """
    return int(root.removeprefix("sha256:")[: _TAG_BITS // 4], 16)


def _pieces(text: str) -> list[str]:
    """The symbols in upper case, in the pieces that spaces and dashes cut them into."""
    folded = unicodedata.normalize("NFKC", text)  # full-width letters and digits of East Asian input methods
    return "".join(" " if _is_separator(c) else c.upper() if c.isascii() else c for c in folded).split()


def _is_separator(char: str) -> bool:
    return char.isspace() or char in _SEPARATORS or unicodedata.category(char) in _SEPARATOR_CATEGORIES


def _require_length(pieces: Sequence[str]) -> None:
    lengths = [len(piece) for piece in pieces]
    have = sum(lengths)
    if have == SYMBOLS:
        return
    why = f"it has {have} symbols instead of {SYMBOLS}"
    if len(pieces) == GROUPS:
        wrong = (f"group {n} has {length}" for n, length in enumerate(lengths, 1) if length != GROUP_SYMBOLS)
        why = f"{why} ({', '.join(wrong)})"
    raise ProductKeyMalformedError(why=why, have=have)


def _values(symbols: str) -> list[int]:
    unknown = [position for position, symbol in enumerate(symbols, 1) if symbol not in _VALUES]
    if unknown:
        raise ProductKeySymbolError(symbol=symbols[unknown[0] - 1], positions=unknown)
    return [_VALUES[symbol] for symbol in symbols]


def _require_checks(values: Sequence[int]) -> None:
    wrong = [
        group + 1
        for group, start in enumerate(range(0, SYMBOLS, GROUP_SYMBOLS))
        if values[start + GROUP_SYMBOLS - 1] != _check_value(values[start : start + GROUP_SYMBOLS - 1], group)
    ]
    if wrong:
        raise ProductKeyTypoError(groups=wrong)


def _check_value(data: Sequence[int], group: int) -> int:
    return (sum(w * d for w, d in zip(_WEIGHTS, data, strict=True)) + _GROUP_CONSTANTS[group]) % _BASE


def _number(values: Sequence[int]) -> int:
    number = 0
    for position, value in enumerate(values, 1):
        if position % GROUP_SYMBOLS:  # each fifth is a check symbol
            number = number * _BASE + value
    return number


def _spell(number: int) -> str:
    groups: list[str] = []
    for group in reversed(range(GROUPS)):
        number, part = divmod(number, _BASE ** len(_WEIGHTS))
        data = [part // _BASE**power % _BASE for power in reversed(range(len(_WEIGHTS)))]
        groups.append("".join(ALPHABET[value] for value in (*data, _check_value(data, group))))
    return "-".join(reversed(groups))


@lru_cache(maxsize=256)
def _key_id(canonical: str) -> str:
    derived = hashlib.scrypt(
        canonical.encode("ascii"), salt=_KEY_ID_SALT, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=KEY_ID_BYTES
    )
    return derived.hex()


def _name_groups(groups: Sequence[int]) -> str:
    *most, last = map(str, groups)
    return f"groups {', '.join(most)} and {last}" if most else f"group {last}"


def _require_width(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise RuntimeError(f"{name} of a product key takes {bits} bits")
