# SPDX-License-Identifier: Apache-2.0
"""Tokens of the publisher's HTTP API: made, listed and revoked, by the command line and by the API itself.

Each act is in the ledger, in the transaction that makes it so.  The token is shown once.  Guide:
docs/guide/publisher-api.md.
"""

import secrets
from collections.abc import Sequence

from volact.core.errors import InputError
from volact.publisher.rows.ledger import Act
from volact.publisher.rules.roles import Role, Scope
from volact.publisher.schema import API_TOKEN
from volact.publisher.store import PublisherStore
from volact.web.api import tokens
from volact.web.api.tokens import ID_BYTES, LIFETIME, Token, Tokens, check_end, check_label

TOKENS = Tokens(API_TOKEN)


class TokenKindError(InputError):
    code = "token-kind-unfit"
    fmt = "a token is an organisation's, with scopes, or an operator's, with a role"
    remedy = "give an organisation and at least one scope, or a role alone"


def make(
    store: PublisherStore,
    label: str,
    now: int,
    actor: str,
    *,
    organisation: str | None = None,
    scopes: Sequence[Scope] = (),
    role: Role | None = None,
    ends_at: int | None = None,
) -> tuple[Token, str]:
    """A new token with its secret, which is not kept."""
    check_label(label)
    if (organisation is None) != (role is not None) or (organisation is None) != (not scopes):
        raise TokenKindError()
    expires_at = now + LIFETIME if ends_at is None else ends_at
    check_end(expires_at, now)
    secret = tokens.new_secret(secrets.token_bytes)
    ordered = tuple(str(scope) for scope in Scope if scope in scopes)
    token = Token(
        secrets.token_hex(ID_BYTES), label, organisation, str(role) if role else None, ordered, now, actor, expires_at
    )
    with store.change() as change:
        if organisation is not None:
            change.check_owner(organisation, None)
        TOKENS.add(change.conn, token, tokens.digest(secret))
        change.append(now, Act.TOKEN_MADE, actor, None, _told(token))
    return token, secret


def revoke(store: PublisherStore, id: str, now: int, actor: str, organisation: str | None = None) -> Token:
    """At once and for good; one that was revoked before stays as it is.  ``organisation``: only one of its own."""
    with store.change() as change:
        token = TOKENS.get(change.conn, id, organisation)
        if token.revoked_at is None:
            TOKENS.revoke(change.conn, id, now)
            owner = {"organisation": token.organisation} if token.organisation else {}
            change.append(now, Act.TOKEN_REVOKED, actor, None, {"token": id, "label": token.label, **owner})
        return TOKENS.get(change.conn, id)


def listed(store: PublisherStore, organisation: str | None = None) -> list[Token]:
    with store.look() as conn:
        return TOKENS.listed(conn, organisation=organisation)


def _told(token: Token) -> dict[str, object]:
    whose = {"organisation": token.organisation} if token.organisation else {"role": token.role}
    return {
        "token": token.id, "label": token.label, **whose, "scopes": list(token.scopes), "ends_at": token.expires_at,
    }  # fmt: skip
