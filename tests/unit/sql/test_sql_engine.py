# SPDX-License-Identifier: Apache-2.0
"""Opening SQLite files, transactions on them, and the names of what goes wrong."""

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from volact.core.errors import StoreError
from volact.sql.engine import checkpoint, open_engine
from volact.sql.errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseReadOnlyError,
    DatabaseUnavailableError,
    DiskFullError,
    named_error,
)
from volact.sql.lock import file_lock
from volact.sql.transaction import read, write, write_cursor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_engine(path)
    with write(engine) as conn:
        conn.exec_driver_sql("CREATE TABLE seat (number INTEGER PRIMARY KEY) STRICT")
    yield engine
    engine.dispose()


def seats(engine: Engine) -> list[int]:
    with read(engine) as conn:
        return list(conn.exec_driver_sql("SELECT number FROM seat ORDER BY number").scalars())


def test_new_database_is_private_durable_and_has_its_page_size(engine: Engine, path: Path) -> None:
    with read(engine) as conn:
        said = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "page_size", "foreign_keys")
        }
    assert said == {"journal_mode": "wal", "synchronous": 2, "page_size": 2048, "foreign_keys": 1}
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("a.db", "a.db-wal", "a.db-shm", "a.db.lock"), 0o600)


def test_write_commits_at_the_end_of_its_block(engine: Engine) -> None:
    with write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")
        assert seats(engine) == []
    assert seats(engine) == [1]


def test_write_that_fails_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), write_cursor(engine) as cursor:
        cursor.execute("INSERT INTO seat VALUES (1)")
        _ = 1 / 0
    assert seats(engine) == []
    with write_cursor(engine) as cursor:
        cursor.execute("INSERT INTO seat VALUES (2)")
    assert seats(engine) == [2]


def test_read_sees_one_moment(engine: Engine) -> None:
    with read(engine) as conn:
        assert conn.exec_driver_sql("SELECT COUNT(*) FROM seat").scalar() == 0
        with write(engine) as other:
            other.exec_driver_sql("INSERT INTO seat VALUES (1)")
        assert conn.exec_driver_sql("SELECT COUNT(*) FROM seat").scalar() == 0
    assert seats(engine) == [1]


def test_nested_write_is_refused_instead_of_waiting_for_itself(engine: Engine) -> None:
    with write(engine), pytest.raises(RuntimeError, match="open in this thread"), write(engine):
        pass


def test_threads_take_turns(engine: Engine) -> None:
    def add() -> None:
        for _ in range(25):
            with write(engine) as conn:
                last = conn.exec_driver_sql("SELECT COUNT(*) FROM seat").scalar_one()
                conn.exec_driver_sql("INSERT INTO seat VALUES (?)", (last,))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seats(engine) == list(range(100))


def test_checkpoint_folds_the_log(engine: Engine) -> None:
    with write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")
    assert checkpoint(engine) == 0


def test_another_programs_lock_is_database_busy(engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volact.sql.engine.BUSY_SECONDS", 0.05)
    hasty = open_engine(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for act in (write, write_cursor):
        with pytest.raises(DatabaseBusyError) as caught, act(hasty):
            pass
        assert caught.value.database == str(path)
        assert str(path) in caught.value.hint
    other.close()
    hasty.dispose()


def test_file_that_is_no_database_is_database_corrupt(path: Path) -> None:
    path.write_bytes(b"a letter, not a database" * 100)
    with pytest.raises(DatabaseCorruptError):
        open_engine(path)


def test_damaged_page_is_database_corrupt(engine: Engine, path: Path) -> None:
    with write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (?)", [(number,) for number in range(1000)])
    checkpoint(engine)
    engine.dispose()
    content = path.read_bytes()
    path.write_bytes(content[:2048] + b"\xff" * (len(content) - 2048))
    damaged = open_engine(path)
    with pytest.raises(DatabaseCorruptError):
        seats(damaged)
    damaged.dispose()


def test_missing_folder_is_database_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError):
        open_engine(tmp_path / "missing" / "a.db")


def test_write_to_a_read_only_connection_is_database_read_only(engine: Engine) -> None:
    with pytest.raises(DatabaseReadOnlyError), read(engine) as conn:
        conn.exec_driver_sql("PRAGMA query_only = ON")
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")


def test_full_disk_is_named_and_loses_nothing(engine: Engine) -> None:
    with write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")
    with pytest.raises(DiskFullError), write(engine) as conn:
        conn.exec_driver_sql("PRAGMA max_page_count = 3")  # the same error as from a disk without space
        conn.exec_driver_sql("CREATE TABLE more (text TEXT)")
        conn.exec_driver_sql("INSERT INTO more VALUES (hex(randomblob(100000)))")
    assert seats(engine) == [1]


@pytest.mark.needs("netns")  # root, as mounting wants
def test_a_disk_without_room_for_the_log_s_index_is_named_before_sqlite_maps_it(tmp_path: Path) -> None:
    """Mapped and without blocks, the index ends the process by a signal at its first use."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], check=True)
    try:
        open_engine(disk / "a.db").dispose()
        (disk / "filler").write_bytes(bytes(80 * 1024))
        with pytest.raises(DiskFullError):
            open_engine(disk / "a.db")
        (disk / "filler").unlink()
        open_engine(disk / "a.db").dispose()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_broken_constraint_stays_the_callers_error(engine: Engine) -> None:
    with pytest.raises(IntegrityError), write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (1), (1)")
    with pytest.raises(sqlite3.IntegrityError), write_cursor(engine) as cursor:
        cursor.execute("INSERT INTO seat VALUES (1), (1)")


def test_other_exceptions_have_no_database_name() -> None:
    assert named_error(ValueError("x"), "a.db") is None
    assert named_error(None, "a.db") is None
    assert isinstance(named_error(_operational_error(), "a.db"), StoreError)


def test_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(ValueError, match="not mysql"):
        open_engine("mysql://localhost/volact")


def test_lock_goes_with_its_process(path: Path) -> None:
    program = "import os, sys; from volact.sql.lock import file_lock\nwith file_lock(sys.argv[1]): os._exit(7)"
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == 7
    with file_lock(path):
        pass


class OperationalError(Exception):
    """What drivers raise when there is no server; known by its name, so that none needs to be installed."""


def _operational_error() -> Exception:
    return OperationalError("connection refused")


def test_opening_a_database_again_leaves_the_locks_of_those_who_have_it_open(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first = open_engine(path)
    with first.connect() as conn:
        conn.exec_driver_sql("SELECT 1 FROM sqlite_schema").all()
        open_engine(path).dispose()
        assert not _can_lock(path)
    first.dispose()
    assert _can_lock(path)


def _can_lock(path: Path) -> bool:
    """Whether another process may lock the bytes on which each connection to the file holds a shared lock."""
    program = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"
    return subprocess.run([sys.executable, "-c", program, path], stderr=subprocess.DEVNULL).returncode == 0


def test_an_error_of_the_database_repeats_no_values(tmp_path):
    engine = open_engine(tmp_path / "quiet.db")
    with engine.connect() as conn, pytest.raises(DBAPIError) as caught:
        conn.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "s3cret"})
    engine.dispose()
    assert "nowhere" in str(caught.value)
    assert "s3cret" not in str(caught.value)
