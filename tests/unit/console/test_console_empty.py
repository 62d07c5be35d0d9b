# SPDX-License-Identifier: Apache-2.0
"""A console on a machine where nothing is set up yet: each page says what is missing, and how it begins."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.console import Console
from support.web_client import WebClient
from volact.console.pages import PAGES
from volact.fleet.folder import FILE

PARTS = {"name": "pc1", "number": "1", "key_id": "0" * 40}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Console:
    return Console(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module", params=["admin", "victor"])
def somebody(request: pytest.FixtureRequest, console: Console) -> Iterator[tuple[str, WebClient]]:
    with console.client(request.param) as client:
        yield request.param, client


def test_pages_of_a_fleet_that_is_none_say_so_and_offer_it_to_administrators(somebody: tuple[str, WebClient]) -> None:
    name, client = somebody
    for page in PAGES:
        if page.methods != ("GET",) or not page.path.startswith(("/fleet/", "/administration/mail")):
            continue
        answer = client.get(re.sub(r"{(\w+)}", lambda found: PARTS[found[1]], page.path))
        if page.needs == "administer" and name != "admin":
            assert answer.status_code == 403
            continue
        assert answer.status_code == 200, page.path
        assert "It is not set up on this machine." in answer.text, page.path
        assert ("Set it up" in answer.text) == (name == "admin"), page.path


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/", "There is no KMS host on this machine."),
        ("/hosts/machines", "There is no KMS host on this machine."),
        ("/hosts/guests", "There is no VM host on this machine."),
        ("/events", "There is no KMS host on this machine."),
        ("/events?source=vm", "There is no VM host on this machine."),
        ("/events?source=fleet&text=x", "There is no fleet tool on this machine."),
    ],
)
def test_what_is_not_on_this_machine_is_said(somebody: tuple[str, WebClient], path: str, missing: str) -> None:
    answer = somebody[1].get(path)
    assert answer.status_code == 200
    assert missing in answer.text


def test_a_viewer_is_told_who_may_have_a_machine_examined(somebody: tuple[str, WebClient]) -> None:
    name, client = somebody
    assert ("Operators can have a machine examined here." in client.get("/doctor").text) == (name == "victor")


def test_an_administrator_sets_the_fleet_tool_up_from_its_page(tmp_path: Path) -> None:
    console = Console(tmp_path)
    with console.client("admin") as client:
        offer = client.get("/fleet/keys")
        for _ in range(2):  # whoever comes second finds it there
            assert "The fleet tool is set up." in client.send(offer, "/fleet/begin").text
        assert (tmp_path / "fleet" / FILE).is_file()
        assert "There are no keys in the vault yet." in client.get("/fleet/keys").text
        assert "fleet-init" in client.get("/administration/audit").text


def test_a_folder_that_holds_something_else_is_told_and_left(tmp_path: Path) -> None:
    console = Console(tmp_path)
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "mine.txt").write_text("mine")
    with console.client("admin") as client:
        assert "fleet-folder-taken" in client.send(client.get("/fleet/keys"), "/fleet/begin").text
    assert [one.name for one in (tmp_path / "fleet").iterdir()] == ["mine.txt"]
