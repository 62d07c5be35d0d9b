# SPDX-License-Identifier: Apache-2.0
"""The client's pages say what the code does: the table of moves, the verbs, the example."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from support.client_machine import PRODUCT
from volact.cli.main import build_parser
from volact.client.activation import online
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing
from volact.core.states import NUMBERS, TRANSITIONS, Event, State
from volact.testing import Site

ROOT = Path(__file__).resolve().parents[3]
STATES = (ROOT / "docs/spec/states.md").read_text(encoding="utf-8")
GUIDES = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/guide").glob("*.md"))


def moves() -> str:
    """The part of the page between its two marks, made from the table in the code."""
    rows = ["| from | by | to |", "|---|---|---|"]
    for state in State:
        for event in Event:
            others = [f"`{after}`" for after in State if after in TRANSITIONS[state][event] and after is not state]
            stays = " or stays" if state in TRANSITIONS[state][event] else ""
            if others:
                rows.append(f"| `{state}` | `{event}` | {', '.join(others)}{stays} |")
    return "\n".join(rows)


def test_the_table_of_moves_is_the_one_in_the_code():
    shown = STATES.split("<!-- moves -->\n")[1].split("\n<!-- end of moves -->")[0]
    assert shown == moves(), f"put this between the marks:\n{moves()}"


def test_every_state_is_listed_with_its_number():
    for state, number in NUMBERS.items():
        assert f"| {number} | `{state}` |" in STATES


def test_every_verb_and_alias_is_in_a_guide():
    verbs = next(action for action in build_parser("client")._actions if action.dest == "verb").choices
    assert verbs is not None
    missing = [verb for verb in verbs if not re.search(rf"`(volact client )?{verb}\b", GUIDES)]
    assert missing == []


def test_the_example_runs_against_a_licensed_folder_and_against_none(tmp_path):
    site = Site.make(now=int(time.time()))
    root, store = site.publisher.fingerprint, ClientStore(tmp_path)
    installing.add_product(store, site.token, root, 0, site.clock())
    installing.install_generic_key(store, PRODUCT, "client")
    assert "initial-grace" in example(root, tmp_path).stderr
    host = site.kms_host()
    host.fill(101, 24)
    route = Route(host, "kms:1688", "given")
    online.activate(PRODUCT, store, [route], LocalMachine.of_system(), site.clock, Random(1))
    assert example(root, tmp_path).stdout == "acme-cad: licensed, edition client\n"
    nowhere = example(root, tmp_path / "nowhere")
    assert (nowhere.returncode, nowhere.stdout) == (0, "acme-cad: running read-only\n")


def example(root: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/check_in_product.py", "--root", root, "--dir", str(folder)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
