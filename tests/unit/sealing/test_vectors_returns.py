# SPDX-License-Identifier: Apache-2.0
"""tests/vectors/returns.json: every proof, inquiry and receipt is accepted, or refused by the error it names."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from volact.core.errors import VolactError
from volact.sealing import returns
from volact.sealing.verify import Trust

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "returns.json").read_bytes())
ROOT = x509.load_pem_x509_certificate(VECTORS["root"].encode())


def check(vector: dict[str, Any], read: Any) -> None:
    if "error" in vector:
        with pytest.raises(VolactError) as caught:
            read()
        assert caught.value.code == vector["error"]
        return
    found = read()
    value = found.value if isinstance(found, returns.Proven) else found
    assert value.to_claim() == vector["claims"]
    if "machine" in vector:
        assert found.machine.hex() == vector["machine"]


@pytest.mark.parametrize("vector", VECTORS["proofs"], ids=lambda vector: vector["name"])
def test_a_return_proof_is_what_its_vector_says(vector: dict[str, Any]) -> None:
    check(vector, lambda: returns.verify_return(vector["token"]))


@pytest.mark.parametrize("vector", VECTORS["inquiries"], ids=lambda vector: vector["name"])
def test_an_inquiry_is_what_its_vector_says(vector: dict[str, Any]) -> None:
    check(vector, lambda: returns.verify_inquiry(vector["token"]))


@pytest.mark.parametrize("vector", VECTORS["receipts"], ids=lambda vector: vector["name"])
def test_a_receipt_is_what_its_vector_says(vector: dict[str, Any]) -> None:
    check(vector, lambda: returns.verify_receipt(vector["token"], Trust(ROOT), bytes.fromhex(vector["nonce"])))
