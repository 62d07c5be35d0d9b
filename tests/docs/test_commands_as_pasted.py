# SPDX-License-Identifier: Apache-2.0
"""Each command that the help and the guides show is one that the parsers take, with the words behind it, as pasted.

Not here: what the commands do (``test_tour.py``, and the tests of the rooms).
"""

import argparse
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from volact.cli.main import EPILOG, GROUPS, build_parser
from volact.core.errors import VolactError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]

BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<lines>.*?)^```", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^\w*[$#] +")
OPERATOR = re.compile(r"[();<>|&]+")
ASSIGNMENT = re.compile(r"\w+=\S*")

# What a reader fills in: a fingerprint that is cut short, and what the shell puts in the place of a variable.
FILLED_IN = (
    (re.compile(r"sha256:[0-9a-f]*…|\$(?:ROOT|1)\b"), "sha256:" + 64 * "0"),
    (re.compile(r"\$\(tail.*?\)"), "ABCDE"),
)


def _groups() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The groups whose extra is here: that of the directory has to be built."""
    for group in GROUPS:
        with suppress(ModuleNotFoundError):
            yield group, build_parser(group)


PARSERS = dict(_groups())


def _within(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in {id(verb): verb for verb in action.choices.values()}.values():
                yield from _within(verb)


@pytest.mark.parametrize("group", PARSERS)
def test_each_example_of_a_groups_help_can_be_pasted(group: str) -> None:
    lines = [line for verb in _within(PARSERS[group]) for line in _lines(verb.epilog or "") if line.startswith("  ")]
    assert [wrong for line in lines for wrong in _not_taken(line)] == []


def test_each_example_of_the_first_help_can_be_pasted() -> None:
    lines = [line for line in _lines(EPILOG) if line.startswith("  ")]
    assert len(lines) >= 4
    assert [wrong for line in lines for wrong in _not_taken(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_of_a_page_can_be_pasted(page: Path) -> None:
    assert [wrong for line in _typed(page) for wrong in _not_taken(line)] == []


def test_words_behind_an_example_that_are_no_comment_are_noticed() -> None:
    assert _not_taken("  volact host status          # count, threshold") == []
    assert _not_taken("  volact host status          count, threshold") != []
    assert _not_taken("ROOT=$(volact publisher certificate) && volact host status --jsn 2>&1 | less") != []


def _lines(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def _typed(page: Path) -> Iterator[str]:
    """What a reader types: all lines of a script, and those behind a prompt where answers are shown too."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        for line in _lines(block["lines"]) if block["kind"] in {"", "sh", "console"} else ():
            if block["kind"] != "console" or PROMPT.match(line):
                yield PROMPT.sub("", line)


def _not_taken(line: str) -> list[str]:
    """What the parsers say against the commands of a line."""
    for what, value in FILLED_IN:
        line = what.sub(value, line)
    said = []
    for command in _commands(line) if "volact " in line else ():
        try:
            PARSERS[command[1]].parse_args(command[2:])
        except VolactError as exc:
            said.append(f"{line.strip()}: {exc}")
        except SystemExit:
            assert "--help" in command, line
    return said


def _commands(line: str) -> Iterator[list[str]]:
    """Those of the line's commands that are ours, each as its words."""
    lexer = shlex.shlex(re.sub(r"\s[12]>", " >", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if not OPERATOR.fullmatch(word):
            command += [word] if command or not ASSIGNMENT.fullmatch(word) else []
            continue
        if command[:1] == ["volact"] and command[1:2] and command[1] in PARSERS:
            yield command
        command = []
