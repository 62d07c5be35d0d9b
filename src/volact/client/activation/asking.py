# SPDX-License-Identifier: Apache-2.0
"""Asking one issuer: its descriptor, a request that only it can read, and its answer, verified.

Whom to ask, and what to do with the answer, is ``online``'s.  The numbers are the steps of docs/spec/states.md §3.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from volact.client.discovery.routes import IssuerServer, Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, load_product, record
from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.counter import CounterOffer
from volact.core.definition import Edition
from volact.core.errors import MalformedError, TrustError
from volact.core.evaluation import trusted_time
from volact.core.issuer import IssuerDescriptor
from volact.core.policy import DAY, Policy
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.sealing import answers, envelope, jws, sign, verify
from volact.sealing.answers import TrustedDescriptor
from volact.sealing.verify import RevokedError, Trust, TrustedLicence
from volact.wire.client import ServerError

ISSUER_UNKNOWN = "issuer-unknown"  # how a server's unsigned error begins when it has another sealing key by now
_LEASED = (Channel.VOLUME, Channel.VM)


@dataclass(frozen=True, slots=True)
class Asking:
    """What stays the same for every issuer of one activation."""

    store: ClientStore
    loaded: LoadedProduct
    edition: Edition
    channel: Channel
    machine: LocalMachine
    signer: sign.MachineSigner
    state: State
    clock: Callable[[], int]

    @property
    def policy(self) -> Policy:
        return self.edition.policy

    @property
    def root(self) -> str:
        return self.loaded.trust.fingerprint


@dataclass(frozen=True, slots=True)
class Answered:
    token: str
    answer: TrustedLicence | SignedRefusal
    descriptor: str


def ask(route: Route, asking: Asking) -> Answered:
    """Steps 3 to 6 at one issuer; a sealing key that the issuer no longer has is asked for anew, once."""
    cached = _cached_descriptor(route, asking)
    if cached is not None:
        try:
            return _exchange(route.server, asking, *cached)
        except ServerError as exc:
            if not str(exc.message).startswith(ISSUER_UNKNOWN):
                raise
    return _exchange(route.server, asking, *_fresh_descriptor(route, asking))


def _cached_descriptor(route: Route, asking: Asking) -> tuple[TrustedDescriptor, str] | None:
    """(3) The descriptor that this issuer gave before, while it lasts and is still good."""
    known = asking.store.issuer(asking.loaded.product)
    if known is None or known.address != route.address:
        return None
    try:
        now = trusted_time(asking.clock(), asking.store.latest_time())
        return _verify_descriptor(known.descriptor, asking, now, nonce=b""), known.descriptor
    except (TrustError, MalformedError):
        return None


def _fresh_descriptor(route: Route, asking: Asking) -> tuple[TrustedDescriptor, str]:
    """(3) The issuer's descriptor, made for our nonce; the revocation status in it is kept when it is newer."""
    nonce = secrets.token_bytes(NONCE_SIZE)
    token = route.server.get_issuer(asking.root, asking.loaded.product, asking.edition.group, nonce)
    try:
        trusted = _verify_descriptor(token, asking, asking.clock(), nonce)
    except RevokedError:
        _hear_of_revocation(asking, token)
        raise
    _keep_status(asking, trusted.status_token)
    return trusted, token


def _verify_descriptor(token: str, asking: Asking, now: int, nonce: bytes) -> TrustedDescriptor:
    policy = asking.policy
    return answers.verify_descriptor(
        token,
        current_trust(asking),
        asking.channel,
        now=now,
        nonce=nonce,
        suites=policy.suites,
        status_max_age=policy.status_max_age_days * DAY,
    )


def current_trust(asking: Asking) -> Trust:
    """The newest status counts, also one that an issuer asked a moment ago has brought."""
    base = asking.loaded.trust
    status = asking.store.load_status(asking.root, lambda token: verify.verify_status(token, base))
    return base if status is None else base.with_status(status)


def _hear_of_revocation(asking: Asking, token: str) -> None:
    """An honest host that was revoked says so itself: the status in its descriptor stands on its own signature."""
    store, now = asking.store, asking.clock()
    with suppress(TrustError, MalformedError):
        _keep_status(asking, IssuerDescriptor.from_claim(jws.parse(token, verify.DESCRIPTOR).claims()).status)
    loaded = load_product(store, asking.loaded.product)
    record(store, loaded, loaded.evaluate(asking.machine.fingerprint(asking.root), now), now)


def _keep_status(asking: Asking, token: str) -> None:
    """Keep a status that is newer than the one that is stored; raises where it is not the publisher's."""

    def epoch(token: str) -> int:
        return verify.verify_status(token, asking.loaded.trust.with_status(None)).epoch

    store = asking.store
    with store.lock():
        if epoch(token) > (store.load_status(asking.root, epoch) or 0):
            store.save_status(asking.root, token)


def _exchange(server: IssuerServer, asking: Asking, issuer: TrustedDescriptor, descriptor_token: str) -> Answered:
    # (4) a request that only this issuer can read and only this machine can have made
    descriptor = issuer.descriptor
    request = _request(asking, descriptor.id)
    signed = asking.signer.request(request).encode()
    sealed = envelope.seal_request(descriptor.suite, descriptor.public_key, signed)
    # (5) there and back
    answer = server.activate(descriptor.id, sealed)
    # (6) an answer that only somebody who read the request can have sealed, and only an issuer can have signed
    token = _text(envelope.open_answer(request.response_key, request.nonce, answer))
    policy = asking.policy
    verified = answers.verify_answer(
        token,
        issuer.trust,
        request,
        asking.signer.machine,
        group=asking.edition.group,
        tolerance=policy.clock_tolerance,
        longest_lease=policy.lease if asking.channel in _LEASED else None,
        status_max_age=policy.status_max_age_days * DAY,
    )
    return Answered(token, verified, descriptor_token)


def _request(asking: Asking, issuer: str) -> ActivationRequest:
    generic = asking.channel in _LEASED
    key = None if generic else asking.store.key(asking.loaded.product)
    nonce = secrets.token_bytes(NONCE_SIZE)
    return ActivationRequest(
        issuer=issuer,
        product=asking.loaded.product,
        version=asking.loaded.definition.version,
        edition=asking.edition.id,
        channel=asking.channel,
        nonce=nonce,
        response_key=secrets.token_bytes(RESPONSE_KEY_SIZE),
        at=asking.clock(),
        state=asking.state,
        fingerprint=asking.machine.fingerprint(asking.root),
        name=printable(asking.machine.name())[:253],
        key="" if key is None else str(key),
        threshold=asking.policy.threshold if asking.channel is Channel.VOLUME else 0,
        counter=None if generic else _counter(asking, nonce),
    )


def _counter(asking: Asking, nonce: bytes) -> CounterOffer | None:
    """Of the machine's TPM, where its key is in there."""
    if not asking.store.is_bound_to_tpm():
        return None
    from volact.client.products import counters

    return counters.offer(asking.store, asking.root, asking.loaded.product, asking.signer.machine, nonce)


def _text(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError(what="answer", why="not a signed token") from None


def printable(text: str) -> str:
    """Servers' words are stored and shown: no control characters of theirs."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[:2000]
