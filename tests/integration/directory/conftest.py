# SPDX-License-Identifier: Apache-2.0
"""Domains of :mod:`support.domain`, copied from one forest that a session makes once."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import domain
from support.domain import Vendor, make_vendor
from support.samba import make_forest


@pytest.fixture(scope="session")
def forest_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once for all test processes of a session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "popen-gw" in base.name else base
    return make_forest(shared / "volact-forest" / "image")


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return make_vendor(tmp_path_factory.mktemp("vendor"))


@pytest.fixture(scope="session")
def open_domain(forest_image: Path, vendor: Vendor) -> Callable[[Path], Any]:
    """A domain in a folder, as a context manager."""
    return partial(domain.open_domain, forest_image, vendor)


@pytest.fixture
def now() -> int:
    return int(time.time())
