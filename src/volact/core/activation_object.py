# SPDX-License-Identifier: Apache-2.0
"""Activation objects: a licence bound to a forest instead of a machine; and what a member made of one.

An object is signed by the publisher (``typ: volact-activation-object+jwt``; by telephone
:mod:`~volact.core.phone_object`) and lies in the forest's directory, where
every member may read it.  A member that has read one writes down that it has (``typ: volact-reading+jwt``, signed by
its own machine key); from both, :func:`licence_of` makes the licence of one product on this machine.
Spec: docs/spec/activation-object.md.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from volact.core.binding import NONCE_SIZE
from volact.core.definition import Edition
from volact.core.encoding import Fields, b64encode
from volact.core.errors import TrustError
from volact.core.fingerprint import Fingerprint
from volact.core.forest import Forest
from volact.core.licence import Licence
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.request import MOST_OBJECT_NAME

FORMAT = 1
LIFETIME = 730 * DAY  # two years; renewed from half a year before its end, and any time after
RENEWAL_WINDOW = 180 * DAY
MOST_GROUPS = 1000
_ID = re.compile(r"[0-9a-f]{32}\Z")
MAX_OBJECT = 32 * 1024  # an object of a thousand groups, with its certificates, has 10 KiB


class ForestMismatchError(TrustError):
    code = "forest-mismatch"
    fmt = "the activation object {name!r} is bound to forest {bound}, this directory is {found}"
    remedy = "it was copied from another directory: remove it, and activate this forest: `volact directory activate`"


class ObjectExpiredError(TrustError):
    code = "object-expired"
    fmt = "the activation object {name!r} ended on {ended}"
    remedy = "renew it: `volact directory renew`"


class ObjectGroupError(TrustError):
    code = "object-other-groups"
    fmt = "the activation object {name!r} covers the product groups {groups}, not {group}"
    remedy = "activate the forest with a host key of that product group, or of one above it"


class OtherRequestError(TrustError):
    code = "object-other-request"
    fmt = "the activation object is not the one that was asked for: {what} differs"
    remedy = "report it to the publisher; nothing was stored"


@dataclass(frozen=True, slots=True)
class ActivationObject:
    """``id`` names this object (it is the request's nonce); ``root`` the publisher, whose product groups ``groups``
    are; ``key_id`` and ``partial`` the KMS host key that it was made with.

    A signed object says ``partial`` and one that was confirmed by telephone ``key_id``, never both: every member reads
    it, and the last symbols would leave so few of a key's secret bits that its ID, slow as it is, gives the rest."""

    issuer: str
    id: str
    issued_at: int
    expires_at: int
    root: str
    groups: frozenset[int]
    forest: Forest
    key_id: str
    partial: str
    name: str
    organisation: str
    product: str

    def to_claim(self) -> dict[str, Any]:
        inner = {
            "v": FORMAT,
            "root": self.root,
            "groups": sorted(self.groups),
            "forest": self.forest.to_claim(),
            "partial": self.partial,
            "name": self.name,
            "organisation": self.organisation,
            "product": self.product,
        }
        times = {"iat": self.issued_at, "exp": self.expires_at}
        return {"iss": self.issuer, "jti": self.id, **times, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> "ActivationObject":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            issuer=claim.text("iss", most=64),
            id=_id(claim),
            issued_at=claim.integer("iat"),
            expires_at=claim.integer("exp"),
            root=inner.text("root", most=80),
            groups=frozenset(inner.integers("groups", most=MOST_GROUPS)),
            forest=Forest.from_claim(inner.fields("forest")),
            key_id="",  # objects that were signed before say it here; nothing needs it
            partial=inner.text("partial", most=5),
            name=inner.text("name", least=0, most=MOST_OBJECT_NAME),
            organisation=inner.text("organisation", least=0),
            product=inner.text("product", most=63),
        )

    def check(self, forest: Forest, group: int, now: int) -> None:
        """Raises what keeps a member of ``forest`` from being licensed for ``group`` by this object."""
        if self.forest.identity != forest.identity:
            raise ForestMismatchError(name=self.name, bound=_show_forest(self.forest), found=_show_forest(forest))
        if now >= self.expires_at:
            raise ObjectExpiredError(name=self.name, ended=_show_day(self.expires_at))
        if group not in self.groups:
            raise ObjectGroupError(name=self.name, groups=", ".join(map(str, sorted(self.groups))), group=group)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a member saw: the object's token, in which forest, as whom, from which server, and its own hardware at that
    moment.  ``account`` is the computer's own name for itself (M1$@REALM), ``member`` the directory's (a SID or DN)."""

    token: str
    read_at: int
    forest: Forest
    account: str
    member: str
    server: str
    fingerprint: Fingerprint

    def to_claim(self) -> dict[str, Any]:
        inner = {
            "v": FORMAT,
            "object": self.token,
            "forest": self.forest.to_claim(),
            "account": self.account,
            "member": self.member,
            "server": self.server,
            "fingerprint": self.fingerprint.to_claim(),
        }
        return {"iat": self.read_at, "volact": inner}

    @classmethod
    def from_claim(cls, claim: Fields) -> "Reading":
        inner = claim.fields("volact")
        inner.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            token=inner.text("object", most=MAX_OBJECT),
            read_at=claim.integer("iat"),
            forest=Forest.from_claim(inner.fields("forest")),
            account=inner.text("account", most=400),
            member=inner.text("member", most=400),
            server=inner.text("server", most=400),
            fingerprint=Fingerprint.from_claim(inner.mapping("fingerprint")),
        )


def licence_of(found: ActivationObject, reading: Reading, machine: bytes, product: str, edition: Edition) -> Licence:
    """The licence that a reading is worth to one product: a lease from the moment of reading, never past the
    object's end.  Raises what :meth:`ActivationObject.check` does, at that moment."""
    found.check(reading.forest, edition.group, reading.read_at)
    return Licence(
        issuer=found.issuer,
        machine=machine,
        product=product,
        edition=edition.id,
        group=edition.group,
        channel=Channel.VOLUME,
        key_id=found.key_id,
        nonce=bytes.fromhex(found.id),
        issued_at=reading.read_at,
        expires_at=min(found.expires_at, reading.read_at + edition.policy.lease),
        fingerprint=reading.fingerprint,
        organisation=found.organisation,
    )


def best_of(objects: "list[tuple[ActivationObject, str]]") -> tuple[ActivationObject, str]:
    """The object that lasts longest; of equals the newer one."""
    return max(objects, key=lambda one: (one[0].expires_at, one[0].issued_at, one[0].id))


def show_groups(groups: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(groups)))


def id_of(nonce: bytes) -> str:
    """The ID that the object answering a request with this nonce has."""
    return nonce.hex()


def _id(claim: Fields) -> str:
    text = claim.text("jti", most=2 * NONCE_SIZE)
    return text if _ID.match(text) else claim.fail("jti", "32 lower-case hexadecimal digits")


def _show_forest(forest: Forest) -> str:
    proof = forest.domain_sid or f"TLS key {b64encode(forest.tls)[:12]}"
    return f"{forest.name} ({proof}, {forest.id})"


def _show_day(second: int) -> str:
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return f"second {second}"
