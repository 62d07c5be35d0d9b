# SPDX-License-Identifier: Apache-2.0
"""What a report is asked for, and the tones and sentences that several reports share."""

from dataclasses import dataclass

from sqlalchemy import select

from volact.core.states import State
from volact.fleet.figures import GRACES, Scope
from volact.fleet.inventory import filters
from volact.fleet.reports.report import Column, Kind, Tone
from volact.fleet.schema import MACHINES, PRODUCTS

DEFAULT_DAYS = 30

TONES: dict[str, Tone] = {
    State.LICENSED: Tone.GOOD,
    State.INITIAL_GRACE: Tone.NOTE,
    State.OUT_OF_TOLERANCE_GRACE: Tone.WARN,
    State.EXTENDED_GRACE: Tone.WARN,
    State.NON_GENUINE_GRACE: Tone.WARN,
    State.NOTIFICATION: Tone.BAD,
    State.UNLICENSED: Tone.QUIET,
}
# How charts and tables group the states, from well to not.
STANDINGS: tuple[tuple[str, frozenset[str], Tone], ...] = (
    ("licensed", frozenset({State.LICENSED}), Tone.GOOD),
    ("in grace", frozenset(GRACES), Tone.WARN),
    ("notification", frozenset({State.NOTIFICATION}), Tone.BAD),
    ("unlicensed", frozenset({State.UNLICENSED}), Tone.QUIET),
)
OTHER = "error"

MACHINE = Column("machine", "Machine")
PRODUCT = Column("product", "Product")
EDITION = Column("edition", "Edition")
CHANNEL = Column("channel", "Channel")
STATE = Column("state", "State")
CONTACTED = Column("contacted_at", "Last contact", Kind.TIME)


@dataclass(frozen=True, slots=True)
class Asked:
    """``now`` makes the same question at the same moment give the same report; ``days`` and ``since`` are of those
    reports that have them; ``scope`` and ``selection`` are the machines meant, as a query and in words."""

    now: int
    days: int = DEFAULT_DAYS
    since: int = 0
    scope: Scope = None
    selection: str = ""


def scope_of(text: str, now: int) -> Scope:
    """The machines that fit a filter, or that have a product which does; ``None`` for all."""
    if not text.strip():
        return None
    joined = MACHINES.outerjoin(PRODUCTS, PRODUCTS.c.machine_id == MACHINES.c.id)
    return select(MACHINES.c.id).select_from(joined).where(filters.parse(text, now).condition)


def standing(state: str) -> str:
    return next((name for name, states, _ in STANDINGS if state in states), OTHER)


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def warn_if(number: int, tone: Tone = Tone.BAD) -> Tone:
    return tone if number else Tone.GOOD
