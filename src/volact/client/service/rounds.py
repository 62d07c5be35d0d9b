# SPDX-License-Identifier: Apache-2.0
"""One round of the licensing service: every product is looked at, activated if that is due, and its people reminded.

A round is the whole of the service's work, and a function of the folder and the time: it can be done by a process that
ends afterwards, and one that was cut off anywhere is simply done again.  It says when the next one is due.  Asking an
issuer is the caller's ``activate`` (:mod:`volact.client.activation.online` with the doors of this computer).
Guide: docs/guide/licensing-service.md.
"""

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

from volact.client.activation.attempts import LICENSED
from volact.client.deployment.generalize import begin
from volact.client.folder.records import Attempt
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import POOLED, LoadedProduct, NoKeyError, load_product, record
from volact.client.service import reminders
from volact.client.service.events import Event, Log
from volact.client.service.memory import Memory, Seen, load_memory, save_memory
from volact.core.errors import MalformedError, StoreError, VolactError
from volact.core.evaluation import Evaluation, trusted_time
from volact.core.fingerprint import DEFAULT_TOLERANCE, Fingerprint, compare
from volact.core.policy import DAY, LEAST_INTERVAL, MINUTE, MOST_INTERVAL, ReminderPolicy
from volact.core.refusal import RefusedError
from volact.core.states import State

RETRY_SECONDS = 15 * MINUTE  # how long after a failed attempt a change of the network is answered by another
LONGEST_SLEEP = DAY  # whatever was computed: a look at everything once a day costs nothing
SHORTEST_SLEEP = 30  # between rounds that nobody asked for, so that no fault makes a busy loop
STUCK_SECONDS = LEAST_INTERVAL * MINUTE  # until the next try where the folder cannot be written
LONGEST_DUE = int(MOST_INTERVAL * MINUTE * 1.2) + DAY  # an attempt due later was noted by a clock that was wrong

START = "start"
NETWORK, ASKED = "network", "asked"  # the network has changed: what failed for it; somebody asks: all that failed


class Answered(Protocol):
    """What ``activate`` returns: :class:`volact.client.activation.online.Outcome`."""

    @property
    def evaluation(self) -> Evaluation: ...
    @property
    def host(self) -> str: ...
    @property
    def source(self) -> str: ...


Activate = Callable[[str], Answered]


