# SPDX-License-Identifier: Apache-2.0
"""Options that many verbs share, and how a verb is declared.  Standard library only."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from volact.cli.environment import Environment

Run = Callable[[argparse.Namespace, Environment], int]


def between(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number in a range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def root_fingerprint(text: str) -> str:
    """The type of ``--root``; colons and capitals, as OpenSSL prints a fingerprint, are accepted."""
    from volact.core.definition import RootMalformedError, parse_root

    try:
        return parse_root(text)
    except RootMalformedError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def path(text: str) -> str:
    """The type of ``--dir`` and ``--image``: a script's variable that is empty must not mean this machine's own."""
    if not text:
        raise argparse.ArgumentTypeError("an empty text names no folder")
    return text


def verbs(parser: argparse.ArgumentParser) -> Any:
    """The place where a group's verbs are added.  Without a verb, the help of these is shown."""
    parser.set_defaults(parser=parser)
    return parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")


def add_family(group: Any, name: str, about: str) -> Any:
    """A noun with verbs of its own: ``keys add``; the place where these are added."""
    return verbs(group.add_parser(name, help=about, description=about[0].upper() + about[1:] + "."))


def add_verb(
    group: Any, name: str, help_text: str, run: Run, *, examples: Sequence[str] = (), aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A verb with ``--dir``, ``--json`` and examples."""
    epilog = "\n".join(("examples:", *(f"  {example}" for example in examples))) if examples else None
    description = help_text[0].upper() + help_text[1:] + "."
    verb: argparse.ArgumentParser = group.add_parser(
        name, help=help_text, description=description, epilog=epilog, aliases=list(aliases)
    )
    verb.add_argument(
        "--dir", type=path, metavar="DIR", help="the role's folder (default: its variable, or the system's place)"
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run)
    return verb
