# SPDX-License-Identifier: Apache-2.0
"""One authenticated session with a directory server, by bonsai (OpenLDAP's own client library).

Kerberos signs and encrypts on port 389 (SASL GSSAPI, at least 128 bits); a password goes only through TLS with a
verified certificate.  There is no third way in: nothing is read unauthenticated, so nothing read was made up on the
network.  Errors come out by the names of ``errors``.
"""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volact.core.errors import VolactError
from volact.core.forest import ForestKind
from volact.directory.errors import (
    CaFileError,
    DirectoryAccessError,
    DirectoryClockError,
    DirectoryFailedError,
    DirectoryLoginError,
    DirectoryTlsError,
    DirectoryUnreachableError,
    ReadOnlyDirectoryError,
)
from volact.directory.library import bonsai, ldap

TIMEOUT = 10.0  # for one operation
REACH_TIMEOUT = 3.0  # a controller that is gone without a word costs this much
BIND_TIMEOUT = 30.0  # Kerberos asks DNS a dozen times, and each time waits a second for a name server that is gone
LEAST_STRENGTH = 128  # bits, by SASL's count
DACL = 4  # LDAP_SERVER_SD_FLAGS: of a security descriptor, read and write who may do what, not owner and audit
BASE, LEVEL, TREE = 0, 1, 2
REFERRAL = 10  # RFC 4511 §4.1.9: a copy that only serves reading names a server that can be written
RAW = ("objectSid", "objectGUID", "tokenGroups", "nTSecurityDescriptor")

CLOCK = "Clock skew too great"  # MIT Kerberos's words for KRB_AP_ERR_SKEW (RFC 4120 §7.5.9)

Value = str | bytes | int

# Of a message through SASL and GSS-API the last words alone say what was wrong; of one by Active Directory a number
# does ([MS-ERREF] 2.2: 52e is ERROR_LOGON_FAILURE).
_LIBRARY_CODE = re.compile(r" \((?:0x|KRB5_ERROR 0x)")
_OF_KERBEROS = re.compile(r"GSSAPI Error: .*?\(((?:[^()]|\([^()]*\))*)\)\Z", re.DOTALL)
_OF_ACTIVE_DIRECTORY = re.compile(r"AcceptSecurityContext error, data ([0-9a-f]+),")
_KERBEROS = {
    "Ticket expired": "the Kerberos ticket has expired",
    "Server not found in Kerberos database": "Kerberos knows no server of that name: write it in full, no address",
}
_LOGINS = {
    "525": "there is no such account",
    "52e": "name or password is wrong",
    "530": "the account may not log in at this time",
    "531": "the account may not log in from this computer",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked",
}


@dataclass(frozen=True, slots=True)
class Server:
    """``tls``: LDAPS; without it only Kerberos, which protects by itself."""

    name: str
    port: int
    tls: bool
    ca_file: Path | None = None

    def __str__(self) -> str:
        return self.name if self.port in (389, 636) else f"{self.name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'ldaps' if self.tls else 'ldap'}://{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """Whoever ``kinit`` was run for; ``owner`` is for messages."""

    owner: str = ""

    def __str__(self) -> str:
        return self.owner or "the owner of the Kerberos ticket"


@dataclass(frozen=True, slots=True)
class Keytab:
    """An account that proves itself with a key from a file, as computers do."""

    account: str
    realm: str
    path: Path

    def __str__(self) -> str:
        return f"{self.account}@{self.realm}"


@dataclass(frozen=True, slots=True)
class Password:
    """``user``: a DN, or in Active Directory NAME@DOMAIN."""

    user: str
    password: str

    def __str__(self) -> str:
        return self.user

    def __repr__(self) -> str:
        return f"Password(user={self.user!r})"


Credentials = Ticket | Keytab | Password


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was read; a name of an attribute is found in any case."""

    dn: str
    values: Mapping[str, Sequence[Any]]

    def all(self, name: str) -> Sequence[Any]:
        return self.values.get(name.lower(), ())

    def text(self, name: str) -> str:
        """The first value, as text; empty where there is none."""
        found = self.all(name)
        if not found:
            return ""
        return found[0].decode("utf-8", "replace") if isinstance(found[0], bytes) else str(found[0])

    def octets(self, name: str) -> bytes:
        found = self.all(name)
        return found[0] if found and isinstance(found[0], bytes) else b""


