# SPDX-License-Identifier: Apache-2.0
"""Reaching machines: the port that jobs work through, and what runs at its other end.

A :class:`Reach` opens a :class:`Session` on one machine, in which commands run; :mod:`.ssh` is the production's.  What
the commands are (``volact client … --json``) is said by :mod:`.remote`.  Secrets go in by standard input only: an
argument list and an environment are seen by every user of a machine.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Target:
    """Where a machine is.  ``address``, ``port``, ``account``: where they are not what SSH's configuration says."""

    name: str
    address: str | None = None
    port: int | None = None
    account: str | None = None

    @property
    def host(self) -> str:
        return self.address or self.name


@dataclass(frozen=True, slots=True)
class Output:
    """What a command ended with."""

    code: int
    out: bytes
    err: str


class Session(Protocol):
    """One machine, reached.  ``command``, ``account``: what errors name."""

    @property
    def target(self) -> Target: ...

    @property
    def account(self) -> str: ...

    @property
    def volact(self) -> Sequence[str]:
        """The words that run volact there, with sudo where it is needed."""
        ...

    async def run(self, words: Sequence[str], stdin: bytes = b"") -> Output:
        """Run a command to its end.  Raises a :class:`~volact.fleet.reach.errors.MachineError`."""
        ...


class Reach(Protocol):
    def session(self, target: Target) -> AbstractAsyncContextManager[Session]: ...
