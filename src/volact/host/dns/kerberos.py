# SPDX-License-Identifier: Apache-2.0
"""GSS-TSIG (RFC 3645): updates signed by a Kerberos account, as Active Directory's DNS wants them.

The account is the computer's own, with its key from a keytab.  The server must be known by its name: its ticket is for
``DNS/name``.  gssapi is imported when it is needed: it is in the extra ``directory``.
"""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TKEY
import dns.tsig

from volact.host.dns.errors import DnsKerberosError

SYSTEM_KEYTAB = Path("/etc/krb5.keytab")
LIFETIME = 600  # seconds a negotiated key is asked for; it signs one update
GSS_MODE = 3  # RFC 2930 §2.5: the key comes out of GSS-API


@dataclass(frozen=True, slots=True)
class KerberosKey:
    """Whose key signs: the first account of ``keytab``, or ``account``."""

    keytab: Path = SYSTEM_KEYTAB
    account: str | None = None

    @property
    def name(self) -> str:
        return f"Kerberos, {self.account or self.keytab}"


@dataclass(frozen=True, slots=True)
class NegotiatedKey:
    """What one update is signed with; ``keyring`` steps the context that it came from."""

    name: dns.name.Name
    keyring: Any

    def sign(self, message: dns.message.Message) -> None:
        message.use_tsig(self.keyring, self.name, algorithm=dns.tsig.GSS_TSIG)


def negotiate(key: KerberosKey, server: str, address: str, port: int, timeout: float) -> NegotiatedKey:
    """Agree with a name server on a key (RFC 3645 §3).  Raises :class:`DnsKerberosError`, what TCP does, or what
    :mod:`dns.tsig` says of clocks."""
    context = _context(key, server)
    name = dns.name.from_text(str(uuid.uuid4()))
    adapter: Any = dns.tsig.GSSTSigAdapter
    keyring = adapter({name: dns.tsig.Key(name, context, "gss-tsig")})
    try:
        query = _query(name, context.step())
        query.keyring = keyring
        # dnspython's adapter feeds the answer's token to the context, which then verifies the answer's signature.
        answer = dns.query.tcp(query, address, timeout, port)
    except _gss_error() as exc:
        raise DnsKerberosError(server=server, account=key.name, why=_why(exc)) from None
    except dns.tsig.PeerBadTime:
        raise
    except (dns.tsig.BadSignature, dns.tsig.PeerError) as exc:
        raise DnsKerberosError(server=server, account=key.name, why=str(exc) or type(exc).__name__) from None
    if not context.complete:
        code = dns.rcode.to_text(answer.rcode())
        raise DnsKerberosError(server=server, account=key.name, why=f"the server answered {code} to its key's offer")
    return NegotiatedKey(name, keyring)


def _query(name: dns.name.Name, token: bytes) -> dns.message.Message:
    message = dns.message.make_query(name, dns.rdatatype.TKEY, dns.rdataclass.ANY)
    now = int(time.time())
    algorithm = dns.name.from_text("gss-tsig.")
    record: Any = dns.rdtypes.ANY.TKEY.TKEY
    offer = record(dns.rdataclass.ANY, dns.rdatatype.TKEY, algorithm, now, now + LIFETIME, GSS_MODE, 0, token, b"")
    rrset = message.find_rrset(message.additional, name, dns.rdataclass.ANY, dns.rdatatype.TKEY, create=True)
    rrset.add(offer)
    return message


def _context(key: KerberosKey, server: str) -> Any:
    try:
        import gssapi
    except ModuleNotFoundError:
        why = "gssapi is not installed: pip install 'volact[directory]'"
        raise DnsKerberosError(server=server, account=key.name, why=why) from None
    try:
        account = gssapi.Name(key.account, gssapi.NameType.user) if key.account else None
        store = {"client_keytab": str(key.keytab), "ccache": f"MEMORY:{uuid.uuid4()}"}
        credentials = gssapi.Credentials(name=account, usage="initiate", store=store)
        target = gssapi.Name(f"DNS@{server}", gssapi.NameType.hostbased_service)
        return gssapi.SecurityContext(name=target, creds=credentials, usage="initiate")
    except gssapi.exceptions.GSSError as exc:
        raise DnsKerberosError(server=server, account=key.name, why=_why(exc)) from None


def _gss_error() -> type[Exception]:
    import gssapi

    kind: type[Exception] = gssapi.exceptions.GSSError
    return kind


def _why(exc: Exception) -> str:
    """The minor code says it; the major one is always "unspecified failure"."""
    text = str(exc).replace("\n", " ").rstrip(".")
    return text.rpartition("Minor (")[2].partition("): ")[2].split(", Next", 1)[0].strip() or text
