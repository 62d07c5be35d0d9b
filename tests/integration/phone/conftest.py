# SPDX-License-Identifier: Apache-2.0
"""A publisher's phone desk over a real folder."""

from pathlib import Path

import pytest

from support.phone_desk import Desk


@pytest.fixture
def desk(tmp_path: Path):
    made = Desk.make(tmp_path / "publisher")
    yield made
    made.publisher.store.close()
