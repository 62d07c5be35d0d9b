# SPDX-License-Identifier: Apache-2.0
"""``volact publisher`` as it is typed: what it prints, where, with which exit code, and what it leaves behind."""

import argparse
import io
import json
import re
import secrets
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from volact.cli.environment import Environment
from volact.cli.main import build_parser, main
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.product_key import Channel, ProductKey
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.publisher.folder.opening import PublisherFolder
from volact.sealing.envelope import open_answer, seal_request
from volact.sealing.keys import LocalKey
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import verify_definition

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOW = 1_800_000_000
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "acme-cad.toml"


class Shell:
    """Types commands; ``out`` and ``err`` are what the last one printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passphrase = folder / "pass.txt"
        self.passphrase.write_text("correct horse\n")
        self.variables = {
            "VOLACT_PUBLISHER_DIR": str(folder / "publisher"),
            "VOLACT_PUBLISHER_PASSPHRASE_FILE": str(self.passphrase),
            "SUDO_USER": "alice",
        }
        self.stdin: io.StringIO = io.StringIO()
        self.out = self.err = ""

    def run(self, *words: object) -> int:
        out, err = io.StringIO(), io.StringIO()
        env = Environment(out, err, self.stdin, self.variables, lambda: NOW, dict, lambda: "machine")
        code = main(["publisher", *map(str, words)], env)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def ok(self, *words: object) -> str:
        assert self.run(*words) == 0, self.err
        return self.out

    def json(self, *words: object):
        return json.loads(self.ok(*words, "--json"))

    def fail(self, *words: object) -> str:
        """The error's code; sentence and hint are on stderr, the same as JSON on stdout."""
        assert self.run(*words, "--json") == 1, self.out
        first, second = self.err.splitlines()
        assert first.startswith("volact: error: ")
        assert second.startswith("volact: hint: ")
        return json.loads(self.out)["error"]["code"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def site(shell: Shell) -> Shell:
    shell.ok("init", "--name", "Acme Software")
    shell.ok("product", "add", EXAMPLE)
    shell.ok("organisation", "add", "Example Ltd")
    return shell


ISSUE = ("key", "issue", "--organisation", "Example Ltd", "--kind", "kms-host", "--product", "acme-cad", "--group")


def test_init_tells_the_fingerprint_and_to_take_the_root_key_offline(shell):
    shell.ok("init", "--name", "Acme Software", "--url", "https://licensing.acme.example")
    root = re.search(r"sha256:[0-9a-f]{64}", shell.out)
    assert root is not None
    assert "root/root.key to a safe place offline" in shell.err
    assert shell.ok("certificate") == root[0] + "\n"


def test_init_as_json(shell):
    made = shell.json("init", "--name", "Acme Software", "--suite", "mlkem768-x25519")
    assert set(made) == {"name", "dir", "root", "newest_root", "url", "suite", "root_key"}
    assert made["newest_root"] == made["root"], "until the root is rolled over"
    assert (made["name"], made["url"], made["suite"]) == ("Acme Software", None, "mlkem768-x25519")


def test_a_second_init_is_refused_and_the_first_goes_on(site):
    root = site.ok("certificate")
    assert site.fail("init", "--name", "Other") == "publisher-folder-taken"
    assert site.ok("certificate") == root


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("init", "--name", ""), "name-unfit"),
        (("init", "--name", "Acme", "--url", "licensing.acme.example"), "url-invalid"),
        (("init", "--name", "Acme", "--passphrase-file", "/nowhere"), "key-file"),
    ],
)
def test_a_failed_init_leaves_no_folder(shell, words, code):
    assert shell.fail(*words) == code
    assert [path.name for path in shell.folder.iterdir()] == ["pass.txt"]


def test_without_terminal_and_file_the_passphrase_is_asked_for_by_name(shell):
    del shell.variables["VOLACT_PUBLISHER_PASSPHRASE_FILE"]
    assert shell.fail("init", "--name", "Acme") == "passphrase-missing"
    assert "VOLACT_PUBLISHER_PASSPHRASE_FILE" in shell.err
    assert not (shell.folder / "publisher").exists()


def test_the_passphrase_is_asked_for_twice_at_a_terminal(shell, monkeypatch):
    del shell.variables["VOLACT_PUBLISHER_PASSPHRASE_FILE"]
    answers = iter(["one", "two", "same", "same", "same"])
    shell.stdin = Terminal()
    monkeypatch.setattr("getpass.getpass", lambda *_args, **_options: next(answers))
    assert shell.run("init", "--name", "Acme") == 1
    assert "not the same" in shell.err
    shell.ok("init", "--name", "Acme")
    shell.ok("product", "add", EXAMPLE)
    assert next(answers, None) is None


