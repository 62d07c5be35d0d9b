# SPDX-License-Identifier: Apache-2.0
"""Telephone activation of what serves many machines: a KMS host, a VM host, a forest.  Spec: docs/spec/phone.md §8.

The same digits, the same desk and the same signature as for one machine (:mod:`volact.core.phone`); other fields.  What
a confirmation makes of a host or a forest ends on a day that both sides compute, and covers product groups that both
sides know, so nothing but the installation ID has to be dictated.  Pure: signing and verifying are in ``sealing``.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeAlias

from volact.core.binding import MACHINE_ID_SIZE
from volact.core.definition import ProductDefinition
from volact.core.forest import Forest
from volact.core.phone import (
    DAY_BYTES,
    FORMAT_VERSION,
    INSTALLATION,
    INSTALLATION_BYTES,
    INSTALLATION_GROUPS,
    KEY_BYTES,
    LAST_DAY,
    SERIAL_BYTES,
    InstallationId,
    PhoneDayError,
    PhoneFormatError,
    format_groups,
    framed,
    key_id_bytes,
    nonce_of,
    parse_groups,
    reference_of,
    root_bytes,
)
from volact.core.policy import DAY
from volact.core.product_key import CHANNEL_TAGS, Channel

COVER_BYTES, NAME_BYTES = 3, 14
_COVER_CONTEXT = b"volact/phone-cover/v1"
_FOREST_CONTEXT = b"volact/phone-forest/v1"
_MESSAGE_CONTEXT = b"volact/phone-site/v1"
_REVOCATION_CONTEXT = b"volact/phone-revocation/v1"


class SiteKind(StrEnum):
    KMS_HOST = "kms-host"
    VM_HOST = "vm-host"
    FOREST = "forest"


# Beside the channels' tags in the lower half of an installation ID's first byte.  A forest is no channel of its own.
TAGS = {
    SiteKind.KMS_HOST: CHANNEL_TAGS[Channel.KMS_HOST],
    SiteKind.VM_HOST: CHANNEL_TAGS[Channel.VM_HOST],
    SiteKind.FOREST: 8,
}
_KINDS = {tag: kind for kind, tag in TAGS.items()}
# The key that each is activated with, and for how many days: as online.
KEY_CHANNELS = {
    SiteKind.KMS_HOST: Channel.KMS_HOST,
    SiteKind.VM_HOST: Channel.VM_HOST,
    SiteKind.FOREST: Channel.KMS_HOST,
}
LIFETIME_DAYS = {SiteKind.KMS_HOST: 365, SiteKind.VM_HOST: 365, SiteKind.FOREST: 730}


@dataclass(frozen=True, slots=True)
class SiteSubject:
    """What is confirmed, as both sides know it: ``group`` is the key's, ``groups`` that and those below it in the
    definition at hand."""

    root: str
    product: str
    group: int
    groups: frozenset[int]
    key_id: str

    @classmethod
    def of(cls, definition: ProductDefinition, group: int, key_id: str) -> Self:
        return cls(definition.root, definition.product, group, definition.covered_by(group), key_id)

    @property
    def cover_tag(self) -> bytes:
        """By which the desk finds product and groups among those of its definitions, the earlier ones included."""
        named = root_bytes(self.root) + framed(self.product) + _numbers(self.groups)
        return hashlib.sha256(_COVER_CONTEXT + named).digest()[:COVER_BYTES]

    @property
    def key_tag(self) -> bytes:
        return key_id_bytes(self.key_id)[:KEY_BYTES]


@dataclass(frozen=True, slots=True)
class SiteInstallationId:
    """What is read out for a host or a forest.  ``name``: the beginning of the host's machine ID, or of a hash of the
    forest's identity.  ``day`` and ``serial`` as in a machine's."""

    kind: SiteKind
    cover_tag: bytes
    key_tag: bytes
    name: bytes
    day: int
    serial: int

    def __post_init__(self) -> None:
        widths = ((self.cover_tag, COVER_BYTES), (self.key_tag, KEY_BYTES), (self.name, NAME_BYTES))
        if any(len(value) != width for value, width in widths):
            raise RuntimeError("an installation ID has fields of fixed widths")
        if not 0 <= self.day <= LAST_DAY or not 0 <= self.serial < 1 << 8 * SERIAL_BYTES:
            raise RuntimeError("an installation ID takes 16 bits for its day and for its serial")

    @classmethod
    def new(cls, kind: SiteKind, subject: SiteSubject, name: bytes, now: int, serial: int) -> Self:
        """The ID at second ``now``; ``name`` from :func:`name_of_host` or :func:`name_of_forest`."""
        day = now // DAY
        if not 0 <= day <= LAST_DAY:
            raise PhoneDayError()
        return cls(kind, subject.cover_tag, subject.key_tag, name, day, serial)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        version, tag = divmod(data[0], 16) if len(data) == INSTALLATION_BYTES else (0, 0)
        if version != FORMAT_VERSION or tag not in _KINDS:
            raise PhoneFormatError(what=INSTALLATION, why="it is for no host and no forest")
        parts, start = [], 1
        for width in (COVER_BYTES, KEY_BYTES, NAME_BYTES, DAY_BYTES, SERIAL_BYTES):
            parts.append(data[start : start + width])
            start += width
        cover, key, name, day, serial = parts
        return cls(_KINDS[tag], cover, key, name, int.from_bytes(day, "big"), int.from_bytes(serial, "big"))

    def to_bytes(self) -> bytes:
        head = bytes([FORMAT_VERSION << 4 | TAGS[self.kind]])
        tail = self.day.to_bytes(DAY_BYTES, "big") + self.serial.to_bytes(SERIAL_BYTES, "big")
        return head + self.cover_tag + self.key_tag + self.name + tail

    @property
    def groups(self) -> tuple[str, ...]:
        return format_groups(int.from_bytes(self.to_bytes(), "big"), INSTALLATION_GROUPS)

    def __str__(self) -> str:
        return "-".join(self.groups)

    @property
    def reference(self) -> int:
        return reference_of(self.to_bytes())

    @property
    def nonce(self) -> bytes:
        return nonce_of(self.to_bytes())

    @property
    def revocation_id(self) -> str:
        """Under which a revocation status names what was confirmed: the desk does not know the host's whole key."""
        return hashlib.sha256(_REVOCATION_CONTEXT + self.to_bytes()).hexdigest()

    @property
    def begins_at(self) -> int:
        return self.day * DAY

    @property
    def ends_at(self) -> int:
        return (self.day + LIFETIME_DAYS[self.kind]) * DAY


