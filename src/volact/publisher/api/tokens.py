# SPDX-License-Identifier: Apache-2.0
"""Tokens of the API, and what one may do with the token at hand."""

from typing import Annotated

from fastapi import Depends, Path, Request, Response

from volact.publisher.administration import tokens
from volact.publisher.administration.tokens import TOKENS, TokenKindError
from volact.publisher.api import access
from volact.publisher.api.models.tokens import (
    MakeToken,
    NewToken,
    TokenShown,
    TokensListed,
    Whoami,
    new_token_of,
    token_of,
)
from volact.publisher.api.route import Endpoint, TheAct, TheCaller, TheOffice
from volact.publisher.rows.records import OrganisationBlockedError, OrganisationMissingError
from volact.publisher.rules.roles import Role, Scope
from volact.web.api.pagination import CursorUnfitError, Wanted, link, wanted
from volact.web.api.tokens import RoleMissingError, ScopeMissingError, TokenEndError, TokenLabelError, TokenMissingError

Page = Annotated[Wanted, Depends(wanted)]


def whoami(caller: TheCaller) -> Whoami:
    """The token at hand: whose, until when, and what it is admitted to."""
    token = caller.token
    assert token is not None, "the table asks for one"
    return Whoami(
        token_id=token.id,
        label=token.label,
        organisation=token.organisation,
        role=token.role,
        scopes=list(token.scopes),
        ends_at=token.expires_at,
        may=[name for name, rule in access.ENDPOINTS.items() if access.may(rule, caller)],
    )


def list_tokens(request: Request, response: Response, office: TheOffice, caller: TheCaller, page: Page) -> TokensListed:
    """Those that ended or were revoked too; with an organisation's token, its own."""
    after = page.after(int, str)
    with office.publisher.store.look() as conn:
        rows = TOKENS.listed(conn, organisation=caller.organisation, after=after, limit=page.limit + 1)
    found = page.cut(rows, lambda one: (one.made_at, one.id))
    return TokensListed(items=list(map(token_of, found.items)), next=link(request, response, found.after))


def make_token(body: MakeToken, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """The token is in this answer and nowhere else.  Nobody gives away more than they have: an organisation's token
    makes tokens of that organisation, with scopes of its own."""
    organisation = caller.organisation or body.organisation
    if not caller.sees(body.organisation or organisation):
        raise OrganisationMissingError(name=str(body.organisation))
    if caller.token is not None and caller.organisation is not None:
        lacking = next((scope for scope in body.scopes if scope not in caller.token.scopes), None)
        if lacking is not None:
            raise ScopeMissingError(scope=lacking)
        if body.role is not None:
            raise RoleMissingError(roles="the publisher's administrators")
    now = office.clock()

    def make(_: object) -> NewToken:
        token, secret = tokens.make(
            office.publisher.store,
            body.label,
            now,
            caller.actor,
            organisation=organisation,
            scopes=[Scope(one) for one in body.scopes],
            role=Role(body.role) if body.role else None,
            ends_at=body.ends_at,
        )
        return new_token_of(token, secret)

    return act.once(make, 201)


def revoke_token(
    id: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")], office: TheOffice, caller: TheCaller, act: TheAct
) -> Response:
    """At once and for good; the token at hand too."""
    now = office.clock()
    return act.once(
        lambda _: token_of(tokens.revoke(office.publisher.store, id, now, caller.actor, caller.organisation))
    )


ENDPOINTS = (
    Endpoint("GET", "/whoami", whoami, Whoami),
    Endpoint("GET", "/tokens", list_tokens, TokensListed, (CursorUnfitError,)),
    Endpoint("POST", "/tokens", make_token, NewToken, (
        TokenKindError, TokenLabelError, TokenEndError, OrganisationMissingError, OrganisationBlockedError,
    ), status=201, once=True),
    Endpoint("DELETE", "/tokens/{id}", revoke_token, TokenShown, (TokenMissingError,), once=True),
)  # fmt: skip
