# SPDX-License-Identifier: Apache-2.0
"""Our class and attributes, once as data and as the two kinds of directory are told of them.

OIDs stand under an arc made of a UUID.  Active Directory keeps each arc in 32 bits, so a UUID as one number
(2.25.<UUID>) is no OID to it: the arc is the one that its documentation gives to whoever has none, in which the UUID
is spread over seven numbers.  Both directories get the same OIDs.  Spec: docs/spec/activation-object.md §5; ADR 0011.

All truth is in ``volactObject``, which is signed; the other attributes show it to people and to searches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from volact.directory.connection import Value

# uuid 0697d732-c2c6-4c90-af1f-bba3edcda06f, drawn at random for this project, spread 4-4-4-4-4-6-6 digits.
ARC = "1.2.840.113556.1.8000.2554.1687.55090.49862.19600.44831.12297197.13475951"
ATTRIBUTE_ARC, CLASS_ARC = f"{ARC}.1", f"{ARC}.2"

CLASS = "volactActivationObject"
STANDARD_CLASS_AD, STANDARD_CLASS_LDAP = "serviceConnectionPoint", "applicationProcess"
MARK = "volact-activation-object"  # how entries of standard classes are told from others

LEAST_AD_VERSION, LEAST_AD_PRODUCT = (
    56,
    "Windows Server 2012",
)  # from there on the field's directories hold such objects

# Enterprise administrators and the system everything; authenticated accounts, computers included, read.
DEFAULT_ACL = "D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;EA)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;SY)(A;;RPLCLORC;;;AU)"


class Syntax(Enum):
    """attributeSyntax and oMSyntax of Active Directory; syntax and equality rule of RFC 4517."""

    ASCII = ("2.5.5.5", 22, "1.3.6.1.4.1.1466.115.121.1.26", "caseExactIA5Match")
    TEXT = ("2.5.5.12", 64, "1.3.6.1.4.1.1466.115.121.1.15", "caseIgnoreMatch")
    INTEGER = ("2.5.5.9", 2, "1.3.6.1.4.1.1466.115.121.1.27", "integerMatch")
    TIME = ("2.5.5.11", 24, "1.3.6.1.4.1.1466.115.121.1.24", "generalizedTimeMatch")


@dataclass(frozen=True, slots=True)
class Attribute:
    number: int
    name: str
    cn: str
    syntax: Syntax
    description: str
    many: bool = False
    indexed: bool = False

    @property
    def oid(self) -> str:
        return f"{ATTRIBUTE_ARC}.{self.number}"


OBJECT, ID, NAME = "volactObject", "volactObjectId", "volactName"
ROOT, GROUPS, PARTIAL = "volactRoot", "volactGroups", "volactKeyPartial"
EXPIRES, ORGANISATION = "volactExpires", "volactOrganisation"

# Append; a number is never given another meaning.
ATTRIBUTES = (
    Attribute(1, OBJECT, "volact-Object", Syntax.ASCII, "The signed activation object"),
    Attribute(2, ID, "volact-Object-Id", Syntax.ASCII, "The activation object's ID"),
    Attribute(3, NAME, "volact-Name", Syntax.TEXT, "The name that its administrator gave it"),
    Attribute(4, ROOT, "volact-Root", Syntax.ASCII, "Fingerprint of the publisher's root", indexed=True),
    Attribute(5, GROUPS, "volact-Groups", Syntax.INTEGER, "Product groups that it licenses", many=True, indexed=True),
    Attribute(6, PARTIAL, "volact-Key-Partial", Syntax.ASCII, "Last five symbols of its KMS host key"),
    Attribute(7, EXPIRES, "volact-Expires", Syntax.TIME, "When it ends"),
    Attribute(8, ORGANISATION, "volact-Organisation", Syntax.TEXT, "Whom it was issued to"),
)
CLASS_OID = f"{CLASS_ARC}.1"
CLASS_CN = "volact-Activation-Object"
CLASS_DESCRIPTION = "A licence of a publisher's products, bound to this forest"


def ad_attribute(one: Attribute) -> dict[str, Sequence[Value]]:
    """The attributeSchema entry."""
    return {
        "objectClass": ["attributeSchema"],
        "attributeID": [one.oid],
        "lDAPDisplayName": [one.name],
        "attributeSyntax": [one.syntax.value[0]],
        "oMSyntax": [one.syntax.value[1]],
        "isSingleValued": ["FALSE" if one.many else "TRUE"],
        "searchFlags": [1 if one.indexed else 0],
        "adminDescription": [one.description],
        "showInAdvancedViewOnly": ["TRUE"],
    }


def ad_class() -> dict[str, Sequence[Value]]:
    """The classSchema entry."""
    return {
        "objectClass": ["classSchema"],
        "governsID": [CLASS_OID],
        "lDAPDisplayName": [CLASS],
        "subClassOf": ["top"],
        "objectClassCategory": [1],
        "mustContain": [OBJECT, ID],
        "mayContain": [one.name for one in ATTRIBUTES if one.name not in (OBJECT, ID)],
        "possSuperiors": ["container"],
        "rDNAttID": ["cn"],
        "defaultSecurityDescriptor": [DEFAULT_ACL],
        "adminDescription": [CLASS_DESCRIPTION],
        "showInAdvancedViewOnly": ["TRUE"],
    }


def ldap_attributes() -> list[str]:
    """Descriptions by RFC 4512 §4.1.2."""
    return [
        f"( {one.oid} NAME '{one.name}' DESC '{_quoted(one.description)}' EQUALITY {one.syntax.value[3]} "
        f"SYNTAX {one.syntax.value[2]}{'' if one.many else ' SINGLE-VALUE'} )"
        for one in ATTRIBUTES
    ]


def ldap_classes() -> list[str]:
    may = " $ ".join(one.name for one in ATTRIBUTES if one.name not in (OBJECT, ID))
    return [
        f"( {CLASS_OID} NAME '{CLASS}' DESC '{_quoted(CLASS_DESCRIPTION)}' SUP top STRUCTURAL "
        f"MUST ( cn $ {OBJECT} $ {ID} ) MAY ( {may} ) )"
    ]


def openldap_file() -> str:
    """For ``include`` in slapd.conf."""
    lines = ["# Volact's schema for OpenLDAP: include this file in slapd.conf."]
    lines += [f"attributetype {text}" for text in ldap_attributes()]
    lines += [f"objectclass {text}" for text in ldap_classes()]
    return "\n".join(lines) + "\n"


def openldap_ldif() -> str:
    """For ``ldapadd`` into cn=config."""
    lines = ["dn: cn=volact,cn=schema,cn=config", "objectClass: olcSchemaConfig", "cn: volact"]
    lines += [f"olcAttributeTypes: {text}" for text in ldap_attributes()]
    lines += [f"olcObjectClasses: {text}" for text in ldap_classes()]
    return "\n".join(lines) + "\n"


def ad_ldif(schema_dn: str = "CN=Schema,CN=Configuration,DC=X") -> str:
    """For ``ldifde -i -c DC=X …``, by those who extend schemas with files only."""
    refresh = "dn:\nchangetype: modify\nadd: schemaUpdateNow\nschemaUpdateNow: 1\n-\n"
    blocks = [_ldif(f"CN={one.cn},{schema_dn}", ad_attribute(one)) for one in ATTRIBUTES]
    return "\n".join([*blocks, refresh, _ldif(f"CN={CLASS_CN},{schema_dn}", ad_class()), refresh])


def _quoted(text: str) -> str:
    """RFC 4512 §4.1: a quoted string holds neither apostrophe nor backslash."""
    return text.replace("\\", "\\5C").replace("'", "\\27")


def _ldif(dn: str, attributes: Mapping[str, Sequence[Value]]) -> str:
    lines = [f"dn: {dn}", "changetype: add"]
    lines += [f"{name}: {value!s}" for name, values in attributes.items() for value in values]
    return "\n".join(lines) + "\n"
