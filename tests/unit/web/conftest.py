# SPDX-License-Identifier: Apache-2.0
"""Argon2id with the smallest parameters: what a test waits for is not the hash."""

import pytest
from argon2 import PasswordHasher

from volact.web.access import credentials


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch):
    monkeypatch.setattr(credentials, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    credentials._nobody.cache_clear()
    yield
    credentials._nobody.cache_clear()
