# SPDX-License-Identifier: Apache-2.0
"""Organisations, their agreements, and what is used of what was bought.

Agreements are the one thing here that is changed in place and by nobody but operators, so they have an ETag, and a
change may demand it in If-Match.  Names may hold any character, a slash too: they are the last part of their path.
"""

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request, Response

from volact.publisher.administration.errors import AgreementDatesError, LimitUnfitError, NoSuchGroupError
from volact.publisher.api.access import Caller
from volact.publisher.api.catalogue import etag
from volact.publisher.api.models.base import Name
from volact.publisher.api.models.parties import (
    AddAgreement,
    AddOrganisation,
    Agreements,
    AgreementShown,
    ChangeAgreement,
    Organisations,
    OrganisationShown,
    Usage,
    agreement_of,
    organisation_of,
    use_of,
)
from volact.publisher.api.office import Office
from volact.publisher.api.route import Endpoint, TheAct, TheCaller, TheOffice
from volact.publisher.folder.making import NameUnfitError
from volact.publisher.rows import listing
from volact.publisher.rows.records import (
    Agreement,
    AgreementMissingError,
    AgreementTakenError,
    OrganisationBlockedError,
    OrganisationMissingError,
    OrganisationTakenError,
)
from volact.web.api.pagination import CursorUnfitError, Wanted, link, wanted
from volact.web.api.problems import PreconditionFailedError

Page = Annotated[Wanted, Depends(wanted)]
OrganisationPath = Annotated[Name, Path(description="As it was added.", examples=["Example Ltd"])]
AgreementPath = Annotated[Name, Path(examples=["EA-2027"])]
OrganisationQuery = Annotated[Name | None, Query(description="Only those of this organisation.")]
IfMatch = Annotated[str | None, Header(description="The ETag that the agreement has to have still.", max_length=200)]


def list_organisations(
    request: Request, response: Response, office: TheOffice, caller: TheCaller, page: Page
) -> Organisations:
    """All organisations; with an organisation's token, itself."""
    rows = [one for one in office.publisher.store.organisations() if caller.sees(one.name)]
    found = page.slice(rows, lambda one: (one.name,), str)
    return Organisations(items=list(map(organisation_of, found.items)), next=link(request, response, found.after))


def show_organisation(organisation: OrganisationPath, office: TheOffice, caller: TheCaller) -> OrganisationShown:
    for one in office.publisher.store.organisations():
        if one.name == organisation and caller.sees(organisation):
            return organisation_of(one)
    raise OrganisationMissingError(name=organisation)


def add_organisation(body: AddOrganisation, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    now = office.clock()

    def add(_: object) -> OrganisationShown:
        office.publisher.add_organisation(body.organisation, now, caller.actor)
        return OrganisationShown(organisation=body.organisation, added_at=now, keys=0, blocked_at=None)

    return act.once(add, 201)


def list_agreements(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: OrganisationQuery = None,
) -> Agreements:
    rows = [
        one
        for one in office.publisher.store.agreements()
        if caller.sees(one.organisation) and organisation in (None, one.organisation)
    ]
    found = page.slice(rows, lambda one: (one.added_at, one.name), int, str)
    return Agreements(items=list(map(agreement_of, found.items)), next=link(request, response, found.after))


def show_agreement(
    response: Response, agreement: AgreementPath, office: TheOffice, caller: TheCaller
) -> AgreementShown:
    shown = agreement_of(find_agreement(office, caller, agreement))
    response.headers["ETag"] = _etag(shown)
    return shown


def add_agreement(body: AddAgreement, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Pools of the keys under it need not equal its quantities: those are what was bought."""
    now = office.clock()
    starts_at = now if body.starts_at is None else body.starts_at
    quantities = {office.publisher.find_group(str(int(group))): number for group, number in body.quantities.items()}
    return act.once(
        lambda _: agreement_of(
            office.publisher.add_agreement(
                body.agreement, body.organisation, starts_at, body.ends_at, quantities, now, caller.actor
            )
        ),
        201,
        lambda made: {"ETag": _etag(made)},  # type: ignore[arg-type]
    )


def change_agreement(
    body: ChangeAgreement,
    agreement: AgreementPath,
    office: TheOffice,
    caller: TheCaller,
    act: TheAct,
    if_match: IfMatch = None,
) -> Response:
    """Extend an agreement, or end it: keys under it activate nothing outside its dates."""
    now = office.clock()

    def check(before: Agreement) -> None:
        current = _etag(agreement_of(before))
        if if_match is not None and current not in [one.strip() for one in if_match.split(",")] and if_match != "*":
            raise PreconditionFailedError(etag=current)

    return act.once(
        lambda _: agreement_of(office.publisher.change_agreement(agreement, body.ends_at, now, caller.actor, check)),
        headers=lambda made: {"ETag": _etag(made)},  # type: ignore[arg-type]
    )


def list_usage(
    request: Request,
    response: Response,
    office: TheOffice,
    caller: TheCaller,
    page: Page,
    organisation: OrganisationQuery = None,
    agreement: Annotated[Name | None, Query()] = None,
) -> Usage:
    """What is used of what was bought: every product group of every agreement."""
    if not caller.sees(organisation or caller.organisation):
        return Usage(items=[], next=link(request, response, None))
    with office.publisher.store.look() as conn:
        rows = listing.usage(conn, caller.organisation or organisation, agreement)
    found = page.slice(rows, lambda one: (one.agreement, one.group), str, int)
    return Usage(items=list(map(use_of, found.items)), next=link(request, response, found.after))


def find_agreement(office: Office, caller: Caller, name: str) -> Agreement:
    """One that the caller sees; :class:`AgreementMissingError`."""
    found = office.publisher.store.agreement(name)
    if not caller.sees(found.organisation):
        raise AgreementMissingError(name=name)
    return found


def _etag(shown: AgreementShown) -> str:
    return etag(shown.model_dump_json())


ENDPOINTS = (
    Endpoint("GET", "/organisations", list_organisations, Organisations, (CursorUnfitError,)),
    Endpoint("POST", "/organisations", add_organisation, OrganisationShown, (
        OrganisationTakenError, NameUnfitError,
    ), status=201, once=True),
    Endpoint("GET", "/organisations/{organisation:path}", show_organisation, OrganisationShown, (
        OrganisationMissingError,
    )),
    Endpoint("GET", "/agreements", list_agreements, Agreements, (CursorUnfitError,)),
    Endpoint("POST", "/agreements", add_agreement, AgreementShown, (
        AgreementTakenError, AgreementDatesError, OrganisationMissingError, OrganisationBlockedError, NameUnfitError,
        LimitUnfitError, NoSuchGroupError,
    ), status=201, once=True),
    Endpoint("GET", "/agreements/{agreement:path}", show_agreement, AgreementShown, (AgreementMissingError,)),
    Endpoint("PATCH", "/agreements/{agreement:path}", change_agreement, AgreementShown, (
        AgreementMissingError, AgreementDatesError, PreconditionFailedError,
    ), once=True),
    Endpoint("GET", "/usage", list_usage, Usage, (CursorUnfitError,)),
)  # fmt: skip
