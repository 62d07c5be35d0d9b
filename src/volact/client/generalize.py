# SPDX-License-Identifier: Apache-2.0
"""Generalise and rearm: a machine is made ready to be an image; a grace period begins anew.

``generalize`` takes away what makes a folder one machine's: its key and ID, its answers, whom it asked.  Products,
their roots, keys and settings stay.  Machines made from the image begin anew at their first start (:func:`begin`): a
new ID, grace from then on.  ``rearm`` does the second part alone, as often as the product's policy allows, and once
more after an activation.  Permanent licences of MAK and retail keys make ``generalize`` stop: making them again uses
something up.
"""

from contextlib import suppress
from typing import NamedTuple

from volact.client.machine import LocalMachine
from volact.client.products import POOLED, LoadedProduct, NoKeyError, load_product
from volact.client.store import PUBLIC, ClientStore, remove, write_whole
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError, VolactError
from volact.core.evaluation import trusted_time
from volact.core.product_key import Channel

MARK = "generalized"  # the file that tells the next start to begin anew
FILE = "rearm.json"


class ImageActivatedError(ConfigError):
    code = "image-activated"
    fmt = "this machine holds an activation of a MAK or retail key for: {products}"
    remedy = (
        "give it back first (`volact client deactivate PRODUCT`), or leave it to the publisher's count "
        "(`volact client generalize --force`)"
    )


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
        left = _use_one(store, loaded)
        if left is None:
            raise NoRearmLeftError(product=product, used=load_rearms(store, product).used)
        store.remove_answers(product)
        store.remove_reading(product)
        store.remove_phone(product, "licence")
        _begin_grace(store, product, trusted_time(now, loaded.latest_time))
    return left


def generalize(store: ClientStore, now: int, *, force: bool = False) -> list[str]:
    """Make this folder no machine's in particular; returns the products that stay, with their keys.

    Interrupted anywhere it can be repeated: the mark goes first, so that whatever starts begins anew.
    """
    if not store.products() and store.machine_id() is None:  # nothing of a machine's; a mistyped folder is not made
        return []
    with store.lock():
        products = store.products()
        _check_no_activation(store, products, force=force)
        for product in products:
            _remember_activation(store, product)
        _mark(store, now, fresh=False)
        _forget_machine(store, products)
    return products


def mark_fresh(store: ClientStore, now: int) -> None:
    """A folder that was laid into an image, and has never been a machine's: no rearm is used up by its beginning."""
    with store.lock():
        _mark(store, now, fresh=store.machine_id() is None)


def is_generalized(store: ClientStore) -> bool:
    return (store.folder / MARK).exists()


def begin(store: ClientStore, now: int) -> bool:
    """The first start of a machine from a generalised image: grace begins now.  Whether it was one.

    A product that has no rearm left keeps the grace that it had: the image cannot be renewed for ever.
    """
    if not is_generalized(store):
        return False
    with store.lock():
        products, fresh = store.products(), _is_fresh(store)
        _forget_machine(store, products)  # something may have run in between
        for product in products:
            with suppress(VolactError):
                _begin_product(store, product, now, fresh=fresh)
        remove(store.folder / MARK)
    return True


def _mark(store: ClientStore, now: int, *, fresh: bool) -> None:
    write_whole(store.folder / MARK, dump_object({"v": 1, "at": now, "fresh": fresh}) + b"\n", PUBLIC)


def _is_fresh(store: ClientStore) -> bool:
    try:
        return Fields(parse_object((store.folder / MARK).read_bytes(), MARK), MARK).boolean("fresh")
    except (OSError, MalformedError):
        return False


def _begin_product(store: ClientStore, product: str, now: int, *, fresh: bool) -> None:
    loaded = load_product(store, product)
    began = loaded.installation.installed_at
    if began == now:
        return
    if not fresh and loaded.edition is not None and _use_one(store, loaded) is None:
        return
    _begin_grace(store, product, now)


def _begin_grace(store: ClientStore, product: str, now: int) -> None:
    installation = store.installation(product)
    store.save_installation(product, installation._replace(installed_at=now, hardware_changed_at=None))
    remove(store.product_folder(product) / "attempt.json")


def _use_one(store: ClientStore, loaded: LoadedProduct) -> int | None:
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


def _remember_activation(store: ClientStore, product: str) -> None:
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


def _check_no_activation(store: ClientStore, products: list[str], *, force: bool) -> None:
    held = [product for product in products if not force and holds_activation(store, product)]
    if held:
        raise ImageActivatedError(products=", ".join(held))


def holds_activation(store: ClientStore, product: str) -> bool:
    """Whether an activation of a MAK or retail key would go with what is stored here."""
    try:
        loaded = load_product(store, product)
    except VolactError:
        return False
    pooled = any(answer.licence.channel in POOLED for answer in loaded.answers)
    return pooled or (loaded.phone is not None and loaded.installation.channel in POOLED)


def _forget_machine(store: ClientStore, products: list[str]) -> None:
    """The answers first: an identity without answers asks anew, answers without their identity would be noise."""
    for product in products:
        store.remove_answers(product)
        store.remove_reading(product)
        store.remove_counter(product)
        for what in ("licence", "request"):
            store.remove_phone(product, what)
        for name in ("attempt.json", "issuer.json"):
            remove(store.product_folder(product) / f"{name}.copy")
            remove(store.product_folder(product) / name)
    for name in ("machine.pem", "machine.tpm", "machine.json", "service.json", "events.jsonl"):
        remove(store.folder / f"{name}.copy")
        remove(store.folder / name)