@dataclass(frozen=True, slots=True)
class Round:
    """``wake_at``: when the next is due.  ``network``: a product waits for the network.  ``notes``: of the store."""

    wake_at: int
    products: int
    licensed: int
    network: bool
    notes: tuple[str, ...]

    def to_claim(self) -> dict[str, Any]:
        return {
            "wake_at": self.wake_at,
            "products": self.products,
            "licensed": self.licensed,
            "network": self.network,
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Working:
    store: ClientStore
    machine: LocalMachine
    activate: Activate
    clock: Callable[[], int]
    random: Random
    log: Log
    memory: Memory
    because: str
    remind: Callable[[Path, Mapping[str, Any]], str]


def run_round(
    store: ClientStore,
    machine: LocalMachine,
    activate: Activate,
    clock: Callable[[], int],
    random: Random,
    log: Log,
    *,
    because: str = "",
    remind: Callable[[Path, Mapping[str, Any]], str] = reminders.remind,
) -> Round:
    """``because``: what woke the service.  Raises nothing for a product."""
    memory = load_memory(store)
    working = _Working(store, machine, activate, clock, random, log, memory, because, remind)
    first_boot(store, machine, memory, clock, log)
    with suppress(VolactError):  # the product that needs it says what is wrong
        store.restore_machine_id()
    looks = [_product(product, working) for product in _products(working)]
    with suppress(StoreError):
        save_memory(store, memory)
    now = clock()
    soonest = min((look.wake_at for look in looks), default=now + LONGEST_SLEEP)
    return Round(
        wake_at=min(max(soonest, now + SHORTEST_SLEEP), now + LONGEST_SLEEP),
        products=len(looks),
        licensed=sum(look.licensed for look in looks),
        network=any(look.network for look in looks),
        notes=tuple(store.notes),
    )


# ---- one product


class _Look(NamedTuple):
    wake_at: int
    licensed: bool = False
    network: bool = False


def _products(working: _Working) -> list[str]:
    try:
        return working.store.products()
    except StoreError as exc:
        working.log.write(Event.FOLDER_UNUSABLE, message=str(exc))
        return []


def _product(product: str, working: _Working) -> _Look:
    """Whatever is wrong with one product stays with it."""
    try:
        return _look_after(product, working)
    except VolactError as exc:
        working.log.write(Event.FOLDER_UNUSABLE, product=product, message=f"{product}: {exc}")
        return _Look(working.clock() + _stuck(working))


def _look_after(product: str, working: _Working) -> _Look:
    seen = working.memory.products.get(product, Seen())
    read_counter(working.store, product, working.clock(), anew=working.because == START)
    loaded, evaluation = _evaluate(product, working)
    attempt, key = working.store.attempt(product), _key_of(loaded)
    before = seen.state or str(evaluation.state)  # a product seen for the first time changes from what it is now
    stuck = False
    if _is_due(loaded, evaluation, attempt, seen, working):
        stuck = not _activate(product, loaded, evaluation, working)
        loaded, evaluation = _evaluate(product, working)
        attempt = working.store.attempt(product)
    seen = _say(product, evaluation, _reminders(loaded), seen._replace(state=before, key=key), working)
    working.memory.products[product] = seen
    return _Look(
        _wake_at(loaded, evaluation, attempt, seen, working, stuck=stuck),
        evaluation.licensed,
        _waits_for_network(attempt, working.clock()),
    )


def _evaluate(product: str, working: _Working) -> tuple[LoadedProduct, Evaluation]:
    loaded, now = load_product(working.store, product), working.clock()
    evaluation = loaded.evaluate(working.machine.fingerprint(loaded.trust.fingerprint), now)
    record(working.store, loaded, evaluation, now)
    return loaded, evaluation


def read_counter(store: ClientStore, product: str, now: int, *, anew: bool = False) -> None:
    """Where a licence is bound to the TPM's counter: see where that stands, about once a day."""
    if not store.is_bound_to_tpm():
        return
    loaded = load_product(store, product)
    bound = next((one.licence.counter for one in (*loaded.answers, *loaded.over) if one.licence.counter), None)
    if bound is not None:
        from volact.client.products import counters

        at = trusted_time(now, loaded.latest_time)
        counters.refresh(store, loaded.trust.fingerprint, product, bound, at, anew=anew)


def _key_of(loaded: LoadedProduct) -> str:
    installed = loaded.installation
    return f"{installed.edition}/{installed.channel}/{installed.partial}" if installed.channel else ""


def _is_due(
    loaded: LoadedProduct, evaluation: Evaluation, attempt: Attempt | None, seen: Seen, working: _Working
) -> bool:
    if loaded.installation.channel is None:  # the firmware may hold a maker's marker: looked for once
        return attempt is None and not seen.state
    if not loaded.asks_by_itself(evaluation):
        return False
    now = working.clock()
    if attempt is None or now >= attempt.next_due:
        return True
    if attempt.at > now + DAY or attempt.next_due > now + LONGEST_DUE:  # noted by a clock that was ahead
        return True
    if seen.key and seen.key != _key_of(loaded):
        return True
    if _has_just_ended(loaded, evaluation, seen):
        return True
    if working.because == ASKED:
        return attempt.code != LICENSED
    return working.because == NETWORK and _waits_for_network(attempt, now)


def _has_just_ended(loaded: LoadedProduct, evaluation: Evaluation, seen: Seen) -> bool:
    """Hardware that was exchanged is asked for at once, and once; not where each time may use up an activation."""
    ended = seen.state == State.LICENSED and not evaluation.licensed
    return ended and loaded.installation.channel not in POOLED


def _waits_for_network(attempt: Attempt | None, now: int) -> bool:
    if attempt is None or attempt.code not in WITHOUT_NETWORK:
        return False
    return 0 <= now - attempt.at < RETRY_SECONDS


# How an attempt ends that a network which comes back may mend.
WITHOUT_NETWORK = frozenset({"host-unreachable", "no-host-found", "directory-unreachable", "not-a-volact-server"})


def _activate(product: str, loaded: LoadedProduct, evaluation: Evaluation, working: _Working) -> bool:
    """Whether the attempt could be noted, which tells when the next one is due."""
    log, channel = working.log, loaded.installation.channel
    if channel is not None:
        log.write(Event.ACTIVATION_REQUESTED, product=product, state=str(evaluation.state), channel=str(channel))
    try:
        outcome = working.activate(product)
    except StoreError as exc:
        log.write(Event.FOLDER_UNUSABLE, product=product, message=f"{product}: {exc}")
        return False
    except NoKeyError:  # nobody was asked
        return True
    except VolactError as exc:
        note_failure(log, product, exc)
        return True
    note_answer(log, product, outcome)
    return True


def note_answer(log: Log, product: str, outcome: Answered) -> None:
    reason = outcome.evaluation.reason
    log.write(
        Event.ACTIVATION_ANSWERED,
        product=product,
        host=outcome.host,
        source=outcome.source,
        outcome=str(reason) if reason is not None else "licensed",
        state=str(outcome.evaluation.state),
    )


def note_failure(log: Log, product: str, exc: VolactError) -> None:
    event = Event.ACTIVATION_REFUSED if isinstance(exc, RefusedError) else Event.ACTIVATION_FAILED
    tried = [f"{one['host']}: {one['code']}" for one in exc.fields.get("attempts", ())]
    log.write(event, product=product, code=exc.code, message=str(exc), tried=tried)


def _reminders(loaded: LoadedProduct) -> ReminderPolicy:
    return loaded.edition.policy.reminders if loaded.edition else ReminderPolicy()


def _say(product: str, evaluation: Evaluation, policy: ReminderPolicy, seen: Seen, working: _Working) -> Seen:
    """State changes, once, and reminders when they are due."""
    state, now = str(evaluation.state), working.clock()
    if seen.state and seen.state != state:
        working.log.write(Event.STATE_CHANGED, product=product, before=seen.state, state=state)
    due = reminders.next_reminder(evaluation, policy, seen.reminded_at, now)
    if due is None or due > now:
        return seen._replace(state=state)
    message = str(evaluation.reason or evaluation.state)
    hint = evaluation.reason.hint if evaluation.reason else ""
    facts = {
        "product": product,
        "state": state,
        "enforcement": str(evaluation.enforcement),
        "until": evaluation.until,
        "days_left": None if evaluation.until is None else max(0, evaluation.until - now) // DAY,
        "code": evaluation.reason.code if evaluation.reason else "",
        "message": message,
        "remedy": hint,
    }
    means = working.remind(working.store.folder, facts)
    working.log.write(Event.REMINDER, product=product, state=state, message=message, means=means)
    return seen._replace(state=state, reminded_at=now)


def _wake_at(
    loaded: LoadedProduct,
    evaluation: Evaluation,
    attempt: Attempt | None,
    seen: Seen,
    working: _Working,
    *,
    stuck: bool,
) -> int:
    now = working.clock()
    times = [now + LONGEST_SLEEP]
    if loaded.asks_by_itself(evaluation):
        times.append(now + _stuck(working) if stuck or attempt is None else attempt.next_due)
    if evaluation.until is not None and evaluation.state is not State.UNLICENSED:
        times.append(evaluation.until)
    reminder = reminders.next_reminder(evaluation, _reminders(loaded), seen.reminded_at, now)
    if reminder is not None:
        times.append(reminder)
    return min(times)


def _stuck(working: _Working) -> int:
    return int(STUCK_SECONDS * working.random.uniform(1, 1.2))


# ---- the machine


def first_boot(store: ClientStore, machine: LocalMachine, memory: Memory, clock: Callable[[], int], log: Log) -> None:
    """A machine made from an image: its own beginning where it was generalised, a warning where it was not."""
    try:
        if begin(store, clock()):
            memory.products.clear()
            memory.salt, memory.copied_at = b"", 0
            log.write(Event.GENERALIZED)
    except StoreError as exc:
        log.write(Event.FOLDER_UNUSABLE, message=str(exc))
        return
    if _is_other_machine(store, machine, memory):
        memory.copied_at = clock()
        log.write(Event.IMAGE_NOT_GENERALIZED)


def _is_other_machine(store: ClientStore, machine: LocalMachine, memory: Memory) -> bool:
    """The machine's key is here, but hardly a trait of the machine it was made on."""
    if not memory.salt:
        memory.salt = secrets.token_bytes(32)
        memory.fingerprint = machine.fingerprint(f"sha256:{memory.salt.hex()}").to_claim()
        return False
    now = machine.fingerprint(f"sha256:{memory.salt.hex()}")
    try:
        before = Fingerprint.from_claim(dict(memory.fingerprint))
    except MalformedError:
        before = now
    if compare(before, now, DEFAULT_TOLERANCE).within:
        return False
    memory.fingerprint = now.to_claim()  # said once
    return store.machine_id() is not None
