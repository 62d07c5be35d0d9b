# SPDX-License-Identifier: Apache-2.0
"""The doctor: walks from a product to its licence, and names the one cause that it is not licensed, with its remedy.

It asks and changes nothing: no activation is made, no file written.  Every step is kept, so that the whole walk can be
shown; the cause is the first thing on the way that would have to be mended before anything after it can help.
Guide: docs/guide/doctor.md.
"""

from collections.abc import Iterable

from volact.client.activation.attempts import LICENSED
from volact.client.doctor.causes import (
    CountLow,
    FolderFromOtherMachine,
    HostDoubtful,
    HostRevoked,
    HostRogue,
    KeyForGuests,
    LastAnswer,
    NotAskedYet,
)
from volact.client.doctor.examination import Examination, Surroundings
from volact.client.doctor.visits import OF_PUBLISHER, Nowhere, introduce, telling, visit_all
from volact.client.folder.store import ClientStore
from volact.client.products.loading import LoadedProduct, NoKeyError, load_product
from volact.client.service.memory import load_memory
from volact.core.errors import REGISTRY, TransportError, TrustError, VolactError
from volact.core.evaluation import CounterUnreadReason, Evaluation, MarkerMismatchReason, MarkerMissingReason, Reason
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.wire.client import ServerError


def examine(product: str, store: ClientStore, around: Surroundings) -> Examination:
    """Walk; whatever is wrong ends in the examination, nothing is raised."""
    done = Examination(product)
    try:
        loaded, evaluation = _look(product, store, around, done)
        done.cause = _cause(loaded, evaluation, store, around, done)
    except VolactError as exc:
        done.note("folder", False, f"{exc.code}: {exc}")
        done.cause = exc
    for note in store.notes:
        done.note("folder", False, note)
    return done


# ---- what is here


def _look(
    product: str, store: ClientStore, around: Surroundings, done: Examination
) -> tuple[LoadedProduct, Evaluation]:
    loaded = load_product(store, product)
    done.note("product", True, f"{product} version {loaded.definition.version} of {loaded.definition.publisher}")
    evaluation = loaded.evaluate(around.machine.fingerprint(loaded.trust.fingerprint), around.clock())
    done.state, done.licensed = evaluation.state, evaluation.licensed
    installed = loaded.installation
    key = f"{installed.channel} key ending in {installed.partial}, edition {installed.edition}"
    done.note("key", installed.channel is not None, key if installed.channel else "none is installed")
    done.note("state", evaluation.licensed, _state(evaluation, around.clock()))
    attempt = store.attempt(product)
    if attempt is None:
        done.note("last attempt", None, "none yet")
    else:
        done.note("last attempt", attempt.code == LICENSED, f"{attempt.code} {attempt.message}".strip())
    return loaded, evaluation


def _state(evaluation: Evaluation, now: int) -> str:
    """How long it lasts is told in days, which no time zone changes."""
    reason = f": {evaluation.reason}" if evaluation.reason else ""
    left = "" if evaluation.until is None else f" for another {max(0, evaluation.until - now) / DAY:.1f} days"
    return f"{evaluation.state}{left}{reason}"


def _cause(
    loaded: LoadedProduct, evaluation: Evaluation, store: ClientStore, around: Surroundings, done: Examination
) -> VolactError | None:
    product, channel = loaded.product, loaded.installation.channel
    if loaded.edition is None or channel is None:
        return NoKeyError(product=product)
    copied = load_memory(store).copied_at > 0
    done.note("identity", not copied, "of another machine" if copied else "this machine's own")
    unmarked = _firmware(loaded, evaluation, done)
    if unmarked is not None:
        return unmarked
    unread = _counter(evaluation, done)
    if unread is not None:
        return unread
    wrong_key = _key_does_not_fit(loaded, store, around, done)
    if wrong_key is not None:
        return wrong_key
    visits = visit_all(loaded, store, around, done)
    account = _directory(channel, around, done)
    if evaluation.licensed and (_renewed(store, product) or account):
        return next((visit.cause for visit in visits if isinstance(visit.cause, _DISTRUST)), None)
    if copied and not evaluation.licensed:
        return FolderFromOtherMachine()
    good = [visit for visit in visits if visit.cause is None]
    if not good and isinstance(visits, Nowhere):
        return visits.cause
    if not good:
        return min(visits, key=telling).cause
    return _behind_a_good_host(loaded, evaluation, store)


