# SPDX-License-Identifier: Apache-2.0
"""``volact.check()``: what a product asks about its own licence.  Spec: docs/spec/states.md §5.

Offline, and never an exception for a licence's state: a folder that is missing or damaged is an unlicensed product
with a reason.  What was verified is kept for as long as the files do not change, so that a call costs microseconds; the
state is evaluated anew, with the time, at each call.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from volact.client.folder.files import find_folder
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, load_under_root, record
from volact.core.definition import parse_root
from volact.core.errors import ConfigError, StoreError, VolactError
from volact.core.evaluation import Evaluation, trusted_time
from volact.core.policy import DAY, HOUR, Policy
from volact.core.product_key import Channel
from volact.core.states import Enforcement, State

MARK_STEP = HOUR  # how far the stored high-water mark of the clock may lag behind what a running product has seen
HARDWARE_SECONDS = HOUR  # how long a long-running product goes without looking at the hardware again
NO_TIME = -1


class CheckFailedError(StoreError):
    code = "check-failed"
    fmt = "the licence of {product} could not be read: {why}"
    remedy = "run `volact client status`; if it persists, report it with what that shows"


@dataclass(frozen=True, slots=True)
class CheckReason:
    """Why a product is not licensed: a stable code, a sentence, and what to do about it."""

    code: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """A product's licence at the moment of the call; true when it is licensed.

    ``enforcement``: what the product's own policy wants it to do in ``state``.  ``until``: Unix seconds at which the
    state ends by itself, ``None`` for never; ``days_left`` counts the whole days up to it.
    """

    product: str
    state: State
    enforcement: Enforcement
    until: int | None
    days_left: int | None
    reason: CheckReason | None
    edition: str | None
    count: int | None = None
    threshold: int | None = None

    @property
    def licensed(self) -> bool:
        return self.state is State.LICENSED

    def __bool__(self) -> bool:
        return self.licensed


@dataclass(frozen=True, slots=True)
class World:
    """What a check sees beside the folder; another one than the system's exists only in tests."""

    clock: Callable[[], int]
    machine: LocalMachine

    @classmethod
    def of_system(cls) -> "World":
        return cls(lambda: int(time.time()), LocalMachine.of_system())


def check(
    product: str,
    *,
    root: str,
    min_version: int = 0,
    dir: str | os.PathLike[str] | None = None,
    _world: World | None = None,
) -> Check:
    """The licence of ``product`` under the publisher root that the *product* embeds (``sha256:…``).

    ``min_version``: the least version of its definition that the product accepts.  ``dir``: the client's folder, where
    it is not the usual one.  Raises nothing: whatever is wrong is the ``reason`` of a product without a licence.
    """
    try:
        world = _world or _system()
        return _check(find_folder(os.environ, dir), product, root, min_version, world)
    except VolactError as exc:
        return _unlicensed(product, CheckReason(exc.code, str(exc), exc.hint))
    except (OSError, ValueError, RuntimeError) as exc:  # whatever it is, the product goes on
        failed = CheckFailedError(product=product, why=str(exc) or type(exc).__name__)
        return _unlicensed(product, CheckReason(failed.code, str(failed), failed.hint))


class NotLicensedError(ConfigError):
    """Raised by :func:`licensed` alone, and only where the product's own policy says so; ``check``: what was found."""

    check: Check

    code = "not-licensed"
    fmt = "{product} is {state}: {why}"
    remedy = "{help}"


STOPPING = (Enforcement.LIMIT, Enforcement.BLOCK)


class licensed(ContextDecorator):  # noqa: N801 - used as a word: `with volact.licensed(…)`, `@volact.licensed(…)`
    """A block or a function that runs by the product's policy; the check is what ``with … as`` gives.

    ::

        with volact.licensed("acme-cad", root="sha256:…") as found:
            export(watermark=not found)

        @volact.licensed("acme-cad", root="sha256:…")
        def export(): ...

    Fail-soft: where the policy's enforcement for the present state is among ``stop`` (``limit`` and ``block``),
    :class:`NotLicensedError` is raised and the block does not run; else it runs, licensed or not.  ``stop`` may name
    the enforcements as strings, too.
    """

    def __init__(
        self,
        product: str,
        *,
        root: str,
        min_version: int = 0,
        dir: str | os.PathLike[str] | None = None,
        stop: Iterable[Enforcement | str] = STOPPING,
        _world: World | None = None,
    ) -> None:
        self._check: Callable[[], Check] = partial(
            check, product, root=root, min_version=min_version, dir=dir, _world=_world
        )
        self._stop = tuple(Enforcement(one) for one in stop)  # ValueError: a slip of the developer's is told at once

    def __enter__(self) -> Check:
        found = self._check()
        if not found and found.enforcement in self._stop:
            reason = found.reason
            why = reason.sentence if reason else str(found.enforcement)
            help_text = reason.remedy if reason else "run `volact client status`"
            error = NotLicensedError(product=found.product, state=str(found.state), why=why, help=help_text)
            error.check = found
            raise error
        return found

    def __exit__(self, *_: object) -> None:
        """What the block raised is its own."""


