# SPDX-License-Identifier: Apache-2.0
"""The migrations runner, on packages of migrations made for the purpose."""

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import OperationalError

from volact.sql.engine import open_engine
from volact.sql.errors import DatabaseTooNewError
from volact.sql.migrate import latest, upgrade, version
from volact.sql.transaction import read

PACKAGE = "rooms_of_test.attic.migrations"

MIGRATION = """
from alembic import op

revision = "{number:04}"
down_revision = {before}


def upgrade():
    op.execute("{statement}")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package with one migration, in a folder whose name ini files would trip over."""
    root = tmp_path / "100% of it; here"
    folder = root.joinpath(*PACKAGE.split("."))
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(root)
    write_migration(folder, 1, "CREATE TABLE box (id INTEGER PRIMARY KEY)")
    yield folder
    for name in [name for name in sys.modules if name.startswith("rooms_of_test")]:
        del sys.modules[name]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def write_migration(folder: Path, number: int, statement: str) -> None:
    before = repr(f"{number - 1:04}") if number > 1 else None
    text = MIGRATION.format(number=number, before=before, statement=statement)
    (folder / f"{number:04}_step.py").write_text(text)


def state(database: Path) -> tuple[str, set[str]]:
    engine = open_engine(database)
    with read(engine) as conn:
        found = version(conn, "attic_version"), set(inspect(conn).get_table_names()) - {"attic_version"}
    engine.dispose()
    return found


def run(database: Path) -> None:
    engine = open_engine(database)
    try:
        upgrade(engine, PACKAGE)
    finally:
        engine.dispose()


def test_empty_database_gets_all_tables(folder: Path, database: Path) -> None:
    write_migration(folder, 2, "CREATE TABLE lid (id INTEGER PRIMARY KEY)")
    assert latest(PACKAGE) == "0002"
    run(database)
    assert state(database) == ("0002", {"box", "lid"})


def test_second_run_changes_nothing(folder: Path, database: Path) -> None:
    run(database)
    run(database)
    assert state(database) == ("0001", {"box"})


def test_later_program_runs_only_the_missing_steps(folder: Path, database: Path) -> None:
    run(database)
    write_migration(folder, 2, "ALTER TABLE box RENAME TO crate")
    run(database)
    assert state(database) == ("0002", {"crate"})


def test_step_that_fails_leaves_the_old_version(folder: Path, database: Path) -> None:
    run(database)
    write_migration(folder, 2, "CREATE TABLE lid (id INTEGER PRIMARY KEY)")
    write_migration(folder, 3, "ALTER TABLE missing RENAME TO found")
    with pytest.raises(OperationalError):
        run(database)
    assert state(database) == ("0001", {"box"})


def test_database_of_a_later_program_is_refused(folder: Path, database: Path) -> None:
    write_migration(folder, 2, "CREATE TABLE lid (id INTEGER PRIMARY KEY)")
    run(database)
    (folder / "0002_step.py").unlink()
    with pytest.raises(DatabaseTooNewError) as caught:
        run(database)
    assert caught.value.fields == {"database": str(database), "version": "0002", "known": "0001"}


def test_processes_that_start_at_once_migrate_once(folder: Path, database: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    children = [context.Process(target=_start, args=(sys.path, database, start)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert state(database) == ("0001", {"box"})


def _start(path: list[str], database: Path, start: "multiprocessing.synchronize.Barrier") -> None:
    sys.path[:] = path
    start.wait()
    run(database)
