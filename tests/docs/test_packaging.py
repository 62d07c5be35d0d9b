# SPDX-License-Identifier: Apache-2.0
"""The files around the package agree with each other: pins with requirements, fragments with the changelog's kinds."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins = _pins()
    unmet = [str(wanted) for wanted in _requirements() if not wanted.specifier.contains(pins.get(wanted.name, "0"))]
    assert not unmet, f"run `make constraints`: {unmet}"


def test_constraints_hold_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []


def test_every_fragment_is_named_for_its_issue_and_kind() -> None:
    kinds = "|".join(kind["directory"] for kind in PYPROJECT["tool"]["towncrier"]["type"])
    named = re.compile(rf"(\d+|\+[\w-]+)\.({kinds})(\.\d+)?\.md|README\.md")
    files = (path.name for path in (ROOT / "newsfragments").iterdir() if not path.name.startswith("."))
    assert [name for name in files if not named.fullmatch(name)] == []


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def _requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        PYPROJECT["build-system"]["requires"],
    ]
    wanted = [Requirement(line) for group in groups for line in group]
    for requirement in wanted:
        requirement.name = canonicalize_name(requirement.name)
    return [requirement for requirement in wanted if requirement.name != "volact"]
