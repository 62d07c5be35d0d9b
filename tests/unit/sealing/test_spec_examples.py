# SPDX-License-Identifier: Apache-2.0
"""The specification's examples are the vectors' own, its tables the code's, its script the one that the tests run."""

import json
import re
from pathlib import Path

import pytest

from volact.core.encoding import b64decode
from volact.core.errors import REGISTRY, TrustError
from volact.core.issuer import MOST_REVOKED
from volact.core.refusal import RefusedError
from volact.sealing import certificates, envelope, verify
from volact.sealing.certificates import Role

ROOT = Path(__file__).resolve().parents[3]
SPEC = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "spec").glob("*.md")}
VECTORS = {
    name: json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_bytes())
    for name in ("licence", "verification", "request", "seal")
}
EXAMPLES = [
    ("request", "request", "requests", "a volume client's request"),
    ("licence", "licence", "licences", "a KMS host's licence"),
    ("refusals", "licence", "answers", "a refusal by a kms-host"),
    ("issuer", "verification", "descriptors", "made for our nonce"),
    ("issuer", "verification", "statuses", "a later epoch"),
]


def claims(file, group, name):
    token = next(vector for vector in VECTORS[file][group] if vector["name"] == name)["token"]
    return json.loads(b64decode(token.split(".")[1]))


@pytest.mark.parametrize(("page", "file", "group", "name"), EXAMPLES, ids=lambda value: value)
def test_an_example_is_a_vector(page, file, group, name):
    expected = claims(file, group, name)
    if "status" in expected.get("volact", {}):
        expected["volact"]["status"] = expected["volact"]["status"][:56] + "…"
    assert f'"{name}"' in SPEC[page]
    assert expected in [json.loads(block) for block in re.findall(r"```json\n(.*?)```", SPEC[page], re.DOTALL)]


def test_the_script_is_the_one_that_is_run():
    script = ROOT / "tests" / "integration" / "interop" / "verify_licence.mjs"
    assert f"```js\n{script.read_text(encoding='utf-8')}```" in SPEC["licence"]


def test_the_table_of_roles_is_the_codes():
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.*) \| (.*) \|$", section(SPEC["verification"], "## 2. Roles"), re.MULTILINE
    )
    types = {role: set(listed(cell)) for role, cell, _ in rows}
    channels = {role: set(re.findall(r"`([a-z-]+)`", cell)) for role, _, cell in rows}
    assert types == {role: {name.split("-", 1)[1][:-4] for name in verify.MAY_SIGN[role]} for role in Role}
    assert channels == {role: set(map(str, verify.MAY_LICENSE[role])) for role in Role}


def listed(cell):
    return [] if cell == "–" else cell.split(", ")


def section(page, heading):
    return page.split(heading)[1].split("\n## ")[0]


def test_every_role_and_extension_has_its_object_identifier():
    for role, oid in certificates.ROLE_OIDS.items():
        assert f"| `{role}` | {oid.dotted_string} |" in SPEC["certificates"]
    assert certificates.GRANT_OID.dotted_string in SPEC["certificates"]
    der = VECTORS["verification"]["grants"][0]["der"]
    assert der in SPEC["certificates"].replace("\n    ", "")


def test_every_refusal_is_listed_with_its_fields():
    table = section(SPEC["refusals"], "## Codes")
    codes = {code for code, kind in REGISTRY.items() if issubclass(kind, RefusedError) and code != "refused"}
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == codes
    for code in codes:
        row = next(line for line in table.splitlines() if line.startswith(f"| `{code}` |"))
        named = set(re.findall(r"{(\w+)", REGISTRY[code].fmt + REGISTRY[code].remedy))
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == named


def test_every_error_of_the_verifier_is_listed():
    codes = {code for code, kind in REGISTRY.items() if issubclass(kind, TrustError) and kind.__module__ in VERIFIER}
    listed_codes = set(re.findall(r"`([a-z-]+)`", section(SPEC["verification"], "## 7. Errors")))
    assert len(codes) > 20
    assert codes <= listed_codes


VERIFIER = tuple(f"volact.sealing.{name}" for name in ("verify", "answers", "proof", "jws", "envelope"))


def test_sealing_keys_and_limits_are_the_codes():
    for suite, key in VECTORS["seal"]["keys"].items():
        assert f"`{suite}`" in SPEC["seal"]
        assert envelope.key_id(suite, bytes.fromhex(key["public"])) == key["id"]
    assert VECTORS["seal"]["keys"]["x25519"]["id"] in SPEC["seal"]
    assert VECTORS["seal"]["keys"]["x25519"]["info"] in SPEC["seal"]
    assert f"up to {MOST_REVOKED}" in SPEC["issuer"]
