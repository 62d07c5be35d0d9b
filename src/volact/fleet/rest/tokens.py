# SPDX-License-Identifier: Apache-2.0
"""Tokens of the fleet's HTTP API: made, listed and revoked, by the command line and the API; each act is audited."""

from typing import Any

from volact.core.errors import InputError
from volact.fleet.api import Fleet
from volact.fleet.rest.access import Role
from volact.fleet.rest.office import TOKENS
from volact.fleet.store import note
from volact.web.api import tokens
from volact.web.api.tokens import DAY, ID_BYTES, Token, check_end, check_label


class TokenRoleError(InputError):
    code = "fleet-token-role-unknown"
    fmt = "there is no role {role}"
    remedy = "choose viewer, operator or administrator"


def make(fleet: Fleet, label: str, role: str, days: int = 365) -> tuple[Token, str]:
    """A new token with its secret, which is not kept."""
    check_label(label)
    if role not in tuple(Role):
        raise TokenRoleError(role=repr(role[:40]))
    now = fleet.clock()
    check_end(now + days * DAY, now)
    secret, id_ = tokens.new_secret(fleet.random), fleet.random(ID_BYTES).hex()
    token = Token(id_, label, None, role, (), now, fleet.who, now + days * DAY)
    with fleet.store.write() as conn:
        TOKENS.add(conn, token, tokens.digest(secret))
        note(conn, now, fleet.who, "token-make", id_, {"label": label, "role": role, "expires_at": token.expires_at})
    return token, secret


def listed(fleet: Fleet) -> list[Token]:
    with fleet.store.read() as conn:
        return TOKENS.listed(conn)


def revoke(fleet: Fleet, id: str) -> Token:
    """Raises ``TokenMissingError``; one that was revoked before stays as it is."""
    now = fleet.clock()
    with fleet.store.write() as conn:
        token = TOKENS.get(conn, id)
        if token.revoked_at is None:
            TOKENS.revoke(conn, id, now)
            note(conn, now, fleet.who, "token-revoke", id, {"label": token.label})
        return TOKENS.get(conn, id)


def told(token: Token) -> dict[str, Any]:
    """What may be seen of it."""
    names = ("id", "label", "role", "made_at", "made_by", "expires_at", "last_used_at", "revoked_at")
    return {name: getattr(token, name) for name in names}
