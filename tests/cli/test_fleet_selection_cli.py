# SPDX-License-Identifier: Apache-2.0
"""What changes something is done to a whole fleet only where somebody says so."""

from pathlib import Path
from typing import Any

import pytest

from support.processes import volact
from volact.fleet.api import Fleet
from volact.fleet.inventory.selection import WholeFleetError

CHANGES = (
    ("install-key",), ("activate",), ("proxy", "restore"), ("bootstrap", "--artefact", "volact.pyz"),
    ("tag", "lab"), ("untag", "lab"), ("set-machine", "--port", "22"), ("remove",),
)  # fmt: skip
ASKS = (("refresh",), ("proxy", "collect"), ("proxy", "backup"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Fleet.init(tmp_path / "fleet") as fleet:
        fleet.discover(["pc1", "pc2"], tags=["office"])
    (tmp_path / "volact.pyz").write_bytes(b"#!/usr/bin/env python3\n")
    return tmp_path / "fleet"


def fleet_command(folder: Path, words: tuple[str, ...], *more: object) -> Any:
    placed = [folder.parent / word if word.endswith(".pyz") else word for word in words]
    return volact("fleet", *placed, *more, "--dir", folder, "--json")


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--filter", " ")], ids=["nothing", "an empty filter"])
def test_a_change_of_everything_by_leaving_something_out_is_refused(
    words: tuple[str, ...], more: tuple[str, ...], folder: Path
) -> None:
    done = fleet_command(folder, words, *more)
    assert (done.code, done.json["error"]["code"]) == (1, "selection-missing")
    assert "--all" in done.json["error"]["remedy"]
    with Fleet.open(folder) as fleet:
        assert fleet.jobs() == []
        assert fleet.list_machines(filter="tag=office").total == 2
        assert fleet.list_machines(filter="tag=lab").total == 0


@pytest.mark.parametrize("words", CHANGES[:4], ids=" ".join)
def test_the_word_all_means_every_machine(words: tuple[str, ...], folder: Path) -> None:
    assert fleet_command(folder, words, "--all", "--no-wait").json["tasks"]["queued"] == 2


@pytest.mark.parametrize("words", CHANGES[4:], ids=" ".join)
def test_the_word_all_means_every_row(words: tuple[str, ...], folder: Path) -> None:
    assert fleet_command(folder, words, "--all").json == {"machines": 2}


@pytest.mark.parametrize("words", CHANGES[:4], ids=" ".join)
@pytest.mark.parametrize("more", [("pc2",), ("--filter", "name=pc2"), ("--all", "pc2")], ids=" ".join)
def test_names_and_filters_choose(words: tuple[str, ...], more: tuple[str, ...], folder: Path) -> None:
    assert fleet_command(folder, words, *more, "--no-wait").json["tasks"]["queued"] == 1


@pytest.mark.parametrize("words", ASKS, ids=" ".join)
def test_what_only_asks_is_for_every_machine(words: tuple[str, ...], folder: Path) -> None:
    assert fleet_command(folder, words, "--no-wait").json["tasks"]["queued"] == 2


@pytest.mark.parametrize("kind", ["activate", "install-key"])
def test_a_schedule_says_so_too(kind: str, folder: Path) -> None:
    words = ("schedule", "add", "nightly", "--cron", "@daily", kind)
    assert fleet_command(folder, words).json["error"]["code"] == "selection-missing"
    assert fleet_command(folder, words, "--all").json["arguments"] == {"all": True}
    assert fleet_command(folder, (*words[:2], "office", *words[3:]), "--filter", "tag=office").code == 0


def test_the_word_all_is_nothing_to_a_report(folder: Path) -> None:
    words = ("schedule", "add", "weekly", "--cron", "@weekly", "keys-refresh", "--all")
    assert fleet_command(folder, words).json["error"]["code"] == "schedule-argument-unfit"


def test_a_program_says_so_too(folder: Path) -> None:
    with Fleet.open(folder) as fleet:
        for act in (fleet.activate, fleet.install_key, fleet.restore, fleet.remove):
            with pytest.raises(WholeFleetError):
                act()
        with pytest.raises(WholeFleetError):
            fleet.make_job("activate", {})
        assert fleet.activate(all=True, wait=False).total == 2
        assert fleet.refresh(wait=False).total == 2
