# SPDX-License-Identifier: Apache-2.0
"""``volact publisher``'s verbs of agreements, MAK and retail keys, revocation and returns, as they are typed."""

import csv
import io
import json
import stat
from pathlib import Path

import pytest

from volact.cli.environment import Environment
from volact.cli.main import main
from volact.core.product_key import Channel, ProductKey

NOW = 1_800_000_000
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "acme-cad.toml"


class Shell:
    """Types commands; ``out`` and ``err`` are what the last one printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pass.txt").write_text("correct horse\n")
        self.variables = {
            "VOLACT_PUBLISHER_DIR": str(folder / "publisher"),
            "VOLACT_PUBLISHER_PASSPHRASE_FILE": str(folder / "pass.txt"),
            "SUDO_USER": "alice",
        }
        self.out = self.err = ""

    def run(self, *words: object) -> int:
        out, err = io.StringIO(), io.StringIO()
        env = Environment(out, err, io.StringIO(), self.variables, lambda: NOW, dict, lambda: "machine")
        code = main(["publisher", *map(str, words)], env)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def ok(self, *words: object) -> str:
        assert self.run(*words) == 0, self.err
        return self.out

    def json(self, *words: object):
        return json.loads(self.ok(*words, "--json"))

    def fail(self, *words: object) -> str:
        assert self.run(*words, "--json") == 1, self.out
        assert self.err.startswith("volact: error: ")
        return json.loads(self.out)["error"]["code"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("publisher"))
    shell.ok("init", "--name", "Acme Software")
    shell.ok("product", "add", EXAMPLE)
    shell.ok("organisation", "add", "Example Ltd")
    shell.ok("agreement", "add", "EA-1", "--organisation", "Example Ltd", "--quantity", "clients=100")
    return shell


def issue(kind, *more):
    return ("key", "issue", "--organisation", "Example Ltd", "--kind", kind, "--product", "acme-cad", "--group", *more)


def test_a_mak_is_printed_alone_and_its_pool_is_told(shell):
    text = shell.ok(*issue("mak", "clients", "--activations", 50)).strip()
    assert ProductKey.strict(text).channel is Channel.MAK
    assert "for 50 activations" in shell.err
    shown = shell.json("key", "show", text)
    assert (shown["kind"], shown["activations"], shown["used"], shown["remaining"]) == ("mak", 50, 0, 50)
    assert (shown["returned"], shown["machines"], shown["agreement"]) == (0, [], None)
    assert "0 of 50 used, 50 left" in shell.ok("key", "show", text)
    assert "0 of 50" in shell.ok("key", "list")


def test_a_mak_takes_its_pool_from_the_agreement(shell):
    assert shell.json(*issue("mak", "clients", "--agreement", "EA-1"))["activations"] == 100
    assert shell.fail(*issue("mak", "clients")) == "key-limit-unfit"
    assert shell.fail(*issue("mak", "servers", "--agreement", "EA-1")) == "agreement-group"
    assert shell.fail(*issue("mak", "clients", "--agreement", "EA-9")) == "agreement-missing"


def test_retail_keys_come_as_lines_json_or_csv(shell):
    lines = shell.ok(*issue("retail", "clients", "--count", 3)).splitlines()
    assert [ProductKey.strict(line).channel for line in lines] == [Channel.RETAIL] * 3
    keys = shell.json(*issue("retail", "clients", "--count", 2))["keys"]
    assert [(one["kind"], one["activations"]) for one in keys] == [("retail", 1)] * 2
    file = shell.folder / "keys.csv"
    shell.ok(*issue("retail", "clients", "--count", 4, "--activations", 2, "--csv", "-o", file))
    assert shell.out == ""
    assert "wrote 4 keys" in shell.err
    assert "for 2 activations each" in shell.err
    assert "hand them over now" in shell.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [(row["kind"], row["activations"], row["organisation"]) for row in rows] == [
        ("retail", "2", "Example Ltd")
    ] * 4
    assert shell.json("key", "show", rows[0]["key"])["partial"] == rows[0]["partial"]


def test_a_customer_s_name_in_csv_is_no_formula_of_a_spreadsheet(shell):
    name = '=HYPERLINK("x")'
    shell.ok("organisation", "add", name)
    words = ["--organisation", name, "--kind", "retail", "--product", "acme-cad", "--group", "clients", "--csv"]
    rows = list(csv.DictReader(io.StringIO(shell.ok("key", "issue", *words))))
    assert [row["organisation"] for row in rows] == [f"'{name}"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (issue("retail", "clients", "--count", 0), "key-count-unfit"),
        (issue("retail", "clients", "--count", 10_001), "key-count-unfit"),
        (issue("retail", "clients", "--hosts", 2), "key-option-unfit"),
        (issue("kms-host", "clients", "--count", 2), "key-option-unfit"),
        (issue("mak", "clients", "--activations", 0), "key-limit-unfit"),
    ],
)
def test_options_that_do_not_fit_issue_nothing(shell, words, code):
    before = len(shell.json("key", "list"))
    assert shell.fail(*words) == code
    assert len(shell.json("key", "list")) == before


def test_a_key_is_raised_and_superseded(shell):
    text = shell.ok(*issue("mak", "clients", "--activations", 5)).strip()
    assert shell.json("key", "raise", text, "--activations", 8)["remaining"] == 8
    assert shell.fail("key", "raise", text, "--activations", 7) == "key-not-raised"
    assert shell.fail("key", "raise", text, "--hosts", 7) == "key-option-unfit"
    new = shell.json("key", "supersede", text)
    assert new["activations"] == 8
    old = shell.json("key", "show", text)
    assert (old["superseded_by"], old["blocked_reason"]) == (new["key_id"], f"superseded by {new['partial']}")
    assert shell.fail("key", "supersede", text) == "key-superseded"
    host = shell.ok(*issue("kms-host", "servers")).strip()
    assert shell.json("key", "raise", host, "--hosts", 9)["hosts"] == 9


def test_agreements_are_added_changed_and_shown(shell):
    words = ("--organisation", "Example Ltd", "--quantity", "102=7", "--quantity", "servers=2")
    added = shell.json("agreement", "add", "EA-2", *words, "--start", "2027-01-01", "--end", "2028-01-01")
    assert added["quantities"] == {"101": 2, "102": 7}
    assert (added["starts_at"], added["ends_at"]) == ("2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z")
    assert shell.json("agreement", "change", "EA-2", "--end", "2029-01-01")["ends_at"] == "2029-01-01T00:00:00Z"
    assert shell.json("agreement", "change", "EA-2", "--no-end")["ends_at"] is None
    shell.ok(*issue("mak", "clients", "--agreement", "EA-2", "--activations", 20))
    shown = shell.json("agreement", "show", "EA-2")
    assert shown["groups"] == [
        {"group": 101, "quantity": 2, "keys": 0, "activations": 0, "used": 0},
        {"group": 102, "quantity": 7, "keys": 1, "activations": 20, "used": 0},
    ]
    assert len(shown["keys"]) == 1
    assert "EA-2" in shell.ok("agreement", "list")
    assert "licences" in shell.ok("agreement", "show", "EA-2")
    assert shell.fail("agreement", "add", "EA-2", *words) == "agreement-taken"
    assert shell.fail("agreement", "add", "EA-3", *words[:2], "--quantity", "none=2") == "product-group-unknown"
    assert shell.fail("agreement", "add", "EA-3", *words, "--end", "2020-01-01") == "agreement-dates"
    assert shell.run("agreement", "add", "EA-3", *words, "--end", "tomorrow") == 2
    assert shell.run("agreement", "add", "EA-3", *words[:2], "--quantity", "clients") == 2


def test_the_status_is_shown_and_exported(shell):
    assert shell.json("status", "show")["epoch"] == 1
    assert shell.json("revoke", "issuer", "AB" * 32, "--since", "2027-01-02")["epoch"] == 2
    (one,) = shell.json("status", "show")["revoked"]
    assert one == {"signer": "ab" * 32, "since": "2027-01-02T00:00:00Z"}
    assert shell.ok("status", "export").count(".") == 2
    about = shell.json("status", "export", "-o", shell.folder / "acme.volstatus")
    assert (about["epoch"], (shell.folder / "acme.volstatus").read_text().count(".")) == (2, 2)
    assert shell.fail("revoke", "issuer", "abc") == "thumbprint-unfit"
    assert shell.fail("revoke", "host", "nobody") == "host-not-certified"
    assert shell.fail("revoke", "organisation", "Nobody") == "organisation-missing"


def test_a_return_that_is_none_is_refused(shell):
    (shell.folder / "rubbish.volreturn").write_text("a.b.c")
    assert shell.fail("return", shell.folder / "rubbish.volreturn") == "malformed"
    assert shell.fail("return", shell.folder / "nowhere") == "file-unreadable"


def test_a_database_with_a_password_in_its_address_makes_no_publisher(shell):
    url = "postgresql://acme:secret@db.example/publisher"
    folder = shell.folder / "other"
    assert shell.fail("init", "--name", "Other", "--dir", folder, "--database", url) == "database-address-unfit"
    assert "secret" not in shell.out + shell.err
    assert not folder.exists()


def test_the_ledger_is_whole_after_all_of_it(shell):
    assert shell.json("ledger", "verify")["rows"] > 10
