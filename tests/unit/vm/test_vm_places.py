# SPDX-License-Identifier: Apache-2.0
"""Places of a VM host: what counts against an edition's limit of guests."""

from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from volact.sql import environment
from volact.sql.engine import open_engine
from volact.sql.migrate import version_table
from volact.sql.transaction import write
from volact.vm.store import LIMIT, MIGRATIONS, Asked, VmStore

NOW, DAY = 1_800_000_000, 86400
ROOT, PRODUCT = "sha256:00", "acme-cad"


@pytest.fixture
def store(tmp_path: Path):
    store = VmStore.open(tmp_path / "vm.db")
    yield store
    store.close()


def ask(store: VmStore, number: int, edition: str, limit: int, now: int = NOW) -> str:
    one = Asked(
        ROOT, PRODUCT, edition, bytes([number]) * 32, f"guest{number}", "unlicensed", "name", "system",
        until=now + 180 * DAY, limit=limit,
    )  # fmt: skip
    (refused,) = store.record([one], now)
    return refused


def test_a_guest_that_asks_for_another_edition_keeps_the_place_that_it_has(store):
    assert ask(store, 1, "client", 1) == ""
    assert ask(store, 1, "server", 0) == ""
    assert ask(store, 2, "client", 1) == LIMIT
    assert store.licensed_guests(NOW) == {(ROOT, PRODUCT, "client"): 1, (ROOT, PRODUCT, "server"): 1}


def test_a_guest_that_was_refused_an_edition_takes_no_place_of_it(store):
    assert ask(store, 1, "client", 1) == ""
    assert ask(store, 2, "server", 1) == ""
    assert ask(store, 1, "server", 1) == LIMIT
    assert store.licensed_guests(NOW)[ROOT, PRODUCT, "server"] == 1


def test_a_place_is_free_again_thirty_days_after_its_last_licence(store):
    assert ask(store, 1, "client", 1) == ""
    later = NOW + 31 * DAY
    store.prune(later)
    assert store.licensed_guests(later) == {}
    assert ask(store, 2, "client", 1, later) == ""


def test_tables_of_the_first_version_keep_the_places_that_were_taken(tmp_path: Path) -> None:
    database = tmp_path / "vm.db"
    engine = open_engine(database)
    bring_to(engine, "0001")
    with write(engine) as conn:
        row = (ROOT, PRODUCT, bytes([1]) * 32, "client", "guest1", "licensed", "n", "s", NOW, NOW, NOW, NOW, "", 1)
        conn.exec_driver_sql(f"INSERT INTO guest VALUES ({', '.join('?' * len(row))})", row)
    engine.dispose()
    store = VmStore.open(database)
    assert ask(store, 1, "client", 1, NOW + DAY) == ""
    assert ask(store, 2, "client", 1, NOW + DAY) == LIMIT
    store.close()


def bring_to(engine: Engine, version: str) -> None:
    """As :mod:`volact.sql.migrate` does it, but only so far."""
    with write(engine) as conn:
        config = Config(attributes={"connection": conn, "version_table": version_table(MIGRATIONS)})
        config.set_main_option("path_separator", "newline")
        config.set_main_option("script_location", str(files(environment.__name__)))
        config.set_main_option("version_locations", str(files(MIGRATIONS)))
        command.upgrade(config, version)
