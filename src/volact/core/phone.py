# SPDX-License-Identifier: Apache-2.0
"""Telephone activation in digits: installation IDs, confirmation IDs and the message that is signed between them.

Pure: the signature itself is in :mod:`volact.sealing.confirmation`.  Both IDs are groups of six digits and a check
digit, so a slip of the tongue, the ear or the finger is located at its group while it is typed (:func:`parse_group`).
Nothing in the digits is believed but the signature.  Spec: docs/spec/phone.md.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from volact.core.binding import MACHINE_ID_SIZE
from volact.core.errors import InputError
from volact.core.fingerprint import HASH_BYTES, Fingerprint
from volact.core.policy import DAY
from volact.core.product_key import CHANNEL_TAGS, Channel

FORMAT_VERSION = 1
CHANNELS = (Channel.RETAIL, Channel.MAK)  # the channels of which a person may ask for one machine's licence

DATA_DIGITS = 6
GROUP_DIGITS = DATA_DIGITS + 1
INSTALLATION_GROUPS = 11  # 66 digits hold 219 bits; 216 are used
CONFIRMATION_GROUPS = 20  # 120 digits: the reference, and 116 for 384 bits

# Widths of an installation ID's fields in bytes, in their order; each is argued in the spec, §2.
EDITION_BYTES, KEY_BYTES, MACHINE_BYTES, FINGERPRINT_BYTES, DAY_BYTES, SERIAL_BYTES = 3, 5, 10, 4, 2, 2
INSTALLATION_BYTES = 1 + EDITION_BYTES + KEY_BYTES + MACHINE_BYTES + FINGERPRINT_BYTES + DAY_BYTES + SERIAL_BYTES
SIGNATURE_BYTES = 48
KEY_ID_BYTES = 16
STAND_IN = "telephone"  # the trait that stands for all others where only their commitment is known
ROOT_BYTES = 32
REFERENCE_DIGITS, REFERENCES = 4, 10_000
LAST_DAY = (1 << 8 * DAY_BYTES) - 1  # in the year 2149

INSTALLATION, CONFIRMATION = "the installation ID", "the confirmation ID"  # what errors call them

_EDITION_CONTEXT = b"volact/phone-edition/v1"
_REFERENCE_CONTEXT = b"volact/phone-reference/v1"
_MESSAGE_CONTEXT = b"volact/phone-licence/v1"
_NONCE_CONTEXT = b"volact/phone-nonce/v1"

# H. M. Damm's quasigroup of order 10 (2004): totally anti-symmetric with zeros on its diagonal, so one check digit
# catches every wrong digit and every two neighbours exchanged, whatever state it starts from.
_DAMM = (
    "0317598642",
    "7092154863",
    "4206871359",
    "1750983426",
    "6123045978",
    "3674209581",
    "5869720134",
    "8945362017",
    "9438617205",
    "2581436790",
)
_QUASIGROUP = tuple(tuple(map(int, row)) for row in _DAMM)

_SEPARATOR_CATEGORIES = frozenset({"Pd", "Zs", "Cf", "Cc"})  # dashes, spaces, invisible marks, line ends
_SEPARATORS = frozenset("\u2212\u2043\u30fc.,;:/")
_CHANNELS = {CHANNEL_TAGS[channel]: channel for channel in CHANNELS}


class PhoneLengthError(InputError):
    """Not so many digits.  ``groups`` names the first group that does not fit, where one was found."""

    code = "phone-length"
    fmt = "{what} has {have} digits instead of {need}{where}"
    remedy = "read it group by group: each has {group_digits} digits"

    def __init__(self, *, what: str, have: int, need: int, groups: Sequence[int] = ()) -> None:
        where = f"; the first group that does not fit is group {groups[0]}" if groups else ""
        super().__init__(what=what, have=have, need=need, groups=list(groups), where=where, group_digits=GROUP_DIGITS)


class PhoneSymbolError(InputError):
    code = "phone-symbol"
    fmt = "{what} cannot contain {symbol!r}"
    remedy = "type digits; spaces, dots and dashes between them do not matter"


class PhoneTypoError(InputError):
    """Check digits do not agree.  ``groups`` lists the numbers, from 1, of the groups that are wrong."""

    code = "phone-typo"
    fmt = "{what} has a mistake in {where}"
    remedy = "ask for {where} again and compare digit by digit"

    def __init__(self, *, what: str, groups: Sequence[int]) -> None:
        *most, last = map(str, groups)
        where = f"groups {', '.join(most)} and {last}" if most else f"group {last}"
        super().__init__(what=what, groups=list(groups), where=where)


class PhoneFormatError(InputError):
    code = "phone-format"
    fmt = "{what} is not of a known kind: {why}"
    remedy = "check that it is the right number; if it is, update the software that reads it"


class PhoneDayError(InputError):
    code = "phone-clock"
    fmt = "this machine's clock shows a day that an installation ID cannot carry"
    remedy = "set the clock of this machine, then ask for the installation ID again"


class PhoneReferenceError(InputError):
    """The digits are typed well, and answer another installation ID than the one at hand."""

    code = "phone-other-installation"
    fmt = "this confirmation ID answers another installation ID"
    remedy = "type the confirmation ID that was given for this one, or show this one again and call again"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a machine's phone licence is for, as both sides know it without dictating it.

    ``root`` is the publisher's root fingerprint, ``key_id`` the whole ID of the product key.
    """

    root: str
    product: str
    edition: str
    group: int
    key_id: str

    @property
    def edition_tag(self) -> bytes:
        """By which a publisher finds product and edition among its own."""
        names = framed(self.product) + framed(self.edition)
        return hashlib.sha256(_EDITION_CONTEXT + root_bytes(self.root) + names).digest()[:EDITION_BYTES]

    @property
    def key_tag(self) -> bytes:
        return bytes.fromhex(self.key_id)[:KEY_BYTES]


