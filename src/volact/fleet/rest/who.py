# SPDX-License-Identifier: Apache-2.0
"""The endpoints of tokens and the audit trail: who calls, who may, who did what.

Each function is an endpoint, named as the method of :class:`volact.fleet.api.Fleet`.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from volact.fleet.rest import models, tokens
from volact.fleet.rest.models import Items, Row
from volact.fleet.rest.office import GuardedRoute, TheFleet, TheToken, plain
from volact.fleet.rest.parameters import Limit, Name

router = APIRouter(route_class=GuardedRoute)


@router.get("/whoami", tags=["tokens"])
def whoami(token: TheToken) -> Row:
    """Whose token this is, and what it may do."""
    return tokens.told(token)


@router.get("/audit", tags=["tokens"])
def audit(
    fleet: TheFleet,
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    who: Annotated[str | None, Query(max_length=200)] = None,
) -> Items:
    """Who did what, the newest first."""
    return Items(items=plain(fleet.audit(limit, before, who)))


@router.get("/tokens", tags=["tokens"], name="tokens")
def list_tokens(fleet: TheFleet) -> Items:
    """The tokens, without their secrets."""
    return Items(items=[tokens.told(one) for one in tokens.listed(fleet)])


@router.post("/tokens", tags=["tokens"], status_code=201)
def token_make(fleet: TheFleet, body: models.MakeToken) -> Row:
    """A new token; its secret is shown this once."""
    token, secret = tokens.make(fleet, body.label, body.role, body.days)
    return {**tokens.told(token), "secret": secret}


@router.delete("/tokens/{id}", tags=["tokens"])
def token_revoke(fleet: TheFleet, id: Name) -> Row:
    """At once and for good."""
    return tokens.told(tokens.revoke(fleet, id))
