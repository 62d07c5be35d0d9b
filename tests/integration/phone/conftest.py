# SPDX-License-Identifier: Apache-2.0
"""A publisher's phone desk over a real folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import postgresql
from support.phone_desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk.make(tmp_path / "publisher")
    yield made
    made.publisher.store.close()


@pytest.fixture
def postgresql_desk(tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[Desk]:
    """The same with its tables in PostgreSQL."""
    with postgresql.server(pick_port()) as address:
        postgresql.execute(address, "CREATE DATABASE publisher")
        made = Desk.make(tmp_path / "publisher", f"{address}publisher")
        yield made
        made.publisher.store.close()