@dataclass(frozen=True, slots=True)
class InstallationId:
    """What a caller reads out.  ``machine`` and ``fingerprint`` are cut to what digits can hold.

    ``day``: of the request, since 1970 in UTC.  ``serial`` tells two requests of one machine apart.
    """

    channel: Channel
    edition_tag: bytes
    key_tag: bytes
    machine: bytes
    fingerprint: bytes
    day: int
    serial: int

    def __post_init__(self) -> None:
        widths = (
            (self.edition_tag, EDITION_BYTES),
            (self.key_tag, KEY_BYTES),
            (self.machine, MACHINE_BYTES),
            (self.fingerprint, FINGERPRINT_BYTES),
        )
        if self.channel not in CHANNELS or any(len(value) != width for value, width in widths):
            raise RuntimeError("an installation ID is of a phone channel and of fixed widths")
        if not 0 <= self.day <= LAST_DAY or not 0 <= self.serial < 1 << 8 * SERIAL_BYTES:
            raise RuntimeError("an installation ID takes 16 bits for its day and for its serial")

    @classmethod
    def new(
        cls, subject: Subject, channel: Channel, machine: bytes, fingerprint: Fingerprint, now: int, serial: int
    ) -> Self:
        """The ID of a machine at second ``now``; ``serial`` is two random bytes as a number."""
        day = now // DAY
        if not 0 <= day <= LAST_DAY:
            raise PhoneDayError()
        commitment = commit(fingerprint)
        return cls(channel, subject.edition_tag, subject.key_tag, machine[:MACHINE_BYTES], commitment, day, serial)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The ID that somebody typed or pasted.

        Raises :class:`PhoneSymbolError`, :class:`PhoneLengthError`, :class:`PhoneTypoError`, :class:`PhoneFormatError`.
        """
        number = int(parse_groups(text, INSTALLATION_GROUPS, INSTALLATION))
        if number >> 8 * INSTALLATION_BYTES:
            raise PhoneFormatError(what=INSTALLATION, why="its number is too large")
        return cls.from_bytes(number.to_bytes(INSTALLATION_BYTES, "big"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        if len(data) != INSTALLATION_BYTES:
            raise PhoneFormatError(what=INSTALLATION, why=f"it is not {INSTALLATION_BYTES} bytes")
        version, tag = divmod(data[0], 16)
        if version != FORMAT_VERSION:
            raise PhoneFormatError(what=INSTALLATION, why=f"format {version}")
        if tag not in _CHANNELS:
            raise PhoneFormatError(what=INSTALLATION, why=f"channel {tag}")
        parts, start = [], 1
        for width in (EDITION_BYTES, KEY_BYTES, MACHINE_BYTES, FINGERPRINT_BYTES, DAY_BYTES, SERIAL_BYTES):
            parts.append(data[start : start + width])
            start += width
        edition, key, machine, fingerprint, day, serial = parts
        numbers = int.from_bytes(day, "big"), int.from_bytes(serial, "big")
        return cls(_CHANNELS[tag], edition, key, machine, fingerprint, *numbers)

    def to_bytes(self) -> bytes:
        head = bytes([FORMAT_VERSION << 4 | CHANNEL_TAGS[self.channel]])
        tail = self.day.to_bytes(DAY_BYTES, "big") + self.serial.to_bytes(SERIAL_BYTES, "big")
        return head + self.edition_tag + self.key_tag + self.machine + self.fingerprint + tail

    @property
    def groups(self) -> tuple[str, ...]:
        return format_groups(int.from_bytes(self.to_bytes(), "big"), INSTALLATION_GROUPS)

    def __str__(self) -> str:
        return "-".join(self.groups)

    @property
    def reference(self) -> int:
        """What a confirmation ID begins with: it says at the first group which installation ID is answered."""
        return reference_of(self.to_bytes())

    @property
    def nonce(self) -> bytes:
        """16 bytes that name this request where others have a random nonce."""
        return nonce_of(self.to_bytes())

    @property
    def requested_at(self) -> int:
        return self.day * DAY


@dataclass(frozen=True, slots=True)
class ConfirmationId:
    """What the desk reads back: the reference of an installation ID, and the publisher's signature."""

    reference: int
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.signature) != SIGNATURE_BYTES or not 0 <= self.reference < REFERENCES:
            raise RuntimeError("a confirmation ID holds 4 digits and 48 bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """As :meth:`InstallationId.parse`."""
        digits = parse_groups(text, CONFIRMATION_GROUPS, CONFIRMATION)
        number = int(digits[REFERENCE_DIGITS:])
        if number >> 8 * SIGNATURE_BYTES:
            raise PhoneFormatError(what=CONFIRMATION, why="its number is too large")
        return cls(int(digits[:REFERENCE_DIGITS]), number.to_bytes(SIGNATURE_BYTES, "big"))

    @property
    def groups(self) -> tuple[str, ...]:
        width = CONFIRMATION_GROUPS * DATA_DIGITS - REFERENCE_DIGITS
        number = self.reference * 10**width + int.from_bytes(self.signature, "big")
        return format_groups(number, CONFIRMATION_GROUPS)

    def __str__(self) -> str:
        return "-".join(self.groups)


def message(subject: Subject, installation: InstallationId) -> bytes:
    """The bytes that are signed: both sides rebuild them from what was read out and what they know."""
    return b"".join(
        (
            _MESSAGE_CONTEXT,
            root_bytes(subject.root),
            framed(subject.product),
            framed(subject.edition),
            subject.group.to_bytes(2, "big"),
            key_id_bytes(subject.key_id),
            installation.to_bytes(),
        )
    )


def reference_of(installation: bytes) -> int:
    """Of the 27 bytes of any installation ID; see :attr:`InstallationId.reference`."""
    digest = hashlib.sha256(_REFERENCE_CONTEXT + installation).digest()
    return int.from_bytes(digest[:8], "big") % REFERENCES


def nonce_of(installation: bytes) -> bytes:
    return hashlib.sha256(_NONCE_CONTEXT + installation).digest()[:16]


def check_reference(first_group: str, reference: int) -> None:
    """Whether a confirmation ID that begins with this group answers an installation ID of that reference;
    :class:`PhoneReferenceError`."""
    if int(first_group[:REFERENCE_DIGITS]) != reference:
        raise PhoneReferenceError()


def commit(fingerprint: Fingerprint) -> bytes:
    """The fingerprint's commitment in an installation ID."""
    return fingerprint.digest[:FINGERPRINT_BYTES]


def name_of(machine: bytes) -> bytes:
    """The machine ID under which a publisher keeps an activation by telephone: as much of it as was read out."""
    return machine[:MACHINE_BYTES] + bytes(MACHINE_ID_SIZE - MACHINE_BYTES)


def stand_in(installation: InstallationId) -> Fingerprint:
    """The fingerprint of such an activation: one trait that no policy weighs, holding the commitment."""
    return Fingerprint({STAND_IN: installation.fingerprint + bytes(HASH_BYTES - FINGERPRINT_BYTES)})


def shows(fingerprint: Fingerprint, commitment: bytes) -> bool:
    """Whether a fingerprint, or what stands for one, is the one that was committed to."""
    known = fingerprint.traits.get(STAND_IN)
    return commitment == (commit(fingerprint) if known is None else known[:FINGERPRINT_BYTES])


def parse_installation_group(number: int, text: str) -> str:
    """Group ``number`` (from 1) of an installation ID while it is typed: its seven digits, or the named error."""
    return parse_group(number, text, INSTALLATION)


def parse_confirmation_group(number: int, text: str) -> str:
    return parse_group(number, text, CONFIRMATION)


def parse_group(number: int, text: str, what: str) -> str:
    digits = read_digits(text, what)
    if len(digits) != GROUP_DIGITS:
        raise PhoneLengthError(what=f"group {number} of {what}", have=len(digits), need=GROUP_DIGITS)
    if not _fits(digits, number - 1):
        raise PhoneTypoError(what=what, groups=[number])
    return digits


def parse_groups(text: str, groups: int, what: str) -> str:
    """The data digits of a whole ID, without its check digits."""
    digits = read_digits(text, what)
    pieces = [digits[start : start + GROUP_DIGITS] for start in range(0, len(digits), GROUP_DIGITS)]
    wrong = [number for number, piece in enumerate(pieces, 1) if not _fits(piece, number - 1)]
    if len(digits) != groups * GROUP_DIGITS:
        within = [number for number in wrong if number <= groups]
        raise PhoneLengthError(what=what, have=len(digits), need=groups * GROUP_DIGITS, groups=within[:1])
    if wrong:
        raise PhoneTypoError(what=what, groups=wrong)
    return "".join(piece[:DATA_DIGITS] for piece in pieces)


def read_digits(text: str, what: str) -> str:
    """The digits in ``text``, of any script, without what may stand between them."""
    found = []
    for char in unicodedata.normalize("NFKC", text):
        if char in _SEPARATORS or unicodedata.category(char) in _SEPARATOR_CATEGORIES:
            continue
        digit: Any = unicodedata.decimal(char, None)
        if digit is None:
            raise PhoneSymbolError(what=what, symbol=char)
        found.append(str(digit))
    return "".join(found)


def format_groups(number: int, groups: int) -> tuple[str, ...]:
    digits = f"{number:0{groups * DATA_DIGITS}d}"
    pieces = (digits[start : start + DATA_DIGITS] for start in range(0, len(digits), DATA_DIGITS))
    return tuple(piece + _check_digit(piece, index) for index, piece in enumerate(pieces))


def _check_digit(data: str, index: int) -> str:
    return str(_state(data, index))


def _fits(group: str, index: int) -> bool:
    """A group and its check digit bring the quasigroup to 0: its diagonal is 0."""
    return len(group) == GROUP_DIGITS and _state(group, index) == 0


def _state(digits: str, index: int) -> int:
    """Starts from the group's place, so that a group in another's place is caught, if they are not ten apart."""
    state = index % 10
    for digit in digits:
        state = _QUASIGROUP[state][int(digit)]
    return state


def framed(text: str) -> bytes:
    data = text.encode("ascii")
    return bytes([len(data)]) + data


def root_bytes(root: str) -> bytes:
    data = bytes.fromhex(root.removeprefix("sha256:"))
    if len(data) != ROOT_BYTES:
        raise RuntimeError("a root's fingerprint has 32 bytes")
    return data


def key_id_bytes(key_id: str) -> bytes:
    data = bytes.fromhex(key_id)
    if len(data) != KEY_ID_BYTES:
        raise RuntimeError("a key ID has 16 bytes")
    return data
