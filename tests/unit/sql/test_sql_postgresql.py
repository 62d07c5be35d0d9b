# SPDX-License-Identifier: Apache-2.0
"""The same room on a real PostgreSQL server, started for these tests where its programs are installed."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine

from volact.sql.engine import database_name, open_engine
from volact.sql.errors import DatabaseBusyError, DatabaseReadOnlyError, DatabaseUnavailableError
from volact.sql.migrate import upgrade, version
from volact.sql.transaction import read, write

pytest.importorskip("psycopg")

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"

pytestmark = pytest.mark.skipif(not SERVERS, reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    folder = Path(tempfile.mkdtemp(prefix="volact-postgresql-"))
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user:
        shutil.chown(folder, user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(SERVERS[-1].with_name(program)), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-h 127.0.0.1 -p {port} -k {folder} {FAST}", "start")
    yield port
    run("pg_ctl", "-w", "-m", "fast", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def engine(port: int) -> Iterator[Engine]:
    engine = open_engine(f"postgresql://postgres@127.0.0.1:{port}/postgres")
    with write(engine) as conn:
        conn.exec_driver_sql("DROP TABLE IF EXISTS seat")
        conn.exec_driver_sql("CREATE TABLE seat (number INTEGER PRIMARY KEY)")
    yield engine
    engine.dispose()


def test_write_commits_and_a_failed_one_leaves_nothing(engine: Engine) -> None:
    with write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")
    with pytest.raises(ZeroDivisionError), write(engine) as conn:
        conn.exec_driver_sql("INSERT INTO seat VALUES (2)")
        _ = 1 / 0
    with read(engine) as conn:
        assert conn.exec_driver_sql("SELECT number FROM seat").scalars().all() == [1]


def test_errors_have_the_same_names(engine: Engine) -> None:
    with pytest.raises(DatabaseReadOnlyError), write(engine) as conn:
        conn.exec_driver_sql("SET TRANSACTION READ ONLY")
        conn.exec_driver_sql("INSERT INTO seat VALUES (1)")
    with write(engine) as holder:
        holder.exec_driver_sql("LOCK TABLE seat")
        with pytest.raises(DatabaseBusyError), read(engine) as conn:
            conn.exec_driver_sql("SET lock_timeout = '10ms'")
            conn.exec_driver_sql("SELECT 1 FROM seat")


def test_server_that_is_not_there_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    absent = open_engine(f"postgresql://volact:secret@127.0.0.1:{port}/volact")
    with pytest.raises(DatabaseUnavailableError) as caught, read(absent):
        pass
    assert "secret" not in str(caught.value)
    assert "secret" not in caught.value.hint
    assert database_name(absent).endswith(f"@127.0.0.1:{port}/volact")


def test_programs_that_start_at_once_migrate_once(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "postgresql_rooms" / "attic" / "migrations"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    step = "from alembic import op\nrevision = '0001'\ndown_revision = None\n"
    step += "def upgrade():\n    op.execute('CREATE TABLE box (id INTEGER PRIMARY KEY)')\n"
    (folder / "0001_step.py").write_text(step)
    monkeypatch.syspath_prepend(tmp_path)
    done = SimpleNamespace(times=0)

    def start() -> None:
        upgrade(engine, "postgresql_rooms.attic.migrations")
        done.times += 1

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.times == 2
    with read(engine) as conn:
        assert version(conn, "attic_version") == "0001"
