# SPDX-License-Identifier: Apache-2.0
"""The door of a member computer: reads the forest's activation objects and says which one licenses it.

What the licensing service does with it is the client's (``client.activation.directory``): the door only reads, as the
computer's own account, and nothing is written back.  Controllers are tried in turn, so that one that is down costs
seconds.  Whether the computer is a member at all is a fact of this machine: its keytab, or its settings for a plain
LDAP directory.  Spec: docs/spec/activation-object.md §6.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from volact.core.activation_object import (
    ActivationObject,
    ForestMismatchError,
    ObjectExpiredError,
    ObjectGroupError,
    best_of,
)
from volact.core.errors import InputError, TrustError, VolactError
from volact.core.forest import Forest, ForestKind
from volact.directory import objects, permissions
from volact.directory.connection import Credentials, Keytab, Password, Server, Session, connect
from volact.directory.errors import (
    DirectoryAccessError,
    DirectoryClockError,
    DirectoryFailedError,
    DirectoryLoginError,
    DirectoryUnreachableError,
    MembershipDoubtError,
    NoObjectError,
    NotMemberError,
    NotPreparedError,
)
from volact.directory.locate import (
    LDAP_PORT,
    LDAPS_PORT,
    SYSTEM_KEYTAB,
    find_controllers,
    machine_account,
    parse_servers,
    site_controllers,
)
from volact.directory.place import Place, find_place
from volact.directory.site import find_site, load_site, save_site
from volact.sealing.confirmation import PhonePartMissingError
from volact.sealing.objects import verify_activation_object
from volact.sealing.verify import Trust

# The most telling of what was wrong with several objects: one that is nearly right first.
_TELLING = (ObjectExpiredError, ObjectGroupError, ForestMismatchError)


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """By default the domain and account of the system's keytab.  ``site``: of Active Directory, whose controllers are
    asked first; by default the one that the forest's subnets say this computer is in.  ``server``: ask this one instead
    of DNS, or these, with commas between them; ``port`` is that of those without one.  With ``base`` a plain LDAP
    directory, at ``server`` under the authority in ``ca_file``, as ``user``."""

    keytab: Path = SYSTEM_KEYTAB
    domain: str | None = None
    server: str | None = None
    port: int | None = None
    base: str | None = None
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """An object that licenses this computer, as it was read: where, as whom, and from which server."""

    token: str
    forest: Forest
    member: str
    server: str


class DirectoryDoor:
    """One computer's way to its directory.  ``site_file`` keeps the site that it was found to be in."""

    def __init__(self, settings: DoorSettings | None = None, site_file: Path | None = None) -> None:
        self._settings = settings or DoorSettings()
        self._site_file = site_file

    def account(self) -> str:
        """Who this computer is to its directory, by what lies on it alone.  Raises :class:`NotMemberError`."""
        return str(self._credentials())

    def read(self, trust: Trust, group: int, now: int) -> Read:
        """The best object for ``group`` of ``trust``'s publisher.  Raises by name: not a member, no controller, no
        object, or what is wrong with those that were found."""
        credentials = self._credentials()
        unreachable: list[DirectoryUnreachableError] = []
        doubted: MembershipDoubtError | DirectoryClockError | None = None
        missing: NoObjectError | None = None
        for server in self._servers(credentials):
            last = missing is not None or self._settings.server is not None
            try:
                with _member_session(server, credentials, self._kind) as session:
                    return self._read_near(session, credentials, trust, group, now)
            except DirectoryUnreachableError as exc:
                unreachable.append(exc)
            except (MembershipDoubtError, DirectoryClockError) as exc:  # of this controller; the next may know better
                doubted = doubted or exc
            except NoObjectError as exc:  # it may not have been replicated to this one yet: one more is tried
                missing = missing or exc
            if missing is not None and last:
                break
        if missing is not None:
            raise missing
        if doubted is not None:
            raise doubted
        why = "; ".join(f"{exc.domain}: {exc.why}" for exc in unreachable) or "no server is known"
        raise DirectoryUnreachableError(domain=self._domain(credentials), why=why)

    @property
    def _kind(self) -> ForestKind:
        return ForestKind.AD if self._settings.base is None else ForestKind.LDAP

    def _credentials(self) -> Credentials:
        settings = self._settings
        if settings.base is None:
            return machine_account(settings.keytab)
        if settings.user is None or settings.password_file is None:
            raise NotMemberError(why="no account in the LDAP directory is set for it")
        try:
            password = settings.password_file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            raise NotMemberError(
                why=f"the password of its account cannot be read from {settings.password_file}"
            ) from None
        return Password(settings.user, password)

    def _domain(self, credentials: Credentials) -> str:
        if self._settings.base is not None:
            return self._settings.base
        assert isinstance(credentials, Keytab)
        return (self._settings.domain or credentials.realm).lower()

    def _servers(self, credentials: Credentials) -> list[Server]:
        settings = self._settings
        named = parse_servers(settings.server) if settings.server is not None else []
        if settings.base is not None:
            if not named:
                raise NotMemberError(why="no LDAP server is set for it")
            default = settings.port or LDAPS_PORT
            return [Server(name, port or default, tls=True, ca_file=settings.ca_file) for name, port in named]
        if named:
            return [Server(name, port or settings.port or LDAP_PORT, tls=False) for name, port in named]
        return find_controllers(self._domain(credentials), site=settings.site or load_site(self._site_file))

    def _read_near(self, session: Session, credentials: Credentials, trust: Trust, group: int, now: int) -> Read:
        """At a controller of this computer's site, where the one that answered is of another and those are up."""
        place = find_place(session, self._settings.base)
        for server in self._nearer(session, place, credentials):
            with (
                suppress(DirectoryUnreachableError, MembershipDoubtError, DirectoryClockError, NoObjectError),
                _member_session(server, credentials, self._kind) as near,
            ):
                return self._choose(near, find_place(near), trust, group, now)
        return self._choose(session, place, trust, group, now)

    def _nearer(self, session: Session, place: Place, credentials: Credentials) -> list[Server]:
        """Controllers of the site that this computer turns out to be in; none where they were asked first already."""
        if not self._looks_for_site:
            return []
        before = load_site(self._site_file)
        try:
            site = find_site(session, place.configuration)
        except (DirectoryAccessError, DirectoryFailedError):  # then this controller is as good as any
            return []
        if (
            site is None or site == before
        ):  # none: a controller that has not heard of the subnet yet is no reason to forget
            return []
        save_site(self._site_file, site)
        near = site_controllers(self._domain(credentials), site)
        return [] if session.server in near else near

    @property
    def _looks_for_site(self) -> bool:
        settings = self._settings
        return settings.base is None and settings.server is None and settings.site is None

    def _choose(self, session: Session, place: Place, trust: Trust, group: int, now: int) -> Read:
        if place.forest is None:
            raise NotPreparedError(dn=place.container)
        good: list[tuple[ActivationObject, str]] = []
        wrong: list[VolactError] = []
        for stored in objects.read_objects(session, place):
            if stored.claimed is None or stored.claimed.root != trust.fingerprint:
                continue  # another publisher's
            try:
                trusted = verify_activation_object(stored.token, trust)
                trusted.object.check(place.forest, group, now)
            except (TrustError, InputError, PhonePartMissingError) as exc:
                wrong.append(exc)
            else:
                good.append((trusted.object, stored.token))
        if good:
            return Read(best_of(good)[1], place.forest, _member(session, place), str(session.server))
        if wrong:
            raise min(wrong, key=_telling)
        raise NoObjectError(server=str(session.server), root=trust.fingerprint)


@contextmanager
def _member_session(server: Server, credentials: Credentials, kind: ForestKind) -> Iterator[Session]:
    try:
        with connect(server, credentials, kind) as session:
            yield session
    except DirectoryLoginError as exc:
        raise MembershipDoubtError(account=str(credentials), why=exc.why) from None


def _member(session: Session, place: Place) -> str:
    """The account's SID as the controller says it, or its DN in LDAP."""
    if place.kind is ForestKind.LDAP:
        return session.who
    groups = permissions.own_groups(session)
    return groups[0] if groups else session.who


def _telling(exc: VolactError) -> int:
    return next((rank for rank, kind in enumerate(_TELLING) if isinstance(exc, kind)), len(_TELLING))
