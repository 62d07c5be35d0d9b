# SPDX-License-Identifier: Apache-2.0
"""The ledger, revocations and the signed status."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from volact.publisher.administration.revocation import Revoked
from volact.publisher.api.models.base import Body, Listed, Name, Reason, Shown, Time, TimeIn
from volact.publisher.rows.ledger import Row


class Revoke(Body):
    what: Literal["host", "issuer", "organisation"]
    name: Annotated[
        Name,
        Field(description="A host's name or 8 or more digits of its machine ID; a key's thumbprint; an organisation."),
    ]
    since: TimeIn | None = Field(None, description="What was signed from then on is void; left out: from now on.")
    reason: Reason = ""


class VerifyLedger(Body):
    size: Annotated[int, Field(ge=1, le=2**53)] | None = Field(None, description="Of an earlier checkpoint.")
    head: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class RevokedSigner(Shown):
    signer: str
    since: Time


class RevocationState(Shown):
    epoch: int
    began_at: Time
    revoked: list[RevokedSigner]
    status: str = Field(description="Signed: what `volact host status-update` takes.")


class RevokedShown(Shown):
    revoked: list[str]
    since: Time
    epoch: int


class LedgerRow(Shown):
    seq: int
    at: Time
    act: str
    actor: str
    key_id: str | None
    data: str = Field(description="JSON as it is hashed.")
    previous: str
    hash: str


class CheckpointShown(Shown):
    size: int
    head: str


class LedgerVerified(Shown):
    rows: int
    head: str
    compared: bool = Field(description="Whether an earlier checkpoint was found in it.")


class Ledger(Listed):
    items: Sequence[LedgerRow]


def revoked_of(revoked: Revoked) -> RevokedShown:
    return RevokedShown(revoked=list(revoked.signers), since=revoked.since, epoch=revoked.epoch)


def row_of(row: Row) -> LedgerRow:
    return LedgerRow(**{name: getattr(row, name) for name in Row.__slots__})
