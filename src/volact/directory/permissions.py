# SPDX-License-Identifier: Apache-2.0
"""Who may read an activation object, in words; and the descriptors that say so in Active Directory.

Ordinary access control lists, as every tool of the directory shows and sets them.  A denied object is not found by a
search, so a computer that may not read it sees a forest without it.  Spec: docs/spec/activation-object.md §4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from volact.core.forest import ForestKind
from volact.directory.connection import LEVEL, TREE, Session, escape
from volact.directory.errors import (
    AclLocksOutError,
    AclUnsupportedError,
    DirectoryFailedError,
    DnsNameMissingError,
    ObjectMissingError,
    TrusteeDomainError,
    TrusteeError,
)
from volact.directory.library import security
from volact.directory.place import Place, plain_dn

DESCRIPTOR = "nTSecurityDescriptor"

Sid = Any  # of bonsai, which is imported late
Ace = Any

# Rights of an entry in a list ([MS-ADTS] 5.1.3.2); FULL is what "full control" sets.
READ_PROPERTY, WRITE_PROPERTY = 0x10, 0x20
WRITE_LIST, WRITE_OWNER = 0x40000, 0x80000
GENERIC_ALL, GENERIC_WRITE, GENERIC_READ = 0x10000000, 0x40000000, 0x80000000
READ = 0x20094  # read properties, list contents, list object, read the list itself
FULL = 0xF01FF

UPDATE = FULL & ~(WRITE_LIST | WRITE_OWNER)
DNS_NAME = "_volact._tcp"

LIST_REVISION = 4  # of lists in a directory ([MS-DTYP] 2.4.5)

AUTHENTICATED, SYSTEM = "S-1-5-11", "S-1-5-18"
BUILT_IN = "builtin"  # what Windows writes before the names of groups that every domain has
SCHEMA_ADMINS, ENTERPRISE_ADMINS = 518, 519  # of the root domain

_KNOWN = {
    AUTHENTICATED: "every computer and user of the forest",
    SYSTEM: "the system",
    "S-1-1-0": "everyone",
    "S-1-3-0": "its creator",
    "S-1-5-9": "the domain controllers",
    "S-1-5-10": "itself",
    "S-1-5-32-544": "the built-in administrators",
    "S-1-5-32-554": "the group for access by old systems",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the list, in the order in which they count."""

    allow: bool
    right: str
    sid: str
    name: str
    inherited: bool

    def __str__(self) -> str:
        by = " (inherited)" if self.inherited else ""
        return f"{'may' if self.allow else 'may not'} {self.right}: {self.name}{by}"


@dataclass(frozen=True, slots=True)
class Change:
    """``only``: nobody but administrators and these; then ``deny`` and ``allow``.  ``reset``: begin with the default,
    which every computer may read."""

    reset: bool = False
    only: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.reset or self.only or self.allow or self.deny)


def rules(session: Session, place: Place, dn: str) -> list[Rule]:
    """Who may do what with an object, administrators included."""
    _, aces = _read(session, place, dn)
    return [_rule(session, ace) for ace in aces if _right(ace.mask)]


def change(session: Session, place: Place, dn: str, wanted: Change) -> list[Rule]:
    """Carry out a change; names are looked up first, so that a wrong one changes nothing.  A denial that would keep
    its author from the object, and so from taking it back, is refused."""
    control, aces = _read(session, place, dn)
    only, allow, deny = (
        [find_trustee(session, name) for name in names] for names in (wanted.only, wanted.allow, wanted.deny)
    )
    own = set(own_groups(session))
    for name, sid in zip(wanted.deny, deny, strict=True):
        if str(sid) in own:
            raise AclLocksOutError(name=name, who=session.who)
    readers = {AUTHENTICATED} if wanted.reset else set()
    if wanted.reset or only:
        aces = [ace for ace in aces if ace.is_inherited or not _is_readers(ace)]
    named = {str(sid) for sid in (*only, *allow, *deny)}
    aces = [ace for ace in aces if ace.is_inherited or not (_is_readers(ace) and str(ace.trustee_sid) in named)]
    aces += [_ace(security.ACEType.ACCESS_ALLOWED, READ, security.SID(sid)) for sid in readers]
    aces += [_ace(security.ACEType.ACCESS_ALLOWED, READ, sid) for sid in (*only, *allow)]
    aces += [_ace(security.ACEType.ACCESS_DENIED, READ, sid) for sid in deny]
    _write(session, dn, control, aces)
    return rules(session, place, dn)


def share_name(session: Session, zone: str, names: tuple[str, ...]) -> str:
    """Let these accounts and groups update the DNS name of KMS hosts as well as the account that published it first;
    returns the entry's DN."""
    trustees = [find_trustee(session, name) for name in names]
    partition = f"DC=DomainDnsZones,{_domain(session)}"
    base = f"DC={zone},CN=MicrosoftDNS,{partition}"
    found = session.search(base, LEVEL, f"(&(objectClass=dnsNode)(name={DNS_NAME}))", ("name",))
    if not found:
        raise DnsNameMissingError(zone=zone)
    dn = found[0].dn
    control, aces = _descriptor_of(session, dn)
    aces += [_ace(security.ACEType.ACCESS_ALLOWED, UPDATE, sid) for sid in trustees]
    _write(session, dn, control, aces)
    return dn


