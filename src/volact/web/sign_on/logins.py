# SPDX-License-Identifier: Apache-2.0
"""Logins that others vouch for: a TOML file with an LDAP directory, an OpenID Connect provider, or both.
The guide of it is docs/guide/single-sign-on.md.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from volact.web.access.accounts import Accounts
from volact.web.sign_on.settings import LoginSettingsError, Settings

MAX_FILE = 64 * 1024


def open_logins(path: Path | None, accounts: Accounts) -> tuple[Accounts, Any]:
    """The accounts with the directory's backend, and the provider of single sign-on, or ``None``."""
    if path is None:
        return accounts, None
    tables = _read(path)
    provider = None
    if "ldap" in tables:
        from volact.web.sign_on.ldap import LdapBackend

        accounts = replace(accounts, backends=(LdapBackend.of(Settings(path, "ldap", tables["ldap"], accounts)),))
    if "oidc" in tables:
        from volact.web.sign_on.oidc import Provider

        provider = Provider.of(Settings(path, "oidc", tables["oidc"], accounts))
    return accounts, provider


def check_logins(path: Path | None, accounts: Accounts) -> None:
    """Settings that do not fit are told before anything is started.  Ends the accounts' connections."""
    try:
        open_logins(path, accounts)
    finally:
        accounts.store.close()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            tables = tomllib.loads(file.read(MAX_FILE).decode())
    except OSError as exc:
        raise LoginSettingsError(path=str(path), why=exc.strerror or "it cannot be read") from None
    except ValueError as exc:
        raise LoginSettingsError(path=str(path), why=str(exc)) from None
    unknown = tables.keys() - {"ldap", "oidc"}
    if unknown or not tables:
        raise LoginSettingsError(path=str(path), why="it holds [ldap], [oidc], or both, and nothing else")
    return tables
