# SPDX-License-Identifier: Apache-2.0
"""The migrations make exactly the tables that the statements are written for."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect

from volact.fleet.schema import METADATA
from volact.sql.engine import open_engine
from volact.sql.migrate import upgrade, version_table

MIGRATIONS = "volact.fleet.migrations"


def test_migrations_and_schema_are_the_same(tmp_path: Path) -> None:
    migrated, declared = open_engine(tmp_path / "migrated.db"), open_engine(tmp_path / "declared.db")
    upgrade(migrated, MIGRATIONS)
    METADATA.create_all(declared)
    found, wanted = _shape(migrated), _shape(declared)
    del found[version_table(MIGRATIONS)]
    migrated.dispose()
    declared.dispose()
    assert found == wanted


def _shape(engine: Engine) -> dict[str, Any]:
    look = inspect(engine)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)],
            sorted(tuple(u["column_names"]) for u in look.get_unique_constraints(table)),
            sorted((i["name"], tuple(i["column_names"]), i["unique"]) for i in look.get_indexes(table)),
            sorted(
                (tuple(f["constrained_columns"]), f["referred_table"], f["options"].get("ondelete"))
                for f in look.get_foreign_keys(table)
            ),
            look.get_pk_constraint(table)["constrained_columns"],
            look.get_table_options(table),
        )
        for table in look.get_table_names()
    }
