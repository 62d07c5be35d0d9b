# SPDX-License-Identifier: Apache-2.0
"""The call as it is typed: digits at the caller's prompt and at the desk's, slips of both, pasted text, QR codes."""

import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from support.phone_desk import EXAMPLE, NOW
from support.typist import Typist, slow, wrong
from volact.core.phone import ConfirmationId, InstallationId


@pytest.fixture
def clock():
    return lambda: NOW


@pytest.fixture
def operator(tmp_path, clock):
    """A publisher with a product, all of it typed."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a passphrase for tests\n")
    typist = Typist(
        tmp_path / "publisher",
        ("publisher",),
        clock,
        variables={"VOLACT_PUBLISHER_PASSPHRASE_FILE": str(passphrase), "SUDO_USER": "alice"},
    )
    typist.good("init", "--name", "Acme Software")
    typist.good("product", "add", EXAMPLE)
    typist.good("organisation", "add", "Contoso")
    return typist


@pytest.fixture
def key(operator):
    issue = ("key", "issue", "--organisation", "Contoso", "--kind", "mak", "--product", "acme-cad")
    return operator.good(*issue, "--group", "101", "--activations", 2, "--json").json["key"]


@pytest.fixture
def caller(tmp_path, operator, key, clock):
    typist = Typist(tmp_path / "client", ("client",), clock)
    file = tmp_path / "acme-cad.volproduct"
    operator.good("product", "export", "acme-cad", "-o", file)
    root = operator.good("certificate", "--json").json["root"]
    typist.good("add-product", file, "--root", root)
    edition = json.loads(typist.type("install-key", "acme-cad", key, "--json").out)
    if "error" in edition:
        typist.good("install-key", "acme-cad", key, "--edition", edition["error"]["fields"]["editions"].split(", ")[0])
    return typist


def test_a_call_from_the_first_digit_to_the_licence(operator, caller, key):
    shown = caller.good("installation-id", "acme-cad")
    assert "Acme Software" in shown.err
    answered = operator.good("phone", lines=f"{slow(shown.digits)}{key[-5:]}\nMr Smith, no network\n")
    for said in ("customer: Contoso", "2 of 2 activations left", "group  1 of 11: ", "one activation used; 1 of 2"):
        assert said in answered.err
    applied = caller.good("apply", "acme-cad", lines=slow(answered.digits))
    assert applied.out == "acme-cad: licensed, activated by telephone\n"
    assert "group 20 of 20: " in applied.err
    assert caller.good("status", "--json").json["products"][0]["licensed"]
    assert "permanently" in caller.good("expiry", "acme-cad").out
    assert operator.good("ledger", "verify").code == 0


def test_a_wrong_group_is_named_at_once_and_asked_for_again(operator, caller, key):
    groups = caller.good("installation-id", "acme-cad", "--json").json["groups"]
    lines = [*groups[:4], wrong(groups[4]), groups[4][:6], f"{groups[4][:6]}O", *groups[4:], key[-5:], "why"]
    answered = operator.good("phone", lines="\n".join(lines) + "\n")
    assert "volact: the installation ID has a mistake in group 5\n" in answered.err
    assert "volact: group 5 of the installation ID has 6 digits instead of 7\n" in answered.err
    assert "volact: group 5 cannot contain 'O'\n" in answered.err
    assert answered.err.count("group  5 of 11: ") == 4
    typed = slow(answered.digits).splitlines()
    applied = caller.good("apply", "acme-cad", lines="\n".join([*typed[:19], wrong(typed[19]), typed[19], ""]))
    assert "volact: the confirmation ID has a mistake in group 20\n" in applied.err


def test_groups_may_be_typed_several_in_a_line(operator, caller, key):
    groups = caller.good("installation-id", "acme-cad", "--json").json["groups"]
    lines = [" ".join(groups[:3]), "-".join([*groups[3:5], wrong(groups[5])]), "".join(groups[5:]), key[-5:], "why"]
    answered = operator.good("phone", lines="\n".join(lines) + "\n")
    assert answered.err.count("group  6 of 11: ") == 1
    assert "mistake in group 6" in answered.err


def test_the_first_group_tells_that_it_is_somebody_else_s_answer(operator, caller, key):
    first = caller.good("installation-id", "acme-cad", "--text").out
    answer = operator.good("phone", "--installation-id", first, "--key", key, "--reason", "why", "--text").out
    while True:  # one serial in ten thousand has the same four digits
        second = caller.good("installation-id", "acme-cad", "--text", "--new").out
        if InstallationId.parse(second).reference != InstallationId.parse(first).reference:
            break
    refused = caller.type("apply", "acme-cad", lines=slow(answer)[:8])
    assert refused.code == 1
    assert "this confirmation ID answers another installation ID" in refused.err
    assert "the input ended at group 1 of 20; nothing was changed" in refused.err
    assert caller.type("apply", "acme-cad", answer).code == 1


def test_text_can_be_pasted_at_both_ends(operator, caller, key):
    text = caller.good("installation-id", "acme-cad", "--text").out
    assert str(InstallationId.parse(text)) + "\n" == text
    options = ("--installation-id", "-", "--key", key[-5:], "--reason", "by mail")
    answered = operator.good("phone", *options, "--text", lines=text, terminal=False)
    assert str(ConfirmationId.parse(answered.out)) + "\n" == answered.out
    assert caller.good("apply", "acme-cad", "-", lines=answered.out, terminal=False).code == 0


def test_a_confirmation_id_comes_as_an_argument_or_a_file(tmp_path, operator, caller, key):
    text = caller.good("installation-id", "acme-cad", "--text").out
    options = ("--installation-id", text, "--key", key[-5:], "--reason", "by mail")
    answered = operator.good("phone", *options, "--json").json
    assert (answered["organisation"], answered["remaining"], answered["kind"]) == ("Contoso", 1, "activated")
    file = tmp_path / "confirmation.txt"
    file.write_text("\n".join(answered["groups"]))
    assert caller.good("apply", "acme-cad", "--file", file, "--json").json["licensed"]
    assert caller.good("apply", "acme-cad", answered["confirmation_id"], "--json").json["licensed"]
    assert caller.good("apply", "acme-cad", *answered["groups"], "--json").json["licensed"]
    assert caller.type("apply", "acme-cad", "--file", file, *answered["groups"]).code == 2
    assert caller.type("apply", "acme-cad", "--file", tmp_path / "none").code == 1


def test_a_qr_code_holds_the_digits(operator, caller, key):
    shown = caller.good("installation-id", "acme-cad", "--qr").out
    assert "█▀▀" in shown or "▄▄▄" in shown
    text = shown.splitlines()[-1]
    options = ("--installation-id", text, "--key", key[-5:], "--reason", "scanned")
    answer = operator.good("phone", *options, "--qr").out.splitlines()[-1]
    assert caller.good("apply", "acme-cad", answer).code == 0


def test_aliases_of_slmgr_do_the_same(operator, caller, key):
    text = caller.good("dti", "acme-cad", "--text").out
    options = ("--installation-id", text, "--key", key[-5:], "--reason", "why", "--text")
    assert caller.good("atp", "acme-cad", operator.good("phone", *options).out).code == 0


def test_a_caller_without_the_key_is_not_answered(operator, caller, key):
    groups = caller.good("installation-id", "acme-cad", "--json").json["groups"]
    refused = operator.type("phone", lines="".join(f"{group}\n" for group in groups) + "AAAAA\nwhy\n")
    assert refused.code == 1
    assert refused.out == ""
    assert "does not end in AAAAA" in refused.err
    assert key[-5:] not in refused.err  # nor does the desk help the caller guess


@pytest.mark.parametrize("missing", ["--installation-id", "--key", "--reason"])
def test_a_script_must_answer_every_question(operator, caller, key, missing):
    text = caller.good("installation-id", "acme-cad", "--text").out.strip()
    options = {"--installation-id": text, "--key": key, "--reason": "why"}
    del options[missing]
    refused = operator.type("phone", *(word for pair in options.items() for word in pair), terminal=False)
    assert refused.code == 1
    assert f"give {missing}" in refused.err
    assert refused.out == ""


def test_a_line_that_is_cut_leaves_nothing_behind(caller):
    caller.good("installation-id", "acme-cad")
    cut = caller.type("apply", "acme-cad", lines="")
    assert cut.code == 1
    assert "the input ended at group 1 of 20; nothing was changed" in cut.err
    assert not list(caller.folder.rglob("answers"))


def test_apply_before_installation_id_says_what_comes_first(caller):
    refused = caller.type("apply", "acme-cad")
    assert refused.code == 1
    assert "run `volact client installation-id acme-cad`" in refused.err
    assert "group" not in refused.err


def test_an_older_publisher_makes_its_phone_key_later(operator):
    (operator.folder / "keys" / "phone.json").unlink()
    refused = operator.type("phone")
    assert refused.code == 1
    assert "--make-key" in refused.err
    assert operator.good("phone", "--make-key").code == 0
    assert operator.type("phone", "--make-key").code == 1
    newer = EXAMPLE.read_text().replace("version = 1", "version = 2", 1)
    file = operator.folder.parent / "newer.toml"
    file.write_text(newer)
    operator.good("product", "add", file)


def test_what_was_activated_by_telephone_is_shown_and_is_no_jws(operator, caller, key):
    text = caller.good("installation-id", "acme-cad", "--text").out
    options = ("--installation-id", text, "--key", key[-5:], "--reason", "why", "--text")
    caller.good("apply", "acme-cad", operator.good("phone", *options).out)
    info = caller.good("info", "acme-cad", "--json").json
    assert (info["state"], info["licence_ends_at"]) == ("licensed", None)
    assert info["licence_issued_at"] == "2027-01-15T00:00:00Z"
    assert caller.good("info", "acme-cad").code == 0
    refused = caller.type("licence", "acme-cad")
    assert refused.code == 1
    assert "made by telephone" in refused.err


@pytest.mark.parametrize("clock", [lambda: int(time.time())], ids=["the real clock"])
def test_a_person_types_at_real_terminals(operator, caller, key, clock):
    """Both commands as processes, each at a pseudo-terminal of its own."""
    shown = run_process([*caller.words, "installation-id", "acme-cad", "--text", "--dir", caller.folder], {})
    assert "group" not in shown
    groups = shown.strip().split("-")
    typed = [*groups[:2], wrong(groups[2]), *groups[2:], key[-5:], "Mr Smith"]
    answer = at_terminal([*operator.words, "phone", "--text", "--dir", operator.folder], typed, operator.variables)
    assert "mistake in group 3" in answer
    confirmation = re.findall(r"^[0-9]{7}(?:-[0-9]{7}){19}", answer, re.MULTILINE)[0]
    applied = at_terminal([*caller.words, "apply", "acme-cad", "--dir", caller.folder], confirmation.split("-"), {})
    assert "group 20 of 20: " in applied
    assert "acme-cad: licensed, activated by telephone" in applied


def command(words) -> list[str]:
    return [sys.executable, "-m", "volact.cli.main", *map(str, words)]


def run_process(words, variables) -> str:
    return subprocess.run(
        command(words), env={**os.environ, **variables}, capture_output=True, text=True, check=True
    ).stdout


def at_terminal(words, lines, variables) -> str:
    """Types one line after each prompt; gives back all that the terminal showed."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command(words), stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **variables}, start_new_session=True
    ) as process:
        os.close(slave)
        shown = type_along(master, list(lines))
        assert process.wait(60) == 0, shown
    os.close(master)
    return shown.replace("\r\n", "\n")


def type_along(master: int, lines: list[str]) -> str:
    shown, answered = "", 0
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the process has ended, and its terminal with it
            return shown
        shown += data.decode()
        if lines and shown.endswith(": ") and len(shown) > answered:
            answered = len(shown)
            os.write(master, f"{lines.pop(0)}\n".encode())
