# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's database, opened: transactions and the audit trail.  SQLite and PostgreSQL alike.

What is read and written in a transaction is in the modules of its matter (``machines``, ``inventory``, ``refresh``,
``jobs`` …): they take its connection, so that one act and its row in the audit trail are one transaction.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, func, insert, select

from volact.fleet.schema import AUDIT
from volact.sql.engine import checkpoint, database_name, open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import read, write

MIGRATIONS = "volact.fleet.migrations"
BATCH = 500  # values of one statement, below every database's limit on parameters
MOST_DETAIL = 4000  # characters of an audit row: a selection of 100,000 names is told by its number

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AuditRow:
    id: int
    at: int
    who: str
    act: str
    object: str
    detail: dict[str, Any]
    result: str


class FleetStore:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, database: Path | str) -> Self:
        engine = open_engine(database)
        try:
            upgrade(engine, MIGRATIONS)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def name(self) -> str:
        return database_name(self.engine)

    def read(self) -> AbstractContextManager[Connection]:
        """One moment of the database."""
        joined = self._joined()
        return read(self.engine) if joined is None else nullcontext(joined)

    def write(self) -> AbstractContextManager[Connection]:
        """One durable change, whole or not at all."""
        joined = self._joined()
        return write(self.engine) if joined is None else nullcontext(joined)

    @contextmanager
    def together(self, name: str) -> Iterator[Connection]:
        """One change of everything that is done with the store inside the block, whoever does it; one of a ``name`` at
        a time.  An exception that leaves the block undoes all of it, so none is swallowed inside."""
        with write(self.engine) as conn:
            if self.engine.dialect.name == "postgresql":  # SQLite's writers wait for each other anyway
                conn.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))
            token = _OPEN.set((self, conn))
            try:
                yield conn
            finally:
                _OPEN.reset(token)

    def _joined(self) -> Connection | None:
        store, conn = _OPEN.get() or (None, None)
        return conn if store is self else None

    def checkpoint(self) -> None:
        if self.engine.dialect.name == "sqlite":
            checkpoint(self.engine)

    def audit(self, limit: int = 100, before: int | None = None, who: str | None = None) -> list[AuditRow]:
        """The newest first; ``before``: only rows with a smaller ID, for the next page."""
        query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        query = query if before is None else query.where(AUDIT.c.id < before)
        query = query if who is None else query.where(AUDIT.c.who == who)
        with self.read() as conn:
            rows = conn.execute(query).all()
        return [AuditRow(r.id, r.at, r.who, r.act, r.object, json.loads(r.detail), r.result) for r in rows]

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_OPEN: ContextVar[tuple[FleetStore, Connection] | None] = ContextVar("open_change", default=None)


def note(
    conn: Connection,
    at: int,
    who: str,
    act: str,
    object_: str = "",
    detail: Mapping[str, Any] | None = None,
    result: str = "ok",
) -> None:
    """Appends a row to the audit trail, in the transaction of the act itself.  ``detail``: no secrets."""
    text = json.dumps(detail or {}, ensure_ascii=False, sort_keys=True)
    if len(text) > MOST_DETAIL:
        text = json.dumps({"shortened": text[: MOST_DETAIL // 2]}, ensure_ascii=False)
    conn.execute(
        insert(AUDIT).values(at=at, who=who, act=act, object=object_[:MOST_DETAIL], detail=text, result=result)
    )


def names_of(names: Sequence[str], most: int = 20) -> dict[str, Any]:
    """Which machines an act was on, as the audit trail tells it: their number, and the first of them by name."""
    return {"machines": len(names), "names": list(names[:most])}


def batches(values: Iterable[T], most: int = BATCH) -> Iterator[list[T]]:
    """As many at once as fit into a statement."""
    rest = iter(values)
    while part := list(islice(rest, most)):
        yield part
