# SPDX-License-Identifier: Apache-2.0
"""Which machines a figure is of, and words that the questions share."""

from sqlalchemy import ColumnElement, Select, case, func, true

from volact.core.states import State
from volact.fleet.schema import MACHINES, PRODUCTS

Scope = Select[tuple[int]] | None  # of machine IDs

OK = "ok"
GRACES = (State.INITIAL_GRACE, State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.EXTENDED_GRACE)


def of_machines(scope: Scope) -> ColumnElement[bool]:
    return true() if scope is None else MACHINES.c.id.in_(scope)


def of_products(scope: Scope) -> ColumnElement[bool]:
    return true() if scope is None else PRODUCTS.c.machine_id.in_(scope)


def number_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows fulfil it; PostgreSQL and SQLite agree on this spelling only."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
