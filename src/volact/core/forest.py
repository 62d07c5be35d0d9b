# SPDX-License-Identifier: Apache-2.0
"""Forests: what an activation object is bound to, as a directory shows it and as claims.  Spec:
docs/spec/activation-object.md §2.

An Active Directory forest is known by its root domain's SID and GUID, which no administrator chooses.  A plain LDAP
directory has neither: it gets an identity that the organisation drew once, and the key of the authority that its TLS
certificates come from, without which nobody can pretend to be it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from volact.core.encoding import Fields, b64encode

TLS_KEY_SIZE = 32

_SID = re.compile(r"S-1-5-21(?:-(?:0|[1-9][0-9]{0,9})){3}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class ForestKind(StrEnum):
    AD = "ad"
    LDAP = "ldap"


@dataclass(frozen=True, slots=True)
class Forest:
    """``id``: the root domain's objectGUID, or the identity chosen for an LDAP directory; a UUID in lower case.

    ``domain_sid`` is of AD alone; ``tls`` of LDAP alone: SHA-256 of the certificate authority's public key (DER).
    ``name`` is for people (a DNS name or a base DN) and identifies nothing: domains can be renamed.
    """

    kind: ForestKind
    id: str
    name: str
    domain_sid: str = ""
    tls: bytes = b""

    @property
    def identity(self) -> str:
        """What makes two forests the same one, for comparing and counting."""
        proof = self.domain_sid if self.kind is ForestKind.AD else self.tls.hex()
        return f"{self.kind}:{self.id}:{proof}"

    def to_claim(self) -> dict[str, Any]:
        claim: dict[str, Any] = {"kind": str(self.kind), "id": self.id, "name": self.name}
        if self.kind is ForestKind.AD:
            return {**claim, "domain_sid": self.domain_sid}
        return {**claim, "tls": b64encode(self.tls)}

    @classmethod
    def from_claim(cls, claim: Fields) -> "Forest":
        kind = claim.text("kind", most=8)
        if kind not in list(ForestKind):
            claim.fail("kind", "ad or ldap")
        values: dict[str, Any] = {"domain_sid": _sid(claim)} if kind == ForestKind.AD else {}
        if kind == ForestKind.LDAP:
            values["tls"] = claim.octets("tls", size=TLS_KEY_SIZE)
        return cls(ForestKind(kind), _uuid(claim), claim.text("name", most=253), **values)


def is_domain_sid(text: str) -> bool:
    return _SID.match(text) is not None


def is_identity(text: str) -> bool:
    return _UUID.match(text) is not None


def _sid(claim: Fields) -> str:
    text = claim.text("domain_sid", most=60)
    return text if is_domain_sid(text) else claim.fail("domain_sid", "a domain's SID, S-1-5-21-…")


def _uuid(claim: Fields) -> str:
    text = claim.text("id", most=36)
    return text if is_identity(text) else claim.fail("id", "a UUID in lower case")
