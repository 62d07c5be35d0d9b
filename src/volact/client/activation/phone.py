# SPDX-License-Identifier: Apache-2.0
"""Activation by telephone: an installation ID goes out in digits, a confirmation ID comes back, a licence is stored.

What is stored, and how it is verified at each load, is ``phone_licence``'s.  Spec: docs/spec/phone.md §5.
"""

from collections.abc import Callable
from dataclasses import dataclass

from volact.client.folder.store import PHONE_LICENCE, PHONE_REQUEST, ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, NoKeyError, load_product, record
from volact.client.products.phone_licence import (
    PhoneLicence,
    PhoneRequest,
    phone_key,
    verified_answer,
    was_given_back,
)
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, TrustError
from volact.core.evaluation import Evaluation, trusted_time
from volact.core.licence import Licence
from volact.core.phone import (
    CHANNELS,
    MACHINE_BYTES,
    SERIAL_BYTES,
    ConfirmationId,
    InstallationId,
    PhoneReferenceError,
    Subject,
)
from volact.core.policy import DAY

REUSE = 14 * DAY  # an installation ID is shown again for so long; the desk takes it for 30 days


class PhoneChannelError(ConfigError):
    code = "phone-channel"
    fmt = "a {channel} key of {product} is not activated by telephone"
    remedy = (
        "install a MAK or retail key: `volact client install-key {product} KEY`; hosts and forests have their own: "
        "`volact host installation-id`, `volact directory installation-id`"
    )


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
        public = phone_key(loaded.definition)
        made = PhoneLicence(request, confirmation.signature)
        answer = verified_answer(made, loaded.definition, public, loaded.machine or b"")
        if was_given_back(store, answer.licence):
            raise ConfirmationReturnedError(product=product)
        store.save_phone(product, PHONE_LICENCE, made.to_bytes())
        store.remove_phone(product, PHONE_REQUEST)
        loaded = load_product(store, product)
        evaluation = loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now)
        record(store, loaded, evaluation, now)
    return Applied(evaluation, answer.licence)


def _request(store: ClientStore, loaded: LoadedProduct, machine: LocalMachine, now: int, serial: bytes) -> PhoneRequest:
    product, edition, key = loaded.product, loaded.edition, store.key(loaded.product)
    if edition is None or key is None or loaded.machine is None:
        raise NoKeyError(product=product)
    if key.channel not in CHANNELS:
        raise PhoneChannelError(channel=str(key.channel), product=product)
    phone_key(loaded.definition)
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


def _parse_request(data: bytes) -> PhoneRequest:
    return PhoneRequest.from_claim(Fields(parse_object(data, "installation ID"), "installation ID"))
