# SPDX-License-Identifier: Apache-2.0
"""Tokens of the API, with roles and scopes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from volact.publisher.api.models.base import Body, Listed, Name, Shown, Time, TimeIn, printable
from volact.publisher.rules.roles import Role, Scope
from volact.web.api.tokens import MOST_LABEL, Token

RoleName = Literal["viewer", "phone", "operator", "administrator"]
ScopeName = Literal[
    "products:read", "organisation:read", "agreements:read", "keys:read", "keys:issue", "keys:raise", "keys:block",
    "keys:supersede", "activations:read", "returns:write", "exchange:answer", "phone:confirm", "ledger:read",
    "tokens:manage",
]  # fmt: skip


class MakeToken(Body):
    label: Annotated[str, Field(min_length=1, max_length=MOST_LABEL), AfterValidator(printable)]
    organisation: Name | None = Field(None, description="For operators; an organisation's token makes its own.")
    scopes: Annotated[list[ScopeName], Field(max_length=len(Scope))] = []  # noqa: RUF012 - pydantic copies it
    role: RoleName | None = Field(None, description="Of an operator's token, which has no scopes.")
    ends_at: TimeIn | None = Field(None, description="Left out: in a year.")


class Whoami(Shown):
    token_id: str
    label: str
    organisation: str | None
    role: str | None
    scopes: list[str]
    ends_at: Time
    may: list[str] = Field(description="The operations of this API that the token is admitted to.")


class TokenShown(Shown):
    id: str
    label: str
    organisation: str | None
    role: str | None
    scopes: list[str]
    made_at: Time
    made_by: str
    ends_at: Time
    last_used_at: Time | None
    revoked_at: Time | None


class NewToken(TokenShown):
    token: str = Field(description="The token itself, shown this once.")


class TokensListed(Listed):
    items: Sequence[TokenShown]


def token_of(token: Token) -> TokenShown:
    return TokenShown(**_token(token))


def new_token_of(token: Token, secret: str) -> NewToken:
    return NewToken(**_token(token), token=secret)


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "label": token.label,
        "organisation": token.organisation,
        "role": token.role,
        "scopes": list(token.scopes),
        "made_at": token.made_at,
        "made_by": token.made_by,
        "ends_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }


assert set(RoleName.__args__) == set(Role), "roles are those of the table"  # type: ignore[attr-defined]
assert set(ScopeName.__args__) == set(Scope), "scopes are those of the table"  # type: ignore[attr-defined]
