# SPDX-License-Identifier: Apache-2.0
"""A person at a keyboard: commands as they are typed, and the digits of a telephone call."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.main import main
from volact.testing.machines import simulated_traits


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def digits(self) -> str:
        """What is read out: the groups that were printed, without the numbers of their rows."""
        return " ".join(line.split(":", 1)[1] for line in self.out.splitlines() if ":" in line)


@dataclass
class Typist:
    """One person at one keyboard."""

    folder: Path
    words: tuple[str, ...]
    clock: Callable[[], int]
    number: int = 1
    variables: dict[str, str] = field(default_factory=dict)

    def type(self, *words: object, lines: str = "", terminal: bool = True) -> Done:
        out, err = io.StringIO(), io.StringIO()
        stdin = Terminal(lines) if terminal else io.StringIO(lines)
        traits = simulated_traits(self.number)
        env = Environment(out, err, stdin, self.variables, self.clock, lambda: traits, lambda: "vault")
        code = main([*self.words, *map(str, words), "--dir", str(self.folder)], env)
        return Done(code, out.getvalue(), err.getvalue())

    def good(self, *words: object, **how: Any) -> Done:
        done = self.type(*words, **how)
        assert done.code == 0, done.err
        return done


def slow(digits: str) -> str:
    """As a person types: a group a line."""
    plain = "".join(char for char in digits if char.isdigit())
    return "".join(f"{plain[start : start + 7]}\n" for start in range(0, len(plain), 7))


def wrong(group: str) -> str:
    return group[:3] + str((int(group[3]) + 1) % 10) + group[4:]
