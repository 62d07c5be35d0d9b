# SPDX-License-Identifier: Apache-2.0
"""An activated host key, opened and ready to answer: how both kinds of host describe themselves to their machines."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volact.core.definition import ProductDefinition
from volact.core.errors import VolactError
from volact.core.issuer import IssuerDescriptor
from volact.issuer.folder import HostKey, IssuerFolder, ProductMissingError
from volact.sealing import sign
from volact.sealing.envelope import OpeningKey
from volact.sealing.verify import RevokedError, TrustedDefinition, verify_status

DESCRIPTOR_SECONDS = 86_400

_log = logging.getLogger("volact.host")


@dataclass(frozen=True, slots=True)
class ServedKey:
    """``definitions`` are the publisher's, by product; ``name`` is the host's."""

    issuer: sign.Issuer
    opening: OpeningKey
    root: str
    key_id: str
    status_token: str
    definitions: dict[str, ProductDefinition]
    name: str

    def descriptor(self, nonce: bytes, now: int) -> str:
        key = self.opening
        ends = min(now + DESCRIPTOR_SECONDS, self.issuer.ends_at)
        return self.issuer.descriptor(
            IssuerDescriptor(key.id, self.name, key.suite, key.public, now, ends, nonce, self.status_token)
        )


def open_key(
    folder: IssuerFolder, host_key: HostKey, products: Sequence[TrustedDefinition], passphrase: bytes, name: str
) -> dict[str, Any]:
    """The members of a :class:`ServedKey`, or of a subclass with more of them."""
    known = [trusted for trusted in products if trusted.trust.fingerprint == host_key.root]
    mine = [trusted for trusted in known if _is_good(trusted, host_key)]
    if known and not mine:
        raise RevokedError(what="the product definition")
    if not mine:
        what = f"the publisher of the key ending in {host_key.key.partial}"
        raise ProductMissingError(command=folder.kind.command, what=what)
    return {
        "issuer": sign.Issuer(host_key.signing_key(passphrase), host_key.certificates(), mine[0].trust.root),
        "opening": host_key.opening_key(passphrase),
        "root": host_key.root,
        "key_id": host_key.key.key_id,
        "status_token": host_key.status_token(),
        "definitions": {trusted.definition.product: trusted.definition for trusted in mine},
        "name": name,
    }


def _is_good(trusted: TrustedDefinition, host_key: HostKey) -> bool:
    """Whether the definition's key was not revoked when it signed, by what this host has heard since it was added."""
    try:
        trusted.check_status(verify_status(host_key.status_token(), trusted.trust))
    except RevokedError as exc:
        _log.warning("%s is not served: %s", trusted.definition.product, exc)
        return False
    except VolactError:  # an unreadable status revokes nothing; clients refuse it
        return True
    return True
