# SPDX-License-Identifier: Apache-2.0
"""What was seen of a maker's marker in the firmware: the stored sighting, verified at each load.

Who looks and writes it down is ``oem``.  Spec: docs/spec/oem-marker.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from volact.client.folder.store import ClientStore
from volact.core.definition import Edition, ProductDefinition
from volact.core.evaluation import Answer
from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.marker import OemMarker, Sight, Sighting, licence_of
from volact.core.product_key import Channel
from volact.sealing import markers
from volact.sealing.markers import TrustedMarker
from volact.sealing.verify import Trust


@dataclass(frozen=True, slots=True)
class Firmware:
    """The last look into the firmware, verified : what it showed, the marker that was good here, and what that
    is worth as an OEM licence."""

    sight: Sight
    made_for: str
    marked: bool
    answer: Answer | None = None
    token: str = ""


def load(
    store: ClientStore, definition: ProductDefinition, trust: Trust, machine: bytes, edition: Edition, channel: Channel
) -> Firmware | None:
    """The stored sighting as evaluation takes it; what does not verify is noted and counts for nothing."""

    def parse(token: str) -> Firmware:
        sighting = markers.verify_sighting(token, machine)
        trusted = markers.verify_marker(sighting.token, trust) if sighting.token else None
        good = trusted is not None and _is_good(trusted, sighting, covering(definition, edition, channel))
        sight = sighting.sight
        if trusted is None or not good:
            sight = Sight.MISSING if sight is Sight.PRESENT else sight
            return Firmware(sight, sighting.made_for, marked=False)
        licence = licence_by(trusted, machine, definition.product, edition, sighting.fingerprint)
        answer = Answer(licence, trusted.chain_ends_at, trusted.revoked_at) if channel is Channel.OEM else None
        if answer is None and _is_revoked(trusted):
            sight = Sight.MISSING
        return Firmware(sight, sighting.made_for, marked=True, answer=answer, token=trusted.token)

    return store.load_sighting(definition.product, parse)


def covering(definition: ProductDefinition, edition: Edition, channel: Channel | None) -> Callable[[OemMarker], bool]:
    """An OEM edition needs a marker of its own; as a qualifying licence, one for any edition of the product will do."""
    if channel is Channel.OEM:
        return lambda marker: marker.covers(edition)
    return covering_some(definition.editions)


def covering_some(editions: Iterable[Edition]) -> Callable[[OemMarker], bool]:
    return lambda marker: any(marker.covers(edition) for edition in editions)


def _is_good(trusted: TrustedMarker, sighting: Sighting, covers: Callable[[OemMarker], bool]) -> bool:
    return covers(trusted.marker) and trusted.marker.fits(sighting.hardware)


def _is_revoked(trusted: TrustedMarker) -> bool:
    return trusted.revoked_at is not None and trusted.marker.issued_at >= trusted.revoked_at


def licence_by(
    trusted: TrustedMarker, machine: bytes, product: str, edition: Edition, fingerprint: Fingerprint
) -> Licence:
    return licence_of(
        trusted.marker, trusted.token, trusted.maker, trusted.signer, machine, product, edition, fingerprint
    )
