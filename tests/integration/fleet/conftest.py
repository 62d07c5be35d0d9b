# SPDX-License-Identifier: Apache-2.0
"""Fleet databases, of both kinds."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import postgresql


@pytest.fixture(scope="session")
def fleet_postgresql(pick_port: Callable[[], int]) -> Iterator[str]:
    with postgresql.server(pick_port()) as address:
        yield address


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))]


@pytest.fixture(scope="module", params=BOTH)
def databases(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Gives another empty database at each call; none for SQLite, whose file a test makes itself."""
    if request.param == "sqlite":
        return lambda: None
    address = request.getfixturevalue("fleet_postgresql")

    def make() -> str:
        name = f"fleet_{secrets.token_hex(4)}"
        postgresql.execute(address, f"CREATE DATABASE {name}")
        return f"{address}{name}"

    return make


@pytest.fixture(params=BOTH)
def fleet_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    """An empty database, gone afterwards: the same tests on both."""
    if request.param == "sqlite":
        yield tmp_path / "fleet.sqlite"
        return
    address, name = request.getfixturevalue("fleet_postgresql"), f"fleet_{secrets.token_hex(4)}"
    postgresql.execute(address, f"CREATE DATABASE {name}")
    yield address + name
    postgresql.execute(address, f"DROP DATABASE {name} WITH (FORCE)")
