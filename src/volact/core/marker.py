# SPDX-License-Identifier: Apache-2.0
"""OEM markers: what a maker signs for its computers, and what a computer saw of one in its own firmware.  Pure.

A marker is for a model, or for one device, or for one device of a model, and covers product groups.  What is kept on
the computer is a sighting: the marker with the hardware it was seen on, signed by the machine's own key, since the
products that ask for a licence may not read firmware.  Spec: docs/spec/oem-marker.md.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from volact.core.binding import NONCE_SIZE
from volact.core.definition import Edition
from volact.core.encoding import Fields, b64decode, b64encode
from volact.core.errors import InputError
from volact.core.fingerprint import Fingerprint, Trait, normalise
from volact.core.licence import Licence
from volact.core.product_key import Channel

FORMAT = 1
MOST_MARKER = 4096  # characters: with its two certificates a marker has some 2,600
MOST_NAME = 64  # characters of an SMBIOS string that is compared; longer ones existed in no table we saw
MOST_GROUPS = 200
DEVICE_BYTES = 32
_DEVICE_CONTEXT = b"volact oem device v1\n"


class MarkerUnboundError(InputError):
    code = "marker-unbound"
    fmt = "a marker needs the model or the device that it is for"
    remedy = "give manufacturer and product name as the computer's SMBIOS says them, or its UUID or serial number"


@dataclass(frozen=True, slots=True)
class Model:
    """Manufacturer and product name of SMBIOS type 1.  Compared without regard to case and to spaces around."""

    manufacturer: str
    product: str

    def to_claim(self) -> dict[str, str]:
        return {"manufacturer": self.manufacturer, "product": self.product}

    @classmethod
    def from_claim(cls, claim: Fields) -> Self:
        return cls(claim.text("manufacturer", most=MOST_NAME), claim.text("product", most=MOST_NAME))

    def same(self, other: "Model | None") -> bool:
        return other is not None and _plain(self) == _plain(other)

    def __str__(self) -> str:
        return f"{self.manufacturer} {self.product}"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a computer says of itself: its model, and the hashes that a marker may name it by."""

    model: Model | None
    devices: frozenset[bytes]

    @classmethod
    def of(cls, manufacturer: str, product: str, uuid: str, serial: str) -> Self:
        """From the raw texts of SMBIOS type 1; what identifies nothing is left out."""
        model = Model(_short(manufacturer), _short(product))
        devices = (device_hash(Trait.SMBIOS_UUID, uuid), device_hash(Trait.SMBIOS_SERIAL, serial))
        named = bool(model.manufacturer and model.product)
        return cls(model if named else None, frozenset(one for one in devices if one is not None))

    def to_claim(self) -> dict[str, Any]:
        model = {} if self.model is None else {"model": self.model.to_claim()}
        return {**model, "devices": [b64encode(one) for one in sorted(self.devices)]}

    @classmethod
    def from_claim(cls, claim: Fields) -> Self:
        model = Model.from_claim(claim.fields("model")) if "model" in claim else None
        return cls(model, frozenset(_device(text, claim) for text in claim.texts("devices", most=2)))


