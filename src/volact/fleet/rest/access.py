# SPDX-License-Identifier: Apache-2.0
"""Who may do what at the fleet's HTTP API: one table, by the name of the endpoint.  Pure.

A role may do what the roles before it may.  An endpoint that is not in the table does not start.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from volact.web.api.tokens import RoleMissingError, Token, TokenNeededError


class Role(StrEnum):
    """``viewer`` sees, ``operator`` acts on machines, ``administrator`` has keys, bundles and tokens too."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"


V, O, A = Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR  # noqa: E741 - a table's columns

# ``None``: needs no token.
ENDPOINTS: Final[Mapping[str, Role | None]] = {
    "read_description": None,
    "show_problem": None,
    "whoami": V,
    "list": V, "list_machines": V, "show": V, "group": V, "history": V, "figures": V,
    "views": V, "view": V, "view_save": O, "view_remove": O,
    "discover": O, "tag": O, "untag": O, "set_machine": O, "remove": A,
    "refresh": O, "bootstrap": A, "install_key": O, "activate": O, "proxy_collect": O,
    "proxy_apply": O, "backup": O, "restore": O,
    "jobs": V, "job": V, "job_tasks": V, "job_pause": O, "job_resume": O, "job_cancel": O, "job_retry": O,
    "keys_list": V, "keys_add": A, "keys_remove": A, "keys_refresh": O,
    "definitions": V, "definition_add": A,
    "agreements": V, "agreements_import": O, "agreements_remove": O,
    "export": A, "proxy_confirm": O, "import_bundle": A,
    "reports": V, "report": V,
    "schedules": V, "schedule_add": O, "schedule_remove": O, "schedule_enable": O, "schedule_disable": O,
    "audit": A, "tokens": A, "token_make": A, "token_revoke": A,
}  # fmt: skip


def allowed(role: Role | None, token: Token | None) -> bool:
    """Whether a token's role reaches up to the endpoint's."""
    if role is None:
        return True
    order = list(Role)
    return token is not None and token.role in order and order.index(Role(token.role)) >= order.index(role)


def check(name: str, token: Token | None) -> None:
    """Raises :class:`TokenNeededError`, :class:`RoleMissingError`."""
    role = ENDPOINTS[name]
    if allowed(role, token):
        return
    if token is None:
        raise TokenNeededError()
    assert role is not None, "who needs no token is allowed"
    order = list(Role)
    raise RoleMissingError(roles=", ".join(order[order.index(role) :]))
