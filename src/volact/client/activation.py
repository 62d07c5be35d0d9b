# SPDX-License-Identifier: Apache-2.0
"""Activation: asks issuers for a licence until one answers well, and keeps what came back.

Spec: docs/spec/states.md §3.

:func:`activate` goes through numbered steps.  What it promises:

* only an answer that ``sealing.verify`` accepts for exactly this request changes a licence; a refusal never does;
* a good stored licence is replaced by a better one only;
* the error that is raised is the most telling of all that happened, and lists every issuer that was asked.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from volact.client import directory, oem
from volact.client.directory import Door
from volact.client.machine import LocalMachine
from volact.client.products import LoadedProduct, NoKeyError, StoredAnswer, evaluate_product, load_product, record
from volact.client.records import Attempt, KnownIssuer, Tried
from volact.client.routes import IssuerServer, NoRouteError, Route
from volact.client.store import LATEST, ClientBusyError, ClientFolderError, ClientStore, MachineKeyDamagedError
from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.counter import CounterOffer
from volact.core.definition import Edition
from volact.core.errors import MalformedError, StoreError, TransportError, TrustError, VolactError
from volact.core.evaluation import Evaluation, trusted_time
from volact.core.issuer import IssuerDescriptor
from volact.core.licence import Licence
from volact.core.policy import DAY, LEAST_INTERVAL, MINUTE, MOST_INTERVAL, Policy
from volact.core.product_key import Channel
from volact.core.refusal import MOST_RETRY_AFTER, RefusedError, SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.sealing import answers, envelope, jws, sign, verify
from volact.sealing.answers import TrustedDescriptor
from volact.sealing.verify import RevokedError, Trust, TrustedLicence
from volact.wire.client import ServerError

JITTER = 0.1  # of an interval, either way: a fleet that started in one second does not come back in one
ISSUER_UNKNOWN = "issuer-unknown"  # how a server's unsigned error begins when it has another sealing key by now
LICENSED = "licensed"
_LEASED = (Channel.VOLUME, Channel.VM)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an activation led to; ``tried`` ends with the issuer that answered with ``licence``."""

    evaluation: Evaluation
    host: str
    source: str
    licence: Licence
    tried: tuple[Tried, ...]
    next_due: int


@dataclass(frozen=True, slots=True)
class _Asking:
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
class _Answered:
    token: str
    answer: TrustedLicence | SignedRefusal
    descriptor: str


def activate(
    product: str,
    store: ClientStore,
    servers: Iterable[Route],
    machine: LocalMachine,
    clock: Callable[[], int],
    random: Random,
    door: Door | None = None,
) -> Outcome:
    """Activate or renew a product at the first of ``servers`` that answers well; below the threshold is an answer too.
    A volume key tries the directory behind ``door`` first, each time anew.

    Raises the most telling error when none did: a signed refusal, else what was wrong with an answer, else an
    unsigned error, else what kept it from a server; ``fields["attempts"]`` lists all of them.
    """
    # (1) what is there now: the request says it to the host's counters
    asking = _prepare(product, store, machine, clock)
    tried: list[Tried] = []
    errors: list[VolactError] = []
    aside: list[VolactError] = []
    if asking.channel is Channel.OEM or asking.policy.requires_marker:
        outcome = _by_firmware(asking, random)
        if outcome is not None:
            return outcome
    if door is not None and asking.channel is Channel.VOLUME:
        account = directory.SOURCE
        try:
            found = directory.account_of(door)
            if found is not None:
                account = found
                return _by_directory(asking, door, account, random)
        except (ClientFolderError, ClientBusyError):
            raise
        except VolactError as exc:  # what is wrong with an object tells much, that there is none tells little
            (errors if isinstance(exc, TrustError) else aside).append(exc)
            tried.append(Tried(account, directory.SOURCE, exc.code, _printable(str(exc))))
    # (2) one issuer after the other, until one licenses
    for route in _reachable(servers, errors):
        try:
            answered = _ask(route, asking)
            # (7) a refusal proves the time, is kept in mind, and changes nothing else
            if isinstance(answered.answer, SignedRefusal):
                _heed_time(store, answered.answer.issued_at)
                raise _refused(answered.answer)
        except StoreError:
            raise
        except VolactError as exc:
            errors.append(exc)
            tried.append(Tried(route.address, route.source, exc.code, _printable(str(exc))))
        else:
            tried.append(Tried(route.address, route.source))
            return _accept(asking, route, answered, answered.answer, tuple(tried), random)
    raise _failed(asking, errors or aside, tuple(tried), random)


