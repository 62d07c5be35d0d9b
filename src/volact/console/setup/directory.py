# SPDX-License-Identifier: Apache-2.0
"""The wizard's steps for activation through a directory: what a form becomes, as command lines of ``volact directory``.

They run on this machine, which reaches the directory by LDAP; the directory is the target.  Passwords are named by
their file, as on the command line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volact.console.setup.host import JSON, KEY_SHOWN, NothingGivenError, WrongKeyKindError
from volact.console.setup.state import SetupState
from volact.console.targets import Command, Target
from volact.core.product_key import Channel, ProductKey

CONNECTION = ("domain", "server", "base", "ca_file", "user", "password_file")


def connection_of(form: Mapping[str, str]) -> dict[str, str]:
    """What says which directory, and as whom: a domain or a server is the least."""
    values = {name: form.get(name, "").strip() for name in CONNECTION}
    if not (values["domain"] or values["server"]):
        raise NothingGivenError(what="the domain, or a server")
    return values


def options(state: SetupState) -> tuple[str, ...]:
    words: list[str] = []
    for name in CONNECTION:
        value = getattr(state, name)
        words += [f"--{name.replace('_', '-')}", value] if value else []
    return tuple(words)


def plan(state: SetupState) -> Command:
    """Shows what preparing would change."""
    return Command(("directory", "prepare", *options(state), JSON))


def prepare(state: SetupState, *, schema: bool) -> Command:
    kept = () if schema else ("--no-schema",)
    return Command(("directory", "prepare", "--yes", *kept, *options(state), JSON))


def check_key(text: str) -> ProductKey:
    if not text.strip():
        raise NothingGivenError(what="the key")
    key = ProductKey.parse(text)
    if key.channel is not Channel.KMS_HOST:
        raise WrongKeyKindError(channel=str(key.channel))
    return key


def activate(
    state: SetupState, key: ProductKey, name: str, definition: Path | None, root: str, publisher: str
) -> Command:
    words = ["directory", "activate", *_asked(name, definition, root)]
    words += ["--publisher", publisher] if publisher else []
    return Command((*words, *options(state), JSON), str(key).encode() + b"\n", KEY_SHOWN)


def request(state: SetupState, key: ProductKey, name: str, definition: Path | None, root: str, out: Path) -> Command:
    words = ["directory", "installation-id", "-o", str(out), *_asked(name, definition, root)]
    return Command((*words, *options(state), JSON), str(key).encode() + b"\n", KEY_SHOWN)


def apply(state: SetupState, answer: bytes) -> Command:
    if not answer:
        raise NothingGivenError(what="the publisher's answer file")
    return Command(("directory", "apply", "-", *options(state), JSON), answer, "the answer file")


def objects(state: SetupState) -> Command:
    return Command(("directory", "list", *options(state), JSON))


def listed(target: Target, state: SetupState) -> list[Mapping[str, Any]]:
    told = target.run(objects(state)).checked().value
    return told if isinstance(told, list) else list(told.get("objects", ()))


def _asked(name: str, definition: Path | None, root: str) -> list[str]:
    words = ["--key-file", "-"]
    words += ["--name", name] if name else []
    words += ["--definition", str(definition), "--root", root] if definition else []
    return words
