# SPDX-License-Identifier: Apache-2.0
"""Where the console's acts happen: this machine, or another one over SSH.

An act is a command line of ``volact``: the console shows it before it runs it, and whoever prefers a terminal types the
same.  Secrets travel on standard input and never in an argument.  Not here: what to do (``setup``).
"""

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from volact.core.errors import ConfigError

SECONDS = 120.0  # the slowest act asks a publisher that is far away
ROLE_OF = {"doctor": "client"}  # whose folder a group's --dir is, where it has another name
FOR_PROGRAMS = "--json"  # which a person does not type


class CommandFailedError(ConfigError):
    """An act that went wrong; the sentence and the remedy are the command's own."""

    code = "console-command-failed"
    fmt = "{message}"
    remedy = "{hint_text}"


class CommandTimeoutError(ConfigError):
    code = "console-command-slow"
    fmt = "{command} did not end within {seconds} seconds"
    remedy = "look at the machine and its network, then try again; what was done before stays done"


@dataclass(frozen=True, slots=True)
class Command:
    """``words`` after ``volact``; ``given`` goes to its standard input, ``shown`` says what that is."""

    words: tuple[str, ...]
    given: bytes = b""
    shown: str = ""

    def __str__(self) -> str:
        line = shlex.join(("volact", *(word for word in self.words if word != FOR_PROGRAMS)))
        return f"{line} < {self.shown}" if self.shown else line


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command ended with."""

    code: int
    out: bytes
    err: str

    @property
    def value(self) -> Any:
        """What it printed with ``--json``; ``None`` where that was nothing."""
        lines = [line for line in self.out.decode("utf-8", "replace").splitlines() if line.strip()]
        try:
            return json.loads(lines[-1]) if lines else None
        except ValueError:
            return None

    def checked(self) -> "Ended":
        """Itself, where it went well; :class:`CommandFailedError` with the command's own words otherwise."""
        if self.code == 0:
            return self
        raise self.error()

    def error(self) -> CommandFailedError:
        told = self.value.get("error") if isinstance(self.value, dict) else None
        if isinstance(told, dict):
            return failed(str(told.get("message")), str(told.get("remedy", "")), str(told.get("code", "")))
        return failed(_line(self.err, "error") or f"it ended with code {self.code}", _line(self.err, "hint"))


def failed(message: str, remedy: str, original: str = "") -> CommandFailedError:
    """``original``: the error's own code, whose page the console links to."""
    return CommandFailedError(message=message, hint_text=remedy, original=original)


class Target(Protocol):
    """A machine on which commands run."""

    @property
    def name(self) -> str: ...

    @property
    def remote(self) -> bool: ...

    def run(self, command: Command) -> Ended: ...

    def shown(self, command: Command) -> str:
        """The line to type instead."""


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """``program`` runs ``volact``; ``folders`` are the roles' folders, where they are not in the system's place."""

    program: tuple[str, ...]
    folders: Mapping[str, Path]
    name: str = "this machine"
    remote: bool = False

    def run(self, command: Command) -> Ended:
        line = [*self.program, *self._placed(command.words)]
        try:
            done = subprocess.run(line, input=command.given, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise CommandTimeoutError(command=f"volact {command.words[0]}", seconds=int(SECONDS)) from None
        return Ended(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def shown(self, command: Command) -> str:
        return str(Command(self._placed(command.words), b"", command.shown))

    def _placed(self, words: Sequence[str]) -> tuple[str, ...]:
        folder = self.folders.get(ROLE_OF.get(words[0], words[0]))
        return (*words, "--dir", str(folder)) if folder is not None and "--dir" not in words else tuple(words)


def _line(text: str, kind: str) -> str:
    prefix = f"volact: {kind}: "
    return next((line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)), "")
