# SPDX-License-Identifier: Apache-2.0
"""The page that maps VAMT's cmdlets names commands, methods and endpoints that exist."""

import argparse
import re
from pathlib import Path

from volact.cli.main import build_parser
from volact.fleet.api import Fleet
from volact.fleet.rest.application import ROUTERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "vamt.md"
CMDLETS = {
    "Add-VamtProductKey", "Export-VamtData", "Find-VamtManagedMachine", "Get-VamtConfirmationId", "Get-VamtProduct",
    "Get-VamtProductKey", "Import-VamtData", "Initialize-VamtData", "Install-VamtConfirmationId",
    "Install-VamtProductActivation", "Install-VamtProductKey", "Update-VamtProduct",
}  # fmt: skip
ROWS = [re.findall(r"`([^`]+)`", line) for line in PAGE.read_text().splitlines() if re.match(r"\| `\w+-Vamt", line)]


def test_each_cmdlet_has_its_row() -> None:
    assert {row[0] for row in ROWS} == CMDLETS
    assert len(ROWS) == len(CMDLETS)


def test_each_command_is_one() -> None:
    known = set(_verbs(build_parser("fleet"), "volact fleet"))
    assert [row[1] for row in ROWS if row[1] not in known] == []


def test_each_method_is_one() -> None:
    assert [row[2] for row in ROWS if not callable(getattr(Fleet, row[2].removeprefix("Fleet."), None))] == []


def test_each_endpoint_is_one_and_has_the_methods_name() -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    names = {f"{method} {route.path}": route.name for route in routes for method in route.methods}  # type: ignore[attr-defined]
    assert [names.get(row[3]) for row in ROWS] == [row[2].removeprefix("Fleet.") for row in ROWS]


def _verbs(parser: argparse.ArgumentParser, way: str) -> list[str]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                found += [f"{way} {name}", *_verbs(verb, f"{way} {name}")]
    return found
