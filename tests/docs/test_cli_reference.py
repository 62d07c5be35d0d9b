# SPDX-License-Identifier: Apache-2.0
"""The reference of commands is what the parsers say, and every verb helps."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from volact.cli.main import GROUPS, build_parser

ROOT = Path(__file__).resolve().parents[2]


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in {id(verb): verb for verb in action.choices.values()}.values():
                yield from _parsers(verb)


def _installed() -> Iterator[argparse.ArgumentParser]:
    """The groups whose extra is here: that of the directory has to be built."""
    for group in GROUPS:
        with suppress(ModuleNotFoundError):
            yield build_parser(group)


ALL = [parser for group in _installed() for parser in _parsers(group)]


@pytest.mark.needs("bonsai", "gssapi")
def test_the_reference_is_what_the_parsers_say() -> None:
    script = ROOT / "tools" / "make_cli_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("parser", ALL, ids=lambda parser: parser.prog)
def test_help_explains_the_verb_and_each_of_its_options(parser: argparse.ArgumentParser) -> None:
    assert parser.format_help().startswith(f"usage: {parser.prog}")
    assert (parser.description or "").endswith(".")
    silent = [action.option_strings for action in parser._actions if action.option_strings and not action.help]
    assert [option for option in silent if option[-1] not in NAMED_FOR_WHAT_THEY_TAKE] == []


@pytest.mark.parametrize("parser", [p for p in ALL if p.get_default("run")], ids=lambda parser: parser.prog)
def test_every_verb_has_json_and_an_example_of_what_it_takes(parser: argparse.ArgumentParser) -> None:
    assert "--json" in parser._option_string_actions
    own = [action for action in parser._actions if not {"--help", "--dir", "--json"} & set(action.option_strings)]
    assert not own or parser.prog in (parser.epilog or ""), "an example says more than the options"


# An option whose name and value say all: `--organisation NAME`.
NAMED_FOR_WHAT_THEY_TAKE = {"--organisation", "--product"}
