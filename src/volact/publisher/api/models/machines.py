# SPDX-License-Identifier: Apache-2.0
"""Activations of machines, hosts and forests; returns; messages that were carried."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from volact.core.exchange import FORMAT, REQUEST
from volact.core.returning import MAX_PROOF
from volact.publisher.api.models.base import Body, Listed, Shown, Time
from volact.publisher.rows.listing import HeldActivation, HeldForest
from volact.publisher.rows.records import HostActivation


class TakeReturn(Body):
    proof: Annotated[str, Field(min_length=1, max_length=MAX_PROOF, description="What is in the .volreturn file.")]


class ExchangeRequest(Body):
    """A ``.volreq`` file as it is."""

    format: Literal["volact-request"] = REQUEST  # type: ignore[assignment]
    v: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    root: Annotated[str, Field(min_length=1, max_length=80)]
    product: Annotated[str, Field(min_length=1, max_length=63)]
    issuer: Annotated[str, Field(min_length=1, max_length=64)]
    sealed: Annotated[str, Field(min_length=1, max_length=90_000)]


class ActivationShown(Shown):
    id: int
    key_id: str
    partial: str
    organisation: str
    machine: str
    name: str
    product: str
    edition: str
    activations: int = Field(description="What it took of the pool.")
    times: int
    first_at: Time
    last_at: Time
    returned_at: Time | None
    credited: bool | None


class HostShown(Shown):
    id: int
    key_id: str
    partial: str
    organisation: str
    machine: str
    name: str
    product: str
    kind: str
    at: Time
    ends_at: Time
    serial: str


class ForestShown(Shown):
    id: int
    object_id: str
    key_id: str
    partial: str
    organisation: str
    identity: str = Field(description="What makes two forests the same one.")
    issued_at: Time
    ends_at: Time
    claim: dict[str, Any] = Field(description="What the activation object says, or what was confirmed by telephone.")


class ReturnTaken(Shown):
    machine: str
    key_id: str
    credited: bool | None
    used: int
    remaining: int


class RefusalShown(Shown):
    code: str
    fields: dict[str, str | int]


class ExchangeAnswer(Shown):
    """``answer`` is the ``.volans`` file, to be carried back; of a refusal too."""

    answer: dict[str, Any]
    outcome: str = Field(description="activated, reactivated, renewed, repeated or refused.")
    machine: str
    name: str
    product: str
    organisation: str | None
    ends_at: Time | None
    refusal: RefusalShown | None


class Activations(Listed):
    items: Sequence[ActivationShown]


class Hosts(Listed):
    items: Sequence[HostShown]


class Forests(Listed):
    items: Sequence[ForestShown]


def activation_of(held: HeldActivation) -> ActivationShown:
    one = held.activation
    return ActivationShown(
        id=one.id,
        key_id=one.key_id,
        partial=held.partial,
        organisation=held.organisation,
        machine=one.machine.hex(),
        name=one.name,
        product=one.product,
        edition=one.edition,
        activations=one.used,
        times=one.times,
        first_at=one.first_at,
        last_at=one.last_at,
        returned_at=one.returned_at,
        credited=None if one.credited is None else bool(one.credited),
    )


def host_of(id: int, act: HostActivation) -> HostShown:
    return HostShown(
        id=id,
        key_id=act.key_id,
        partial=act.partial,
        organisation=act.organisation,
        machine=act.machine.hex(),
        name=act.name,
        product=act.product,
        kind=str(act.kind),
        at=act.at,
        ends_at=act.ends_at,
        serial=act.serial,
    )


def forest_of(held: HeldForest) -> ForestShown:
    return ForestShown(**{name: getattr(held, name) for name in HeldForest.__slots__})