@dataclass(slots=True)
class _Kept:
    """A loaded product, the names of its stored answers, and the files' stamps that it was loaded under."""

    names: tuple[str, ...]
    stamps: tuple[object, ...]
    loaded: LoadedProduct
    machine: LocalMachine
    looked_at: int
    latest: int
    recorded: int = field(default=NO_TIME)


_KEPT: dict[tuple[str, str, str, int], _Kept] = {}
_SYSTEM: list[World] = []


def _system() -> World:
    if not _SYSTEM:
        _SYSTEM.append(World.of_system())
    return _SYSTEM[0]


def _check(folder: Path, product: str, root: str, min_version: int, world: World) -> Check:
    store = ClientStore(folder, lock_seconds=0)  # a product never waits for another command
    kept = _load(store, product, root, min_version, world)
    now = world.clock()
    kept.latest = max(kept.latest, now)  # within this process nothing is gained by setting the clock back either
    if abs(kept.latest - kept.looked_at) > HARDWARE_SECONDS:
        world.machine.forget()
        kept.looked_at = kept.latest
    evaluation = kept.loaded.evaluate(world.machine.fingerprint(kept.loaded.trust.fingerprint), kept.latest)
    _record(store, kept, evaluation)
    return _result(kept.loaded, evaluation, trusted_time(kept.latest, kept.loaded.latest_time))


def _load(store: ClientStore, product: str, root: str, min_version: int, world: World) -> _Kept:
    key = (str(store.folder), product, root, min_version)
    kept = _KEPT.get(key)
    # the publisher's name is its first root's, which the product may not know; a load tells
    named = root if kept is None else kept.loaded.trust.fingerprint
    if kept is not None and kept.machine is world.machine and kept.stamps == _stamps(store, product, named, kept.names):
        return kept
    root = parse_root(root)
    store.anchor(product)  # no path is made of a name that is none
    names = tuple(store.answer_names(product))
    stamps = _stamps(store, product, named, names)  # before loading: what changes meanwhile is loaded again
    loaded = load_under_root(store, product, root, min_version)
    kept = _KEPT[key] = _Kept(names, stamps, loaded, world.machine, world.clock(), loaded.latest_time)
    return kept


def _stamps(store: ClientStore, product: str, root: str, answers: tuple[str, ...]) -> tuple[object, ...]:
    """Time, size and inode of every file that a load reads, and of its copy, which stands in where that is damaged; the
    folder of answers shows the ones that come."""
    folder = f"{store.folder}{os.sep}"
    of_product = f"{folder}products{os.sep}{product}{os.sep}"
    of_answers = f"{of_product}answers"
    paths = [
        f"{folder}machine.json",
        f"{folder}clock.json",
        f"{folder}status{os.sep}{root.removeprefix('sha256:')}.volstatus",
        f"{of_product}definition.volproduct",
        f"{of_product}product.json",
        f"{of_product}trust.json",
        of_answers,
        f"{of_answers}{os.sep}phone.json",
        f"{of_answers}{os.sep}directory.volreading",
        f"{of_answers}{os.sep}firmware.volsighting",
        f"{of_answers}{os.sep}tpm.volcounter",
        *(f"{of_answers}{os.sep}{name}.vollicence" for name in answers),
    ]
    return tuple(stamp for path in paths for stamp in (_stamp(path), _stamp(f"{path}.copy")))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path a file would double a check's cost
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _record(store: ClientStore, kept: _Kept, evaluation: Evaluation) -> None:
    """Keep the time and a change of hardware, at most once in a while: a product may not be allowed to write here."""
    if kept.recorded != NO_TIME and kept.latest <= kept.recorded + MARK_STEP:
        return
    kept.recorded = kept.latest
    with suppress(VolactError):
        record(store, kept.loaded, evaluation, kept.latest, step=MARK_STEP)


def _result(loaded: LoadedProduct, evaluation: Evaluation, now: int) -> Check:
    reason, edition = evaluation.reason, loaded.edition
    return Check(
        product=loaded.product,
        state=evaluation.state,
        enforcement=evaluation.enforcement,
        until=evaluation.until,
        days_left=None if evaluation.until is None else max(0, evaluation.until - now) // DAY,
        reason=None if reason is None else CheckReason(reason.code, str(reason), reason.hint),
        edition=None if edition is None else edition.id,
        count=evaluation.count,
        threshold=edition.policy.threshold if edition and loaded.installation.channel is Channel.VOLUME else None,
    )


def _unlicensed(product: str, reason: CheckReason) -> Check:
    state = State.UNLICENSED
    return Check(product, state, Policy().enforcement[state], None, None, reason, None)
