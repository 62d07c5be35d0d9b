# SPDX-License-Identifier: Apache-2.0
"""``volact publisher token`` as it is typed."""

import io
import json

import pytest

from volact.cli.environment import Environment
from volact.cli.main import main
from volact.publisher.folder.making import init
from volact.sealing.envelope import X25519

NOW = 1_800_000_000


@pytest.fixture
def run(tmp_path):
    init(tmp_path / "acme", "Acme Software", None, X25519, b"pw", NOW, "tester")

    def run(*words):
        out, err = io.StringIO(), io.StringIO()
        variables = {"VOLACT_PUBLISHER_DIR": str(tmp_path / "acme"), "SUDO_USER": "alice"}
        env = Environment(out, err, io.StringIO(), variables, lambda: NOW, dict, lambda: "machine")
        return main(["publisher", *words], env), out.getvalue(), err.getvalue()

    run("organisation", "add", "Example Ltd")
    return run


def test_a_token_is_made_printed_once_listed_and_revoked(run):
    code, out, err = run(
        "token", "make", "fleet", "--organisation", "Example Ltd", "--scope", "keys:read", "--scope", "phone:confirm"
    )
    assert code == 0
    assert out.startswith("vlt_")
    assert out.count("\n") == 1
    assert "for Example Ltd" in err
    (listed,) = json.loads(run("token", "list", "--json")[1])
    assert (listed["scopes"], listed["made_by"], listed["ends_at"]) == (
        ["keys:read", "phone:confirm"], "alice", "2028-01-15T08:00:00Z",
    )  # fmt: skip
    assert out.strip() not in run("token", "list")[1]
    assert json.loads(run("token", "revoke", listed["id"], "--json")[1])["revoked_at"] == "2027-01-15T08:00:00Z"
    assert "revoked" in run("token", "list", "--organisation", "Example Ltd")[1]
    assert [row["act"] for row in json.loads(run("ledger", "list", "--json")[1])][-2:] == [
        "token-made",
        "token-revoked",
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("make", "x"), "token-kind-unfit"),
        (("make", "x", "--role", "viewer", "--scope", "keys:read"), "token-kind-unfit"),
        (("make", " x", "--role", "viewer"), "token-label-unfit"),
        (("make", "x", "--role", "viewer", "--end", "2020-01-01"), "token-end-unfit"),
        (("make", "x", "--organisation", "Nobody", "--scope", "keys:read"), "organisation-missing"),
        (("revoke", "0" * 16), "token-missing"),
    ],
)
def test_what_cannot_be_is_named(run, words, error):
    code, out, _ = run("token", *words, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, error)