def _by_directory(asking: _Asking, door: Door, account: str, random: Random) -> Outcome:
    """The forest's activation object instead of an issuer's answer: read, kept, and seen what it is worth."""
    store, product, trust = asking.store, asking.loaded.product, _current_trust(asking)
    reading, answer = directory.read_directory(
        store, door, account, product, trust, asking.edition, asking.machine, asking.signer, asking.clock
    )
    fingerprint, now = asking.machine.fingerprint(asking.root), asking.clock()
    loaded = load_product(store, product)
    evaluation = loaded.evaluate(fingerprint, now)
    record(store, loaded, evaluation, now)
    tried = (Tried(reading.server, directory.SOURCE),)
    attempt = _attempt(asking, evaluation, answer.licence, tried, now, random)
    store.save_attempt(product, attempt)
    return Outcome(evaluation, reading.server, directory.SOURCE, answer.licence, tried, attempt.next_due)


def _by_firmware(asking: _Asking, random: Random) -> Outcome | None:
    """The maker's marker instead of an issuer's answer; ``None`` where it is demanded beside one, and is there."""
    store, product = asking.store, asking.loaded.product
    try:
        licence = oem.refresh(store, product, asking.machine, asking.clock())
    except StoreError:
        raise
    except VolactError as exc:
        _record(asking)
        raise _failed(
            asking, [exc], (Tried(oem.ADDRESS, oem.SOURCE, exc.code, _printable(str(exc))),), random
        ) from None
    if licence is None:
        return None
    evaluation, tried = _record(asking), (Tried(oem.ADDRESS, oem.SOURCE),)
    attempt = _attempt(asking, evaluation, licence, tried, asking.clock(), random)
    store.save_attempt(product, attempt)
    return Outcome(evaluation, oem.ADDRESS, oem.SOURCE, licence, tried, attempt.next_due)


def _record(asking: _Asking) -> Evaluation:
    """What the product is now, and what that observed."""
    loaded, now = load_product(asking.store, asking.loaded.product), asking.clock()
    evaluation = loaded.evaluate(asking.machine.fingerprint(asking.root), now)
    record(asking.store, loaded, evaluation, now)
    return evaluation


def _prepare(product: str, store: ClientStore, machine: LocalMachine, clock: Callable[[], int]) -> _Asking:
    signer = _signer(store, machine, clock)
    loaded = load_product(store, product)
    edition, channel = loaded.edition, loaded.installation.channel
    if edition is None or channel is None:
        loaded = oem.adopt_if_marked(store, product, machine, clock()) or loaded
        edition, channel = loaded.edition, loaded.installation.channel
    if edition is None or channel is None:
        raise NoKeyError(product=product)
    now = clock()
    evaluation = loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now)
    record(store, loaded, evaluation, now)
    return _Asking(store, loaded, edition, channel, machine, signer, evaluation.state, clock)


def _signer(store: ClientStore, machine: LocalMachine, clock: Callable[[], int]) -> sign.MachineSigner:
    """A key that is damaged beyond its copy is made anew where nothing is licensed by it: no machine is wedged for
    good, and none loses a licence."""
    with store.lock():
        try:
            return sign.MachineSigner(store.machine_key())
        except MachineKeyDamagedError:
            if any(_is_licensed(product, store, machine, clock) for product in store.products()):
                raise
        store.note("this machine's key was damaged beyond its copy, and licensed nothing: it has a new key and ID")
        store.discard_machine_key()
        return sign.MachineSigner(store.machine_key())


def _is_licensed(product: str, store: ClientStore, machine: LocalMachine, clock: Callable[[], int]) -> bool:
    try:
        return evaluate_product(store, product, machine, clock()).licensed
    except VolactError:
        return False


def _reachable(servers: Iterable[Route], errors: list[VolactError]) -> Iterator[Route]:
    """The routes; an error of the search itself is one of the causes, and ends it."""
    try:
        yield from servers
    except VolactError as exc:
        errors.append(exc)


def _ask(route: Route, asking: _Asking) -> _Answered:
    """Steps 3 to 6 at one issuer; a sealing key that the issuer no longer has is asked for anew, once."""
    cached = _cached_descriptor(route, asking)
    if cached is not None:
        try:
            return _exchange(route.server, asking, *cached)
        except ServerError as exc:
            if not str(exc.message).startswith(ISSUER_UNKNOWN):
                raise
    return _exchange(route.server, asking, *_fresh_descriptor(route, asking))


