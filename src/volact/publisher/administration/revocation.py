# SPDX-License-Identifier: Apache-2.0
"""Revoking a host, a key that signs, or an organisation.  Spec: docs/spec/revocation.md."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from volact.core.phone import INSTALLATION_BYTES
from volact.core.phone_site import SiteInstallationId, name_of_host
from volact.publisher.administration.errors import HostAmbiguousError, HostMissingError, ThumbprintError
from volact.publisher.administration.opened import Opened, check_reason
from volact.sealing import certificates, jws

LEAST_PREFIX = 8  # digits of a machine ID that name a host


@dataclass(frozen=True, slots=True)
class Revoked:
    """Keys that were revoked, from when, and the epoch that says so."""

    signers: tuple[str, ...]
    since: int
    epoch: int


class Revocations(Opened):
    """Hosts, keys that sign, and organisations: never taken back."""

    def revoke_host(self, wanted: str, since: int, reason: str, now: int, actor: str) -> Revoked:
        """Every certificate of a host, by its name or the beginning of its machine ID."""
        found = self.store.certificates_of(name=wanted)
        if not found and len(wanted) >= LEAST_PREFIX:
            found = self.store.certificates_of(machine=wanted.lower())
        hosts = {one for one, _ in map(_host_and_signer, found)}
        if not hosts:
            raise HostMissingError(host=wanted)
        if len(hosts) > 1:
            raise HostAmbiguousError(number=len(hosts), host=wanted)
        check_reason(reason)
        signers = _signers(self.store.certificates_of(machine=hosts.pop().hex()))
        why = {"host": found[-1][1] or wanted, "reason": reason}
        epoch = self.store.revoke_issuers(dict.fromkeys(signers, since), why, now, actor)
        return Revoked(tuple(sorted(signers)), since, epoch)

    def revoke_issuer(self, thumbprint: str, since: int, reason: str, now: int, actor: str) -> Revoked:
        """Any key by its thumbprint: the publisher's own issuer, say, after it was stolen."""
        signer = thumbprint.lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{64}", signer):
            raise ThumbprintError(thumbprint=thumbprint[:80])
        check_reason(reason)
        return Revoked((signer,), since, self.store.revoke_issuers({signer: since}, {"reason": reason}, now, actor))

    def revoke_organisation(self, name: str, since: int, reason: str, now: int, actor: str) -> Revoked:
        """All hosts of an organisation, and all of its keys are blocked."""
        check_reason(reason)
        signers = _signers(self.store.certificates_of(organisation=name))
        epoch = self.store.revoke_organisation(name, dict.fromkeys(signers, since), reason, now, actor)
        return Revoked(tuple(sorted(signers)), since, epoch)


def _signers(found: Iterable[tuple[bytes, str]]) -> set[str]:
    return {signer for _, signer in map(_host_and_signer, found)}


def _host_and_signer(found: tuple[bytes, str]) -> tuple[bytes, str]:
    """Which host a row is about, and under which name a status revokes what it was given: its certificate's key, or
    the confirmation by telephone."""
    der, _ = found
    if len(der) == INSTALLATION_BYTES:
        installation = SiteInstallationId.from_bytes(der)
        return installation.name, installation.revocation_id
    key = certificates.public_key_of(certificates.load_der(der))
    return name_of_host(jws.thumbprint(jws.jwk_of(key))), certificates.key_thumbprint(key).hex()
