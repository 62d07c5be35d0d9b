# SPDX-License-Identifier: Apache-2.0
"""Roles are data: each is a name and what it permits.  A page names the one permission it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from volact.web.errors import RoleUnknownError

VIEW: Final = "view"
OPERATE: Final = "operate"
ADMINISTER: Final = "administer"

ANYBODY: Final = ""  # a page that needs no login
LOGGED_IN: Final = "logged-in"  # what every role permits: one's own account, help


@dataclass(frozen=True, slots=True)
class Roles:
    """``permits``: role → permissions, in the order in which forms offer the roles."""

    permits: Mapping[str, frozenset[str]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.permits)

    def check(self, role: str) -> str:
        """The role, where it is one: :class:`RoleUnknownError`."""
        if role not in self.permits:
            raise RoleUnknownError(role=role[:40], roles=", ".join(self.names))
        return role

    def allows(self, role: str, permission: str) -> bool:
        """A role that is no longer known permits nothing but one's own account."""
        return permission in (ANYBODY, LOGGED_IN) or permission in self.permits.get(role, frozenset())


STANDARD: Final = Roles(
    {
        "viewer": frozenset({VIEW}),
        "operator": frozenset({VIEW, OPERATE}),
        "administrator": frozenset({VIEW, OPERATE, ADMINISTER}),
    }
)
