# SPDX-License-Identifier: Apache-2.0
"""Activation by a request that is carried: to the publisher by a proxy or in a file, and its sealed answer back.

The same sealed request and answer as on the network, for machines that reach no publisher themselves: whoever carries
them, the fleet tool for instance, can read neither.  The request waits in the product's folder, with the one-time key
that opens its answer.  Until key, edition or hardware change the same request is given again, byte for byte: the
publisher answers its nonce again for nothing, so whoever was interrupted starts anew without using anything up.
Only for keys that the publisher serves; telephone codes are ``phone``'s.  Spec: docs/spec/proxy.md §2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from volact.client.folder.records import Attempt
from volact.client.folder.store import LATEST, ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, NoKeyError, StoredAnswer, load_product, record
from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.counter import CounterOffer
from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError, TrustError
from volact.core.evaluation import Evaluation, trusted_time
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.licence import Licence
from volact.core.policy import DAY, MINUTE
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.sealing import answers, envelope
from volact.sealing.sign import MachineSigner

FORMAT = 1
CHANNELS = (Channel.MAK, Channel.RETAIL)
REUSE = 25 * DAY  # the publisher takes a carried request for 30 days; the last five are for its way
CARRIED_TOLERANCE = 90 * DAY  # an answer that was carried by hand is older than one from the network
ANY_AGE = (
    1 << 40
)  # the definition's own status is as old as the definition; nobody can bring a machine here a newer one
MOST_SEALED = 64 * 1024


class CarriedChannelError(ConfigError):
    code = "carried-channel"
    fmt = "a {channel} key is not activated by the publisher: {product} needs no request to it"
    remedy = "run `volact client activate {product}`, or install a MAK or retail key"


class NoCarriedRequestError(ConfigError):
    code = "no-carried-request"
    fmt = "no request of {product} waits for this answer"
    remedy = "make one first: `volact client request {product}`, and let the publisher answer that"


class CarriedAnswerError(TrustError):
    code = "carried-answer-other"
    fmt = "the answer does not fit the last request of {product}, or was changed on its way"
    remedy = "bring the answer to the newest request: `volact client request {product}` gives it again"


class CarriedAnswerReturnedError(TrustError):
    code = "carried-answer-returned"
    fmt = "this machine gave the activation in this answer back"
    remedy = "make another request: `volact client request {product} --new`"


@dataclass(frozen=True, slots=True)
class Carried:
    """A request on its way.  ``sealed`` is what is carried; the rest opens its answer and stays here."""

    request: ActivationRequest
    machine: bytes
    sealed: bytes

    def to_bytes(self) -> bytes:
        claim = {"v": FORMAT, "request": self.request.to_claim(), "machine": self.machine.hex()}
        return dump_object({**claim, "sealed": b64encode(self.sealed)}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Carried":
        claim = Fields(parse_object(data, "carried request"), "carried request")
        claim.integer("v", least=FORMAT, most=FORMAT)
        machine = claim.text("machine", least=64, most=64)
        if not set(machine) <= set("0123456789abcdef"):
            claim.fail("machine", "64 hexadecimal digits")
        request = ActivationRequest.from_claim(claim.fields("request"))
        return cls(request, bytes.fromhex(machine), claim.octets("sealed", most=MOST_SEALED))


@dataclass(frozen=True, slots=True)
class Applied:
    """What an answer led to: the product's state, and the licence in it."""

    evaluation: Evaluation
    licence: Licence


def write_request(
    store: ClientStore,
    product: str,
    machine: LocalMachine,
    now: int,
    random: Callable[[int], bytes],
    *,
    new: bool = False,
) -> tuple[RequestFile, Carried]:
    """The request for the installed key; the same as before while it fits, unless a ``new`` one is asked for.

    Raises ``NoKeyError``, :class:`CarriedChannelError`.
    """
    with store.lock():
        signer = MachineSigner(store.machine_key())
        loaded = load_product(store, product)
        made = _request(store, loaded, machine, trusted_time(now, loaded.latest_time), random)
        known = None if new else store.load_carried(product, Carried.from_bytes)
        if known is None or not _fits(known, made, signer.machine):
            known = _seal(store, loaded, made, signer, now)
            store.save_carried(product, known.to_bytes())
    return RequestFile(loaded.trust.fingerprint, product, known.request.issuer, known.sealed), known


def apply(
    store: ClientStore, product: str, answer: AnswerFile, machine: LocalMachine, now: int, random: Random
) -> Applied:
    """Store the licence in an answer.  It may be applied again.  A refusal in it is raised, and changes nothing.

    (1) It answers the waiting request; (2) the publisher signed it, for this machine and what it asked for;
    (3) only then is anything written.
    """
    with store.lock():
        carried = _waiting(store, product, answer)
        loaded = load_product(store, product)
        token, new = _open(loaded, product, carried, answer)
        licence = new.licence
        if any(one.covers(licence.key_id, licence.nonce, licence.issued_at) for one in store.returned(product)):
            raise CarriedAnswerReturnedError(product=product)
        store.raise_latest_time(licence.issued_at)
        store.save_answer(product, new.name, token)
        store.save_answer(product, LATEST, token)
        loaded = load_product(store, product)
        evaluation = loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now)
        record(store, loaded, evaluation, now)
        store.save_attempt(product, _attempt(loaded, evaluation, now, random))
    return Applied(evaluation, licence)


