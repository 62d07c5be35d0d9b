# SPDX-License-Identifier: Apache-2.0
"""OEM activation: the maker's marker in this computer's firmware, instead of a key and of any contact.

Firmware is for administrators to read, and products run as anybody.  So whoever may look writes down what was seen: a
sighting, signed by this machine's own key, of the marker that fits this computer.  It is verified at each load and
evaluated as the perpetual licence of the ``oem`` channel; a volume edition may demand it as well.  A look that finds no
marker is written down too, and takes the licence away by name.  Spec: docs/spec/oem-marker.md.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.platform import firmware
from volact.client.products.loading import LoadedProduct, load_product
from volact.client.products.sightings import covering, covering_some, licence_by
from volact.core.definition import Edition, ProductDefinition
from volact.core.errors import ConfigError, MalformedError, TrustError, VolactError
from volact.core.evaluation import MarkerMismatchReason, MarkerMissingReason
from volact.core.licence import Licence
from volact.core.marker import MOST_NAME, Hardware, OemMarker, Sight, Sighting
from volact.core.product_key import Channel
from volact.sealing import markers
from volact.sealing.markers import TrustedMarker
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import Trust, UntrustedRootError

SOURCE = "firmware"
ADDRESS = "this computer's firmware"

_ACPI, _DMI = "sys/firmware/acpi/tables", "sys/firmware/dmi/entries"
_SMBIOS = tuple(f"sys/class/dmi/id/{name}" for name in ("sys_vendor", "product_name", "product_uuid", "product_serial"))


class FirmwareUnreadableError(ConfigError):
    code = "firmware-unreadable"
    fmt = "{path} can be read by an administrator only"
    remedy = "run the command as root; the product itself needs no such right afterwards"


class MarkerEditionsError(ConfigError):
    code = "marker-editions"
    fmt = "the marker in the firmware covers several editions of {product}: {editions}"
    remedy = "ask the computer's maker for a marker that names one, or install a key"


@dataclass(frozen=True, slots=True)
class Look:
    """What the firmware shows: markers under the publisher's root, and the hardware they must fit."""

    markers: tuple[TrustedMarker, ...]
    hardware: Hardware

    def best(self, covers: Callable[[OemMarker], bool]) -> TrustedMarker | None:
        """One for this computer; of several the newest."""
        fitting = [one for one in self.markers if covers(one.marker) and one.marker.fits(self.hardware)]
        return max(fitting, key=lambda one: one.marker.issued_at, default=None)

    def made_for(self, covers: Callable[[OemMarker], bool]) -> str:
        """Whom the markers are for that do not fit; empty where there is none."""
        others = (one.marker for one in self.markers if covers(one.marker) and not one.marker.fits(self.hardware))
        return next((marker.made_for for marker in others), "")


def look(store: ClientStore, machine: LocalMachine, trust: Trust) -> Look:
    """Read the firmware.  Markers that do not verify are noted and count for nothing; those of other publishers are
    none of our business.  Raises :class:`FirmwareUnreadableError`, so that not to see is never taken for not there."""
    root = machine.root
    _check_readable(root)
    found = firmware.read_markers(root / _ACPI, root / _DMI)
    trusted = [one for one in (_verified(store, marker.text, trust) for marker in found) if one is not None]
    return Look(tuple(trusted), Hardware.of(*(_smbios(root / file) for file in _SMBIOS)))


def adopt(store: ClientStore, product: str, machine: LocalMachine, now: int) -> LoadedProduct:
    """Give a product without a key the edition that the firmware's marker is for, and licence it by that.

    Raises ``firmware-marker-missing`` or ``oem-marker-mismatch``, and changes nothing then.
    """
    loaded = load_product(store, product)
    seen = look(store, machine, loaded.trust)
    covers = covering_some(loaded.definition.editions)
    best = seen.best(covers)
    if best is None:
        raise _lacking(product, seen.made_for(covers))
    edition = _edition_of(best, loaded.definition)
    with store.lock():
        _save(store, loaded, machine, now, Sight.PRESENT, best, seen)
        installation = store.installation(product)
        store.remove_key(product)
        store.save_installation(
            product,
            installation._replace(edition=edition.id, channel=Channel.OEM, partial="", hardware_changed_at=None),
        )
    return load_product(store, product)