def _cached_descriptor(route: Route, asking: _Asking) -> tuple[TrustedDescriptor, str] | None:
    """(3) The descriptor that this issuer gave before, while it lasts and is still good."""
    known = asking.store.issuer(asking.loaded.product)
    if known is None or known.address != route.address:
        return None
    try:
        now = trusted_time(asking.clock(), asking.store.latest_time())
        return _verify_descriptor(known.descriptor, asking, now, nonce=b""), known.descriptor
    except (TrustError, MalformedError):
        return None


def _fresh_descriptor(route: Route, asking: _Asking) -> tuple[TrustedDescriptor, str]:
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


def _verify_descriptor(token: str, asking: _Asking, now: int, nonce: bytes) -> TrustedDescriptor:
    policy = asking.policy
    return answers.verify_descriptor(
        token,
        _current_trust(asking),
        asking.channel,
        now=now,
        nonce=nonce,
        suites=policy.suites,
        status_max_age=policy.status_max_age_days * DAY,
    )


def _current_trust(asking: _Asking) -> Trust:
    """The newest status counts, also one that an issuer asked a moment ago has brought."""
    base = asking.loaded.trust
    status = asking.store.load_status(asking.root, lambda token: verify.verify_status(token, base))
    return base if status is None else base.with_status(status)


def _hear_of_revocation(asking: _Asking, token: str) -> None:
    """An honest host that was revoked says so itself: the status in its descriptor stands on its own signature."""
    store, now = asking.store, asking.clock()
    with suppress(TrustError, MalformedError):
        _keep_status(asking, IssuerDescriptor.from_claim(jws.parse(token, verify.DESCRIPTOR).claims()).status)
    loaded = load_product(store, asking.loaded.product)
    record(store, loaded, loaded.evaluate(asking.machine.fingerprint(asking.root), now), now)


def _keep_status(asking: _Asking, token: str) -> None:
    """Keep a status that is newer than the one that is stored; raises where it is not the publisher's."""

    def epoch(token: str) -> int:
        return verify.verify_status(token, asking.loaded.trust.with_status(None)).epoch

    store = asking.store
    with store.lock():
        if epoch(token) > (store.load_status(asking.root, epoch) or 0):
            store.save_status(asking.root, token)


def _exchange(server: IssuerServer, asking: _Asking, issuer: TrustedDescriptor, descriptor_token: str) -> _Answered:
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
    return _Answered(token, verified, descriptor_token)


def _request(asking: _Asking, issuer: str) -> ActivationRequest:
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
        name=_printable(asking.machine.name())[:253],
        key="" if key is None else str(key),
        threshold=asking.policy.threshold if asking.channel is Channel.VOLUME else 0,
        counter=None if generic else _counter(asking, nonce),
    )


def _counter(asking: _Asking, nonce: bytes) -> CounterOffer | None:
    """Of the machine's TPM, where its key is in there."""
    if not asking.store.is_bound_to_tpm():
        return None
    from volact.client import counters

    return counters.offer(asking.store, asking.root, asking.loaded.product, asking.signer.machine, nonce)


def _accept(
    asking: _Asking,
    route: Route,
    answered: _Answered,
    trusted: TrustedLicence,
    tried: tuple[Tried, ...],
    random: Random,
) -> Outcome:
    """(8) Store the answer, as the good one first: whatever interrupts this, no later answer can push it out.
    (9) See what it is worth."""
    store, product = asking.store, asking.loaded.product
    fingerprint, now = asking.machine.fingerprint(asking.root), asking.clock()
    with store.lock():
        _heed_time(store, trusted.licence.issued_at)
        new = StoredAnswer(str(asking.channel), answered.token, trusted)
        if _is_better(new, load_product(store, product), asking, now):
            store.save_answer(product, new.name, answered.token)
        store.save_answer(product, LATEST, answered.token)
        loaded = load_product(store, product)
        evaluation = loaded.evaluate(fingerprint, now)
        record(store, loaded, evaluation, now)
        attempt = _attempt(asking, evaluation, trusted.licence, tried, now, random)
        store.save_attempt(product, attempt)
        _keep_issuer(store, product, KnownIssuer(route.address, route.source, answered.descriptor))
    return Outcome(evaluation, route.address, route.source, trusted.licence, tried, attempt.next_due)


