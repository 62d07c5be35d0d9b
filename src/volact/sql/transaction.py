# SPDX-License-Identifier: Apache-2.0
"""Transactions: ``read`` sees one moment, ``write`` is alone, and commits when its block ends without an exception."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

from sqlalchemy import Connection, Engine

from volact.sql.engine import WRITES, database_name
from volact.sql.errors import named_error
from volact.sql.lock import file_lock

_writing = threading.local()


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """A consistent view; never waits for writers of SQLite.  Keep it short: the log cannot be folded past it."""
    with engine.connect() as conn:
        yield conn


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """One durable change, whole or not at all.  Not to be nested."""
    if engine.dialect.name == "sqlite":
        with _outermost(), file_lock(database_name(engine)), _begin(engine) as conn:
            yield conn
    else:
        with _begin(engine) as conn:
            yield conn


@contextmanager
def write_cursor(engine: Engine) -> Iterator[sqlite3.Cursor]:
    """The same on SQLite's own cursor, for one hot path: it saves 0.1 ms a transaction."""
    name = database_name(engine)
    try:
        with _outermost(), file_lock(name), closing(engine.raw_connection()) as conn:
            cursor = cast(sqlite3.Cursor, conn.cursor())
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")  # closing rolls back what did not come so far
    except sqlite3.Error as error:
        raise named_error(error, name) or error from error


@contextmanager
def _begin(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(**{WRITES: True}) as conn, conn.begin():
        yield conn


@contextmanager
def _outermost() -> Iterator[None]:
    """A second write transaction in one thread would wait for the first for ever."""
    if getattr(_writing, "now", False):
        raise RuntimeError("a write transaction is open in this thread already")
    _writing.now = True
    try:
        yield
    finally:
        _writing.now = False