def adopt_if_marked(store: ClientStore, product: str, machine: LocalMachine, now: int) -> LoadedProduct | None:
    """The same for a computer that need not be an OEM one: without a marker, or the right to look, nothing happens."""
    if store.installation(product).channel is not None:
        return None
    try:
        return adopt(store, product, machine, now)
    except VolactError as exc:
        if isinstance(exc, MarkerMismatchReason | MarkerEditionsError):
            store.note(f"{product} has no licence by the firmware: {exc}")
        return None


def refresh(store: ClientStore, product: str, machine: LocalMachine, now: int) -> Licence | None:
    """Look again, and write down what is there now.  Raises what is lacking, once that is written down.

    Returns the licence that it is worth; ``None`` where another channel only demands the marker.
    """
    loaded = load_product(store, product)
    assert loaded.edition is not None
    seen = look(store, machine, loaded.trust)
    covers = covering(loaded.definition, loaded.edition, loaded.installation.channel)
    best, made_for = seen.best(covers), seen.made_for(covers)
    sight = Sight.PRESENT if best is not None else Sight.MISMATCH if made_for else Sight.MISSING
    _save(store, loaded, machine, now, sight, best, seen, made_for)
    if best is None:
        raise _lacking(product, made_for)
    if loaded.installation.channel is not Channel.OEM:
        return None
    fingerprint = machine.fingerprint(loaded.trust.fingerprint)
    return licence_by(best, MachineSigner(store.machine_key()).machine, product, loaded.edition, fingerprint)


def _edition_of(best: TrustedMarker, definition: ProductDefinition) -> Edition:
    covered = [edition for edition in definition.editions if best.marker.covers(edition)]
    if len(covered) > 1:
        raise MarkerEditionsError(product=definition.product, editions=", ".join(one.id for one in covered))
    return covered[0]


def _save(
    store: ClientStore, loaded: LoadedProduct, machine: LocalMachine, now: int, sight: Sight,
    best: TrustedMarker | None, seen: Look, made_for: str = "",
) -> None:  # fmt: skip
    """The last good marker stays in the sighting with what it was seen on, so that loss is told from absence."""
    signer = MachineSigner(store.machine_key())
    fingerprint = machine.fingerprint(loaded.trust.fingerprint)
    sighting = Sighting(now, sight, "" if best is None else best.token, seen.hardware, fingerprint, made_for)
    if best is None:
        before = store.load_sighting(loaded.product, lambda token: markers.verify_sighting(token, signer.machine))
        if before is not None and before.token:
            sighting = Sighting(now, sight, before.token, before.hardware, before.fingerprint, made_for)
    store.save_sighting(loaded.product, markers.sign_sighting(signer, sighting))


def _lacking(product: str, made_for: str) -> ConfigError:
    return MarkerMismatchReason(made_for=made_for) if made_for else MarkerMissingReason(product=product)


def _verified(store: ClientStore, text: str, trust: Trust) -> TrustedMarker | None:
    try:
        return markers.verify_marker(text, trust)
    except UntrustedRootError:
        return None
    except (TrustError, MalformedError) as exc:
        store.note(f"a marker in the firmware is left aside: {exc}")
        return None


def _check_readable(root: Path) -> None:
    """Linux lists these files to everybody and opens them for root alone."""
    strings = sorted((root / _DMI).glob("11-*/raw")) or [firmware.whole_table(root / _DMI)]
    for path in (*sorted((root / _ACPI).glob(f"{firmware.SIGNATURE}*")), *strings):
        if path.exists() and not os.access(path, os.R_OK):
            raise FirmwareUnreadableError(path=str(path))


def _smbios(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4 * MOST_NAME).decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return ""
