# SPDX-License-Identifier: Apache-2.0
"""Computers of Active Directory, and of any other LDAP directory, by base and filter.

In Active Directory: enabled computer accounts under the base, named by dNSHostName.  Elsewhere the filter says what is
a machine and ``attribute`` what it is called.  Bound by Kerberos ticket or keytab, or by password through TLS.  bonsai
(OpenLDAP's own client library) is imported at its first use: it comes with the extra ``directory``.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from volact.core.errors import InputError
from volact.fleet.discovery.errors import DirectoryFailedError
from volact.fleet.inventory.machines import Found, check_name

SECONDS = 15.0
PAGE = 1000  # Active Directory's own limit
LEAST_STRENGTH = 56  # GSSAPI must encrypt, as Kerberos counts it; without TLS nothing goes in the clear
DISABLED = "(userAccountControl:1.2.840.113556.1.4.803:=2)"  # LDAP_MATCHING_RULE_BIT_AND, ACCOUNTDISABLE
COMPUTERS = f"(&(objectCategory=computer)(!{DISABLED}))"
DNS_NAME = "dNSHostName"


@dataclass(frozen=True, slots=True)
class Search:
    """``server``: ldap://, ldaps:// or a name: TLS where a password is sent, Kerberos's encryption where none is.
    ``base``: the directory's own where empty.  ``attribute``: what holds the name.
    """

    server: str
    base: str = ""
    filter: str = COMPUTERS
    attribute: str = DNS_NAME
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    keytab: Path | None = None
    ca_file: Path | None = None
    tags: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        if "://" in self.server:
            return self.server
        return f"{'ldap' if self.password is None else 'ldaps'}://{self.server}"


def find(search: Search) -> Iterator[Found]:
    """Every computer that has a name; raises :class:`DirectoryFailedError`."""
    for entry in _entries(search):
        name, os = _first(entry, search.attribute), _system(entry)
        if not name and search.attribute == DNS_NAME:
            name = _first(entry, "cn")
        if name:
            with suppress(InputError):  # a name that cannot be one is not a machine that can be reached
                yield Found(check_name(name), f"ldap {urlsplit(search.url).hostname}", os=os, tags=search.tags)


def _entries(search: Search) -> Iterator[Any]:
    import bonsai

    with _connected(search) as connection:
        base = search.base or _default_base(connection, search)
        wanted = list(dict.fromkeys((search.attribute, "cn", "operatingSystem", "operatingSystemVersion")))
        try:
            yield from connection.paged_search(
                base, bonsai.LDAPSearchScope.SUBTREE, search.filter, wanted, page_size=PAGE, timeout=SECONDS
            )
        except bonsai.errors.LDAPError as exc:
            raise DirectoryFailedError(server=search.server, why=_sentence(exc)) from None


@contextmanager
def _connected(search: Search) -> Iterator[Any]:
    import bonsai

    client = bonsai.LDAPClient(search.url)
    client.set_cert_policy("demand")
    client.auto_page_acquire = True
    if search.ca_file is not None:
        if not search.ca_file.is_file():
            raise DirectoryFailedError(server=search.server, why=f"there is no file {search.ca_file}")
        client.set_ca_cert(str(search.ca_file))
    _credentials(client, search)
    try:
        connection = client.connect(timeout=SECONDS)
    except bonsai.errors.LDAPError as exc:
        raise DirectoryFailedError(server=search.server, why=_sentence(exc)) from None
    try:
        yield connection
    finally:
        connection.close()


def _credentials(client: Any, search: Search) -> None:
    if search.password is not None:
        if not search.url.startswith("ldaps://"):
            raise DirectoryFailedError(server=search.server, why="a password is sent only through TLS: use ldaps://")
        client.set_credentials("SIMPLE", user=search.user or "", password=search.password)
        return
    if search.url.startswith("ldaps://"):  # Active Directory refuses a second encryption inside TLS
        client.set_sasl_security_properties(no_anonymous=True, max_ssf=0)
    else:
        client.set_sasl_security_properties(no_anonymous=True, min_ssf=LEAST_STRENGTH)
    if search.keytab is not None and search.user:
        account, _, realm = search.user.partition("@")
        client.set_credentials("GSSAPI", user=account, realm=realm, keytab=str(search.keytab))
    else:
        client.set_credentials("GSSAPI")


def _default_base(connection: Any, search: Search) -> str:
    """What the directory says it holds (RFC 4512 §5.1)."""
    import bonsai

    try:
        root = connection.search("", bonsai.LDAPSearchScope.BASE, attrlist=["defaultNamingContext", "namingContexts"])
    except bonsai.errors.LDAPError as exc:
        raise DirectoryFailedError(server=search.server, why=_sentence(exc)) from None
    for entry in root:
        for name in ("defaultNamingContext", "namingContexts"):
            if base := _first(entry, name):
                return base
    raise DirectoryFailedError(server=search.server, why="it does not say what it holds; give --base")


def _first(entry: Any, name: str) -> str | None:
    values = entry.get(name, [])
    return str(values[0]).strip() if values else None


def _system(entry: Any) -> str | None:
    parts = [_first(entry, "operatingSystem"), _first(entry, "operatingSystemVersion")]
    return " ".join(part for part in parts if part) or None


def _sentence(exc: BaseException) -> str:
    """The library's message without its codes and control characters."""
    text = str(exc).split(" (0x", 1)[0].strip().rstrip(".")
    return "".join(char if char.isprintable() else " " for char in text)[:400] or type(exc).__name__
