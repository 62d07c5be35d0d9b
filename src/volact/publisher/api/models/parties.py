# SPDX-License-Identifier: Apache-2.0
"""Organisations, agreements, and what of these is in use."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from volact.publisher.api.models.base import Body, Figure, Listed, Name, Shown, Time, TimeIn
from volact.publisher.rows.listing import Use
from volact.publisher.rows.records import Agreement, Organisation


class AddOrganisation(Body):
    organisation: Name


class AddAgreement(Body):
    agreement: Name
    organisation: Name
    starts_at: TimeIn | None = Field(None, description="Now, where it is left out.")
    ends_at: TimeIn | None = None
    quantities: Annotated[
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], Figure],
        Field(min_length=1, max_length=200, description="Licences by product group's number.", examples=[{"102": 100}]),
    ]


class ChangeAgreement(Body):
    ends_at: TimeIn | None = Field(description="When it ends; null: it does not.")


class OrganisationShown(Shown):
    organisation: str
    added_at: Time
    keys: int
    blocked_at: Time | None


class AgreementShown(Shown):
    agreement: str
    organisation: str
    starts_at: Time
    ends_at: Time | None
    added_at: Time
    quantities: dict[str, int]


class UseShown(Shown):
    agreement: str
    organisation: str
    group: int
    bought: int
    keys: int
    activations: int = Field(description="What its MAK and retail keys allow; of blocked ones, what they have used.")
    used: int


class Organisations(Listed):
    items: Sequence[OrganisationShown]


class Agreements(Listed):
    items: Sequence[AgreementShown]


class Usage(Listed):
    items: Sequence[UseShown]


def organisation_of(one: Organisation) -> OrganisationShown:
    return OrganisationShown(organisation=one.name, added_at=one.added_at, keys=one.keys, blocked_at=one.blocked_at)


def agreement_of(one: Agreement) -> AgreementShown:
    return AgreementShown(
        agreement=one.name,
        organisation=one.organisation,
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        added_at=one.added_at,
        quantities={str(group): quantity for group, quantity in sorted(one.quantities.items())},
    )


def use_of(use: Use) -> UseShown:
    return UseShown(
        agreement=use.agreement,
        organisation=use.organisation,
        group=use.group,
        bought=use.bought,
        keys=use.keys,
        activations=use.issued,
        used=use.used,
    )
