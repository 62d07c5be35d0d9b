# SPDX-License-Identifier: Apache-2.0
"""OEM markers, made and accepted, and what a machine saw of one.  Spec: docs/spec/oem-marker.md.

A maker signs markers and nothing else: a licence of the ``oem`` channel is never a token of its own, it is what
evaluation makes of a marker on the computer that it fits.
"""

from dataclasses import dataclass

from volact.core.encoding import Fields
from volact.core.errors import MalformedError, TrustError
from volact.core.marker import OemMarker, Sighting
from volact.sealing import certificates, jws
from volact.sealing.sign import Issuer, MachineSigner
from volact.sealing.verify import MARKER, SIGHTING, GroupGrantError, Trust, verify


class SightingMachineError(TrustError):
    code = "sighting-other-machine"
    fmt = "the firmware was read on another machine"
    remedy = "run `volact client activate` on this machine, as an administrator, to read its own firmware"


@dataclass(frozen=True, slots=True)
class TrustedMarker:
    """A marker that a maker signed for groups that its publisher gave it; ``revoked_at`` by the newest status."""

    marker: OemMarker
    token: str
    maker: str
    signer: bytes
    chain_ends_at: int
    revoked_at: int | None


def sign_marker(issuer: Issuer, marker: OemMarker) -> str:
    x5c = tuple(certificates.der(certificate) for certificate in issuer.chain)
    return jws.sign(jws.header(MARKER, x5c=x5c), marker.to_claim(), issuer.key)


def verify_marker(token: str, trust: Trust) -> TrustedMarker:
    """A marker by itself.  Left to the caller: whether it fits this computer, and covers the edition."""
    verified = verify(token, trust, MARKER)
    marker = OemMarker.from_claim(verified.claims)
    outside = [group for group in sorted(marker.groups) if not verified.speaks_for(group)]
    if outside:
        raise GroupGrantError(group=outside[0])
    revoked_at = verified.revoked_at(trust.status)
    maker = verified.grant.organisation
    return TrustedMarker(marker, token, maker, verified.signer, verified.chain_ends_at, revoked_at)


def sign_sighting(signer: MachineSigner, sighting: Sighting) -> str:
    header = jws.header(SIGHTING, jwk=jws.jwk_of(signer.key.public_key))
    return jws.sign(header, sighting.to_claim(), signer.key)


def verify_sighting(token: str, machine: bytes) -> Sighting:
    """What this machine saw, by its own key, so that the sighting of one machine says nothing of another.

    Left to the caller: the marker in it (:func:`verify_marker`).
    """
    parsed = jws.parse(token, SIGHTING)
    if parsed.jwk is None:
        raise MalformedError(what="sighting", why="it does not bring the machine's key")
    parsed.verify(jws.key_of(Fields(parsed.jwk, "machine key")))
    if jws.thumbprint(parsed.jwk) != machine:
        raise SightingMachineError()
    return Sighting.from_claim(parsed.claims())