def test_a_wrong_passphrase_adds_nothing(site):
    site.passphrase.write_text("wrong\n")
    assert site.fail("product", "add", EXAMPLE) == "passphrase-wrong"


def test_verbs_without_a_publisher_say_how_to_make_one(shell):
    for words in (("product", "list"), ("key", "list"), ("ledger", "verify"), ("certificate",), ("serve",)):
        assert shell.fail(*words) == "publisher-missing"


def test_certificate_as_pem_and_as_file(site):
    pem = site.ok("certificate", "--pem")
    assert pem.startswith("-----BEGIN CERTIFICATE-----")
    site.ok("certificate", "-o", site.folder / "root.pem")
    assert (site.folder / "root.pem").read_text() == pem
    assert site.json("certificate")["pem"].strip() == pem.strip()


def test_an_exported_definition_verifies_under_the_root(site):
    root = site.ok("certificate").strip()
    site.ok("product", "export", "acme-cad", "-o", site.folder / "acme.volproduct")
    text = (site.folder / "acme.volproduct").read_text()
    assert text.endswith("\n")
    assert verify_definition(text.strip(), root, product="acme-cad").definition.version == 1
    assert site.ok("product", "export", "acme-cad") == text
    assert site.json("product", "export", "acme-cad", "--version", 1)["definition"] == text.strip()


def test_products_are_shown_with_their_generic_keys_and_thresholds(site):
    shown = site.json("product", "show", "acme-cad")
    professional, server = shown["editions"]
    assert (professional["threshold"], server["threshold"]) == (25, 5)
    assert professional["keys"].keys() == {"volume", "vm"}
    assert ProductKey.strict(professional["keys"]["volume"]).channel is Channel.VOLUME
    assert shown["groups"][1] == {"number": 102, "name": "clients", "parent": 101}
    assert professional["keys"]["vm"] in site.ok("product", "show", "acme-cad")
    assert site.json("product", "list")[0]["editions"] == ["professional", "render-server"]


def test_a_file_that_cannot_be_read_or_used_is_named(site):
    assert site.fail("product", "add", "/nowhere.toml") == "file-unreadable"
    (site.folder / "bad.toml").write_text("product = ")
    assert site.fail("product", "add", site.folder / "bad.toml") == "definition-invalid"
    assert site.fail("product", "add", EXAMPLE) == "product-version-not-newer"
    assert site.fail("product", "export", "other") == "product-not-published"
    assert site.fail("product", "export", "acme-cad", "--version", 9) == "product-version-missing"
    assert site.fail("product", "export", "acme-cad", "-o", "/nowhere/x") == "file-unwritable"


def test_a_key_is_printed_alone_and_once(site):
    printed = site.ok(*ISSUE, "servers")
    key = ProductKey.strict(printed.removesuffix("\n"))
    assert (key.channel, key.group) == (Channel.KMS_HOST, 101)
    assert "cannot show it again" in site.err
    for words in (("key", "list"), ("key", "show", key.partial), ("ledger", "list"), ("activations",)):
        assert str(key) not in site.ok(*words)
        assert str(key) not in site.ok(*words, "--json")


def test_limits_come_from_the_policy_or_the_command(site):
    issued = site.json(*ISSUE, "101")
    assert (issued["hosts"], issued["activations"]) == (6, 10)
    issued = site.json(*ISSUE, "clients", "--hosts", 2, "--activations", 3)
    shown = site.json("key", "show", issued["key"])
    assert (shown["hosts"], shown["activations"], shown["hosts_used"], shown["machines"]) == (2, 3, 0, [])
    assert [key["hosts"] for key in sorted(site.json("key", "list"), key=lambda key: key["hosts"])] == [2, 6]


def test_keys_are_only_issued_for_what_exists(site):
    words = list(ISSUE)
    assert site.fail(*words, "nobodies") == "product-group-missing"
    assert site.fail(*words, "101", "--hosts", 0) == "key-limit-unfit"
    words[3] = "Nobody"
    assert site.fail(*words, "101") == "organisation-missing"
    words[3], words[7] = "Example Ltd", "other"
    assert site.fail(*words, "101") == "product-not-published"
    assert site.json("key", "list") == []


def test_kinds_that_do_not_work_are_not_offered(site):
    words = [word if word != "kms-host" else "volume" for word in ISSUE]
    assert site.run(*words, "101") == 2
    assert "invalid choice" in site.err


