# SPDX-License-Identifier: Apache-2.0
"""Domains of :mod:`support.domain`, copied from one forest that a session makes once."""

import hashlib
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import domain, samba
from support.domain import Vendor, make_vendor

BUILD = Path(__file__).resolve().parents[3] / "build" / "samba"


@pytest.fixture(scope="session")
def forest_image() -> Path:
    """Made once for all test processes, and kept in ``build`` for the next run with the same recipe and Samba."""
    version = subprocess.run(["samba", "--version"], capture_output=True, check=True).stdout
    recipe = hashlib.sha256(Path(samba.__file__).read_bytes() + version).hexdigest()[:16]
    return samba.make_forest(BUILD / recipe / "image")


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
