# SPDX-License-Identifier: Apache-2.0
"""tests/vectors/counter.json: every statement about a TPM's counter is accepted, or refused by the error it names."""

import json
from pathlib import Path
from typing import Any

import pytest

from volact.core.counter import Attested
from volact.core.encoding import Fields
from volact.core.errors import VolactError
from volact.sealing.attestation import verify_attested

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "counter.json").read_bytes())


@pytest.mark.parametrize("vector", VECTORS["statements"], ids=lambda vector: vector["name"])
def test_a_statement_is_what_its_vector_says(vector: dict[str, Any]) -> None:
    attested = Attested.from_claim(Fields(vector["attested"], "statement"))
    machine, nonce = bytes.fromhex(VECTORS["machine"]), bytes.fromhex(VECTORS["nonce"])
    if "error" not in vector:
        assert verify_attested(attested, VECTORS["purpose"], machine, nonce).value == vector["value"]
        return
    with pytest.raises(VolactError) as caught:
        verify_attested(attested, VECTORS["purpose"], machine, nonce)
    assert caught.value.code == vector["error"]
