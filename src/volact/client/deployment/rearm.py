# SPDX-License-Identifier: Apache-2.0
"""Rearm: a product's grace period begins anew, as often as its policy allows, and once more after an activation.

By itself, or as part of a machine's beginning from an image (``generalize``).
"""

from contextlib import suppress
from typing import NamedTuple

from volact.client.folder.files import PUBLIC, remove, write_whole
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, NoKeyError, load_product
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError, VolactError
from volact.core.evaluation import trusted_time
from volact.core.product_key import Channel

FILE = "rearm.json"


class NoRearmLeftError(ConfigError):
    code = "no-rearm-left"
    fmt = "{product} has been rearmed {used} times, as often as its policy allows"
    remedy = "activate it: `volact client activate {product}`; one more rearm is allowed after an activation"


class RearmNotNeededError(ConfigError):
    code = "rearm-not-needed"
    fmt = "{product} is licensed: there is no grace period to begin anew"
    remedy = "for an image, run `volact client generalize`, which also takes the machine's identity away"


class Rearms(NamedTuple):
    """``used`` of a product's rearms; ``activated``: once it was licensed here, which allows one more."""

    used: int = 0
    activated: bool = False

    def left(self, limit: int) -> int:
        return max(0, limit + int(self.activated) - self.used)


def load_rearms(store: ClientStore, product: str) -> Rearms:
    """None used where nothing is noted."""
    try:
        claim = Fields(parse_object((store.product_folder(product) / FILE).read_bytes(), FILE), FILE)
        claim.integer("v", least=1, most=1)
        return Rearms(claim.integer("used"), claim.boolean("activated"))
    except (OSError, MalformedError):
        return Rearms()


def rearms_left(store: ClientStore, loaded: LoadedProduct) -> int | None:
    """How many times the grace period can begin anew; ``None`` without a key."""
    if loaded.edition is None:
        return None
    rearms = load_rearms(store, loaded.product)
    activated = rearms.activated or _was_activated(loaded)
    return rearms._replace(activated=activated).left(loaded.edition.policy.rearm_limit)


def rearm(store: ClientStore, product: str, machine: LocalMachine, now: int) -> int:
    """The grace period of a product begins anew, and answers that license no more are dropped.  Returns how many
    rearms are left.  Raises :class:`NoRearmLeftError`, :class:`RearmNotNeededError`."""
    with store.lock():
        loaded = load_product(store, product)
        if loaded.edition is None:
            raise NoKeyError(product=product)
        if loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now).licensed:
            raise RearmNotNeededError(product=product)
        left = use_one(store, loaded)
        if left is None:
            raise NoRearmLeftError(product=product, used=load_rearms(store, product).used)
        store.remove_answers(product)
        store.remove_reading(product)
        store.remove_phone(product, "licence")
        begin_grace(store, product, trusted_time(now, loaded.latest_time))
    return left


def begin_grace(store: ClientStore, product: str, now: int) -> None:
    installation = store.installation(product)
    store.save_installation(product, installation._replace(installed_at=now, hardware_changed_at=None))
    remove(store.product_folder(product) / "attempt.json")


def use_one(store: ClientStore, loaded: LoadedProduct) -> int | None:
    """One rearm less; ``None`` where none is left."""
    product = loaded.product
    assert loaded.edition is not None
    rearms = load_rearms(store, product)
    rearms = rearms._replace(activated=rearms.activated or _was_activated(loaded))
    left = rearms.left(loaded.edition.policy.rearm_limit)
    if not left:
        return None
    _save_rearms(store, product, rearms._replace(used=rearms.used + 1))
    return left - 1


def remember_activation(store: ClientStore, product: str) -> None:
    """Its answers go in a moment, what they earned stays."""
    with suppress(VolactError):
        rearms = load_rearms(store, product)
        if not rearms.activated and _was_activated(load_product(store, product)):
            _save_rearms(store, product, rearms._replace(activated=True))


def _was_activated(loaded: LoadedProduct) -> bool:
    channels = {str(channel) for channel in Channel}
    stored = any(answer.name in channels for answer in loaded.answers)
    return stored or loaded.phone is not None or loaded.directory is not None


def _save_rearms(store: ClientStore, product: str, rearms: Rearms) -> None:
    data = dump_object({"v": 1, **rearms._asdict()}) + b"\n"
    write_whole(store.product_folder(product) / FILE, data, PUBLIC)
