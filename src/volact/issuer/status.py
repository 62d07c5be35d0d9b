# SPDX-License-Identifier: Apache-2.0
"""What a host says of its installed keys.  Read-only; values, no text."""

from dataclasses import dataclass

from volact.issuer.folder import HostKey
from volact.sealing import certificates


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """An installed host key; the last three are known once it is activated."""

    partial: str
    key_id: str
    root: str
    publisher: str
    product: str
    group: int
    activated: bool
    organisation: str | None
    groups: tuple[int, ...]
    certificate_ends_at: int | None


def key_status(key: HostKey, publisher: str) -> KeyStatus:
    leaf = key.certificates()[0] if key.activated else None
    grant = certificates.grant_of(leaf) if leaf else None
    return KeyStatus(
        partial=key.key.partial,
        key_id=key.key.key_id,
        root=key.root,
        publisher=publisher,
        product=key.product,
        group=key.key.group,
        activated=leaf is not None,
        organisation=grant.organisation if grant else None,
        groups=tuple(sorted(grant.groups)) if grant else (),
        certificate_ends_at=int(leaf.not_valid_after_utc.timestamp()) if leaf else None,
    )
