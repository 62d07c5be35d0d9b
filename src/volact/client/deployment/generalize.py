# SPDX-License-Identifier: Apache-2.0
"""Generalise: a machine is made ready to be an image.

``generalize`` takes away what makes a folder one machine's: its key and ID, its answers, whom it asked.  Products,
their roots, keys and settings stay.  Machines made from the image begin anew at their first start (:func:`begin`): a
new ID, grace from then on, which takes one of each product's rearms (``rearm``).  Permanent licences of MAK and retail
keys make ``generalize`` stop: making them again uses something up.
"""

from contextlib import suppress

from volact.client.deployment.rearm import begin_grace, remember_activation, use_one
from volact.client.folder.files import PUBLIC, remove, write_whole
from volact.client.folder.store import ClientStore
from volact.client.products.loading import POOLED, load_product
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError, VolactError

MARK = "generalized"  # the file that tells the next start to begin anew


class ImageActivatedError(ConfigError):
    code = "image-activated"
    fmt = "this machine holds an activation of a MAK or retail key for: {products}"
    remedy = (
        "give it back first (`volact client deactivate PRODUCT`), or leave it to the publisher's count "
        "(`volact client generalize --force`)"
    )


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
            remember_activation(store, product)
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
    if not fresh and loaded.edition is not None and use_one(store, loaded) is None:
        return
    begin_grace(store, product, now)


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
