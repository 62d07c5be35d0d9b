# SPDX-License-Identifier: Apache-2.0
"""The stored licence of an activation by telephone: its formats, and how it is verified at each load.

It lies beside the answers of issuers, and is no JWS: it is the publisher's BLS signature over what the installation ID
said, under the ``phone_key`` of the product's own verified definition.  It is evaluated as the perpetual licence of its
channel.  How one comes about is ``phone``'s.  Spec: docs/spec/phone.md §5.
"""

from dataclasses import dataclass

from volact.client.folder.store import PHONE_LICENCE, ClientStore
from volact.core.definition import ProductDefinition
from volact.core.encoding import MAX_INT, Fields, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError
from volact.core.evaluation import Answer
from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.phone import (
    INSTALLATION_BYTES,
    KEY_ID_BYTES,
    MACHINE_BYTES,
    SIGNATURE_BYTES,
    InstallationId,
    Subject,
    commit,
    message,
)
from volact.core.policy import DAY
from volact.sealing.confirmation import ConfirmationInvalidError, verify_confirmation

FORMAT = 1
ISSUER = "telephone"  # who a phone licence says it is from: there is no certificate to name


class PhoneNotOfferedError(ConfigError):
    code = "phone-not-offered"
    fmt = "{publisher} does not activate {product} by telephone"
    remedy = "activate it online, or add a newer definition of {product} that has the publisher's phone key"


@dataclass(frozen=True, slots=True)
class PhoneRequest:
    """An installation ID with what it was made of: the licence will be for exactly this."""

    installation: InstallationId
    edition: str
    key_id: str
    fingerprint: Fingerprint

    def to_claim(self) -> dict[str, object]:
        return {
            "v": FORMAT,
            "installation": b64encode(self.installation.to_bytes()),
            "edition": self.edition,
            "key": self.key_id,
            "fingerprint": self.fingerprint.to_claim(),
        }

    @classmethod
    def from_claim(cls, claim: Fields) -> "PhoneRequest":
        claim.integer("v", least=FORMAT, most=FORMAT)
        made = cls(
            InstallationId.from_bytes(claim.octets("installation", size=INSTALLATION_BYTES)),
            claim.text("edition", most=63),
            _key_id(claim),
            Fingerprint.from_claim(claim.mapping("fingerprint")),
        )
        if commit(made.fingerprint) != made.installation.fingerprint:
            raise MalformedError(what=claim.what, why="its fingerprint is not the one in its installation ID")
        return made


@dataclass(frozen=True, slots=True)
class PhoneLicence:
    request: PhoneRequest
    signature: bytes

    def to_bytes(self) -> bytes:
        return dump_object({**self.request.to_claim(), "signature": b64encode(self.signature)}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "PhoneLicence":
        claim = Fields(parse_object(data, "phone licence"), "phone licence")
        return cls(PhoneRequest.from_claim(claim), claim.octets("signature", size=SIGNATURE_BYTES))


def load_licence(store: ClientStore, definition: ProductDefinition, machine: bytes) -> Answer | None:
    """The stored phone licence as evaluation takes it; what does not verify is noted and counts for nothing."""

    def verified(data: bytes) -> Answer:
        return verified_answer(PhoneLicence.from_bytes(data), definition, phone_key(definition), machine)

    found = store.load_phone(definition.product, PHONE_LICENCE, verified)
    if found is not None and was_given_back(store, found.licence):
        store.note(f"the licence of {definition.product} by telephone is left aside: its activation was given back")
        return None
    return found


def was_given_back(store: ClientStore, licence: Licence) -> bool:
    """By its nonce, or made on a day before the licence that was given back: no more is known of its time."""
    last = licence.issued_at + DAY - 1
    return any(one.covers(licence.key_id, licence.nonce, last) for one in store.returned(licence.product))


def verified_answer(licence: PhoneLicence, definition: ProductDefinition, public: bytes, machine: bytes) -> Answer:
    request, installation = licence.request, licence.request.installation
    edition = definition.edition(request.edition)
    if edition is None or machine[:MACHINE_BYTES] != installation.machine:
        raise ConfirmationInvalidError()
    subject = Subject(definition.root, definition.product, edition.id, edition.group, request.key_id)
    verify_confirmation(public, message(subject, installation), licence.signature)
    made = Licence(
        issuer=ISSUER,
        machine=machine,
        product=definition.product,
        edition=edition.id,
        group=edition.group,
        channel=installation.channel,
        key_id=request.key_id,
        nonce=installation.nonce,
        issued_at=installation.requested_at,
        expires_at=None,
        fingerprint=request.fingerprint,
    )
    return Answer(made, issuer_ends_at=MAX_INT)


def phone_key(definition: ProductDefinition) -> bytes:
    if definition.phone_key is None:
        raise PhoneNotOfferedError(publisher=definition.publisher, product=definition.product)
    return definition.phone_key


def _key_id(claim: Fields) -> str:
    text = claim.text("key", least=2 * KEY_ID_BYTES, most=2 * KEY_ID_BYTES)
    if not set(text) <= set("0123456789abcdef"):
        claim.fail("key", "32 hexadecimal digits")
    return text
