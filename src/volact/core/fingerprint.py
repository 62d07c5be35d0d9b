# SPDX-License-Identifier: Apache-2.0
"""Fingerprints: what a machine looks like, as one salted hash a trait, and how much of it may change.

Pure: raw values come from ``client.platform.traits``.  A fingerprint tells machines apart and notices copies; it is not
the machine's identity (that is the hash of its key) and not anonymous to the publisher whose salt made it.
Spec: docs/spec/fingerprint.md.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from .encoding import b64decode, b64encode
from .errors import MalformedError

HASH_BYTES = 16
MAX_TRAITS = 16
MAX_WEIGHT = 1000

_HASH_CONTEXT = b"volact/fingerprint/v1"
_DIGEST_CONTEXT = b"volact/fingerprint-digest/v1"
_MIN_SALT_BYTES = 16
_TRAIT_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")

# Firmware pads with spaces and NUL and forgets fields as bytes of ff; what identifies is ASCII.
_NOT_VISIBLE_ASCII = re.compile(r"[^!-~]+")
# What makers leave in a field they were meant to fill. Compared in lower case, with single spaces.
_PLACEHOLDERS = frozenset(
    {
        "to be filled by o.e.m.",
        "to be filled by o.e.m",
        "to be filled by oem",
        "to be filled",
        "default string",
        "default",
        "default_string",
        "none",
        "null",
        "nil",
        "n/a",
        "na",
        "not available",
        "not applicable",
        "not specified",
        "not present",
        "not settable",
        "no asset tag",
        "unknown",
        "undefined",
        "unspecified",
        "uninitialized",
        "invalid",
        "empty",
        "oem",
        "o.e.m.",
        "serial",
        "serial number",
        "serialnumber",
        "system serial number",
        "system uuid",
        "base board serial number",
        "board serial number",
        "baseboard serial number",
        "chassis serial number",
        "type2 - board serial number",
        "not defined",
        "123456789",
        "1234567890",
        "0123456789",
        "01234567890123456789",
        "12345678",
    }
)
# UUIDs that board makers and examples ship by the thousand, without hyphens.
_SHARED_UUIDS = frozenset(
    {
        "03000200040005000006000700080009",
        "00020003000400050006000700080009",
        "0123456789abcdef0123456789abcdef",
        "12345678123456789012345678901234",
        "123456781234567890abcddeefaabbcc",
        "11111111222233334444555555555555",
    }
)
_DEFAULT_DISK_SERIAL = re.compile(r"qm0000\d$")  # QEMU's for a disk that was given none: the same on every guest


class Trait(StrEnum):
    """What is looked at.  A fingerprint read from a message may hold further names, made by a newer client."""

    MACHINE_ID = "machine-id"
    SMBIOS_UUID = "smbios-uuid"
    SMBIOS_SERIAL = "smbios-serial"
    BOARD_SERIAL = "board-serial"
    DISK_SERIAL = "disk-serial"
    MAC = "mac"
    CPU = "cpu"
    TPM_EK = "tpm-ek"


_KNOWN = frozenset(map(str, Trait))  # looked at first: nearly every name that a message brings is one of them


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Trait names and 16-byte salted hashes."""

    traits: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if len(self.traits) > MAX_TRAITS or any(len(value) != HASH_BYTES for value in self.traits.values()):
            raise RuntimeError(f"a fingerprint holds up to {MAX_TRAITS} hashes of {HASH_BYTES} bytes")
        object.__setattr__(self, "traits", {str(name): value for name, value in sorted(self.traits.items())})

    @classmethod
    def of(cls, raw: Mapping[Trait, str], salt: bytes) -> Self:
        """The fingerprint of a machine for one publisher: ``salt`` is its root's fingerprint, so that two publishers
        cannot compare what they see.  Values that identify nothing are left out (:func:`normalise`)."""
        if len(salt) < _MIN_SALT_BYTES:
            raise RuntimeError(f"a fingerprint's salt has at least {_MIN_SALT_BYTES} bytes")
        values = {trait: normalise(trait, value) for trait, value in raw.items()}
        return cls({trait: _hash(trait, value, salt) for trait, value in values.items() if value is not None})

    @classmethod
    def from_claim(cls, claim: object) -> Self:
        """Read ``to_claim``'s object from an untrusted message; raises :class:`~volact.core.errors.MalformedError`."""
        entries = _object("fingerprint", claim)
        if len(entries) > MAX_TRAITS:
            raise MalformedError(what="fingerprint", why=f"it has more than {MAX_TRAITS} traits")
        return cls({_trait_name("fingerprint", name): _hash_value(name, text) for name, text in entries.items()})

    def to_claim(self) -> dict[str, str]:
        """The JSON object in licences and requests: base64url without padding, in order of names."""
        return {name: b64encode(value) for name, value in self.traits.items()}

    @property
    def digest(self) -> bytes:
        """16 bytes that name exactly this fingerprint.  That of an empty one names no machine: see ``traits``."""
        lines = "".join(f"\n{name}={text}" for name, text in self.to_claim().items())
        return hashlib.sha256(_DIGEST_CONTEXT + lines.encode("ascii")).digest()[:HASH_BYTES]

    def __hash__(self) -> int:
        return hash(tuple(self.traits.items()))


