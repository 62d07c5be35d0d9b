# SPDX-License-Identifier: Apache-2.0
"""Preparing a directory: a plan that says each change in words, and carrying it out.

A plan is made by looking only.  It is refused, before anything was changed, where the schema is too old, the caller
may not change it, or another controller is its master.  Schema changes of Active Directory cannot be undone, which is
why the plan is shown first.  Spec: docs/spec/activation-object.md §3, §5.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from volact.core.forest import ForestKind
from volact.directory import permissions, schema
from volact.directory.connection import BASE, LEVEL, Session, Value
from volact.directory.errors import (
    DirectoryAccessError,
    DirectoryFailedError,
    NotEnterpriseAdminError,
    NotSchemaAdminError,
    NotSchemaMasterError,
    SchemaOldError,
    SchemaRefusedError,
)
from volact.directory.permissions import ENTERPRISE_ADMINS, SCHEMA_ADMINS
from volact.directory.place import CONTAINER, FOLDER, IDENTITY, Place, find_place, plain_dn, refuse_read_only

# A controller reads its schema anew within 5 minutes of a change ([MS-ADTS] 3.1.1.3.3.13); Samba does at once.
SCHEMA_SECONDS, LOOK_SECONDS = 360.0, 3.0


@dataclass(frozen=True, slots=True)
class Step:
    """One change: an entry that is added.  ``awaited``: then names that the server must know before the next step."""

    what: str
    dn: str
    attributes: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    of_schema: bool = False
    awaited: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """Nothing to do where ``steps`` is empty."""

    place: Place
    steps: tuple[Step, ...]


def make_plan(session: Session, base: str | None = None, *, standard: bool = False) -> Plan:
    """What is missing in this directory.  ``standard``: leave the schema alone, objects go into standard classes."""
    place = find_place(session, base)
    if place.kind is ForestKind.AD:
        steps = [*([] if standard else _ad_schema(session, place)), *_ad_places(session, place)]
    else:
        steps = [*([] if standard else _ldap_schema(session)), *_ldap_places(session, place)]
    return Plan(place, tuple(steps))


def carry_out(session: Session, plan: Plan) -> Place:
    """Make the plan's changes, in order; what was done before one that fails stays, and is not planned again."""
    for step in plan.steps:
        try:
            session.add(step.dn, step.attributes)
            _wait_until_known(session, step.awaited)
        except (DirectoryFailedError, DirectoryAccessError) as exc:
            if not step.of_schema:
                raise
            raise SchemaRefusedError(server=str(session.server), why=str(exc)) from None
    return find_place(session, None if plan.place.kind is ForestKind.AD else plan.place.configuration)


def is_extended(session: Session, place: Place) -> bool:
    """Whether the directory knows our class."""
    if place.kind is ForestKind.AD:
        return bool(_known_to_ad(session, place) & {schema.CLASS})
    return schema.CLASS in _described(session, "objectClasses")


# ---- Active Directory


def _ad_schema(session: Session, place: Place) -> list[Step]:
    known = _known_to_ad(session, place)
    missing = [one for one in schema.ATTRIBUTES if one.name not in known]
    if not missing and schema.CLASS in known:
        return []
    _check_version(session, place)
    if not _is_in(session, place, SCHEMA_ADMINS):
        raise NotSchemaAdminError(who=session.who)
    _check_master(session, place)
    steps = [
        Step(
            f"add attribute {one.name} to the schema: {_inside(one.description)}",
            f"CN={one.cn},{place.schema}",
            schema.ad_attribute(one),
            of_schema=True,
        )
        for one in missing
    ]
    if missing:
        steps[-1] = replace(steps[-1], awaited=frozenset(one.name for one in missing))
    if schema.CLASS not in known:
        dn = f"CN={schema.CLASS_CN},{place.schema}"
        what = f"add class {schema.CLASS} to the schema: {_inside(schema.CLASS_DESCRIPTION)}"
        steps.append(Step(what, dn, schema.ad_class(), of_schema=True, awaited=frozenset({schema.CLASS})))
    return steps


