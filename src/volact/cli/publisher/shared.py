# SPDX-License-Identifier: Apache-2.0
"""What all verbs of ``volact publisher`` share: options, the folder, the passphrase, who is at the keyboard."""

import argparse
import getpass
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.options import add_family as add_family
from volact.cli.options import path
from volact.core.errors import ConfigError
from volact.publisher.administration.publisher import Publisher
from volact.sealing import keys

PASSPHRASE_VARIABLE = "VOLACT_PUBLISHER_PASSPHRASE_FILE"  # noqa: S105 - names a file

MAX_ACTOR = 100

Verbs = Any  # argparse's action of subparsers has no public name
Run = Callable[[argparse.Namespace, Environment], int]


class PassphraseMissingError(ConfigError):
    code = "passphrase-missing"
    fmt = "the passphrase of the publisher's keys is needed and there is no terminal to ask at"
    remedy = "put it in a file that only you can read, and give --passphrase-file FILE or set {variable}"


class PassphrasesDifferError(ConfigError):
    code = "passphrases-differ"
    fmt = "the two passphrases are not the same"
    remedy = "run the command again; nothing was made"


def add_verb(
    verbs: Verbs, name: str, run: Run, help_text: str, examples: str, *, passphrase: bool = False
) -> argparse.ArgumentParser:
    """A verb with the options that every one has."""
    epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=epilog
    )
    parser.add_argument("--dir", type=path, metavar="DIR", help="the publisher's folder (else VOLACT_PUBLISHER_DIR)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    # Taken by every verb, so that a script may give the same options to each; shown where it is used.
    shown = f"first line: the keys' passphrase (else {PASSPHRASE_VARIABLE})" if passphrase else argparse.SUPPRESS
    parser.add_argument("--passphrase-file", metavar="FILE", help=shown)
    parser.set_defaults(run=run)
    return parser


def folder(args: argparse.Namespace, env: Environment) -> Path:
    return env.folder("publisher", args.dir)


def open_publisher(args: argparse.Namespace, env: Environment) -> Publisher:
    return Publisher.open(folder(args, env))


def read_passphrase(args: argparse.Namespace, env: Environment, *, new: bool = False) -> bytes:
    """From a file, or at the prompt: twice where it is ``new``."""
    file = args.passphrase_file or env.variables.get(PASSPHRASE_VARIABLE)
    if file:
        return keys.read_passphrase(Path(file))
    if not env.stdin.isatty():
        raise PassphraseMissingError(variable=PASSPHRASE_VARIABLE)
    first = getpass.getpass("Passphrase of the publisher's keys: ", stream=env.stderr)
    if new and getpass.getpass("The same again: ", stream=env.stderr) != first:
        raise PassphrasesDifferError()
    return first.encode()


def group_teller(publisher: Publisher) -> Callable[[int], str]:
    """How people are told of a product group: its name, and its number, which certificates and files carry."""
    names = publisher.group_names()
    return lambda number: f"{names[number]} ({number})" if number in names else str(number)


def day(text: str) -> int:
    """The first second of a day that was given as YYYY-MM-DD, UTC."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a date as 2027-12-31") from None


def actor(env: Environment) -> str:
    """Who the ledger says it was: the user, also behind sudo."""
    user = env.variables.get("SUDO_USER", "") or _user()
    return user[:MAX_ACTOR] if user.isprintable() else "unknown"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return f"uid {os.getuid()}"