@dataclass(frozen=True, slots=True)
class Match:
    """How two fingerprints compare: weight that agrees, of the weight that both sides could show."""

    matched: int
    compared: int
    within: bool
    differing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much of a machine may change: a weighted n-of-m vote, part of the product's signed policy.

    ``required``  percentage of the compared weight that must agree.
    ``minimum``   least weight that must be comparable at all, so that nobody passes by hiding what differs.
    A trait without a weight has no vote.
    """

    weights: Mapping[str, int]
    required: int
    minimum: int

    def __post_init__(self) -> None:
        why = _tolerance_defect(self.weights, self.required, self.minimum)
        if why:
            raise MalformedError(what="tolerance", why=why)
        object.__setattr__(self, "weights", {str(name): weight for name, weight in sorted(self.weights.items())})

    @classmethod
    def from_claim(cls, claim: object) -> Self:
        """Read ``to_claim``'s object; raises :class:`~volact.core.errors.MalformedError`."""
        fields = _object("tolerance", claim)
        if set(fields) != {"weights", "required", "minimum"}:
            raise MalformedError(what="tolerance", why="it takes exactly weights, required and minimum")
        return cls(_object("tolerance", fields["weights"]), fields["required"], fields["minimum"])

    def to_claim(self) -> dict[str, Any]:
        """The JSON object in a product's policy."""
        return {"weights": dict(self.weights), "required": self.required, "minimum": self.minimum}

    def __hash__(self) -> int:
        return hash((tuple(self.weights.items()), self.required, self.minimum))


def compare(stored: Fingerprint, seen: Fingerprint, tolerance: Tolerance) -> Match:
    """Is ``seen`` still the machine of ``stored``?  Symmetric.

    A trait that one side lacks is left out: a value that could not be read once must not use up tolerance.
    Equal fingerprints always match, those without any trait (containers) too.
    """
    common = {name: tolerance.weights.get(name, 0) for name in stored.traits if name in seen.traits}
    differing = tuple(n for n, weight in common.items() if weight and stored.traits[n] != seen.traits[n])
    compared = sum(common.values())
    matched = compared - sum(common[name] for name in differing)
    enough = compared >= tolerance.minimum and 100 * matched >= tolerance.required * compared
    return Match(matched, compared, enough or stored == seen, differing)


def normalise(trait: Trait, raw: str) -> str | None:
    """The one spelling of a raw value, or None where it identifies no machine: a placeholder, broken or shared."""
    text = _NOT_VISIBLE_ASCII.sub(" ", raw).strip().lower()
    if not text or text in _PLACEHOLDERS or _is_one_character(text):
        return None
    if trait in (Trait.MACHINE_ID, Trait.SMBIOS_UUID):
        return _uuid(text)
    if trait is Trait.MAC:
        return _mac(text)
    if trait is Trait.DISK_SERIAL and _DEFAULT_DISK_SERIAL.search(text):
        return None
    return text


def _is_one_character(text: str) -> bool:
    """All zeros, all f, ``xxxxx``, ``-----``: whatever the separators."""
    return len(set(re.sub(r"[\W_]", "", text))) <= 1


def _uuid(text: str) -> str | None:
    digits = re.sub(r"[{}-]", "", text)
    return digits if re.fullmatch(r"[0-9a-f]{32}", digits) and digits not in _SHARED_UUIDS else None


def _mac(text: str) -> str | None:
    digits = re.sub(r"[:.-]", "", text)
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        return None
    is_group_or_local = int(digits[:2], 16) & 0b11  # IEEE 802: bit 0 group address, bit 1 locally administered
    return None if is_group_or_local else digits


def _hash(trait: Trait, value: str, salt: bytes) -> bytes:
    message = b"\0".join((_HASH_CONTEXT, trait.encode("ascii"), value.encode()))
    return hmac.digest(salt, message, "sha256")[:HASH_BYTES]


def _object(what: str, claim: object) -> dict[str, Any]:
    if not isinstance(claim, dict):
        raise MalformedError(what=what, why="it is not an object")
    return claim


def _trait_name(what: str, name: object) -> str:
    if name in _KNOWN:
        return str(name)
    if not isinstance(name, str) or not _TRAIT_NAME.fullmatch(name):
        raise MalformedError(what=what, why="a trait's name is 1 to 32 of a-z, 0-9 and hyphen")
    return name


def _hash_value(name: str, text: object) -> bytes:
    value = b64decode(text, "fingerprint") if isinstance(text, str) else b""
    if len(value) != HASH_BYTES:
        raise MalformedError(what="fingerprint", why=f"{name} is not {HASH_BYTES} bytes in base64url")
    return value


def _tolerance_defect(weights: Mapping[str, int], required: int, minimum: int) -> str | None:
    for name in weights:
        _trait_name("tolerance", name)
    if not 1 <= len(weights) <= MAX_TRAITS or not _all_in(weights.values(), 0, MAX_WEIGHT):
        return f"weights are 1 to {MAX_TRAITS} whole numbers from 0 to {MAX_WEIGHT}"
    if not _all_in([required], 1, 100):
        return "required is a percentage from 1 to 100"
    if not _all_in([minimum], 1, sum(weights.values())):
        return "minimum is a whole number from 1 to the sum of the weights"
    return None


def _all_in(values: Iterable[object], low: int, high: int) -> bool:
    return all(type(value) is int and low <= value <= high for value in values)


# Weights from how much a trait tells and how seldom it changes: firmware, disk and TPM most, then the board; the
# installation's own ID changes with every new image, network cards come and go, and a CPU model names no machine.
# So a new image, a new disk, or both, stay within; a disk moved to another machine, or a copied image, do not.
DEFAULT_TOLERANCE = Tolerance(
    weights={
        Trait.SMBIOS_UUID: 5,
        Trait.DISK_SERIAL: 5,
        Trait.TPM_EK: 5,
        Trait.BOARD_SERIAL: 4,
        Trait.SMBIOS_SERIAL: 3,
        Trait.MACHINE_ID: 2,
        Trait.MAC: 2,
        Trait.CPU: 1,
    },
    required=50,
    minimum=2,
)
