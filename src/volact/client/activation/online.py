# SPDX-License-Identifier: Apache-2.0
"""Activation online: asks issuers for a licence until one answers well, and keeps what came back.

Spec: docs/spec/states.md §3.

:func:`activate` goes through numbered steps.  What it promises:

* only an answer that ``sealing.verify`` accepts for exactly this request changes a licence; a refusal never does;
* a good stored licence is replaced by a better one only;
* the error that is raised is the most telling of all that happened, and lists every issuer that was asked.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from volact.client.activation import directory, oem
from volact.client.activation.asking import Answered, Asking, ask, current_trust, printable
from volact.client.activation.attempts import attempt_of, failed, refused
from volact.client.activation.directory import Door
from volact.client.discovery.routes import Route
from volact.client.folder.files import ClientBusyError, ClientFolderError
from volact.client.folder.identity import MachineKeyDamagedError
from volact.client.folder.records import KnownIssuer, Tried
from volact.client.folder.store import LATEST, ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import (
    LoadedProduct,
    NoKeyError,
    StoredAnswer,
    evaluate_product,
    load_product,
    record,
)
from volact.core.errors import StoreError, TrustError, VolactError
from volact.core.evaluation import Evaluation
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.sealing import sign
from volact.sealing.verify import TrustedLicence


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an activation led to; ``tried`` ends with the issuer that answered with ``licence``."""

    evaluation: Evaluation
    host: str
    source: str
    licence: Licence
    tried: tuple[Tried, ...]
    next_due: int


@dataclass(slots=True)
class _Failures:
    """Whom an activation asked in vain.  ``aside``: errors that tell little, used where there is no other."""

    tried: list[Tried] = field(default_factory=list)
    errors: list[VolactError] = field(default_factory=list)
    aside: list[VolactError] = field(default_factory=list)

    def note(self, address: str, source: str, exc: VolactError) -> None:
        self.tried.append(Tried(address, source, exc.code, printable(str(exc))))


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
    failures, outcome = _Failures(), None
    if asking.channel is Channel.OEM or asking.policy.requires_marker:
        outcome = _by_firmware(asking, random)
    if outcome is None and door is not None and asking.channel is Channel.VOLUME:
        outcome = _through_door(asking, door, failures, random)
    return outcome or _at_an_issuer(asking, servers, failures, random)


def _at_an_issuer(asking: Asking, servers: Iterable[Route], failures: _Failures, random: Random) -> Outcome:
    """(2) One issuer after the other, until one licenses."""
    for route in _reachable(servers, failures.errors):
        try:
            answered = ask(route, asking)
            # (7) a refusal proves the time, is kept in mind, and changes nothing else
            if isinstance(answered.answer, SignedRefusal):
                _heed_time(asking.store, answered.answer.issued_at)
                raise refused(answered.answer)
        except StoreError:
            raise
        except VolactError as exc:
            failures.errors.append(exc)
            failures.note(route.address, route.source, exc)
        else:
            tried = (*failures.tried, Tried(route.address, route.source))
            return _accept(asking, route, answered, answered.answer, tried, random)
    raise failed(asking, failures.errors or failures.aside, tuple(failures.tried), random)


def _through_door(asking: Asking, door: Door, failures: _Failures, random: Random) -> Outcome | None:
    """By the directory of the domain that this computer is a member of; ``None`` where that does not license it."""
    account = directory.SOURCE
    try:
        found = directory.account_of(door)
        if found is not None:
            account = found
            return _by_directory(asking, door, account, random)
    except (ClientFolderError, ClientBusyError):
        raise
    except VolactError as exc:  # what is wrong with an object tells much, that there is none tells little
        (failures.errors if isinstance(exc, TrustError) else failures.aside).append(exc)
        failures.note(account, directory.SOURCE, exc)
    return None


def _by_directory(asking: Asking, door: Door, account: str, random: Random) -> Outcome:
    """The forest's activation object instead of an issuer's answer: read, kept, and seen what it is worth."""
    store, product, trust = asking.store, asking.loaded.product, current_trust(asking)
    reading, answer = directory.read_directory(
        store, door, account, product, trust, asking.edition, asking.machine, asking.signer, asking.clock
    )
    fingerprint, now = asking.machine.fingerprint(asking.root), asking.clock()
    loaded = load_product(store, product)
    evaluation = loaded.evaluate(fingerprint, now)
    record(store, loaded, evaluation, now)
    tried = (Tried(reading.server, directory.SOURCE),)
    attempt = attempt_of(asking, evaluation, answer.licence, tried, now, random)
    store.save_attempt(product, attempt)
    return Outcome(evaluation, reading.server, directory.SOURCE, answer.licence, tried, attempt.next_due)


def _by_firmware(asking: Asking, random: Random) -> Outcome | None:
    """The maker's marker instead of an issuer's answer; ``None`` where it is demanded beside one, and is there."""
    store, product = asking.store, asking.loaded.product
    try:
        licence = oem.refresh(store, product, asking.machine, asking.clock())
    except StoreError:
        raise
    except VolactError as exc:
        _record(asking)
        raise failed(asking, [exc], (Tried(oem.ADDRESS, oem.SOURCE, exc.code, printable(str(exc))),), random) from None
    if licence is None:
        return None
    evaluation, tried = _record(asking), (Tried(oem.ADDRESS, oem.SOURCE),)
    attempt = attempt_of(asking, evaluation, licence, tried, asking.clock(), random)
    store.save_attempt(product, attempt)
    return Outcome(evaluation, oem.ADDRESS, oem.SOURCE, licence, tried, attempt.next_due)


def _record(asking: Asking) -> Evaluation:
    """What the product is now, and what that observed."""
    loaded, now = load_product(asking.store, asking.loaded.product), asking.clock()
    evaluation = loaded.evaluate(asking.machine.fingerprint(asking.root), now)
    record(asking.store, loaded, evaluation, now)
    return evaluation


def _prepare(product: str, store: ClientStore, machine: LocalMachine, clock: Callable[[], int]) -> Asking:
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
    return Asking(store, loaded, edition, channel, machine, signer, evaluation.state, clock)


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


def _accept(
    asking: Asking,
    route: Route,
    answered: Answered,
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
        attempt = attempt_of(asking, evaluation, trusted.licence, tried, now, random)
        store.save_attempt(product, attempt)
        _keep_issuer(store, product, KnownIssuer(route.address, route.source, answered.descriptor))
    return Outcome(evaluation, route.address, route.source, trusted.licence, tried, attempt.next_due)


def _keep_issuer(store: ClientStore, product: str, issuer: KnownIssuer) -> None:
    if store.issuer(product) != issuer:
        store.save_issuer(product, issuer)


def _is_better(new: StoredAnswer, loaded: LoadedProduct, asking: Asking, now: int) -> bool:
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
