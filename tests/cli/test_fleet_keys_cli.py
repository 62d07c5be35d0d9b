# SPDX-License-Identifier: Apache-2.0
"""``volact fleet keys``, ``activate``, ``export``: what is said, and what is refused, without any machine."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.processes import Done, volact
from volact.core.product_key import Channel, ProductKey
from volact.fleet.api import Fleet
from volact.fleet.keys.vault import PASSPHRASE_FILE


def make(channel: Channel = Channel.MAK) -> str:
    return str(ProductKey.new(channel, 0xAB1, 101, os.urandom(7)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Fleet.init(tmp_path / "fleet").close()
    return tmp_path / "fleet"


def fleet(folder: Path, *words: object, **how: Any) -> Done:
    return volact("fleet", *words, "--dir", folder, **how)


def test_a_typed_key_is_added_listed_described_and_removed(folder: Path) -> None:
    key = make()
    done = fleet(folder, "keys", "add", stdin=f"{key}\n")
    assert done.out == f"added the mak key ending in {key[-5:]}\n"
    assert (folder / "keys" / PASSPHRASE_FILE).stat().st_mode & 0o777 == 0o600
    assert fleet(folder, "keys", "describe", key[-5:], "the lab's").code == 0
    (row,) = fleet(folder, "keys", "list", "--json").json["keys"]
    assert (row["partial"], row["description"], row["remaining"]) == (key[-5:], "the lab's", None)
    assert key not in str(row)
    assert fleet(folder, "keys", "remove", key[-5:]).code == 0
    assert fleet(folder, "keys", "list", "--json").json["keys"] == []


def test_a_file_with_a_wrong_line_adds_nothing_and_names_the_line_without_the_key(folder: Path, tmp_path: Path) -> None:
    good, wrong = make(), make()[:-1] + "?"
    (tmp_path / "bought.csv").write_text(f"# bought 2027\n{good},office\n{wrong}\n")
    done = fleet(folder, "keys", "add", tmp_path / "bought.csv")
    assert done.code == 1
    assert "line 3" in done.errors[0]
    assert wrong[:17] not in done.err
    assert fleet(folder, "keys", "list", "--json").json["keys"] == []


def test_the_vault_opens_by_its_own_passphrase_only(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"passphrase {name}\n")
    assert fleet(folder, "keys", "add", "--passphrase-file", tmp_path / "one", stdin=make() + "\n").code == 0
    assert not (folder / "keys" / PASSPHRASE_FILE).exists()
    refused = fleet(folder, "keys", "add", "--passphrase-file", tmp_path / "two", "--json", stdin=make() + "\n")
    assert refused.json["error"]["code"] == "vault-passphrase-wrong"
    asked = fleet(folder, "keys", "add", "--json", stdin=make() + "\n")
    assert asked.json["error"]["code"] == "vault-passphrase-missing"
    words = ("--passphrase-file", tmp_path / "one", "--new-passphrase-file", tmp_path / "two")
    assert fleet(folder, "keys", "passphrase", *words).code == 0
    assert fleet(folder, "keys", "add", "--passphrase-file", tmp_path / "two", stdin=make() + "\n").code == 0


def test_a_vault_tells_whom_machines_seal_to(folder: Path) -> None:
    assert fleet(folder, "keys", "vault", "--json").json["error"]["code"] == "vault-missing"
    fleet(folder, "keys", "add", stdin=make() + "\n")
    assert fleet(folder, "keys", "vault", "--json").json["recipient"].startswith("x25519:")


def test_a_key_without_its_definition_cannot_be_asked_about(folder: Path) -> None:
    fleet(folder, "keys", "add", stdin=make() + "\n")
    (one,) = fleet(folder, "keys", "refresh", "--json").json["keys"]
    assert one["error"]["code"] == "fleet-definition-missing"


def test_exports_say_what_they_need(folder: Path, tmp_path: Path) -> None:
    for words, code in (
        ((), "bundle-nothing-waits"),
        (("--everything",), "fleet-export-passphrase"),
    ):
        done = fleet(folder, "export", "-o", tmp_path / "x.volbundle", *words, "--json")
        assert done.json["error"]["code"] == code
        assert not (tmp_path / "x.volbundle").exists()


def test_an_inventory_is_taken_only_from_a_signer_that_was_vouched_for(folder: Path, tmp_path: Path) -> None:
    Fleet.init(tmp_path / "head").close()
    assert fleet(folder, "export", "--without-keys", "-o", tmp_path / "all.volbundle").code == 0
    refused = fleet(tmp_path / "head", "import", tmp_path / "all.volbundle", "--json")
    assert refused.json["error"]["code"] == "bundle-signer-unknown"
    signer = fleet(folder, "bundle", "signer").out.strip()
    assert fleet(tmp_path / "head", "import", tmp_path / "all.volbundle", "--signer", signer).code == 0
    assert fleet(tmp_path / "head", "import", tmp_path / "all.volbundle").code == 0
    (tmp_path / "all.volbundle").write_bytes(b"volact-bundle\nnothing")
    broken = fleet(tmp_path / "head", "import", tmp_path / "all.volbundle", "--json")
    assert broken.json["error"]["code"] == "malformed"


def test_there_must_be_machines_to_act_on(folder: Path) -> None:
    for words in (("activate", "--all"), ("install-key", "--all"), ("proxy", "collect"), ("proxy", "restore", "--all")):
        assert fleet(folder, *words, "--json").json["error"]["code"] == "selection-empty"
    assert fleet(folder, "proxy", "apply", "--json").json["error"]["code"] == "fleet-no-answer"