class Session:
    """A bound connection; ``who`` is for messages, ``address`` this computer's own on the way to the server."""

    def __init__(self, server: Server, who: str, connection: Any, address: str = "") -> None:
        self.server, self.who, self._connection, self.address = server, who, connection, address

    def read(self, dn: str, attributes: Sequence[str] = ("*",)) -> Entry | None:
        """One entry, or ``None`` where it does not exist or may not be seen."""
        found = self.search(dn, BASE, "(objectClass=*)", attributes)
        return found[0] if found else None

    def search(self, base: str, scope: int, condition: str, attributes: Sequence[str] = ("*",)) -> list[Entry]:
        """An empty list where there is nothing, or nothing that may be seen."""
        try:
            with self._named(f"search {base or 'its root entry'}"):
                found = self._connection.search(base, scope, condition, list(attributes), timeout=TIMEOUT)
        except _NothingThereError:
            return []
        return [_entry(one) for one in found]

    def add(self, dn: str, attributes: Mapping[str, Sequence[Value]]) -> None:
        entry = bonsai.LDAPEntry(dn)
        for name, values in attributes.items():
            entry[name] = list(values)
        with self._named(f"add {dn}"):
            self._connection.add(entry, timeout=TIMEOUT)

    def replace(self, dn: str, name: str, values: Sequence[Value]) -> None:
        entry: Any = bonsai.LDAPEntry(dn, self._connection)
        entry.change_attribute(name, bonsai.LDAPModOp.REPLACE, *values)
        with self._named(f"change {name} of {dn or 'its root entry'}"):
            entry.modify(timeout=TIMEOUT)

    def delete(self, dn: str) -> None:
        try:
            with self._named(f"delete {dn}"):
                self._connection.delete(dn, timeout=TIMEOUT)
        except _NothingThereError:
            return

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except ldap.NoSuchObjectError:
            raise _NothingThereError(server=str(self.server), what=what, why="there is no such entry") from None
        except ldap.InsufficientAccess:
            raise DirectoryAccessError(who=self.who, what=what) from None
        except (ldap.ConnectionError, ldap.TimeoutError, ldap.ClosedConnection) as exc:
            raise DirectoryUnreachableError(domain=str(self.server), why=_sentence(exc)) from None
        except ldap.LDAPError as exc:
            if exc.code == REFERRAL:
                raise ReadOnlyDirectoryError(server=str(self.server), what=what) from None
            raise DirectoryFailedError(server=str(self.server), what=what, why=_sentence(exc)) from None


class _NothingThereError(DirectoryFailedError):
    """Caught where nothing there is an answer; else the failure that it says it is."""


@contextmanager
def connect(server: Server, credentials: Credentials, kind: ForestKind) -> Iterator[Session]:
    """A session that is bound as ``credentials``.  Raises by name what kept it from that."""
    context = _tls(server.ca_file) if server.tls else None
    client = _client(server, credentials, kind)
    address = _reach(server, context)
    try:
        connection = client.connect(timeout=BIND_TIMEOUT)
    except (ldap.ConnectionError, ldap.TimeoutError) as exc:
        raise DirectoryUnreachableError(domain=str(server), why=_sentence(exc)) from None
    except ldap.LDAPError as exc:
        raise login_error(server, credentials, exc) from None
    try:
        yield Session(server, str(credentials), connection, address)
    finally:
        connection.close()


def login_error(server: Server, credentials: Credentials, exc: Exception) -> VolactError:
    """Why a server did not let ``credentials`` in, by what the library below says."""
    why = _sentence(exc)
    if CLOCK in why:
        return DirectoryClockError(server=str(server))
    return DirectoryLoginError(server=str(server), who=str(credentials), why=why)


