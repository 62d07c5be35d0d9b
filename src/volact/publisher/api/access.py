# SPDX-License-Identifier: Apache-2.0
"""Who may do what at the HTTP API: one table, by the name of the endpoint.  Pure.

Operators have a role; an organisation's token has scopes, and sees and changes that organisation's things only: what
belongs to another one is answered as if it were not there.  An endpoint that is not in the table does not start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from volact.publisher.rules.roles import Role, Scope
from volact.web.api.tokens import RoleMissingError, ScopeMissingError, Token, TokenNeededError


@dataclass(frozen=True, slots=True)
class Rule:
    """``roles`` of operators, and the ``scope`` of organisations' tokens (``None``: no organisation may).  ``open``:
    needs no token; ``any_scope``: any token will do."""

    roles: frozenset[Role] = frozenset()
    scope: Scope | None = None
    open: bool = False
    any_scope: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is; ``token`` is ``None`` where none was sent."""

    token: Token | None

    @property
    def organisation(self) -> str | None:
        """The one organisation whose things it sees; ``None`` for an operator, who sees all."""
        return self.token.organisation if self.token else None

    @property
    def actor(self) -> str:
        """Who the ledger says it was."""
        return self.token.actor if self.token else "nobody"

    def sees(self, organisation: str | None) -> bool:
        return self.organisation is None or self.organisation == organisation


def check(rule: Rule, caller: Caller) -> None:
    """Raises :class:`TokenNeededError`, :class:`RoleMissingError`, :class:`ScopeMissingError`."""
    if rule.open:
        return
    token = caller.token
    if token is None:
        raise TokenNeededError()
    if rule.any_scope:
        return
    if token.organisation is None:
        if token.role not in rule.roles:
            raise RoleMissingError(roles=_named(rule.roles))
    elif rule.scope is None:
        raise RoleMissingError(roles=f"the publisher's operators ({_named(rule.roles)})")
    elif rule.scope not in token.scopes:
        raise ScopeMissingError(scope=str(rule.scope))


def may(rule: Rule, caller: Caller) -> bool:
    try:
        check(rule, caller)
    except (TokenNeededError, RoleMissingError, ScopeMissingError):
        return False
    return True


def _named(roles: frozenset[Role]) -> str:
    return ", ".join(role for role in Role if role in roles)


ALL: Final = frozenset(Role)
READ: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR})
WRITE: Final = frozenset({Role.OPERATOR, Role.ADMINISTRATOR})
CALLS: Final = frozenset({Role.PHONE, Role.OPERATOR, Role.ADMINISTRATOR})
ADMINISTER: Final = frozenset({Role.ADMINISTRATOR})
OPEN: Final = Rule(open=True)

ENDPOINTS: Final[Mapping[str, Rule]] = {
    "read_description": OPEN,
    "list_problems": OPEN,
    "show_problem": OPEN,
    "show_revocation_status": OPEN,
    "whoami": Rule(ALL, any_scope=True),
    "list_products": Rule(ALL, Scope.PRODUCTS_READ),
    "show_product": Rule(ALL, Scope.PRODUCTS_READ),
    "list_versions": Rule(READ, Scope.PRODUCTS_READ),
    "show_version": Rule(READ, Scope.PRODUCTS_READ),
    "get_definition": Rule(READ, Scope.PRODUCTS_READ),
    "add_version": Rule(WRITE),
    "list_groups": Rule(ALL, Scope.PRODUCTS_READ),
    "list_organisations": Rule(ALL, Scope.ORGANISATION_READ),
    "show_organisation": Rule(ALL, Scope.ORGANISATION_READ),
    "add_organisation": Rule(WRITE),
    "list_agreements": Rule(READ, Scope.AGREEMENTS_READ),
    "show_agreement": Rule(READ, Scope.AGREEMENTS_READ),
    "list_usage": Rule(READ, Scope.AGREEMENTS_READ),
    "add_agreement": Rule(WRITE),
    "change_agreement": Rule(WRITE),
    "list_keys": Rule(READ, Scope.KEYS_READ),
    "show_key": Rule(READ, Scope.KEYS_READ),
    "refresh_keys": Rule(READ, Scope.KEYS_READ),
    "issue_keys": Rule(WRITE, Scope.KEYS_ISSUE),
    "raise_key": Rule(WRITE, Scope.KEYS_RAISE),
    "block_key": Rule(WRITE, Scope.KEYS_BLOCK),
    "unblock_key": Rule(WRITE),
    "supersede_key": Rule(WRITE, Scope.KEYS_SUPERSEDE),
    "list_activations": Rule(READ, Scope.ACTIVATIONS_READ),
    "list_hosts": Rule(READ, Scope.ACTIVATIONS_READ),
    "get_certificate": Rule(READ, Scope.ACTIVATIONS_READ),
    "list_forests": Rule(READ, Scope.ACTIVATIONS_READ),
    "take_return": Rule(WRITE, Scope.RETURNS_WRITE),
    "answer_exchange": Rule(WRITE, Scope.EXCHANGE_ANSWER),
    "look_up_call": Rule(CALLS, Scope.PHONE_CONFIRM),
    "confirm_call": Rule(CALLS, Scope.PHONE_CONFIRM),
    "confirm_proxied": Rule(WRITE, Scope.PHONE_CONFIRM),
    "revoke": Rule(ADMINISTER),
    "list_ledger": Rule(READ, Scope.LEDGER_READ),
    "show_checkpoint": Rule(READ, Scope.LEDGER_READ),
    "verify_ledger": Rule(READ),
    "export_ledger": Rule(ADMINISTER),
    "list_audit": Rule(ADMINISTER, Scope.TOKENS_MANAGE),
    "list_tokens": Rule(ADMINISTER, Scope.TOKENS_MANAGE),
    "make_token": Rule(ADMINISTER, Scope.TOKENS_MANAGE),
    "revoke_token": Rule(ADMINISTER, Scope.TOKENS_MANAGE),
}