def _keep_issuer(store: ClientStore, product: str, issuer: KnownIssuer) -> None:
    if store.issuer(product) != issuer:
        store.save_issuer(product, issuer)


def _is_better(new: StoredAnswer, loaded: LoadedProduct, asking: _Asking, now: int) -> bool:
    """Whether an answer licenses at all, and for at least as long as the good one that is stored."""
    fingerprint = asking.machine.fingerprint(asking.root)
    alone = loaded.evaluate(fingerprint, now, [new])
    stored = loaded.answer(new.name)
    if not alone.licensed or stored is None:
        return alone.licensed
    before = loaded.evaluate(fingerprint, now, [stored])
    if not before.licensed or alone.until is None:
        return True
    return before.until is not None and alone.until >= before.until


def _heed_time(store: ClientStore, issued_at: int) -> None:
    """A verified answer to a fresh request proves the time: the mark becomes it, forwards or back."""
    with store.lock():
        store.save_latest_time(issued_at)


def _attempt(
    asking: _Asking, evaluation: Evaluation, licence: Licence, tried: tuple[Tried, ...], now: int, random: Random
) -> Attempt:
    activation = _clamp(licence.activation_interval_minutes or asking.policy.activation_interval_minutes)
    renewal = _clamp(licence.renewal_interval_minutes or asking.policy.renewal_interval_minutes)
    minutes = _within_lease(renewal, asking) if evaluation.licensed else activation
    reason = evaluation.reason
    return Attempt(
        at=now,
        code=LICENSED if reason is None else reason.code,
        message="" if reason is None else _printable(str(reason)),
        next_due=now + _jittered(minutes * MINUTE, random),
        tried=tried,
        activation_minutes=activation,
        renewal_minutes=renewal,
    )


def _failed(asking: _Asking, errors: list[VolactError], tried: tuple[Tried, ...], random: Random) -> VolactError:
    """Note the attempt, and choose the error to raise: the most telling, the first of its rank."""
    if not errors:
        raise NoRouteError(channel=str(asking.channel), product=asking.loaded.product)
    error = min(errors, key=_rank)
    error.fields["attempts"] = [
        {"host": one.host, "source": one.source, "code": one.code, "message": one.message} for one in tried
    ]
    store, product, now = asking.store, asking.loaded.product, asking.clock()
    last = store.attempt(product)
    minutes = (last.activation_minutes if last else None) or asking.policy.activation_interval_minutes
    due = _jittered(_clamp(minutes) * MINUTE, random)
    attempt = Attempt(
        at=now,
        code=error.code,
        message=_printable(str(error)),
        next_due=now + max(due, _later(max(map(_retry_after, errors)), random)),
        tried=tried,
        activation_minutes=last.activation_minutes if last else None,
        renewal_minutes=last.renewal_minutes if last else None,
    )
    store.save_attempt(product, attempt)
    return error


def _refused(signed: SignedRefusal) -> VolactError:
    error = signed.refusal.error()
    error.fields["retry_after"] = min(signed.refusal.retry_after, MOST_RETRY_AFTER)
    return error


def _retry_after(error: VolactError) -> int:
    value = error.fields.get("retry_after", 0) if isinstance(error, RefusedError) else 0
    return value if isinstance(value, int) else 0


def _rank(error: VolactError) -> int:
    """A signed refusal says most, then what is wrong with an answer, then a server's unsigned word."""
    if isinstance(error, RefusedError):
        return 0
    if isinstance(error, TrustError | MalformedError):
        return 1
    if isinstance(error, ServerError):
        return 2
    return 3 if isinstance(error, TransportError) else 1


def _text(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError(what="answer", why="not a signed token") from None


def _clamp(minutes: int) -> int:
    return min(max(minutes, LEAST_INTERVAL), MOST_INTERVAL)


def _within_lease(minutes: int, asking: _Asking) -> int:
    """At least one renewal falls into a lease, whatever the host asks for."""
    return max(LEAST_INTERVAL, min(minutes, asking.policy.lease // MINUTE // 2))


def _jittered(seconds: int, random: Random) -> int:
    return int(seconds * random.uniform(1 - JITTER, 1 + JITTER))


def _later(seconds: int, random: Random) -> int:
    """Never before the time that an issuer asked for."""
    return int(seconds * random.uniform(1, 1 + JITTER))


def _printable(text: str) -> str:
    """Servers' words are stored and shown: no control characters of theirs."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[:2000]
