# SPDX-License-Identifier: Apache-2.0
"""Where the domain controllers are, and who this computer is to them.

Controllers are found by their SRV records, those of the computer's site first, in the order of RFC 2782.  DNS is not
trusted: whoever answers must know the Kerberos key of the name that was looked up.  The computer's account is the one
that its keytab holds a key of; no key, no member.  The keytab's format: docs/spec/activation-object.md §6.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.rdatatype
import dns.resolver

from volact.directory.connection import Keytab, Server
from volact.directory.errors import DirectoryUnreachableError, KeytabError, NotMemberError, ServerNameError

CONTROLLERS = "_ldap._tcp.dc._msdcs"
SITE_CONTROLLERS = "_ldap._tcp.{site}._sites.dc._msdcs"  # the only name under which read-only ones are found
LDAP_PORT, LDAPS_PORT = 389, 636
SYSTEM_KEYTAB = Path("/etc/krb5.keytab")
LOOKUP_SECONDS = 5.0
MOST_CONTROLLERS = 20  # asked in one go; a forest of hundreds lists its sites' first
MAX_KEYTAB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Principal:
    components: tuple[str, ...]
    realm: str

    def __str__(self) -> str:
        return f"{'/'.join(self.components)}@{self.realm}"


def find_controllers(
    domain: str, resolver: dns.resolver.Resolver | None = None, site: str | None = None
) -> list[Server]:
    """The domain's controllers, for Kerberos on LDAP's port; in the order in which to try them.  ``site``: its own
    first, and it is enough when DNS answers for them."""
    near = site_controllers(domain, site, resolver) if site is not None else []
    try:
        everywhere = _look_up(f"{CONTROLLERS}.{domain}", domain, resolver)
    except DirectoryUnreachableError:
        if not near:
            raise
        everywhere = []
    return list(dict.fromkeys([*near, *everywhere]))[:MOST_CONTROLLERS]


def site_controllers(domain: str, site: str, resolver: dns.resolver.Resolver | None = None) -> list[Server]:
    """Those that DNS names for a site; none where it has no such name, or does not answer."""
    with suppress(DirectoryUnreachableError):
        return _look_up(f"{SITE_CONTROLLERS.format(site=site)}.{domain}", domain, resolver)
    return []


def _look_up(name: str, domain: str, resolver: dns.resolver.Resolver | None) -> list[Server]:
    try:
        answer = (resolver or dns.resolver.Resolver()).resolve(name, dns.rdatatype.SRV, lifetime=LOOKUP_SECONDS)
    except (dns.exception.DNSException, ValueError) as exc:
        why = f"DNS has no {name} ({str(exc) or type(exc).__name__})"
        raise DirectoryUnreachableError(domain=domain, why=why) from None
    ordered: list[Any] = answer.rrset.processing_order() if answer.rrset is not None else []
    found = [(one.target.to_text(omit_final_dot=True).lower(), int(one.port)) for one in ordered]
    servers = [Server(target, port, tls=False) for target, port in found if target]
    if not servers:
        raise DirectoryUnreachableError(domain=domain, why=f"{name} names no controller")
    return servers


def parse_servers(text: str) -> list[tuple[str, int | None]]:
    """Names and ports in ``NAME[:PORT],…``.  Raises :class:`ServerNameError`, nothing else."""
    found: list[tuple[str, int | None]] = []
    for part in text.split(","):
        name, colon, port = part.strip().partition(":")
        if not name or (colon and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536)):
            raise ServerNameError(text=part.strip())
        found.append((name, int(port) if colon else None))
    return found


def is_site(text: str) -> bool:
    """Whether it can be the name of a site, which is one label of DNS."""
    return 0 < len(text) < 64 and text.isascii() and all(char.isalnum() or char in "-_" for char in text)


def ticket_owner() -> Principal | None:
    """Whom ``kinit`` was run for; ``None`` where there is no ticket that lasts, or no library to see it with."""
    try:
        import gssapi
    except ModuleNotFoundError:
        return None
    try:
        name = str(gssapi.Credentials(usage="initiate").name)
    except gssapi.exceptions.GSSError:
        return None
    account, _, realm = name.rpartition("@")
    return Principal((account,), realm)


def machine_account(path: Path = SYSTEM_KEYTAB) -> Keytab:
    """This computer's account, ``NAME$`` in the keytab.  Raises :class:`NotMemberError` where there is none."""
    try:
        data = path.read_bytes()[: MAX_KEYTAB + 1]
    except FileNotFoundError:
        raise NotMemberError(why=f"there is no {path}") from None
    except OSError as exc:
        raise KeytabError(path=str(path), why=exc.strerror or str(exc)) from None
    for principal in read_keytab(data, str(path)):
        name = principal.components[0]
        if len(principal.components) == 1 and name.endswith("$"):
            return Keytab(name, principal.realm, path)
    raise NotMemberError(why=f"{path} has no key of a computer's account (NAME$)")


def read_keytab(data: bytes, path: str = "keytab") -> list[Principal]:
    """The principals of an MIT keytab of version 2.  Raises :class:`KeytabError`, nothing else."""
    if data[:2] != b"\x05\x02":
        raise KeytabError(path=path, why="it is not a keytab of version 2")
    if len(data) > MAX_KEYTAB:
        raise KeytabError(path=path, why=f"it is longer than {MAX_KEYTAB} bytes")
    principals: list[Principal] = []
    at = 2
    try:
        while at + 4 <= len(data):
            (size,) = struct.unpack_from(">i", data, at)
            at += 4
            if size > 0:
                principals.append(_principal(data[at : at + size]))
            if size == 0:
                break
            at += abs(size)  # a negative size is a hole that an entry left
    except (struct.error, UnicodeDecodeError, IndexError):
        raise KeytabError(path=path, why="an entry in it is cut off or malformed") from None
    return principals


def _principal(entry: bytes) -> Principal:
    (count,) = struct.unpack_from(">H", entry)
    if not 1 <= count <= 16:
        raise IndexError
    at = 2
    texts: list[str] = []
    for _ in range(count + 1):
        (length,) = struct.unpack_from(">H", entry, at)
        text = entry[at + 2 : at + 2 + length]
        if len(text) != length:
            raise IndexError
        texts.append(text.decode("utf-8"))
        at += 2 + length
    return Principal(tuple(texts[1:]), texts[0])
