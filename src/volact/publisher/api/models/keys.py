# SPDX-License-Identifier: Apache-2.0
"""Product keys: issued, raised, blocked, refreshed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from volact.publisher.administration.keys import MOST_KEYS, NewKey
from volact.publisher.api.models.base import Body, Figure, KeyId, Listed, Name, Partial, Reason, Shown, Time
from volact.publisher.api.models.problems import Problem
from volact.publisher.rules.issuing import POOLED, IssuedKey

MOST_REFRESHED = 200
MOST_API_KEYS = 1000  # of one call, 8 s of work; the command line makes more at once
Kind = Literal["kms-host", "vm-host", "mak", "retail"]


class IssueKeys(Body):
    """An organisation's token issues keys under its own agreements, as far as their quantities go."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "mak",
                    "product": "acme-cad",
                    "group": "102",
                    "organisation": "Example Ltd",
                    "agreement": "EA-2027",
                    "activations": 50,
                }
            ]
        }
    )

    kind: Kind
    product: Name
    group: Name = Field(description="A product group, by name or number.")
    organisation: Name | None = Field(None, description="For operators; an organisation's token issues to its own.")
    agreement: Name | None = None
    activations: Figure | None = Field(
        None,
        description="Of each host (left out: the policy's), of a MAK in all (the agreement's quantity), of a retail "
        "key (1).",
    )
    hosts: Figure | None = Field(None, description="Of a host key; left out: the product's policy.")
    count: Annotated[int, Field(ge=1, le=min(MOST_API_KEYS, MOST_KEYS))] = 1


class RaiseKey(Body):
    activations: Figure | None = Field(None, description="The new number in all, not what is added.")
    hosts: Figure | None = None


class BlockKey(Body):
    reason: Reason = ""


class RefreshKeys(Body):
    keys: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=60)]],
        Field(min_length=1, max_length=MOST_REFRESHED, description="Each whole, by its last five symbols, or its ID."),
    ]


class KeyShown(Shown):
    key_id: KeyId
    partial: Partial
    kind: str
    product: str
    group: int
    organisation: str
    agreement: str | None
    hosts: int
    hosts_used: int | None = Field(None, description="Of a host key.")
    activations: int = Field(description="Of each host for a host key, else the size of the pool.")
    used: int | None = Field(description="Of a MAK or retail key.")
    remaining: int | None
    superseded_by: str | None
    issued_at: Time
    blocked_at: Time | None
    blocked_reason: str


class NewKeyShown(KeyShown):
    key: str = Field(description="The key itself, shown this once.", examples=["9NR7Y-PNRJ3-TCRCR-WP494-Y7WA6"])


class NewKeys(Shown):
    keys: list[NewKeyShown]


class RefreshedKey(Shown):
    name: str = Field(description="What was asked for; of a whole key, its last five symbols.")
    key: KeyShown | None
    problem: Problem | None


class RefreshedKeys(Shown):
    items: list[RefreshedKey]


class Keys(Listed):
    items: Sequence[KeyShown]


def key_of(key: IssuedKey, hosts: Mapping[str, int] | None = None) -> KeyShown:
    """``hosts``: how many hosts each key has been used on, where that was looked up."""
    return KeyShown(**_key(key), hosts_used=_hosts_used(key, hosts))


def new_key_of(new: NewKey) -> NewKeyShown:
    return NewKeyShown(**_key(new.issued), hosts_used=_hosts_used(new.issued, {}), key=str(new.key))


def _key(key: IssuedKey) -> dict[str, Any]:
    pooled = key.channel in POOLED
    return {
        "key_id": key.key_id,
        "partial": key.partial,
        "kind": str(key.channel),
        "product": key.product,
        "group": key.group,
        "organisation": key.organisation,
        "agreement": key.agreement,
        "hosts": key.hosts,
        "activations": key.activations,
        "used": key.used if pooled else None,
        "remaining": key.remaining if pooled else None,
        "superseded_by": key.superseded_by,
        "issued_at": key.issued_at,
        "blocked_at": key.blocked_at,
        "blocked_reason": key.blocked_reason,
    }


def _hosts_used(key: IssuedKey, hosts: Mapping[str, int] | None) -> int | None:
    return None if key.channel in POOLED or hosts is None else hosts.get(key.key_id, 0)