def container_descriptor(domain_sid: str) -> bytes:
    """For the container of activation objects: enterprise administrators create, authenticated accounts read, and
    nothing is inherited from above."""
    admins = security.SID(f"{domain_sid}-{ENTERPRISE_ADMINS}")
    below = {security.ACEFlag.CONTAINER_INHERIT}
    aces = [
        _ace(security.ACEType.ACCESS_ALLOWED, FULL, admins, below),
        _ace(security.ACEType.ACCESS_ALLOWED, FULL, security.SID(SYSTEM), below),
        _ace(security.ACEType.ACCESS_ALLOWED, READ, security.SID(AUTHENTICATED)),
    ]
    return _descriptor({"self_relative": True, "dacl_present": True, "dacl_protected": True}, aces)


def own_groups(session: Session) -> list[str]:
    """The SIDs of whoever is bound, the account's own first, then those of its groups."""
    root = session.read("", ("tokenGroups",))
    return [
        str(security.SID(bytes_le=value))
        for value in (root.all("tokenGroups") if root else ())
        if isinstance(value, bytes)
    ]


def find_trustee(session: Session, name: str) -> Sid:
    """The account or group of that name in the domain whose controller this is, or that SID."""
    if name.upper().startswith("S-1-"):
        try:
            return security.SID(name.upper())
        except ValueError:
            raise TrusteeError(name=name, number=0) from None
    prefix, _, plain = name.rpartition("\\")
    domain, names = _own_domain(session)
    if prefix and prefix.lower() not in (*names, BUILT_IN):
        raise TrusteeDomainError(name=name, server=str(session.server), domain=names[-1])
    plain = escape(plain)
    condition = f"(&(objectSid=*)(|(sAMAccountName={plain})(sAMAccountName={plain}$)))"
    found = session.search(domain, TREE, condition, ("objectSid",))
    if len(found) != 1:
        raise TrusteeError(name=name, number=len(found))
    return security.SID(bytes_le=found[0].octets("objectSid"))


def _read(session: Session, place: Place, dn: str) -> tuple[dict[str, bool], list[Ace]]:
    if place.kind is not ForestKind.AD:
        raise AclUnsupportedError(rule=f'access to dn.subtree="{dn}" by group.exact="GROUP" read by * none')
    return _descriptor_of(session, dn)


def _descriptor_of(session: Session, dn: str) -> tuple[dict[str, bool], list[Ace]]:
    entry = session.read(dn, (DESCRIPTOR,))
    if entry is None:
        raise ObjectMissingError(which=dn)
    try:
        descriptor = security.SecurityDescriptor.from_binary(entry.octets(DESCRIPTOR))
    except ValueError as exc:
        raise DirectoryFailedError(server=str(session.server), what=f"show who may read {dn}", why=str(exc)) from None
    if descriptor.dacl is None:
        raise DirectoryFailedError(server=str(session.server), what=f"show who may read {dn}", why="it has no list")
    return descriptor.control, list(descriptor.dacl.aces)


def _write(session: Session, dn: str, control: dict[str, bool], aces: Sequence[Ace]) -> None:
    """In canonical order ([MS-DTYP] 2.4.5): own denials, own permissions, then what is inherited."""
    ordered = sorted(aces, key=lambda ace: (ace.is_inherited, not ace.is_inherited and not ace.type.is_access_denied))
    session.replace(dn, DESCRIPTOR, [_descriptor({**control, "dacl_present": True}, ordered)])


def _descriptor(control: dict[str, bool], aces: Sequence[Ace]) -> bytes:
    acl = security.ACL(LIST_REVISION, list(aces))
    return bytes(security.SecurityDescriptor({**_NO_CONTROL, **control}, None, None, None, acl).to_binary())


_NO_CONTROL = {"sacl_present": False}


def _ace(kind: Any, mask: int, sid: Sid, flags: Iterable[Any] = ()) -> Ace:
    return security.ACE(kind, set(flags), int(mask), sid, None, None, b"")


def _is_readers(ace: Ace) -> bool:
    """Whether a rule is about reading alone: those are ours to change; administrators' rules are not."""
    return ace.object_type is None and ace.mask & ~READ == 0 and ace.mask & READ_PROPERTY != 0


def _right(mask: int) -> str:
    if mask & (WRITE_LIST | GENERIC_ALL):
        return "do everything"
    if mask & (WRITE_PROPERTY | GENERIC_WRITE):
        return "change"
    return "read" if mask & (READ_PROPERTY | GENERIC_READ) else ""


def _rule(session: Session, ace: Ace) -> Rule:
    sid = str(ace.trustee_sid)
    return Rule(ace.type.is_access_allowed, _right(ace.mask), sid, _name(session, sid), ace.is_inherited)


def _name(session: Session, sid: str) -> str:
    if sid in _KNOWN:
        return _KNOWN[sid]
    value = "".join(f"\\{byte:02x}" for byte in security.SID(sid).bytes_le)
    found = session.search(_domain(session), TREE, f"(objectSid={value})", ("sAMAccountName",))
    return found[0].text("sAMAccountName") if found else sid


def _domain(session: Session) -> str:
    root = session.read("", ("defaultNamingContext",))
    return plain_dn(root.text("defaultNamingContext")) if root else ""


def _own_domain(session: Session) -> tuple[str, tuple[str, ...]]:
    """The DN of the domain whose controller this is, and its names: of Windows NT and of DNS."""
    root = session.read("", ("defaultNamingContext", "configurationNamingContext"))
    domain, configuration = (
        plain_dn(root.text(name)) if root else "" for name in ("defaultNamingContext", "configurationNamingContext")
    )
    condition = f"(&(objectClass=crossRef)(nCName={escape(domain)}))"
    found = session.search(f"CN=Partitions,{configuration}", LEVEL, condition, ("nETBIOSName", "dnsRoot"))
    return domain, tuple(found[0].text(name).lower() for name in ("nETBIOSName", "dnsRoot")) if found else (domain,)
