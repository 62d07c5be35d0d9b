# SPDX-License-Identifier: Apache-2.0
"""What ``volact fleet`` says to who runs it: nothing false, nothing missing."""

import os
from io import StringIO
from pathlib import Path

import pytest

from volact.cli.environment import Environment
from volact.cli.main import main
from volact.core.product_key import Channel, ProductKey
from volact.fleet.api import Fleet
from volact.fleet.inventory.filters import FilterError
from volact.fleet.reports.trouble import remedy

FAMILIES = ("jobs", "keys", "proxy", "bundle", "agreements", "schedule", "token", "view")


def run(*words: object) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    env = Environment(out, err, StringIO(), {}, lambda: 1_790_000_000, dict, lambda: "here")
    return main(["fleet", *map(str, words)], env), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_verbs_without_a_verb_shows_its_own(family: str) -> None:
    code, out, _ = run(family)
    assert code == 2
    assert out.startswith(f"usage: volact fleet {family} ")


def test_a_state_that_is_none_is_an_error_with_the_states_there_are(tmp_path: Path) -> None:
    with Fleet.init(tmp_path / "fleet") as fleet:
        with pytest.raises(FilterError, match=r"licenced.*licensed.*notification"):
            fleet.list(filter="state=licenced")
        assert fleet.list(filter="state=none or state~note* or state=grace").total == 0


def test_files_that_are_set_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fleet.init(tmp_path / "fleet").close()
    monkeypatch.chdir(tmp_path)
    assert run("set", "--identity", "keys/fleet", "--known-hosts", "~/hosts", "--dir", "fleet")[0] == 0
    with Fleet.open(tmp_path / "fleet") as fleet:
        settings = fleet.folder.settings
    assert settings.identities == (str(tmp_path / "keys" / "fleet"),)
    assert settings.known_hosts == (os.path.expanduser("~/hosts"),)  # noqa: PTH111 - as a shell would


def test_one_machine_is_told_as_one(tmp_path: Path) -> None:
    Fleet.init(tmp_path / "fleet").close()
    assert "1 machine is new, 0 known already" in run("discover", "pc1", "--dir", tmp_path / "fleet")[2]
    assert "2 machines are new, 1 known already" in run("discover", "pc[1-3]", "--dir", tmp_path / "fleet")[2]


def test_head_office_imports_its_first_keys_and_gets_a_vault(tmp_path: Path) -> None:
    key = str(ProductKey.new(Channel.MAK, 7, 101, bytes(7)))
    with Fleet.init(tmp_path / "lab") as lab, Fleet.init(tmp_path / "head") as head:
        lab.keys_add([key])
        data = lab.export("full", passphrase=b"on paper").data
        signer = run("bundle", "signer", "--dir", tmp_path / "lab")[1].strip()
        shown = head.import_bundle(data, signer=signer, passphrase=b"on paper", dry_run=True)
        assert (shown.added["keys"], head.has_vault()) == (1, False)
        head.import_bundle(data, signer=signer, passphrase=b"on paper")
        assert [row.partial for row in head.keys_list()] == [key[-5:]]
        assert head.has_vault()


def test_the_report_on_failures_says_what_to_do_for_many_machines_too() -> None:
    assert remedy("volact-missing") == (
        "install it: `volact fleet bootstrap --artefact FILE MACHINE`, or say where it is with --command"
    )
    assert "ADDRESS takes SSH connections" in str(remedy("machine-unreachable"))
    assert remedy("machine-refused") is None  # the machine's own advice, another on each
    assert remedy("never-heard-of") is None


@pytest.mark.parametrize(
    ("words", "first"), [(("--sort", "-name"), "pc3"), (("--sort=-name",), "pc3"), (("--sort", "-added,name"), "pc1")]
)
def test_the_other_way_round_is_a_minus(tmp_path: Path, words: tuple[str, ...], first: str) -> None:
    with Fleet.init(tmp_path / "fleet") as fleet:
        fleet.discover(["pc[1-3]"])
    code, out, err = run("list", "--machines", "--columns", "name", *words, "--dir", tmp_path / "fleet")
    assert (code, out.split()[1:2]) == (0, [first]), err
    assert run("view", "save", "last", *words, "--dir", tmp_path / "fleet")[0] == 0
    assert run("list", "--sort", "--json", "--dir", tmp_path / "fleet")[0] == 2