def _renewed(store: ClientStore, product: str) -> bool:
    attempt = store.attempt(product)
    return attempt is None or attempt.code == LICENSED


def _behind_a_good_host(loaded: LoadedProduct, evaluation: Evaluation, store: ClientStore) -> VolactError | None:
    """A host is there and may license: what it said the last time, if it said anything, is the cause."""
    product, attempt = loaded.product, store.attempt(loaded.product)
    assert loaded.edition is not None
    threshold, count = loaded.edition.policy.threshold, evaluation.count
    if not evaluation.licensed and count is not None and count < threshold:
        return CountLow(count=count, product=product, threshold=threshold, missing=threshold - count)
    if attempt is None:
        return NotAskedYet(product=product, since="yet")
    kind = REGISTRY.get(attempt.code)
    mended = kind is None or issubclass(kind, TransportError | TrustError) or attempt.code in _SEEN_OTHERWISE
    if attempt.code != LICENSED and not mended:
        return _as_it_was(attempt.code, attempt.message)
    return NotAskedYet(product=product, since="since that was mended")


# Refusals whose cause the walk has looked for itself, and not found any more.
_SEEN_OTHERWISE = frozenset({"clock-skew", "group-not-granted", "host-not-activated", "count-below-threshold"})


def _as_it_was(code: str, message: str) -> LastAnswer:
    return LastAnswer(answer=code, message=message)


def _key_does_not_fit(
    loaded: LoadedProduct, store: ClientStore, around: Surroundings, done: Examination
) -> Reason | None:
    product, channel = loaded.product, loaded.installation.channel
    if channel is Channel.VM:
        why = _no_vm_host(loaded, around)
        done.note("VM host", not why, why or "it answers")
        return KeyForGuests(channel="vm", product=product, why=why, option="--generic") if why else None
    if channel in OF_PUBLISHER and store.settings().publisher is None and loaded.definition.url is None:
        done.note("publisher", False, "the definition names no service, and none is set")
        why = "only the publisher's service activates it, and no address of one is known"
        return KeyForGuests(channel=str(channel), product=product, why=why, option="--generic")
    return None


def _firmware(loaded: LoadedProduct, evaluation: Evaluation, done: Examination) -> Reason | None:
    """The maker's marker, where the edition asks for one; as the last look saw it, for only administrators may look."""
    assert loaded.edition is not None
    if loaded.installation.channel is not Channel.OEM and not loaded.edition.policy.requires_marker:
        return None
    seen, reason = loaded.firmware, evaluation.reason
    done.note("firmware", seen is not None and seen.marked, "not looked into yet" if seen is None else seen.sight)
    if isinstance(reason, MarkerMissingReason | MarkerMismatchReason):
        return reason
    return None


def _counter(evaluation: Evaluation, done: Examination) -> Reason | None:
    """Of a licence that is bound to the TPM's counter: whether somebody has read it lately."""
    if evaluation.licence is None or evaluation.licence.counter is None:
        return None
    unread = evaluation.reason if isinstance(evaluation.reason, CounterUnreadReason) else None
    done.note("TPM counter", unread is None, "not read for 30 days" if unread else "read lately, or not needed yet")
    return unread


def _no_vm_host(loaded: LoadedProduct, around: Surroundings) -> str:
    """Why this is no guest of a VM host; "" where one answers, be it with an error."""
    server = around.vm_host()
    if server is None:
        return "it is for guests of a VM host, and this is none"
    try:
        introduce(server, loaded, around)
    except ServerError:
        return ""
    except TransportError as exc:
        return f"it is for guests of a VM host, and none answers: {exc}"
    except VolactError:
        return ""
    return ""


def _directory(channel: Channel, around: Surroundings, done: Examination) -> str | None:
    if channel is not Channel.VOLUME:
        return None
    try:
        account = around.account()
    except VolactError as exc:
        done.note("directory", None, f"{exc.code}: {exc}")
        return None
    if account is not None:
        done.note("directory", True, f"this computer is {account}")
    return account


# ---- the hosts


_DISTRUST = (HostRevoked, HostRogue, HostDoubtful)  # matters to a machine that is licensed, too


def products_of(store: ClientStore, named: Iterable[str]) -> list[str]:
    """Those named, or all; at least one, so that a folder without any says so."""
    return list(dict.fromkeys(named)) or store.products()
