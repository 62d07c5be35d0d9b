# SPDX-License-Identifier: Apache-2.0
"""Which forest a directory is, and where in it activation objects lie.  Spec: docs/spec/activation-object.md §2–3.

In Active Directory that is the configuration partition, which every domain controller of the forest holds, read-only
ones too; the forest's identity is read there as well, so that no controller of the root domain needs to be asked.
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from volact.core.forest import Forest, ForestKind, is_domain_sid, is_identity
from volact.directory.connection import BASE, LEVEL, Session, escape
from volact.directory.errors import CaFileError, NotForestError, ReadOnlyDirectoryError

FOLDER, CONTAINER = "Volact", "Activation Objects"
READ_ONLY = "msDS-isRODC"  # of a controller's own settings ([MS-ADTS] 3.1.1.4.5.30)
IDENTITY = "volact-directory:"  # before an LDAP directory's identity, in the description of its folder

_EXTENDED = re.compile(r"(?:<GUID=([0-9a-fA-F-]{36})>;)?(?:<SID=(S-[0-9-]+)>;)?(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """``forest`` is ``None`` in an LDAP directory that was not prepared.  ``configuration``: AD's partition, or the
    LDAP base."""

    kind: ForestKind
    configuration: str
    folder: str
    container: str
    forest: Forest | None

    @property
    def schema(self) -> str:
        return f"CN=Schema,{self.configuration}"

    @property
    def domain_sid(self) -> str:
        return self.forest.domain_sid if self.forest else ""


def find_place(session: Session, base: str | None = None) -> Place:
    """The forest behind a session: Active Directory, or with ``base`` a plain LDAP directory."""
    return _active_directory(session) if base is None else _ldap(session, base)


def refuse_read_only(session: Session, what: str) -> None:
    """Raises on a read-only controller of Active Directory, before anything is asked of anybody else."""
    root = session.read("", ("dsServiceName",))
    own = plain_dn(root.text("dsServiceName")) if root else ""
    settings = session.read(own, (READ_ONLY,)) if own else None
    if settings is not None and settings.text(READ_ONLY).upper() == "TRUE":
        raise ReadOnlyDirectoryError(server=str(session.server), what=what)


def authority_key(path: Path | None) -> bytes:
    """SHA-256 of the public key of the one certificate in a PEM file: the TLS identity of an LDAP directory."""
    if path is None:
        raise CaFileError(path="nothing", why="a plain LDAP directory is known by its authority: give --ca-file")
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as exc:
        raise CaFileError(path=str(path), why=exc.strerror or str(exc)) from None
    except ValueError:
        raise CaFileError(path=str(path), why="it holds no certificate") from None
    if len(found) != 1:
        raise CaFileError(path=str(path), why=f"it holds {len(found)} certificates, so it is not one authority")
    key = found[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).digest()


def plain_dn(text: str) -> str:
    """A DN without the GUID and SID that Active Directory was asked to put before it."""
    match = _EXTENDED.match(text)
    return match[3] if match else text


def _active_directory(session: Session) -> Place:
    root = session.read("", ("configurationNamingContext", "rootDomainNamingContext"))
    configuration = plain_dn(root.text("configurationNamingContext")) if root else ""
    domain = plain_dn(root.text("rootDomainNamingContext")) if root else ""
    if not configuration or not domain:
        raise NotForestError(server=str(session.server), why="it is no domain controller")
    condition = f"(&(objectClass=crossRef)(nCName={escape(domain)}))"
    found = session.search(f"CN=Partitions,{configuration}", LEVEL, condition, ("nCName", "dnsRoot"))
    match = _EXTENDED.match(found[0].text("nCName")) if found else None
    if not match or not match[1] or not match[2] or not is_domain_sid(match[2]):
        raise NotForestError(server=str(session.server), why="its root domain's SID and GUID cannot be read")
    name = found[0].text("dnsRoot").lower()
    forest = Forest(ForestKind.AD, str(uuid.UUID(match[1])), name, domain_sid=match[2])
    folder = f"CN={FOLDER},CN=Services,{configuration}"
    return Place(ForestKind.AD, configuration, folder, f"CN={CONTAINER},{folder}", forest)


def _ldap(session: Session, base: str) -> Place:
    tls = authority_key(session.server.ca_file)
    if not session.search(base, BASE, "(objectClass=*)", ("objectClass",)):
        raise NotForestError(server=str(session.server), why=f"it has no {base}")
    folder = f"ou={FOLDER},{base}"
    entry = session.read(folder, ("description",))
    identity = _identity(entry.all("description")) if entry else None
    forest = Forest(ForestKind.LDAP, identity, base, tls=tls) if identity else None
    return Place(ForestKind.LDAP, base, folder, f"ou={CONTAINER},{folder}", forest)


def _identity(descriptions: Sequence[object]) -> str | None:
    for text in descriptions:
        if isinstance(text, str) and text.startswith(IDENTITY) and is_identity(text.removeprefix(IDENTITY)):
            return text.removeprefix(IDENTITY)
    return None
