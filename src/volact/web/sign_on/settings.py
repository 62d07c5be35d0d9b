# SPDX-License-Identifier: Apache-2.0
"""One table of the logins' file, read strictly; and how the groups of whoever logs in become roles."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volact.core.errors import ConfigError
from volact.web.access.accounts import Accounts, Identity

MAX_SECRET = 4096


class LoginSettingsError(ConfigError):
    code = "login-settings"
    fmt = "the login settings in {path} do not fit: {why}"
    remedy = "correct them as the guide on logging in through a directory shows; nothing was started"


class LoginPartMissingError(ConfigError):
    code = "login-part-missing"
    fmt = "{package} is needed for this login and is not installed"
    remedy = "run: pip install {package}"


@dataclass(frozen=True, slots=True)
class RoleMap:
    """Group → role, the first that fits from top to bottom."""

    roles: tuple[tuple[str, str], ...]

    def role(self, groups: Iterable[str]) -> str | None:
        held = {group.strip().lower() for group in groups}
        return next((role for group, role in self.roles if group.lower() in held), None)


class Settings:
    """One table of the file, read strictly: a name that nobody reads is a mistake."""

    def __init__(self, path: Path, name: str, table: Any, accounts: Accounts) -> None:
        self.path, self.name, self._accounts = path, name, accounts
        if not isinstance(table, dict):
            raise self.wrong("it is not a table")
        self._left = dict(table)

    def wrong(self, why: str) -> LoginSettingsError:
        return LoginSettingsError(path=str(self.path), why=f"[{self.name}] {why}")

    def text(self, name: str, default: str | None = None) -> str:
        value = self._left.pop(name, default)
        if not isinstance(value, str) or (not value and default is None):
            raise self.wrong(f"{name} is not a text")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._left.pop(name, default)
        if not isinstance(value, bool):
            raise self.wrong(f"{name} is neither true nor false")
        return value

    def secret(self, name: str) -> str:
        """From the file that ``NAME_file`` says; empty where none is said."""
        file = self.text(f"{name}_file", "")
        if not file:
            return ""
        try:
            return (self.path.parent / file).read_text(encoding="utf-8")[:MAX_SECRET].strip()
        except (OSError, ValueError):
            raise self.wrong(f"{name}_file cannot be read") from None

    def roles(self) -> RoleMap:
        table = self._left.pop("roles", {})
        if not isinstance(table, dict) or not table:
            raise self.wrong("roles maps no group")
        unknown = [role for role in table.values() if role not in self._accounts.roles.names]
        if unknown:
            raise self.wrong(f"{unknown[0]} is not one of the roles {', '.join(self._accounts.roles.names)}")
        return RoleMap(tuple(table.items()))

    def end(self) -> None:
        if self._left:
            raise self.wrong(f"{min(self._left)} is not known")


def identity(name: str, full_name: str, groups: Iterable[str]) -> Identity:
    return Identity(name.strip().lower(), full_name.strip(), tuple(groups))
