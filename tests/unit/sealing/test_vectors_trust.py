# SPDX-License-Identifier: Apache-2.0
"""The published vectors of root roll-over, and of hosts and forests by telephone; the bad ones fail as they say."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from volact.core.errors import VolactError
from volact.core.issuer import RevocationStatus
from volact.core.phone_site import SiteInstallationId, parse_installation_id
from volact.sealing import certificates, verify
from volact.sealing.confirmation import verify_confirmation
from volact.sealing.objects import verify_activation_object

FOLDER = Path(__file__).resolve().parents[2] / "vectors"
ROOTS = json.loads((FOLDER / "roots.json").read_bytes())
SITES = json.loads((FOLDER / "phone-sites.json").read_bytes())


def certificate(text: str) -> Any:
    return certificates.load_der(base64.b64decode(text))


def holds(vector: dict[str, Any], act: Any) -> Any:
    if "error" not in vector:
        return act()
    with pytest.raises(VolactError) as caught:
        act()
    assert caught.value.code == vector["error"], str(caught.value)
    return None


def each(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def phone_trust(vector: dict[str, Any]) -> verify.Trust:
    key = None if vector.get("no_phone_key") else bytes.fromhex(SITES["phone_key"])
    status = RevocationStatus(9, 1_800_000_000, vector["revoked"]) if "revoked" in vector else None
    return verify.Trust(certificate(SITES["root"]), status, phone_key=key)


@each(ROOTS["tokens"])
def test_a_status_under_one_of_the_roots(vector: dict[str, Any]) -> None:
    trust = verify.Trust(certificate(ROOTS["roots"][vector["root"]]))
    status = holds(vector, lambda: verify.verify_status(vector["token"], trust))
    assert status is None or status.epoch == 7


@each(ROOTS["definitions"])
def test_a_definition_that_joins_roots(vector: dict[str, Any]) -> None:
    root = certificates.fingerprint(certificate(ROOTS["roots"][vector["root"]]))
    least = vector.get("min_version", 0)
    found = holds(vector, lambda: verify.verify_definition(vector["token"], root, min_version=least))
    if found is not None:
        assert len(found.trust.roots) == vector["roots"]
        assert found.trust.fingerprint == certificates.fingerprint(certificate(ROOTS["roots"]["old"]))


@each(SITES["installations"])
def test_an_installation_id_of_a_host_or_forest(vector: dict[str, Any]) -> None:
    found = parse_installation_id(vector["installation_id"])
    assert isinstance(found, SiteInstallationId)
    assert found.to_bytes().hex() == vector["bytes"]
    assert (found.reference, found.nonce.hex(), found.revocation_id, found.ends_at) == tuple(
        vector[name] for name in ("reference", "nonce", "revocation_id", "ends_at")
    )
    data, signature = bytes.fromhex(vector["message"]), bytes.fromhex(vector["signature"])
    verify_confirmation(bytes.fromhex(SITES["phone_key"]), data, signature)


@each(SITES["objects"])
def test_an_activation_object_by_telephone(vector: dict[str, Any]) -> None:
    holds(vector, lambda: verify_activation_object(vector["token"], phone_trust(vector)))


@each(SITES["hosts"])
def test_what_a_host_that_called_signs(vector: dict[str, Any]) -> None:
    typ = vector.get("typ", verify.REFUSAL)
    holds(vector, lambda: verify.verify(vector["token"], phone_trust(vector), typ))