def _request(
    store: ClientStore, loaded: LoadedProduct, machine: LocalMachine, now: int, random: Callable[[int], bytes]
) -> ActivationRequest:
    product, edition, key = loaded.product, loaded.edition, store.key(loaded.product)
    if edition is None or key is None:
        raise NoKeyError(product=product)
    if key.channel not in CHANNELS:
        raise CarriedChannelError(channel=str(key.channel), product=product)
    seen = machine.fingerprint(loaded.trust.fingerprint)
    return ActivationRequest(
        issuer="",
        product=product,
        version=loaded.definition.version,
        edition=edition.id,
        channel=key.channel,
        nonce=random(NONCE_SIZE),
        response_key=random(RESPONSE_KEY_SIZE),
        at=now,
        state=loaded.evaluate(seen, now).state,
        fingerprint=seen,
        name="".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in machine.name())[:253],
        key=str(key),
        carried=True,
    )


def _counter(store: ClientStore, loaded: LoadedProduct, machine: bytes, nonce: bytes) -> CounterOffer | None:
    """Of the machine's TPM, where its key is in there, as an activation online offers it."""
    if not store.is_bound_to_tpm():
        return None
    from volact.client.products import counters

    return counters.offer(store, loaded.trust.fingerprint, loaded.product, machine, nonce)


def _seal(
    store: ClientStore, loaded: LoadedProduct, request: ActivationRequest, signer: MachineSigner, now: int
) -> Carried:
    """Sealed to the key that the product's definition brings along."""
    assert loaded.edition is not None, "a request has an edition"
    descriptor = answers.verify_descriptor(
        loaded.definition.issuer,
        loaded.trusted.trust,  # its stapled status is as old as the definition, and may be older than one seen since
        request.channel,
        now=now,
        nonce=b"",
        suites=loaded.edition.policy.suites,
        status_max_age=ANY_AGE,
    ).descriptor
    named = replace(request, issuer=descriptor.id, counter=_counter(store, loaded, signer.machine, request.nonce))
    sealed = envelope.seal_request(descriptor.suite, descriptor.public_key, signer.request(named).encode())
    return Carried(named, signer.machine, sealed)


def _fits(known: Carried, made: ActivationRequest, machine: bytes) -> bool:
    """Whether the waiting request still asks the same, and is young enough to be carried."""
    before = known.request
    same = (before.product, before.edition, before.channel, before.key, before.fingerprint)
    now = (made.product, made.edition, made.channel, made.key, made.fingerprint)
    return known.machine == machine and same == now and 0 <= made.at - before.at <= REUSE


def _waiting(store: ClientStore, product: str, answer: AnswerFile) -> Carried:
    store.anchor(product)
    carried = store.load_carried(product, Carried.from_bytes)
    if carried is None:
        raise NoCarriedRequestError(product=product)
    if carried.request.issuer != answer.issuer or carried.machine != store.machine_id():
        raise CarriedAnswerError(product=product)
    return carried


def _open(loaded: LoadedProduct, product: str, carried: Carried, answer: AnswerFile) -> tuple[str, StoredAnswer]:
    request = carried.request
    edition = loaded.definition.edition(request.edition)
    try:
        token = envelope.open_answer(request.response_key, request.nonce, answer.sealed).decode("ascii")
    except envelope.SealError:
        raise CarriedAnswerError(product=product) from None
    except UnicodeDecodeError:
        raise MalformedError(what="answer", why="not a signed token") from None
    verified = answers.verify_answer(
        token,
        loaded.trust,
        request,
        carried.machine,
        group=edition.group if edition else None,
        tolerance=CARRIED_TOLERANCE,
        longest_lease=None,
    )
    if isinstance(verified, SignedRefusal):
        raise verified.refusal.error()
    return token, StoredAnswer(str(request.channel), token, verified)


def _attempt(loaded: LoadedProduct, evaluation: Evaluation, now: int, random: Random) -> Attempt:
    assert loaded.edition is not None, "an answer is for an edition"
    policy = loaded.edition.policy
    minutes = policy.renewal_interval_minutes if evaluation.licensed else policy.activation_interval_minutes
    code = "licensed" if evaluation.reason is None else evaluation.reason.code
    message = "" if evaluation.reason is None else str(evaluation.reason)
    return Attempt(now, code, message, now + int(minutes * MINUTE * random.uniform(0.9, 1.1)))