def test_keys_are_blocked_and_unblocked_and_the_ledger_says_who_and_why(site):
    key = site.ok(*ISSUE, "servers").strip()
    assert site.json("key", "block", key, "--reason", "leaked")["blocked_at"] == "2027-01-15T08:00:00Z"
    assert "blocked: leaked" in site.ok("key", "show", key)
    site.ok("key", "block", key)
    assert "already blocked" in site.err
    assert site.json("key", "unblock", key[-5:])["blocked_at"] is None
    rows = site.json("ledger", "list")
    assert [row["act"] for row in rows[-3:]] == ["key-issued", "key-blocked", "key-unblocked"]
    assert rows[-2]["data"] == {"partial": key[-5:], "reason": "leaked"}
    assert f"partial {key[-5:]}, reason leaked" in site.ok("ledger", "list")
    assert {row["actor"] for row in rows} == {"alice"}
    assert site.fail("key", "show", "ABCDE") == "key-not-issued"
    assert site.fail("key", "block", "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA") == "key-not-issued"


def test_organisations_are_listed_once_each(site):
    assert site.fail("organisation", "add", "Example Ltd") == "organisation-taken"
    assert site.fail("organisation", "add", " ") == "name-unfit"
    site.ok(*ISSUE, "servers")
    assert site.json("organisation", "list") == [
        {"organisation": "Example Ltd", "added_at": "2027-01-15T08:00:00Z", "keys": 1}
    ]


def test_a_request_is_answered_by_file(site):
    key = site.ok(*ISSUE, "servers").strip()
    request, signer = _write_request(site, key)
    told = site.json("answer", site.folder / "r.volrequest", "-o", site.folder / "a.volanswer")
    assert (told["outcome"], told["machine"], told["refusal"]) == ("activated", signer.machine.hex(), None)
    answer = AnswerFile.from_bytes((site.folder / "a.volanswer").read_bytes())
    assert open_answer(request.response_key, request.nonce, answer.sealed)
    (activation,) = site.json("activations", "--key", key)
    assert (activation["kind"], activation["name"]) == ("activated", "kms1")
    assert site.json("activations") == [activation]
    assert site.json("key", "show", key)["machines"][0]["activations"] == 1
    site.ok("answer", site.folder / "r.volrequest", "-o", site.folder / "b.volanswer")
    assert "repeated kms1" in site.err


def test_a_refusal_is_carried_back_too_and_the_operator_is_told(site):
    key = site.ok(*ISSUE, "servers").strip()
    site.ok("key", "block", key)
    _write_request(site, key)
    site.ok("answer", site.folder / "r.volrequest", "-o", site.folder / "a.volanswer")
    assert "refused kms1: the product key ending in" in site.err
    assert (site.folder / "a.volanswer").exists()


def test_what_is_no_request_is_refused_and_no_answer_is_written(site):
    (site.folder / "r.volrequest").write_text("{}")
    assert site.fail("answer", site.folder / "r.volrequest", "-o", site.folder / "a.volanswer") == "malformed"
    key = site.ok(*ISSUE, "servers").strip()
    _write_request(site, key, root="sha256:" + "0" * 64)
    assert site.fail("answer", site.folder / "r.volrequest", "-o", site.folder / "a.volanswer") == "issuer-unknown"
    assert not (site.folder / "a.volanswer").exists()


