# SPDX-License-Identifier: Apache-2.0
"""The publisher's descriptor: what says of it as an issuer to which key requests are sealed.  Products bring it along,
and the service gives a fresh one to whoever asks.  Spec: docs/spec/issuer.md.
"""

from volact.core.issuer import IssuerDescriptor
from volact.publisher.folder.opening import PublisherFolder, PublisherKeys


def describe(
    folder: PublisherFolder,
    keys: PublisherKeys,
    status: str,
    now: int,
    *,
    nonce: bytes = b"",
    lifetime: int | None = None,
) -> IssuerDescriptor:
    """The publisher as an issuer: to which key requests are sealed.  Never outlives its certificate."""
    ends_at = keys.issuer.ends_at
    return IssuerDescriptor(
        id=keys.sealing.id,
        name=folder.name,
        suite=keys.sealing.suite,
        public_key=keys.sealing.public,
        issued_at=now,
        expires_at=ends_at if lifetime is None else min(ends_at, now + lifetime),
        nonce=nonce,
        status=status,
    )