AnyInstallationId: TypeAlias = InstallationId | SiteInstallationId


def parse_installation_id(text: str) -> AnyInstallationId:
    """Whatever kind of installation ID somebody typed or pasted: a machine's, a host's or a forest's.

    Raises as :meth:`~volact.core.phone.InstallationId.parse`.
    """
    number = int(parse_groups(text, INSTALLATION_GROUPS, INSTALLATION))
    if number >> 8 * INSTALLATION_BYTES:
        raise PhoneFormatError(what=INSTALLATION, why="its number is too large")
    data = number.to_bytes(INSTALLATION_BYTES, "big")
    if data[0] >> 4 == FORMAT_VERSION and data[0] % 16 in _KINDS:
        return SiteInstallationId.from_bytes(data)
    return InstallationId.from_bytes(data)


def message(subject: SiteSubject, installation: SiteInstallationId) -> bytes:
    """The bytes that are signed; the last day of what they make is among them."""
    return b"".join(
        (
            _MESSAGE_CONTEXT,
            root_bytes(subject.root),
            framed(subject.product),
            subject.group.to_bytes(2, "big"),
            _numbers(subject.groups),
            key_id_bytes(subject.key_id),
            (installation.ends_at // DAY).to_bytes(4, "big"),
            installation.to_bytes(),
        )
    )


def fits(subject: SiteSubject, installation: SiteInstallationId) -> bool:
    """Whether an installation ID was made for this; what is signed says so too, this only tells it earlier."""
    return (installation.cover_tag, installation.key_tag) == (subject.cover_tag, subject.key_tag)


def name_of_host(machine: bytes) -> bytes:
    """112 bits of a host's machine ID, which is the hash of its signing key."""
    return machine[:NAME_BYTES]


def name_of_forest(forest: Forest) -> bytes:
    return name_of_identity(forest.identity)


def name_of_identity(identity: str) -> bytes:
    """112 bits of a hash of what makes two forests the same one."""
    return hashlib.sha256(_FOREST_CONTEXT + identity.encode("utf-8")).digest()[:NAME_BYTES]


def whole_name(name: bytes) -> bytes:
    """In the place of a machine ID of which no more is known."""
    return name + bytes(MACHINE_ID_SIZE - NAME_BYTES)


def _numbers(groups: frozenset[int]) -> bytes:
    return len(groups).to_bytes(2, "big") + b"".join(group.to_bytes(2, "big") for group in sorted(groups))
