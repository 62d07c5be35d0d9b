# SPDX-License-Identifier: Apache-2.0
"""Every published vector of requests, licences, verification and seals, held against the one verifier.

A vector with an ``error`` must fail with that code and no other; one without must be accepted.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from volact.core.encoding import Fields
from volact.core.errors import REGISTRY, TrustError, VolactError
from volact.core.issuer import RevocationStatus
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.sealing import answers, certificates, envelope, markers, objects, proof, verify
from volact.sealing.certificates import Grant, Role

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "vectors"
LICENCE, VERIFICATION, REQUEST, SEAL = (
    json.loads((FOLDER / f"{name}.json").read_bytes()) for name in ("licence", "verification", "request", "seal")
)
REQUEST_CLAIM = ActivationRequest.from_claim(Fields(LICENCE["request"], "request"))
MACHINE = bytes.fromhex(LICENCE["machine"])
GROUPS = [
    (LICENCE, "licences"),
    (LICENCE, "answers"),
    (VERIFICATION, "types"),
    (VERIFICATION, "definitions"),
    (VERIFICATION, "statuses"),
    (VERIFICATION, "descriptors"),
    (VERIFICATION, "grants"),
    (VERIFICATION, "readings"),
    (VERIFICATION, "markers"),
    (VERIFICATION, "sightings"),
    (REQUEST, "requests"),
    (SEAL, "requests"),
    (SEAL, "public_keys"),
    (SEAL, "answers"),
]
ALL = [vector for file, group in GROUPS for vector in file[group]]


def each(file, group):
    return pytest.mark.parametrize("vector", file[group], ids=lambda vector: vector["name"])


def holds(vector, act):
    """Run ``act``; its result where the vector is a good one, ``None`` where it failed as the vector says."""
    if "error" not in vector:
        return act()
    with pytest.raises(VolactError) as caught:
        act()
    assert caught.value.code == vector["error"], str(caught.value)
    return None


def trust_of(file, vector):
    root = certificates.load_der(base64.b64decode(file["roots"][vector.get("root", "acme")]))
    trust = verify.Trust(root)
    return trust.with_status(verify.verify_status(vector["status"], trust)) if "status" in vector else trust


@each(LICENCE, "licences")
def test_licence(vector):
    trusted = holds(vector, lambda: verify.verify_licence(vector["token"], trust_of(LICENCE, vector)))
    if trusted:
        assert trusted.revoked_at == vector.get("revoked_at")
        assert trusted.licence.machine == MACHINE


@each(LICENCE, "answers")
def test_answer(vector):
    def act():
        return answers.verify_answer(
            vector["token"],
            trust_of(LICENCE, vector),
            REQUEST_CLAIM,
            MACHINE,
            group=vector["group"],
            tolerance=vector["tolerance"],
            longest_lease=vector.get("longest_lease"),
            status_max_age=vector.get("status_max_age"),
        )

    answer = holds(vector, act)
    if isinstance(answer, SignedRefusal):
        assert answer.refusal.error().code == "key-blocked"
    elif answer:
        assert answer.licence.nonce == REQUEST_CLAIM.nonce


@each(VERIFICATION, "types")
def test_role_and_type(vector):
    verified = holds(vector, lambda: verify.verify(vector["token"], trust_of(VERIFICATION, {}), vector["typ"]))
    assert verified is None or verified.role in Role


@each(VERIFICATION, "definitions")
def test_definition(vector):
    def act():
        return verify.verify_definition(
            vector["token"], vector["root"], product=vector["product"], min_version=vector["min_version"]
        )

    trusted = holds(vector, act)
    if trusted:
        assert trusted.definition.root == trusted.trust.fingerprint == vector["root"]
        assert verify.root_of_definition(vector["token"]) == vector["root"]


@each(VERIFICATION, "statuses")
def test_status(vector):
    trust = trust_of(VERIFICATION, vector)
    if "seen" in vector:
        trust = trust.with_status(RevocationStatus(vector["seen"], 0))
    status = holds(vector, lambda: verify.verify_status(vector["token"], trust))
    assert status is None or status.epoch >= trust.epoch


@each(VERIFICATION, "descriptors")
def test_descriptor(vector):
    trust = trust_of(VERIFICATION, {})
    if "seen" in vector:
        trust = trust.with_status(RevocationStatus(vector["seen"], 0))

    def act():
        return answers.verify_descriptor(
            vector["token"],
            trust,
            Channel(vector["channel"]),
            now=vector["now"],
            nonce=bytes.fromhex(vector["nonce"]),
            suites=tuple(vector["suites"]),
            status_max_age=vector["status_max_age"],
        )

    trusted = holds(vector, act)
    if trusted:
        assert trusted.descriptor.suite in vector["suites"]
        assert trusted.trust.epoch == 7


@each(VERIFICATION, "grants")
def test_grant(vector):
    grant = holds(vector, lambda: Grant.from_der(bytes.fromhex(vector["der"])))
    if grant:
        assert grant.organisation == vector["organisation"]
        assert sorted(grant.groups) == vector["groups"]
        assert grant.descriptor_signer.hex() == vector["descriptor_signer"]
        assert grant.to_der().hex() == vector["der"]


@each(VERIFICATION, "readings")
def test_reading(vector):
    holds(vector, lambda: objects.verify_reading(vector["token"], trust_of(VERIFICATION, {}), MACHINE))


@each(VERIFICATION, "markers")
def test_marker(vector):
    trusted = holds(vector, lambda: markers.verify_marker(vector["token"], trust_of(VERIFICATION, {})))
    if trusted:
        assert trusted.maker == "Contoso"
        assert 101 in trusted.marker.groups


@each(VERIFICATION, "sightings")
def test_sighting(vector):
    seen = holds(vector, lambda: markers.verify_sighting(vector["token"], MACHINE))
    if seen:
        assert markers.verify_marker(seen.token, trust_of(VERIFICATION, {})).marker.fits(seen.hardware)


@each(REQUEST, "requests")
def test_request(vector):
    proven = holds(vector, lambda: proof.verify_request(vector["token"]))
    if proven:
        assert proven.machine.hex() == vector["machine"]


def opening_key(suite):
    given = SEAL["keys"][suite]
    if suite == envelope.X25519:
        parts: tuple[Any, ...] = (x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(given["private"])),)
    else:
        parts = (
            mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(given["mlkem768_seed"])),
            x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(given["x25519_private"])),
        )
    return envelope.OpeningKey.of(suite, parts)


@pytest.mark.parametrize("suite", [envelope.X25519, envelope.HYBRID])
def test_sealing_key_has_its_public_half_and_name(suite):
    key = opening_key(suite)
    assert key.public.hex() == SEAL["keys"][suite]["public"]
    assert key.id == envelope.key_id(suite, key.public) == SEAL["keys"][suite]["id"]


@each(SEAL, "requests")
def test_sealed_request(vector):
    key = opening_key(vector["suite"])
    sealed = bytes.fromhex(vector["sealed"]) if "sealed" in vector else bytes(vector["length"])
    opened = holds(vector, lambda: key.open_request(sealed))
    assert opened is None or opened.hex() == vector["plaintext"]


@each(SEAL, "public_keys")
def test_sealing_to_a_public_key(vector):
    public = bytes.fromhex(vector["public"])
    sealed = holds(vector, lambda: envelope.seal_request(vector["suite"], public, b"text"))
    assert sealed is None or opening_key(vector["suite"]).open_request(sealed) == b"text"


@each(SEAL, "answers")
def test_sealed_answer(vector):
    response_key, nonce = bytes.fromhex(vector["response_key"]), bytes.fromhex(vector["nonce"])
    opened = holds(vector, lambda: envelope.open_answer(response_key, nonce, bytes.fromhex(vector["sealed"])))
    assert opened is None or opened.hex() == vector["plaintext"]


def test_each_error_of_trust_has_a_vector_that_must_fail():
    codes = {
        code
        for code, kind in REGISTRY.items()
        if issubclass(kind, TrustError) and kind.__module__.startswith("volact.sealing.")
    }
    assert len(codes) > 20
    assert codes - set(errors_in([json.loads(file.read_bytes()) for file in FOLDER.glob("*.json")])) == set()


def errors_in(value):
    """Each ``error`` in a vector file, however its groups are laid out."""
    if isinstance(value, list):
        for inner in value:
            yield from errors_in(inner)
    elif isinstance(value, dict):
        if isinstance(value.get("error"), str):
            yield value["error"]
        yield from errors_in(list(value.values()))


def test_each_role_has_a_vector_for_each_type_and_channel():
    names = {vector["name"] for vector in ALL}
    for role in Role:
        assert {f"{role} licenses channel {channel}" for channel in Channel} <= names
        for typ in {typ for signed in verify.MAY_SIGN.values() for typ in signed}:
            assert f"{role} signs {typ}" in names


def test_vectors_have_names_of_their_own():
    for file, group in GROUPS:
        names = [vector["name"] for vector in file[group]]
        assert len(names) == len(set(names))


def test_the_script_leaves_what_is_published_as_it_is_and_makes_the_same_vectors_anew(tmp_path):
    script: list[str | Path] = [sys.executable, ROOT / "tools" / "make_sealing_vectors.py"]
    subprocess.run([*script, tmp_path], check=True)
    for name, file in (("licence", LICENCE), ("verification", VERIFICATION), ("request", REQUEST), ("seal", SEAL)):
        made = json.loads((tmp_path / f"{name}.json").read_bytes())
        assert outline(made) == outline(file)
        kept = (tmp_path / f"{name}.json").read_bytes()
        subprocess.run([*script, tmp_path], check=True, stdout=subprocess.DEVNULL)
        assert (tmp_path / f"{name}.json").read_bytes() == kept


def outline(file):
    """What does not change from one making to the next: names, expected errors, keys."""
    groups = {name: value for name, value in file.items() if isinstance(value, list)}
    named = {name: [(vector["name"], vector.get("error")) for vector in value] for name, value in groups.items()}
    return named, file["keys"], file["spec"]
