# SPDX-License-Identifier: Apache-2.0
"""What is sealed to a vault, by its published vectors."""

import json
from pathlib import Path
from typing import Any

import pytest

from volact.core.errors import REGISTRY
from volact.sealing.recipient import RecipientKey, seal

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "recipient.json").read_bytes())
KEY = RecipientKey.from_raw(bytes.fromhex(VECTORS["private"]))


def test_a_recipient_is_named_by_its_public_half() -> None:
    assert KEY.text == VECTORS["recipient"]


@pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda vector: vector["name"])
def test_what_was_sealed_opens_or_says_why_not(vector: dict[str, Any]) -> None:
    sealed = bytes.fromhex(vector["sealed"])
    if "error" in vector:
        with pytest.raises(REGISTRY[vector["error"]]):
            KEY.open(sealed, vector["purpose"])
    else:
        assert KEY.open(sealed, vector["purpose"]).hex() == vector["plaintext"]


@pytest.mark.parametrize("vector", VECTORS["recipients"], ids=lambda vector: vector["name"])
def test_a_recipient_is_a_key_or_is_refused(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(REGISTRY[vector["error"]]):
            seal(vector["recipient"], "test", b"text")
    else:
        assert KEY.open(seal(vector["recipient"], "test", b"text"), "test") == b"text"