@dataclass(frozen=True, slots=True)
class OemMarker:
    """``editions`` narrows ``groups`` down to editions with these IDs; empty: every edition of the groups."""

    issued_at: int
    groups: frozenset[int]
    model: Model | None = None
    device: bytes | None = None
    editions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.model is None and self.device is None:
            raise MarkerUnboundError()

    def fits(self, hardware: Hardware) -> bool:
        """Whether it is for this computer."""
        model = self.model is None or self.model.same(hardware.model)
        return model and (self.device is None or self.device in hardware.devices)

    def covers(self, edition: Edition) -> bool:
        return edition.group in self.groups and (not self.editions or edition.id in self.editions)

    @property
    def made_for(self) -> str:
        """For whom, to show."""
        if self.model is None:
            return "one device"
        return str(self.model) if self.device is None else f"one device of model {self.model}"

    def to_claim(self) -> dict[str, Any]:
        inner: dict[str, Any] = {"v": FORMAT, "groups": sorted(self.groups)}
        if self.model is not None:
            inner["model"] = self.model.to_claim()
        if self.device is not None:
            inner["device"] = b64encode(self.device)
        if self.editions:
            inner["editions"] = sorted(self.editions)
        return {"iat": self.issued_at, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> Self:
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        if "model" not in inner and "device" not in inner:
            inner.fail("model", "there, or device")
        return cls(
            issued_at=claim.integer("iat"),
            groups=_groups(inner),
            model=Model.from_claim(inner.fields("model")) if "model" in inner else None,
            device=inner.octets("device", size=DEVICE_BYTES) if "device" in inner else None,
            editions=frozenset(inner.texts("editions", most=MOST_GROUPS)) if "editions" in inner else frozenset(),
        )


class Sight(StrEnum):
    """What the last look into the firmware showed: a marker for this computer, none, or another computer's."""

    PRESENT = "present"
    MISSING = "missing"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Sighting:
    """The last look into the firmware.  ``token`` is the last marker that was good here, also where it is gone by now;
    ``hardware`` and ``fingerprint`` are of the moment it was seen at.  ``made_for``: of a marker that does not fit."""

    looked_at: int
    sight: Sight
    token: str
    hardware: Hardware
    fingerprint: Fingerprint
    made_for: str = ""

    def to_claim(self) -> dict[str, Any]:
        inner = {
            "v": FORMAT,
            "sight": str(self.sight),
            "marker": self.token,
            "hardware": self.hardware.to_claim(),
            "fingerprint": self.fingerprint.to_claim(),
            "made_for": self.made_for,
        }
        return {"iat": self.looked_at, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> Self:
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        sight = inner.text("sight", most=20)
        if sight not in list(Sight):
            inner.fail("sight", "present, missing or mismatch")
        return cls(
            looked_at=claim.integer("iat"),
            sight=Sight(sight),
            token=inner.text("marker", least=0, most=MOST_MARKER),
            hardware=Hardware.from_claim(inner.fields("hardware")),
            fingerprint=Fingerprint.from_claim(inner.mapping("fingerprint")),
            made_for=inner.text("made_for", least=0, most=400),
        )


def device_hash(trait: Trait, raw: str) -> bytes | None:
    """How a marker names a device: by its SMBIOS UUID or serial number, hashed; ``None`` for a placeholder."""
    value = normalise(trait, raw)
    if value is None:
        return None
    return hashlib.sha256(_DEVICE_CONTEXT + f"{trait}={value}".encode()).digest()


def licence_of(
    marker: OemMarker, token: str, maker: str, signer: bytes, machine: bytes, product: str, edition: Edition,
    fingerprint: Fingerprint,
) -> Licence:  # fmt: skip
    """The licence that a marker is worth to one product: perpetual, for the computer that it was seen on."""
    digest = hashlib.sha256(token.encode()).digest()
    return Licence(
        issuer=signer.hex(),
        machine=machine,
        product=product,
        edition=edition.id,
        group=edition.group,
        channel=Channel.OEM,
        key_id=digest.hex()[:32],
        nonce=digest[:NONCE_SIZE],
        issued_at=marker.issued_at,
        expires_at=None,
        fingerprint=fingerprint,
        organisation=maker,
    )


def _groups(claim: Fields) -> frozenset[int]:
    groups = claim.integers("groups", most=MOST_GROUPS)
    if not groups or groups != tuple(sorted(set(groups))) or not all(0 < group < 2**16 for group in groups):
        claim.fail("groups", "ascending numbers up to 65535")
    return frozenset(groups)


def _device(text: str, claim: Fields) -> bytes:
    value = b64decode(text, claim.what)
    return value if len(value) == DEVICE_BYTES else claim.fail("devices", f"hashes of {DEVICE_BYTES} bytes")


def _short(raw: str) -> str:
    text = "".join(char for char in raw if char.isprintable()).strip()
    return text[:MOST_NAME].strip()


def _plain(model: Model) -> tuple[str, str]:
    return _short(model.manufacturer).casefold(), _short(model.product).casefold()
