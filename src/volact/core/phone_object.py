# SPDX-License-Identifier: Apache-2.0
"""Activation objects by telephone: what an administrator's tool makes of a forest's confirmation ID, as it is stored.

The second format of activation object.  It is no JWS, since nobody can read one out: the publisher's BLS signature is
over a message that is rebuilt from these members (:mod:`volact.core.phone_site`).  Pure: it is believed by
:mod:`volact.sealing.objects` alone.  Spec: docs/spec/activation-object.md §8.
"""

from dataclasses import dataclass
from typing import Any

from volact.core.activation_object import MAX_OBJECT, MOST_GROUPS, ActivationObject, id_of
from volact.core.encoding import Fields, b64decode, b64encode, dump_object, parse_object
from volact.core.errors import MalformedError
from volact.core.forest import Forest
from volact.core.phone import INSTALLATION_BYTES, KEY_ID_BYTES, ROOT_BYTES, SIGNATURE_BYTES, PhoneFormatError
from volact.core.phone_site import SiteInstallationId, SiteKind, SiteSubject, name_of_forest
from volact.core.request import MOST_OBJECT_NAME

FORMAT = 1
PREFIX = "volact-phone-object"  # in the place of a JWS's header, and no base64url of one
ISSUER = "telephone"
_WHAT = "activation object by telephone"


@dataclass(frozen=True, slots=True)
class PhoneObject:
    """``name`` is the administrator's and not confirmed; neither is what a forest calls itself."""

    root: str
    product: str
    group: int
    groups: frozenset[int]
    key_id: str
    forest: Forest
    name: str
    installation: SiteInstallationId
    signature: bytes

    @property
    def subject(self) -> SiteSubject:
        return SiteSubject(self.root, self.product, self.group, self.groups, self.key_id)

    @property
    def is_of_forest(self) -> bool:
        """Whether what was read out is a forest, and this one."""
        installation = self.installation
        return installation.kind is SiteKind.FOREST and installation.name == name_of_forest(self.forest)

    def to_object(self) -> ActivationObject:
        """What it says, as other objects do.  Who the customer is, nobody has confirmed."""
        installation = self.installation
        return ActivationObject(
            issuer=ISSUER,
            id=id_of(installation.nonce),
            issued_at=installation.begins_at,
            expires_at=installation.ends_at,
            root=self.root,
            groups=self.groups,
            forest=self.forest,
            key_id=self.key_id,
            partial="",
            name=self.name,
            organisation="",
            product=self.product,
        )

    def to_claim(self) -> dict[str, Any]:
        """Everything but the signature: what is kept while the confirmation ID is waited for."""
        return {
            "v": FORMAT,
            "root": self.root,
            "product": self.product,
            "group": self.group,
            "groups": sorted(self.groups),
            "key": self.key_id,
            "forest": self.forest.to_claim(),
            "name": self.name,
            "installation": b64encode(self.installation.to_bytes()),
        }

    @classmethod
    def from_claim(cls, claim: Fields, signature: bytes = b"") -> "PhoneObject":
        claim.integer("v", least=FORMAT, most=FORMAT)
        groups = frozenset(claim.integers("groups", most=MOST_GROUPS))
        if not all(0 < group < 2**16 for group in groups):
            claim.fail("groups", "numbers from 1 to 65535")
        return cls(
            root=_hexadecimal(claim, "root", "sha256:", ROOT_BYTES),
            product=_product(claim),
            group=claim.integer("group", least=1, most=2**16 - 1),
            groups=groups,
            key_id=_hexadecimal(claim, "key", "", KEY_ID_BYTES),
            forest=Forest.from_claim(claim.fields("forest")),
            name=claim.text("name", least=0, most=MOST_OBJECT_NAME),
            installation=_installation(claim),
            signature=signature,
        )

    def to_token(self) -> str:
        return f"{PREFIX}.{b64encode(dump_object(self.to_claim()))}.{b64encode(self.signature)}"

    @classmethod
    def from_token(cls, token: str) -> "PhoneObject":
        parts = token.split(".")
        if len(parts) != 3 or parts[0] != PREFIX or len(token) > MAX_OBJECT:
            raise MalformedError(what=_WHAT, why="not its three parts joined by dots")
        signature = b64decode(parts[2], _WHAT)
        if len(signature) != SIGNATURE_BYTES:
            raise MalformedError(what=_WHAT, why=f"its signature has not {SIGNATURE_BYTES} bytes")
        return cls.from_claim(Fields(parse_object(b64decode(parts[1], _WHAT), _WHAT), _WHAT), signature)


def is_phone_object(token: str) -> bool:
    """Whether a stored token is of this format; of what is in it, nothing is said."""
    return token.startswith(f"{PREFIX}.")


def _installation(claim: Fields) -> SiteInstallationId:
    try:
        return SiteInstallationId.from_bytes(claim.octets("installation", size=INSTALLATION_BYTES))
    except PhoneFormatError:
        claim.fail("installation", "the installation ID of a forest")


def _product(claim: Fields) -> str:
    text = claim.text("product", most=63)
    return text if text.isascii() else claim.fail("product", "a product's name")


def _hexadecimal(claim: Fields, name: str, prefix: str, size: int) -> str:
    text = claim.text(name, most=len(prefix) + 2 * size)
    digits = text.removeprefix(prefix)
    good = text.startswith(prefix) and len(digits) == 2 * size and set(digits) <= set("0123456789abcdef")
    return text if good else claim.fail(name, f"{prefix}{2 * size} hexadecimal digits")
