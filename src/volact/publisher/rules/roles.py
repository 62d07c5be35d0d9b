# SPDX-License-Identifier: Apache-2.0
"""Who uses the HTTP API: operators by their role, organisations by what their token is made for.

What each may do is the table in ``api.access``.
"""

from enum import StrEnum


class Role(StrEnum):
    """Of an operator, as at the desk."""

    VIEWER = "viewer"
    PHONE = "phone"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"


class Scope(StrEnum):
    """What an organisation's token is made for; each is asked for by name."""

    PRODUCTS_READ = "products:read"
    ORGANISATION_READ = "organisation:read"
    AGREEMENTS_READ = "agreements:read"
    KEYS_READ = "keys:read"
    KEYS_ISSUE = "keys:issue"
    KEYS_RAISE = "keys:raise"
    KEYS_BLOCK = "keys:block"
    KEYS_SUPERSEDE = "keys:supersede"
    ACTIVATIONS_READ = "activations:read"
    RETURNS_WRITE = "returns:write"
    EXCHANGE_ANSWER = "exchange:answer"
    PHONE_CONFIRM = "phone:confirm"
    LEDGER_READ = "ledger:read"
    TOKENS_MANAGE = "tokens:manage"
