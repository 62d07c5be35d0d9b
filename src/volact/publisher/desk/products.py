# SPDX-License-Identifier: Apache-2.0
"""The catalogue: products, their editions, product groups and versions; a new version by its TOML file."""

from dataclasses import dataclass

from starlette.responses import Response

from volact.core.definition import ProductDefinition, ProductGroup
from volact.core.errors import VolactError
from volact.publisher.desk.state import desk_of
from volact.publisher.rows import listing as publisher_listing
from volact.publisher.rules.catalogue import MAX_FILE
from volact.web.access.roles import OPERATE, VIEW
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

GROUP, HELP = "Licensing", "guide/desk#products"
MOST_VERSIONS = 1000


@dataclass(frozen=True, slots=True)
class Placed:
    """A product group and how deep it lies below the others."""

    group: ProductGroup
    depth: int


def products(visit: Visit) -> Response:
    return visit.render("products.html", products=desk_of(visit).newest(), form=Form())


def add_product(visit: Visit) -> Response:
    desk, form, file = desk_of(visit), Form(visit.form), visit.file("file")
    if file is None or len(file[1]) > MAX_FILE:
        form.errors["file"] = "choose the product's TOML file"
    else:
        try:
            made = desk.publisher.add_product(file[1], desk.keys, visit.now, visit.actor)
        except VolactError as exc:
            form.fail(exc)
        else:
            visit.note("product-added", f"{made.product} version {made.version}")
            return visit.redirect(f"/products/{made.product}", f"Version {made.version} was signed.")
    return visit.render("products.html", 422, products=desk.newest(), form=form)


def product(visit: Visit) -> Response:
    desk = desk_of(visit)
    newest = desk.definition(desk.publisher.store.version(visit.part("product"), None))
    with desk.publisher.store.look() as conn:
        versions = publisher_listing.versions(conn, newest.product, 0, MOST_VERSIONS)
    return visit.render(
        "product.html", product=newest, versions=versions[::-1], tree=tree(newest), groups=desk.group_names()
    )


def definition(visit: Visit) -> Response:
    """The signed file that ships with the product."""
    text = visit.part("version")
    version = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    signed = desk_of(visit).publisher.store.version(visit.part("product"), version)
    return visit.download(f"{signed.product}-{signed.version}.volproduct", signed.token.encode() + b"\n")


def tree(definition: ProductDefinition) -> list[Placed]:
    """Groups below the one that covers them."""

    def below(parent: int | None, depth: int) -> list[Placed]:
        placed: list[Placed] = []
        for group in definition.groups:
            if group.parent == parent:
                placed += [Placed(group, depth), *below(group.number, depth + 1)]
        return placed

    return below(None, 0)


PAGES = [
    Page("/products", products, VIEW, "Products", group=GROUP, menu=True, icon="box-seam", help=HELP),
    Page("/products", add_product, OPERATE, "Products", ("POST",), acts="product-added", help=HELP),
    Page("/products/{product}", product, VIEW, "Product", help=HELP),
    Page("/products/{product}/{version}.volproduct", definition, VIEW),
]
