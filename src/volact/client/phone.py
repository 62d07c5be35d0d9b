# SPDX-License-Identifier: Apache-2.0
"""Activation by telephone: an installation ID goes out in digits, a confirmation ID comes back, a licence is stored.

The phone licence lies beside the answers of issuers, and is no JWS: it is the publisher's BLS signature over what the
installation ID said, under the ``phone_key`` of the product's own verified definition.  It is verified at each load
and evaluated as the perpetual licence of its channel.  Spec: docs/spec/phone.md §5.
"""

from collections.abc import Callable
from dataclasses import dataclass

from volact.client.machine import LocalMachine
from volact.client.products import LoadedProduct, NoKeyError, load_product, record
from volact.client.store import PHONE_LICENCE, PHONE_REQUEST, ClientStore
from volact.core.definition import ProductDefinition
from volact.core.encoding import MAX_INT, Fields, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError, TrustError
from volact.core.evaluation import Answer, Evaluation, trusted_time
from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.phone import (
    CHANNELS,
    INSTALLATION_BYTES,
    KEY_ID_BYTES,
    MACHINE_BYTES,
    SERIAL_BYTES,
    SIGNATURE_BYTES,
    ConfirmationId,
    InstallationId,
    PhoneReferenceError,
    Subject,
    commit,
    message,
)
from volact.core.policy import DAY
from volact.sealing.confirmation import ConfirmationInvalidError, verify_confirmation

FORMAT = 1
ISSUER = "telephone"  # who a phone licence says it is from: there is no certificate to name
REUSE = 14 * DAY  # an installation ID is shown again for so long; the desk takes it for 30 days


class PhoneChannelError(ConfigError):
    code = "phone-channel"
    fmt = "a {channel} key of {product} is not activated by telephone"
    remedy = (
        "install a MAK or retail key: `volact client install-key {product} KEY`; hosts and forests have their own: "
        "`volact host installation-id`, `volact directory installation-id`"
    )


class PhoneNotOfferedError(ConfigError):
    code = "phone-not-offered"
    fmt = "{publisher} does not activate {product} by telephone"
    remedy = "activate it online, or add a newer definition of {product} that has the publisher's phone key"


class NoInstallationIdError(ConfigError):
    code = "phone-no-installation-id"
    fmt = "no installation ID of {product} waits for a confirmation ID"
    remedy = "run `volact client installation-id {product}` and read its digits to the publisher's desk"


class InstallationChangedError(TrustError):
    code = "phone-installation-changed"
    fmt = "the installed key, or this machine's identity, is another one than when the installation ID was shown"
    remedy = "run `volact client installation-id {product}` again and read out the new digits"


class ConfirmationReturnedError(TrustError):
    code = "phone-given-back"
    fmt = "this machine gave the activation of this confirmation ID back"
    remedy = "run `volact client installation-id {product} --new` and ask the desk for another one"


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


@dataclass(frozen=True, slots=True)
class Applied:
    """What a confirmation ID led to: the product's state, and the licence that it made."""

    evaluation: Evaluation
    licence: Licence


def installation_id(
    store: ClientStore,
    product: str,
    machine: LocalMachine,
    now: int,
    random: Callable[[int], bytes],
    *,
    new: bool = False,
) -> PhoneRequest:
    """What to read out for the installed key; the same as before while it fits, unless ``new`` is asked for.

    Raises ``NoKeyError``, :class:`PhoneChannelError`, :class:`PhoneNotOfferedError`, ``PhoneDayError``.
    """
    with store.lock():
        store.machine_key()  # the machine's identity comes before what is signed for it
        loaded = load_product(store, product)
        request = _request(store, loaded, machine, now, random(SERIAL_BYTES))
        known = None if new else open_request(store, product)
        if known is not None and _fits(known, request):
            return known
        store.save_phone(product, PHONE_REQUEST, dump_object(request.to_claim()) + b"\n")
        return request


def open_request(store: ClientStore, product: str) -> PhoneRequest | None:
    """The request that waits for its confirmation ID."""
    return store.load_phone(product, PHONE_REQUEST, _parse_request)


def require_request(store: ClientStore, product: str) -> PhoneRequest:
    """Raises :class:`NoInstallationIdError`; ``ProductUnknownHereError`` for a product that was not added."""
    store.anchor(product)
    request = open_request(store, product)
    if request is None:
        raise NoInstallationIdError(product=product)
    return request


