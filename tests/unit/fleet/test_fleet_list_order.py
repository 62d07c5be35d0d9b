# SPDX-License-Identifier: Apache-2.0
"""Lists come in the same order whichever way the database takes."""

from pathlib import Path

import pytest

from support.fleet_rows import NOW, fill
from volact.fleet.inventory import inventory
from volact.fleet.inventory.inventory import Query
from volact.fleet.store import FleetStore

PAGE = 37


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    with FleetStore.open(Path(tmp_path_factory.mktemp("fleet")) / "fleet.sqlite") as opened:
        fill(opened, 400)
        yield opened


@pytest.mark.parametrize("column", [name for name in inventory.PRODUCT_COLUMNS if name != "result"])
@pytest.mark.parametrize("way", ["", "-"])
def test_the_pages_of_a_list_are_the_whole_list_in_parts(store: FleetStore, column: str, way: str) -> None:
    sort = (way + column, "name", "product")
    with store.read() as conn:
        whole = inventory.products(conn, Query("", sort, limit=100_000), NOW)
        parts = [
            row
            for start in range(0, whole.total, PAGE)
            for row in inventory.products(conn, Query("", sort, limit=PAGE, offset=start), NOW).rows
        ]
    assert len(parts) == whole.total
    assert parts == whole.rows


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not state=licensed",
        "state=licensed",
        "expires<+90d",
        "expires=none",
        "state=grace and tag=site-1",
        "reach=failed",
        "not product=acme-cad or key=none",
    ],
)
@pytest.mark.parametrize("sort", [("name", "product"), ("-expires",), ("host",)])
def test_a_filtered_list_holds_what_its_total_says_in_every_order(
    store: FleetStore, text: str, sort: tuple[str, ...]
) -> None:
    columns = ("name", "product", "expires", "state")
    with store.read() as conn:
        plain = inventory.products(conn, Query(text, ("name", "product"), columns, 100_000), NOW)
        page = inventory.products(conn, Query(text, sort, columns, 100_000), NOW)
        parts = [
            row
            for start in range(0, plain.total, PAGE)
            for row in inventory.products(conn, Query(text, sort, columns, PAGE, start), NOW).rows
        ]
    assert len(parts) == page.total == len(plain.rows)
    assert sorted(map(repr, parts)) == sorted(map(repr, plain.rows))
    assert [row[0] for row in parts] == [row[0] for row in page.rows]
