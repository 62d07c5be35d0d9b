# SPDX-License-Identifier: Apache-2.0
"""Putting product keys on machines: the recommended one of each product, or one that was chosen.

A key goes to its machine on standard input, inside SSH; it is in no argument list, no job row and no error.  A machine
whose product takes another kind of key fails alone.  Installing the key that is there already changes nothing, so a
step may be repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volact.core.definition import ProductDefinition
from volact.core.errors import ConfigError
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.fleet.acts.refresh import SeenProduct
from volact.fleet.keys.keys import KeyRow, recommended
from volact.fleet.keys.publisher import KnownDefinition
from volact.fleet.reach import Session
from volact.fleet.reach.remote import call

INSTALL = "install-key"  # the act, as jobs are named
GENERIC, MAK = "generic", "mak"
PREFERENCES = (GENERIC, MAK)


class NoKeyFitsError(ConfigError):
    code = "fleet-no-key-fits"
    fmt = "no key of the vault fits {product} on {machine}"
    remedy = "add one (`volact fleet keys add`), ask the publisher what is left (`keys refresh`), or install --generic"


class KeyOfOtherPublisherError(ConfigError):
    code = "fleet-key-unfit"
    fmt = "the key ending in {partial} is for no product on {machine}"
    remedy = "check which product the key was bought for: `volact fleet keys list`"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be installed for one product: the definition's own volume key, or a key of the vault."""

    product: str
    key: KeyRow | None
    edition: str | None = None

    @property
    def partial(self) -> str | None:
        return None if self.key is None else self.key.partial


def fitting(product: SeenProduct, key: KeyRow) -> bool:
    """Whether a chosen key is of the product's publisher and, as far as it is known, its product group."""
    return publisher_tag(product.root) == key.publisher_tag and product.product_group in (None, key.group)


def recommend(
    product: SeenProduct,
    rows: Sequence[KeyRow],
    definitions: Mapping[tuple[str, str], ProductDefinition],
    prefer: str,
    machine: str,
) -> Choice:
    """The generic volume key, or the vault's best MAK for the edition that is there; ``prefer`` says which."""
    if prefer == GENERIC:
        return Choice(product.product, None, product.edition)
    definition = definitions.get((product.root, product.product))
    groups = [product.product_group] if product.product_group is not None else _groups(definition)
    for group in groups:
        key = recommended(rows, product.root, group)
        if key is not None:
            return Choice(product.product, key, product.edition)
    raise NoKeyFitsError(product=product.product, machine=machine)


def is_installed(product: SeenProduct, choice: Choice) -> bool:
    """So that a repeated job asks no machine twice, and replaces no key by itself."""
    if choice.key is None:
        return product.channel == Channel.VOLUME
    return product.partial_key == choice.key.partial and product.channel == choice.key.channel


async def install(session: Session, choice: Choice, key: ProductKey | None) -> dict[str, Any]:
    """What ``volact client install-key`` answers.  ``key``: opened by the vault a moment ago."""
    edition = [] if choice.edition is None else ["--edition", choice.edition]
    if key is None:
        return await call(session, ["install-key", choice.product, "--generic", *edition])
    return await call(session, ["install-key", choice.product, "-", *edition], f"{key}\n".encode())


async def add_product(session: Session, known: KnownDefinition) -> dict[str, Any]:
    """Bring a machine the definition of a product that it has no definition of, with its root."""
    return await call(session, ["add-product", "-", "--root", known.root], known.token.encode())


def _groups(definition: ProductDefinition | None) -> list[int]:
    return [] if definition is None else sorted({edition.group for edition in definition.editions})
