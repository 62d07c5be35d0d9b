# SPDX-License-Identifier: Apache-2.0
"""Activation objects as entries of a directory: stored, found, removed.

An entry is of our class, or of a standard one where the schema may not change; what counts is the signed token in it.
Nothing here believes it: verifying is the reader's work (``sealing.verify``).  Spec: docs/spec/activation-object.md §3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from volact.core.activation_object import MAX_OBJECT, ActivationObject
from volact.core.errors import InputError, TrustError
from volact.core.forest import ForestKind
from volact.core.phone_object import PhoneObject, is_phone_object
from volact.directory.connection import LEVEL, Entry, Session, Value, escape_rdn
from volact.directory.errors import DirectoryAccessError, NotPreparedError, ObjectAmbiguousError, ObjectMissingError
from volact.directory.place import Place, refuse_read_only
from volact.directory.schema import (
    CLASS,
    EXPIRES,
    GROUPS,
    ID,
    MARK,
    NAME,
    OBJECT,
    ORGANISATION,
    PARTIAL,
    ROOT,
    STANDARD_CLASS_AD,
    STANDARD_CLASS_LDAP,
)
from volact.sealing import jws, verify

TOKEN_IN_AD, TOKEN_IN_LDAP = "serviceBindingInformation", "description"
MOST_OBJECTS = 1000
CREATABLE = "allowedChildClassesEffective"  # computed by AD: what whoever asks may create there
_CONDITION = f"(|(objectClass={CLASS})(serviceClassName={MARK})(&(objectClass={STANDARD_CLASS_LDAP})(l={MARK})))"
_ATTRIBUTES = (OBJECT, TOKEN_IN_AD, TOKEN_IN_LDAP, "objectClass", "whenCreated", "createTimestamp")


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry; ``claimed`` is what its token says, unverified, ``None`` where it is not an activation object."""

    dn: str
    token: str
    claimed: ActivationObject | None
    standard: bool
    created: int | None

    @property
    def by_telephone(self) -> bool:
        return is_phone_object(self.token)


def read_objects(session: Session, place: Place) -> list[Stored]:
    """Every activation object that whoever is bound may read."""
    found = session.search(place.container, LEVEL, _CONDITION, _ATTRIBUTES)
    return [_stored(entry) for entry in found[:MOST_OBJECTS]]


def find_object(session: Session, place: Place, which: str) -> Stored:
    """The object with that ID, or the only one with that name; directories make no difference between a and A."""
    everyone = read_objects(session, place)
    found = [one for one in everyone if one.claimed and which in (one.claimed.id, one.claimed.name)]
    found = found or [one for one in everyone if which.casefold() in _names(one)]
    if not found:
        raise ObjectMissingError(which=which)
    if len(found) > 1:
        raise ObjectAmbiguousError(which=which, number=len(found))
    return found[0]


def _names(one: Stored) -> set[str]:
    claimed = (one.claimed.id, one.claimed.name) if one.claimed else ()
    return {name.casefold() for name in (one.dn, *claimed)}


def check_writable(session: Session, place: Place) -> None:
    """Raises what would keep an object from being stored, before the publisher is asked for one."""
    refuse_read_only(session, f"add activation objects under {place.container}")
    container = session.read(place.container, ("objectClass", CREATABLE))
    if container is None:
        raise NotPreparedError(dn=place.container)
    if place.kind is ForestKind.AD and not container.all(CREATABLE):
        raise DirectoryAccessError(who=session.who, what=f"create activation objects under {place.container}")


def store_object(session: Session, place: Place, made: ActivationObject, token: str, *, standard: bool) -> str:
    """Add the object beside the others; returns its DN."""
    dn = f"CN={escape_rdn(made.id)},{place.container}"
    session.add(dn, _attributes(place, made, token, standard=standard))
    return dn


def claimed_by(token: str) -> ActivationObject | None:
    """What a token says of itself: to show, not to believe."""
    try:
        if is_phone_object(token):
            return PhoneObject.from_token(token).to_object()
        return ActivationObject.from_claim(jws.parse(token, verify.OBJECT).claims())
    except (InputError, TrustError):
        return None


def _attributes(place: Place, made: ActivationObject, token: str, *, standard: bool) -> Mapping[str, Sequence[Value]]:
    if not standard:
        values: dict[str, Sequence[Value]] = {
            "objectClass": [CLASS],
            OBJECT: [token],
            ID: [made.id],
            ROOT: [made.root],
            GROUPS: sorted(made.groups),
            EXPIRES: [datetime.fromtimestamp(made.expires_at, UTC).strftime("%Y%m%d%H%M%S.0Z")],
        }
        texts = {NAME: made.name, ORGANISATION: made.organisation, PARTIAL: made.partial}
        return values | {name: [text] for name, text in texts.items() if text}
    if place.kind is ForestKind.AD:
        keywords = [MARK, made.id, made.root, *(f"group:{group}" for group in sorted(made.groups))]
        values = {"objectClass": [STANDARD_CLASS_AD], "serviceClassName": [MARK], TOKEN_IN_AD: [token]}
        return values | {"keywords": keywords} | ({"displayName": [made.name]} if made.name else {})
    return {"objectClass": [STANDARD_CLASS_LDAP], "l": [MARK], TOKEN_IN_LDAP: [token]}


def _stored(entry: Entry) -> Stored:
    standard = CLASS not in entry.all("objectClass")
    texts = [str(one) for name in (OBJECT, TOKEN_IN_AD, TOKEN_IN_LDAP) for one in entry.all(name)]
    token = next((text for text in texts if text.count(".") == 2 and len(text) <= MAX_OBJECT), "")
    created = _time(entry.text("whenCreated") or entry.text("createTimestamp"))
    return Stored(entry.dn, token, claimed_by(token) if token else None, standard, created)


def _time(text: str) -> int | None:
    """A time of LDAP's (RFC 4517 §3.3.13) as directories write when an entry was made: UTC, to the second."""
    try:
        return int(datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