def _ad_places(session: Session, place: Place) -> list[Step]:
    steps = []
    if session.read(place.folder, ("objectClass",)) is None:
        attributes: dict[str, Sequence[Value]] = {"objectClass": ["container"]}
        steps.append(Step(f"add the folder CN={FOLDER} under CN=Services", place.folder, attributes))
    if session.read(place.container, ("objectClass",)) is None:
        descriptor = permissions.container_descriptor(place.domain_sid)
        attributes = {"objectClass": ["container"], permissions.DESCRIPTOR: [descriptor]}
        what = f"add the container CN={CONTAINER}: enterprise administrators create in it, computers read"
        steps.append(Step(what, place.container, attributes))
    if steps:
        refuse_read_only(session, f"add {place.folder}")
        if not _is_in(session, place, ENTERPRISE_ADMINS):
            raise NotEnterpriseAdminError(who=session.who)
    return steps


def _known_to_ad(session: Session, place: Place) -> frozenset[str]:
    found = session.search(place.schema, LEVEL, "(lDAPDisplayName=volact*)", ("lDAPDisplayName",))
    return frozenset(entry.text("lDAPDisplayName") for entry in found)


def _check_version(session: Session, place: Place) -> None:
    entry = session.read(place.schema, ("objectVersion",))
    version = int(entry.text("objectVersion") or 0) if entry else 0
    if version < schema.LEAST_AD_VERSION:
        raise SchemaOldError(version=version, least=schema.LEAST_AD_VERSION, product=schema.LEAST_AD_PRODUCT)


def _is_in(session: Session, place: Place, rid: int) -> bool:
    """Whether who is bound is a member of a group of the root domain."""
    return f"{place.domain_sid}-{rid}" in permissions.own_groups(session)


def _inside(sentence: str) -> str:
    """As it goes on inside another sentence: KMS and ID stay as they are."""
    return sentence[:1].lower() + sentence[1:]


def _check_master(session: Session, place: Place) -> None:
    master, own = _name_in(session, place.schema, "fSMORoleOwner"), _name_in(session, "", "dsServiceName")
    if master.lower() == own.lower():
        return
    host = session.read(master.partition(",")[2], ("dNSHostName",))
    raise NotSchemaMasterError(server=str(session.server), master=host.text("dNSHostName") if host else master)


def _wait_until_known(session: Session, names: frozenset[str]) -> None:
    ends = time.monotonic() + SCHEMA_SECONDS
    while names and names - _described(session, "attributeTypes") - _described(session, "objectClasses"):
        if time.monotonic() > ends:
            what = f"use {', '.join(sorted(names))} within {SCHEMA_SECONDS:.0f} seconds"
            raise DirectoryFailedError(server=str(session.server), what=what, why="its schema is not read anew")
        time.sleep(LOOK_SECONDS)


def _name_in(session: Session, dn: str, attribute: str) -> str:
    entry = session.read(dn, (attribute,))
    return plain_dn(entry.text(attribute)) if entry else ""


# ---- LDAP


def _ldap_schema(session: Session) -> list[Step]:
    if schema.CLASS in _described(session, "objectClasses"):
        return []
    attributes: dict[str, Sequence[Value]] = {
        "objectClass": ["olcSchemaConfig"],
        "cn": ["volact"],
        "olcAttributeTypes": schema.ldap_attributes(),
        "olcObjectClasses": schema.ldap_classes(),
    }
    what = f"add class {schema.CLASS} and its {len(schema.ATTRIBUTES)} attributes to OpenLDAP's schema"
    return [Step(what, "cn=volact,cn=schema,cn=config", attributes, of_schema=True)]


def _ldap_places(session: Session, place: Place) -> list[Step]:
    steps = []
    if place.forest is None:
        identity = f"{IDENTITY}{uuid.uuid4()}"
        attributes: dict[str, Sequence[Value]] = {"objectClass": ["organizationalUnit"], "description": [identity]}
        what = f"add the folder ou={FOLDER}, with an identity for this directory that was drawn just now"
        steps.append(Step(what, place.folder, attributes))
    if not session.search(place.container, BASE, "(objectClass=*)", ("objectClass",)):
        attributes = {"objectClass": ["organizationalUnit"]}
        steps.append(Step(f"add the container ou={CONTAINER}", place.container, attributes))
    return steps


def _described(session: Session, attribute: str) -> frozenset[str]:
    """The names of attributes or classes that the server knows by now, in their first spelling."""
    root = session.read("", ("subschemaSubentry",))
    found = session.read(plain_dn(root.text("subschemaSubentry")), (attribute,)) if root else None
    texts = [str(text) for text in found.all(attribute)] if found else []
    return frozenset(text.partition("NAME '")[2].partition("'")[0] for text in texts)