def apply(store: ClientStore, product: str, confirmation: ConfirmationId, machine: LocalMachine, now: int) -> Applied:
    """Store the licence that a confirmation ID makes of the open request.

    (1) The digits answer this request; (2) the machine and its key are still those of the request; (3) the publisher
    signed it; (4) only then is anything written.  A confirmation ID that was applied before may be applied again.
    """
    with store.lock():
        loaded = load_product(store, product)
        request = _waiting(store, product, confirmation)
        _check_unchanged(store, loaded, request)
        public = _phone_key(loaded.definition)
        made = PhoneLicence(request, confirmation.signature)
        answer = _verified(made, loaded.definition, public, loaded.machine or b"")
        if was_given_back(store, answer.licence):
            raise ConfirmationReturnedError(product=product)
        store.save_phone(product, PHONE_LICENCE, made.to_bytes())
        store.remove_phone(product, PHONE_REQUEST)
        loaded = load_product(store, product)
        evaluation = loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now)
        record(store, loaded, evaluation, now)
    return Applied(evaluation, answer.licence)


def load_licence(store: ClientStore, definition: ProductDefinition, machine: bytes) -> Answer | None:
    """The stored phone licence as evaluation takes it; what does not verify is noted and counts for nothing."""

    def verified(data: bytes) -> Answer:
        return _verified(PhoneLicence.from_bytes(data), definition, _phone_key(definition), machine)

    found = store.load_phone(definition.product, PHONE_LICENCE, verified)
    if found is not None and was_given_back(store, found.licence):
        store.note(f"the licence of {definition.product} by telephone is left aside: its activation was given back")
        return None
    return found


def was_given_back(store: ClientStore, licence: Licence) -> bool:
    """By its nonce, or made on a day before the licence that was given back: no more is known of its time."""
    last = licence.issued_at + DAY - 1
    return any(one.covers(licence.key_id, licence.nonce, last) for one in store.returned(licence.product))


def _request(store: ClientStore, loaded: LoadedProduct, machine: LocalMachine, now: int, serial: bytes) -> PhoneRequest:
    product, edition, key = loaded.product, loaded.edition, store.key(loaded.product)
    if edition is None or key is None or loaded.machine is None:
        raise NoKeyError(product=product)
    if key.channel not in CHANNELS:
        raise PhoneChannelError(channel=str(key.channel), product=product)
    _phone_key(loaded.definition)
    subject = Subject(loaded.definition.root, product, edition.id, edition.group, key.key_id)
    seen, today = machine.fingerprint(loaded.trust.fingerprint), trusted_time(now, loaded.latest_time)
    number = int.from_bytes(serial, "big")
    made = InstallationId.new(subject, key.channel, loaded.machine, seen, today, number)
    return PhoneRequest(made, edition.id, key.key_id, seen)


def _fits(known: PhoneRequest, now_made: PhoneRequest) -> bool:
    """Whether what was shown before still says the same, and is young."""
    before, after = known.installation, now_made.installation
    same = known.edition == now_made.edition and known.key_id == now_made.key_id
    age = after.requested_at - before.requested_at
    fields = ("channel", "edition_tag", "machine", "fingerprint")
    return same and 0 <= age <= REUSE and all(getattr(before, name) == getattr(after, name) for name in fields)


def _waiting(store: ClientStore, product: str, confirmation: ConfirmationId) -> PhoneRequest:
    """The request that these digits answer: the open one, or the one that they have answered before."""
    request = open_request(store, product)
    if request is not None and request.installation.reference == confirmation.reference:
        return request
    stored = store.load_phone(product, PHONE_LICENCE, PhoneLicence.from_bytes)
    if stored is not None and stored.signature == confirmation.signature:
        return stored.request
    if request is None:
        raise NoInstallationIdError(product=product)
    raise PhoneReferenceError()


def _check_unchanged(store: ClientStore, loaded: LoadedProduct, request: PhoneRequest) -> None:
    key, machine = store.key(loaded.product), (loaded.machine or b"")[:MACHINE_BYTES]
    same_key = key is not None and key.key_id == request.key_id and loaded.installation.edition == request.edition
    if not same_key or machine != request.installation.machine:
        raise InstallationChangedError(product=loaded.product)


def _verified(licence: PhoneLicence, definition: ProductDefinition, public: bytes, machine: bytes) -> Answer:
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


def _phone_key(definition: ProductDefinition) -> bytes:
    if definition.phone_key is None:
        raise PhoneNotOfferedError(publisher=definition.publisher, product=definition.product)
    return definition.phone_key


def _parse_request(data: bytes) -> PhoneRequest:
    return PhoneRequest.from_claim(Fields(parse_object(data, "installation ID"), "installation ID"))


def _key_id(claim: Fields) -> str:
    text = claim.text("key", least=2 * KEY_ID_BYTES, most=2 * KEY_ID_BYTES)
    if not set(text) <= set("0123456789abcdef"):
        claim.fail("key", "32 hexadecimal digits")
    return text
