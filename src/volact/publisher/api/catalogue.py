# SPDX-License-Identifier: Apache-2.0
"""Products, their versions and definitions, and product groups."""

import hashlib
from typing import Annotated

from fastapi import Depends, Path, Request, Response

from volact.core.definition import DefinitionError, ProductDefinition
from volact.core.policy import PolicyFigureError
from volact.publisher.api.models.base import Name
from volact.publisher.api.models.catalogue import (
    AddVersion,
    DefinitionShown,
    Groups,
    GroupShown,
    Products,
    Versions,
    definition_of,
    product_of,
    version_of,
)
from volact.publisher.api.office import Office
from volact.publisher.api.route import Endpoint, TheAct, TheCaller, TheOffice
from volact.publisher.rows import listing
from volact.publisher.rows.records import ProductNotPublishedError, Signed, VersionMissingError
from volact.publisher.rules.catalogue import (
    EditionMovedError,
    GroupConflictError,
    SuiteNotAllowedError,
    VersionNotNewerError,
)
from volact.web.api.pagination import CursorUnfitError, Wanted, link, wanted

JOSE = "application/jose"
A_YEAR = "private, max-age=31536000, immutable"

Page = Annotated[Wanted, Depends(wanted)]
Product = Annotated[Name, Path(description="The product's ID.", examples=["acme-cad"])]
Version = Annotated[int, Path(ge=1, le=2**31 - 1)]


def list_products(request: Request, response: Response, office: TheOffice, page: Page) -> Products:
    """The newest version of each product."""
    definitions = [office.definition(one) for one in office.publisher.store.newest_of_all()]
    found = page.slice(definitions, lambda one: (one.product,), str)
    return Products(items=list(map(product_of, found.items)), next=link(request, response, found.after))


def show_product(product: Product, office: TheOffice) -> DefinitionShown:
    """The newest version of a product: groups, editions, generic keys, policies."""
    return definition_of(office.definition(office.publisher.store.version(product, None)))


def list_versions(request: Request, response: Response, product: Product, office: TheOffice, page: Page) -> Versions:
    """Every version of a product; none is ever removed."""
    (after,) = page.after(int) or (0,)
    office.publisher.store.version(product, None)
    with office.publisher.store.look() as conn:
        rows = listing.versions(conn, product, after, page.limit + 1)
    found = page.cut(rows, lambda one: (one.version,))
    return Versions(items=list(map(version_of, found.items)), next=link(request, response, found.after))


def show_version(product: Product, version: Version, office: TheOffice) -> DefinitionShown:
    return definition_of(office.definition(_signed(office, product, version)))


def get_definition(request: Request, product: Product, version: Version, office: TheOffice) -> Response:
    """The signed definition itself, as `volact publisher product export` writes it: it ships with the product."""
    token = _signed(office, product, version).token
    headers = {"ETag": etag(token), "Cache-Control": A_YEAR}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(token + "\n", headers=headers, media_type=JOSE)


def add_version(body: AddVersion, office: TheOffice, caller: TheCaller, act: TheAct) -> Response:
    """Sign a new product, or a new version of one.  Generic keys stay; old licences keep verifying."""
    now = office.clock()
    return act.once(
        lambda _: definition_of(office.publisher.add_product(body.toml.encode(), office.keys, now, caller.actor)),
        201,
    )


def list_groups(request: Request, response: Response, office: TheOffice, page: Page) -> Groups:
    """Product groups of all products: what a key and a count cover, and what lies below what."""
    definitions = [office.definition(one) for one in office.publisher.store.newest_of_all()]
    found = page.slice(_groups(definitions), lambda one: (one.number,), int)
    return Groups(items=found.items, next=link(request, response, found.after))


def etag(text: str) -> str:
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def _signed(office: Office, product: str, version: int) -> Signed:
    return office.publisher.store.version(product, version)


def _groups(definitions: list[ProductDefinition]) -> list[GroupShown]:
    products: dict[int, list[str]] = {}
    below: dict[int, set[int]] = {}
    about = {}
    for definition in definitions:
        for group in definition.groups:
            about[group.number] = group
            products.setdefault(group.number, []).append(definition.product)
            below.setdefault(group.number, set()).update(definition.covered_by(group.number) - {group.number})
    return [
        GroupShown(
            number=number, name=one.name, parent=one.parent, products=products[number], below=sorted(below[number])
        )
        for number, one in sorted(about.items())
    ]


_MISSING = (ProductNotPublishedError, VersionMissingError)
ENDPOINTS = (
    Endpoint("GET", "/products", list_products, Products, (CursorUnfitError,)),
    Endpoint("POST", "/products", add_version, DefinitionShown, (
        DefinitionError, PolicyFigureError, VersionNotNewerError, GroupConflictError, SuiteNotAllowedError,
        EditionMovedError,
    ), status=201, once=True),
    Endpoint("GET", "/products/{product}", show_product, DefinitionShown, _MISSING[:1]),
    Endpoint("GET", "/products/{product}/versions", list_versions, Versions, (*_MISSING[:1], CursorUnfitError)),
    Endpoint("GET", "/products/{product}/versions/{version}", show_version, DefinitionShown, _MISSING),
    Endpoint(
        "GET", "/products/{product}/versions/{version}/definition", get_definition, None, _MISSING, media_type=JOSE
    ),
    Endpoint("GET", "/product-groups", list_groups, Groups, (CursorUnfitError,)),
)  # fmt: skip