def test_the_ledger_is_verified_and_exported(site):
    verified = site.json("ledger", "verify")
    assert verified["rows"] == 3
    site.ok("ledger", "export", "-o", site.folder / "ledger.jsonl")
    lines = (site.folder / "ledger.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["hash"] == verified["head"]
    assert site.ok("ledger", "export").splitlines() == lines
    site.ok(*ISSUE, "servers")
    assert site.json("ledger", "verify", "--against", site.folder / "ledger.jsonl")["compared"] == 3
    (site.folder / "ledger.jsonl").write_text("\n".join([*lines, lines[-1].replace('"seq":3', '"seq":9')]))
    assert site.fail("ledger", "verify", "--against", site.folder / "ledger.jsonl") == "ledger-broken"
    (site.folder / "ledger.jsonl").write_text("x" * 100)
    assert site.fail("ledger", "verify", "--against", site.folder / "ledger.jsonl") == "malformed"
    assert site.fail("ledger", "verify", "--against", site.folder / "nothing") == "file-unreadable"


def test_revoking_an_organisation_without_hosts_says_what_was_done(site):
    site.ok(*ISSUE, "servers")
    site.ok("revoke", "organisation", "Example Ltd", "--reason", "does not pay")
    assert "revoked organisation Example Ltd from " in site.err
    assert "epoch 2: its keys are blocked, and no issuer of it revoked" in site.err


def test_people_are_told_product_groups_by_name_and_programs_by_number(site):
    site.ok(*ISSUE, "servers")
    site.ok(
        "agreement", "add", "EX-1", "--organisation", "Example Ltd", "--quantity", "clients=40", "--start", "2027-01-01"
    )
    (key,) = site.json("key", "list")
    assert key["group"] == 101
    for words in (("key", "list"), ("key", "show", key["partial"])):
        assert "servers (101)" in site.ok(*words)
    assert "clients (102)" in site.ok("agreement", "show", "EX-1")
    assert re.search(r"professional +.+ clients +25 +volume ", site.ok("product", "show", "acme-cad"))


def test_an_export_is_continued_from_the_row_after_its_last(site):
    file = site.folder / "ledger.jsonl"
    assert site.json("ledger", "export", "--to", 2, "-o", file)["rows"] == 2
    site.ok(*ISSUE, "servers")
    rest = site.ok("ledger", "export", "--from", 3)
    assert [json.loads(line)["seq"] for line in rest.splitlines()] == [3, 4]
    with file.open("a") as whole:
        whole.write(rest)
    assert file.read_text() == site.ok("ledger", "export")
    assert site.json("ledger", "verify", "--against", file)["compared"] == 4
    assert site.ok("ledger", "export", "--from", 5) == ""


def test_an_export_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(site):
    file = site.folder / "ledger.jsonl"
    file.write_text("before")
    with sqlite3.connect(site.folder / "publisher" / "publisher.db") as database:
        database.execute("UPDATE ledger SET actor = 'nobody' WHERE seq = 2")
    before = {path.name for path in site.folder.iterdir()}
    assert site.fail("ledger", "export", "-o", file) == "ledger-broken"
    assert site.fail("ledger", "export", "-o", site.folder / "nowhere" / "x") == "ledger-broken"
    assert (file.read_text(), {path.name for path in site.folder.iterdir()}) == ("before", before)


def test_a_port_that_is_taken_is_named(site):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert site.fail("serve", "--listen", "127.0.0.1", "--port", taken.getsockname()[1]) == "address-in-use"


def test_every_verb_has_examples_a_folder_and_json():
    verbs = dict(_verbs(build_parser("publisher"), ""))
    assert {"init", "serve", "certificate", "answer", "activations", "product add", "key issue"} <= verbs.keys()
    for name, parser in verbs.items():
        text = parser.format_help()
        assert f"volact publisher {name}" in text.split("examples:")[1], name
        assert "--dir" in text
        assert "--json" in text


def test_every_command_of_the_guide_is_one():
    guide = (DOCS / "guide" / "publisher.md").read_text("utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL) for line in block.splitlines()]
    assert len(commands) > 15
    for command in commands:
        program, group, *words = shlex.split(command)
        assert (program, group) == ("volact", "publisher")
        assert callable(build_parser("publisher").parse_args(words).run), command


def test_every_example_of_the_help_is_a_command():
    for name, parser in _verbs(build_parser("publisher"), ""):
        for line in parser.format_help().split("examples:")[1].strip().replace("\\\n", " ").splitlines():
            words = shlex.split(line.split(" > ")[0])[2:]
            assert " ".join(words).startswith(name)
            assert callable(build_parser("publisher").parse_args(words).run), line


def test_the_specification_checks_an_export_with_standard_tools(site):
    site.ok("organisation", "add", "Überseehandel")
    export = site.ok("ledger", "export")
    program = (DOCS / "spec" / "ledger.md").read_text("utf-8").split("```python")[1].split("```")[0]
    assert _python(program, export) == 0
    assert _python(program, export.replace("Example Ltd", "Example SE")) != 0


def _python(program, text):
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", program], input=text.encode(), capture_output=True)
    return done.returncode


def _verbs(parser, prefix):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                below = list(_verbs(verb, f"{prefix}{name} "))
                yield from below or [(f"{prefix}{name}", verb)]


def _write_request(shell, key, root=None):
    folder = PublisherFolder.open(shell.folder / "publisher")
    sealing = folder.open_keys(b"correct horse").sealing
    signer = MachineSigner(LocalKey.generate())
    request = ActivationRequest(
        issuer=sealing.id,
        product="acme-cad",
        version=1,
        edition="",
        channel=Channel.KMS_HOST,
        nonce=secrets.token_bytes(16),
        response_key=secrets.token_bytes(32),
        at=NOW,
        state=State.UNLICENSED,
        fingerprint=Fingerprint({}),
        name="kms1",
        key=key,
    )
    sealed = seal_request(sealing.suite, sealing.public, signer.request(request).encode())
    file = RequestFile(root or folder.fingerprint, "acme-cad", sealing.id, sealed)
    (shell.folder / "r.volrequest").write_bytes(file.to_bytes())
    return request, signer
