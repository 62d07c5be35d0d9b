# SPDX-License-Identifier: Apache-2.0
"""Products, their versions, editions and product groups."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from volact.core.definition import Edition, ProductDefinition
from volact.publisher.api.models.base import Body, Listed, Shown, Time
from volact.publisher.rows.records import Signed
from volact.publisher.rules.catalogue import MAX_FILE


class AddVersion(Body):
    toml: Annotated[str, Field(min_length=1, max_length=MAX_FILE, description="The product's TOML file, as text.")]


class ProductShown(Shown):
    product: str
    name: str
    version: int
    editions: list[str]
    signed_at: Time


class VersionShown(Shown):
    product: str
    version: int
    signed_at: Time


class Group(Shown):
    number: int
    name: str
    parent: int | None


class GroupShown(Group):
    products: list[str]
    below: list[int] = Field(description="What a host key of this group serves as well.")


class EditionShown(Shown):
    id: str
    name: str
    kind: str
    group: int
    threshold: int
    keys: dict[str, str] = Field(description="Generic keys by channel; they are public.")
    policy: dict[str, Any]


class DefinitionShown(Shown):
    product: str
    name: str
    version: int
    publisher: str
    root: str
    url: str | None
    signed_at: Time
    groups: list[Group]
    editions: list[EditionShown]


class Products(Listed):
    items: Sequence[ProductShown]


class Versions(Listed):
    items: Sequence[VersionShown]


class Groups(Listed):
    items: Sequence[GroupShown]


def product_of(definition: ProductDefinition) -> ProductShown:
    return ProductShown(
        product=definition.product,
        name=definition.name,
        version=definition.version,
        editions=[edition.id for edition in definition.editions],
        signed_at=definition.issued_at,
    )


def version_of(signed: Signed) -> VersionShown:
    return VersionShown(product=signed.product, version=signed.version, signed_at=signed.issued_at)


def definition_of(definition: ProductDefinition) -> DefinitionShown:
    return DefinitionShown(
        product=definition.product,
        name=definition.name,
        version=definition.version,
        publisher=definition.publisher,
        root=definition.root,
        url=definition.url,
        signed_at=definition.issued_at,
        groups=[Group(number=one.number, name=one.name, parent=one.parent) for one in definition.groups],
        editions=list(map(_edition, definition.editions)),
    )


def _edition(edition: Edition) -> EditionShown:
    return EditionShown(
        id=edition.id,
        name=edition.name,
        kind=str(edition.kind),
        group=edition.group,
        threshold=edition.policy.threshold,
        keys={str(channel): str(key) for channel, key in edition.keys.items()},
        policy=dict(edition.policy.to_claim()),
    )
