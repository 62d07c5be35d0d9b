# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL server for tests: its own folder and port, an ordinary user, gone afterwards.

Debian starts none by itself here: what is used are the programs of the newest version that is installed.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"


def is_present() -> bool:
    return bool(_programs()) and importlib.util.find_spec("psycopg") is not None


@contextmanager
def server(port: int, *, durable: bool = False) -> Iterator[str]:
    """The address of a running server, to which a database's name is added.  ``durable``: keeps what it promises when
    the machine dies, as the product would have it; tests that kill only clients need not pay for that."""
    folder = Path(tempfile.mkdtemp(prefix="volact-postgresql-"))
    user = USER if os.geteuid() == 0 else None  # the server refuses to run as root
    if user:
        shutil.chown(folder, user)
    fast = "" if durable else "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"

    def run(program: str, *arguments: str) -> None:
        command = [str(_programs()[-1] / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c max_connections=200 {fast}"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def execute(address: str, statement: str) -> None:
    """One statement outside of any transaction, as CREATE DATABASE must be."""
    import psycopg

    with psycopg.connect(f"{address}postgres", autocommit=True) as conn:
        conn.execute(statement)


def _programs() -> list[Path]:
    found = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    return sorted((path.parent for path in found), key=lambda path: int(path.parent.name))
