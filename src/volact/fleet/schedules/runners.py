# SPDX-License-Identifier: Apache-2.0
"""Who runs schedules: signs of life of the programs that do, for people who wonder whether anybody does.

A run itself is one program's at a time by its own lease (``schedule``); nothing here decides who takes it.
"""

import socket
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from volact.fleet.schema import RUNNERS

ALIVE_SECONDS = 120  # four signs of one that serves
LATELY_SECONDS = 3600  # cron may come as seldom as that
KEPT_SECONDS = 30 * 24 * 3600


class Program(StrEnum):
    CONSOLE = "console"
    SERVE = "serve"
    RUN_DUE = "run-due"  # comes and goes: cron, a timer, or a person


@dataclass(frozen=True, slots=True)
class Runner:
    """One of a computer's programs; ``seen_at``: its last sign of life."""

    program: Program
    computer: str
    seen_at: int

    @property
    def stays(self) -> bool:
        return self.program != Program.RUN_DUE


def sign(conn: Connection, program: Program, now: int) -> None:
    """Two of a kind may begin at once: one row is both's."""
    conn.execute(delete(RUNNERS).where(RUNNERS.c.seen_at < now - KEPT_SECONDS))
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    row = insert(RUNNERS).values(program=str(program), computer=socket.gethostname(), seen_at=now)
    conn.execute(row.on_conflict_do_update(index_elements=["program", "computer"], set_={"seen_at": now}))


def leave(conn: Connection, program: Program) -> None:
    """It ends, and says so; another of its kind on this computer signs again before anybody asks."""
    r = RUNNERS.c
    conn.execute(delete(RUNNERS).where(r.program == program, r.computer == socket.gethostname()))


def seen(conn: Connection, now: int) -> list[Runner]:
    """Those that run schedules now, and those that came lately; the last one to sign first."""
    rows = conn.execute(select(RUNNERS).order_by(RUNNERS.c.seen_at.desc(), RUNNERS.c.program)).all()
    known = [Runner(Program(row.program), row.computer, row.seen_at) for row in rows if row.program in set(Program)]
    return [one for one in known if one.seen_at >= now - (ALIVE_SECONDS if one.stays else LATELY_SECONDS)]
