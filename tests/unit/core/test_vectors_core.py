# SPDX-License-Identifier: Apache-2.0
"""The published vectors of product keys and fingerprints: read by the code, and made by their script, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from volact.core.errors import VolactError
from volact.core.fingerprint import Fingerprint, Match, Tolerance, Trait, compare, normalise
from volact.core.product_key import Channel, ProductKey

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT / "tests" / "vectors"
KEYS = json.loads((VECTORS / "product-key.json").read_bytes())
FINGERPRINTS = json.loads((VECTORS / "fingerprint.json").read_bytes())
READ = {one["name"]: Fingerprint.from_claim(one["claim"]) for one in FINGERPRINTS["fingerprints"]}


def each(vectors, key="name"):
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector[key])


def refused_as(vector, read, value):
    with pytest.raises(VolactError) as caught:
        read(value)
    expected = {name: vector[name] for name in ("groups", "positions", "have") if name in vector}
    assert caught.value.code == vector["error"]
    assert {name: caught.value.fields[name] for name in expected} == expected


@each(KEYS["keys"])
def test_key(vector):
    fields = Channel(vector["channel"]), vector["publisher_tag"], vector["group"], bytes.fromhex(vector["secret"])
    key = ProductKey.strict(vector["key"])
    assert key == ProductKey.new(*fields)
    assert (str(key), key.partial, key.key_id) == (vector["key"], vector["partial"], vector["key_id"])


@each(KEYS["accepted"])
def test_accepted_spelling(vector):
    assert str(ProductKey.parse(vector["text"])) == vector["key"]


@each(KEYS["refused"])
def test_refused_key(vector):
    refused_as(vector, ProductKey.parse, vector["text"])


@each(KEYS["strict_refused"])
def test_spelling_refused_in_files(vector):
    refused_as(vector, ProductKey.strict, vector["text"])


@each(FINGERPRINTS["values"], "raw")
def test_value(vector):
    assert normalise(Trait(vector["trait"]), vector["raw"]) == vector["normalised"]


@each(FINGERPRINTS["fingerprints"])
def test_fingerprint(vector):
    assert READ[vector["name"]].to_claim() == vector["claim"]
    assert READ[vector["name"]].digest.hex() == vector["digest"]


def test_the_machine_is_made_from_its_raw_values():
    raw = {Trait(name): value for name, value in FINGERPRINTS["raw"].items()}
    assert Fingerprint.of(raw, bytes.fromhex(FINGERPRINTS["salt"])) == READ["the machine"]


@each(FINGERPRINTS["comparisons"], "seen")
def test_comparison(vector):
    match = compare(READ[vector["stored"]], READ[vector["seen"]], Tolerance.from_claim(FINGERPRINTS["tolerance"]))
    differing = tuple(vector["differing"])
    assert match == Match(vector["matched"], vector["compared"], vector["within"], differing)


@each(FINGERPRINTS["refused_claims"])
def test_refused_claim(vector):
    refused_as(vector, Fingerprint.from_claim, vector["claim"])


@each(FINGERPRINTS["refused_tolerances"])
def test_refused_tolerance(vector):
    refused_as(vector, Tolerance.from_claim, vector["claim"])


def test_the_script_writes_the_same_vectors(tmp_path):
    subprocess.run([sys.executable, ROOT / "tools" / "make_core_vectors.py", tmp_path], check=True)
    for name in ("product-key.json", "fingerprint.json"):
        assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes()