def escape(text: str) -> str:
    """Text as a value in a search filter (RFC 4515 §3)."""
    return "".join(f"\\{ord(char):02x}" if char in "\\*()\0" else char for char in text)


def escape_rdn(text: str) -> str:
    """Text as a value in a DN (RFC 4514 §2.4)."""
    escaped = "".join(f"\\{char}" if char in '\\,+"<>;=' else char for char in text)
    if escaped.startswith((" ", "#")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if escaped.endswith(" ") else escaped


def _client(server: Server, credentials: Credentials, kind: ForestKind) -> Any:
    client = bonsai.LDAPClient(server.url)
    client.set_raw_attributes(list(RAW))
    client.set_cert_policy("demand")
    if server.ca_file is not None:
        client.set_ca_cert(str(server.ca_file))
    if kind is ForestKind.AD:
        client.set_sd_flags(DACL)
        client.set_extended_dn(1)  # names of domains come with the GUID and SID behind them
    match credentials:
        case Password(user, password):
            if not server.tls:
                raise DirectoryTlsError(server=str(server), why="a password is sent only through TLS")
            if not user or not password:  # RFC 4513 §5.1.2: a server may take that for nobody, and let nobody in
                why = "the password is empty" if user else "no user is named"
                raise DirectoryLoginError(server=str(server), who=user or "nobody", why=why)
            client.set_credentials("SIMPLE", user=user, password=password)
        case Keytab(account, realm, path):
            client.set_sasl_security_properties(no_anonymous=True, min_ssf=LEAST_STRENGTH)
            client.set_credentials("GSSAPI", user=account, realm=realm, keytab=str(path))
        case Ticket():
            client.set_sasl_security_properties(no_anonymous=True, min_ssf=LEAST_STRENGTH)
            client.set_credentials("GSSAPI")
    return client


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """What certificates are verified with."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except FileNotFoundError:
        raise CaFileError(path=str(ca_file), why="there is no such file") from None
    except ssl.SSLError:
        raise CaFileError(path=str(ca_file), why="it holds no certificate") from None
    except OSError as exc:
        raise CaFileError(path=str(ca_file), why=exc.strerror or str(exc)) from None


def _reach(server: Server, tls: ssl.SSLContext | None) -> str:
    """Tell a server that is gone from one that takes its time, and a certificate that does not fit from both: the
    library below says of all three that it cannot contact the server.  Returns this computer's address on the way."""
    try:
        with socket.create_connection((server.name, server.port), REACH_TIMEOUT) as plain:
            address = str(plain.getsockname()[0])
            if tls is not None:
                tls.wrap_socket(plain, server_hostname=server.name).close()
    except ssl.SSLError as exc:
        why = getattr(exc, "verify_message", "") or exc.reason or str(exc)
        raise DirectoryTlsError(server=str(server), why=why) from None
    except OSError as exc:
        why = exc.strerror or str(exc) or "no answer in time"
        raise DirectoryUnreachableError(domain=str(server), why=why) from None
    return address


def _entry(found: Any) -> Entry:
    names = [name for name in found.keys() if name != "dn"]  # noqa: SIM118 - iterating itself gives DNs as well
    return Entry(str(found.dn), {name.lower(): tuple(found[name]) for name in names})


def _sentence(exc: BaseException) -> str:
    """The library's message as the end of one of our sentences, without its codes and control characters."""
    text = _LIBRARY_CODE.split(str(exc), maxsplit=1)[0].strip().rstrip(".")
    kerberos, active_directory = _OF_KERBEROS.search(text), _OF_ACTIVE_DIRECTORY.search(text)
    if kerberos:
        text = _KERBEROS.get(kerberos[1], kerberos[1])
    elif active_directory:
        text = _LOGINS.get(active_directory[1], text)
    return "".join(char if char.isprintable() else " " for char in text)[:400] or type(exc).__name__
