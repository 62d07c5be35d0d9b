# SPDX-License-Identifier: Apache-2.0
"""From each earlier version of the tables to the newest, with rows in them, on both databases."""

import secrets
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, inspect

from support import postgresql
from volact.publisher.rows.ledger import Act, chain
from volact.publisher.schema import METADATA
from volact.publisher.store import MIGRATIONS, PublisherStore
from volact.sql import environment
from volact.sql.engine import open_engine
from volact.sql.migrate import latest, version_table
from volact.sql.transaction import read, write

NOW = 1_800_000_000
VERSIONS = sorted(p.name[:4] for p in files(MIGRATIONS).iterdir() if p.name[:4].isdigit())
OLDER = VERSIONS[:-1]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    if request.param == "sqlite":
        yield tmp_path / "publisher.db"
        return
    address, name = request.getfixturevalue("postgresql_address"), f"migrated_{secrets.token_hex(4)}"
    postgresql.execute(address, f"CREATE DATABASE {name}")
    yield address + name
    postgresql.execute(address, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database: str | Path) -> Iterator[Engine]:
    engine = open_engine(database)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("version", OLDER)
def test_tables_of_an_earlier_version_are_brought_to_the_newest_and_keep_their_rows(
    database: str | Path, engine: Engine, version: str
) -> None:
    bring_to(engine, version)
    fill(engine)
    with PublisherStore.open(database) as store:
        (key,) = store.keys()
        assert (key.key_id, key.activations, key.used, key.agreement) == ("k" * 32, 10, 0, None)
        assert [one.name for one in store.organisations()] == ["Example Ltd"]
        assert store.revocations(0).epoch == 1
        store.check_ledger()
        assert [row.act for row in store.ledger()] == ["publisher-initialised", "host-activated"]
    found = shape(engine)
    assert found == declared(engine)


def test_the_newest_tables_are_those_that_the_statements_are_written_for(database: str | Path, engine: Engine) -> None:
    PublisherStore.open(database).close()
    found = shape(engine)
    assert found == declared(engine)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_start_changes_nothing(database: str | Path, engine: Engine, version: str) -> None:
    bring_to(engine, version)
    PublisherStore.open(database).close()
    before = shape(engine)
    PublisherStore.open(database).close()
    assert shape(engine) == before
    with read(engine) as conn:
        assert conn.exec_driver_sql(f"SELECT version_num FROM {version_table(MIGRATIONS)}").scalar() == latest(
            MIGRATIONS
        )


def bring_to(engine: Engine, version: str) -> None:
    """As :mod:`volact.sql.migrate` does it, but only so far."""
    with write(engine) as conn:
        config = Config(attributes={"connection": conn, "version_table": version_table(MIGRATIONS)})
        config.set_main_option("path_separator", "newline")
        config.set_main_option("script_location", str(files(environment.__name__)))
        config.set_main_option("version_locations", str(files(MIGRATIONS)))
        command.upgrade(config, version)


def fill(engine: Engine) -> None:
    """Rows as the first version wrote them; later versions had these columns too."""
    with write(engine) as conn:
        put(conn, "organisation", name="Example Ltd", added_at=NOW)
        key: dict[str, Any] = {"key_id": "k" * 32, "partial": "33GJK", "channel": "kms-host", "product": "acme-cad"}
        key |= {"product_group": 101, "organisation": "Example Ltd", "hosts": 6, "activations": 10}
        put(conn, "product_key", **key, issued_at=NOW, blocked_reason="")
        host = {"key_id": "k" * 32, "machine_id": b"m" * 32, "nonce": b"n" * 16, "kind": "activated", "at": NOW}
        host |= {"name": "kms1", "product": "acme-cad", "fingerprint": "{}", "serial": "ab", "ends_at": NOW + 1}
        put(conn, "host_activation", id=1, **host, certificate=b"c")
        put(conn, "revocation_epoch", epoch=1, at=NOW)
        first = chain(None, NOW, Act.PUBLISHER_INITIALISED, "tester", None, {})
        second = chain(first, NOW, Act.HOST_ACTIVATED, "service", "k" * 32, {"serial": "ab"})
        for row in (first, second):
            put(conn, "ledger", **{name: getattr(row, name) for name in type(row).__slots__})


def put(conn: Connection, table: str, **values: object) -> None:
    columns = {name: METADATA.tables[table].c[name] for name in values}
    conn.execute(METADATA.tables[table].insert().values({columns[name]: value for name, value in values.items()}))


def shape(engine: Engine) -> dict[str, object]:
    look = inspect(engine)
    tables = set(look.get_table_names()) - {version_table(MIGRATIONS)}
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)],
            sorted((i["name"], tuple(i["column_names"])) for i in look.get_indexes(table)),
            sorted((tuple(f["constrained_columns"]), f["referred_table"]) for f in look.get_foreign_keys(table)),
            sorted(look.get_pk_constraint(table)["constrained_columns"]),
        )
        for table in tables
    }


def declared(engine: Engine) -> dict[str, object]:
    """The shape of the tables as ``schema`` declares them, made anew in the same database."""
    METADATA.drop_all(engine)
    METADATA.create_all(engine)
    return shape(engine)
