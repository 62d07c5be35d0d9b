# SPDX-License-Identifier: Apache-2.0
"""Logins by an LDAP directory or Active Directory: the entry is looked up, then its password is tried by a bind as it.

Only through TLS with a verified certificate.  bonsai (OpenLDAP's own library) is imported at the first login.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from volact.core.errors import TransportError
from volact.web.access.accounts import Identity
from volact.web.sign_on.settings import LoginPartMissingError, RoleMap, Settings, identity

TIMEOUT = 10.0
SUBTREE = 2
_ESCAPED = {"\\": r"\5c", "*": r"\2a", "(": r"\28", ")": r"\29", "\0": r"\00"}  # RFC 4515 §3


class LoginServerError(TransportError):
    code = "login-server-unreachable"
    fmt = "the directory {server} that keeps the passwords cannot be asked: {why}"
    remedy = "check its address, its certificate and the account that looks people up; local accounts still log in"


@dataclass(frozen=True, slots=True)
class LdapBackend:
    """``bind_dn`` looks people up, anonymously where it is empty.  ``group_filter`` is for directories that do not keep
    a person's groups with the person."""

    url: str
    base: str
    roles: RoleMap
    user_filter: str
    group_attribute: str
    name_attribute: str
    group_filter: str
    group_base: str
    ca_file: str
    bind_dn: str
    bind_password: str = field(repr=False)
    label: str = "ldap"
    name: str = "ldap"

    @classmethod
    def of(cls, settings: Settings) -> "LdapBackend":
        url, base = settings.text("url"), settings.text("base")
        if not url.startswith(("ldap://", "ldaps://")):
            raise settings.wrong("url begins with neither ldaps:// nor ldap://")
        made = cls(
            url, base, settings.roles(),
            user_filter=settings.text("user_filter", "(uid={name})"),
            group_attribute=settings.text("group_attribute", "memberOf"),
            name_attribute=settings.text("name_attribute", "displayName"),
            group_filter=settings.text("group_filter", ""),
            group_base=settings.text("group_base", base),
            ca_file=settings.text("ca_file", ""),
            bind_dn=settings.text("bind_dn", ""),
            bind_password=settings.secret("bind_password"),
            label=settings.text("label", "ldap"),
        )  # fmt: skip
        if "{name}" not in made.user_filter:
            raise settings.wrong("user_filter holds no {name}")
        settings.end()
        return made

    def check(self, name: str, password: str) -> Identity | None:
        """``None`` where there is no such person, more than one, or the password is another."""
        if not password or "\0" in password:  # a bind without a password succeeds, as nobody; C ends at a NUL
            return None
        with self._connection(self.bind_dn, self.bind_password) as connection:
            found = self._search(connection, self.base, self.user_filter.replace("{name}", escape(name)))
            if len(found) != 1:
                return None
            person = found[0]
            groups = self._groups(connection, person)
        if not self._binds(str(person.dn), password):
            return None
        return identity(name, _first(person, self.name_attribute), groups)

    def role(self, identity: Identity) -> str | None:
        return self.roles.role(identity.groups)

    def _groups(self, connection: Any, person: Any) -> list[str]:
        groups = [str(value) for value in person.get(self.group_attribute, [])]
        if self.group_filter:
            condition = self.group_filter.replace("{dn}", escape(str(person.dn)))
            groups += [str(group.dn) for group in self._search(connection, self.group_base, condition)]
        return groups

    def _search(self, connection: Any, base: str, condition: str) -> list[Any]:
        with self._named():
            found: list[Any] = connection.search(base, SUBTREE, condition, timeout=TIMEOUT)
        return found

    def _binds(self, dn: str, password: str) -> bool:
        errors = _library("bonsai.errors")
        try:
            with self._client(dn, password).connect(timeout=TIMEOUT):
                return True
        except errors.AuthenticationError:
            return False
        except errors.LDAPError as exc:
            raise LoginServerError(server=self.url, why=_sentence(exc)) from None

    @contextmanager
    def _connection(self, dn: str, password: str) -> Iterator[Any]:
        with self._named():
            connection = self._client(dn, password).connect(timeout=TIMEOUT)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except _library("bonsai.errors").LDAPError as exc:
            raise LoginServerError(server=self.url, why=_sentence(exc)) from None

    def _client(self, dn: str, password: str) -> Any:
        client = _library("bonsai").LDAPClient(self.url, tls=self.url.startswith("ldap://"))
        client.set_cert_policy("demand")
        if self.ca_file:
            client.set_ca_cert(self.ca_file)
        if dn:
            client.set_credentials("SIMPLE", user=dn, password=password)
        return client


def escape(text: str) -> str:
    """A value inside a search filter."""
    return "".join(_ESCAPED.get(char, char) for char in text)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise LoginPartMissingError(package="bonsai") from None


def _first(entry: Any, attribute: str) -> str:
    values = entry.get(attribute, [])
    return str(values[0]) if values else ""


def _sentence(exc: BaseException) -> str:
    text = str(exc).split(" (0x", 1)[0].strip().rstrip(".")
    return "".join(char if char.isprintable() else " " for char in text)[:300] or type(exc).__name__
