# SPDX-License-Identifier: Apache-2.0
"""What the verbs of both kinds of host share: the folder, the store, the host's name and fingerprint."""

import argparse
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from volact.cli.environment import Environment
from volact.core.fingerprint import Fingerprint
from volact.issuer.activation import HostFacts
from volact.issuer.folder import IssuerFolder
from volact.issuer.kind import Kind


class Store(Protocol):
    """What the shared verbs need of a host's store."""

    def log(self, at: int, level: str, code: str, data: Mapping[str, Any], /) -> None: ...

    def close(self) -> None: ...


F = TypeVar("F", bound=IssuerFolder)
S = TypeVar("S", bound=Store)


@dataclass(frozen=True, slots=True)
class Hosting(Generic[F, S]):
    """A kind of host at the command line.  ``role`` names its folder and variables; ``publishers`` and ``remember``
    are the services to use instead of those that the definitions name, by the publisher's root."""

    role: str
    folder: type[F]
    open_store: Callable[[F], S]
    publishers: Callable[[S], Mapping[str, str]]
    remember: Callable[[S, str, str], None]
    virtual: Callable[[], bool] = lambda: False

    @property
    def kind(self) -> Kind:
        return self.folder.kind

    def passphrase_file(self, args: argparse.Namespace, env: Environment) -> Path | None:
        given = getattr(args, "passphrase_file", None) or env.variables.get(self._variable)
        return Path(given) if given else None

    def add_passphrase(self, verb: argparse.ArgumentParser) -> None:
        verb.add_argument(
            "--passphrase-file",
            metavar="FILE",
            help=f"its first line opens the host's keys (default: {self._variable}, or DIR/passphrase)",
        )

    def open_folder(self, args: argparse.Namespace, env: Environment) -> F:
        return self.folder(env.folder(self.role, args.dir), self.passphrase_file(args, env)).check()

    @contextmanager
    def opened(self, args: argparse.Namespace, env: Environment) -> Iterator[tuple[F, S]]:
        folder = self.open_folder(args, env)
        store = self.open_store(folder)
        try:
            yield folder, store
        finally:
            store.close()

    def facts(self, env: Environment, root: str) -> HostFacts:
        """This computer as the publisher with that root sees it."""
        return HostFacts(full_name(env), fingerprint_for(env, root), self.virtual())

    @property
    def _variable(self) -> str:
        return f"VOLACT_{self.role.upper()}_PASSPHRASE_FILE"


def fingerprint_for(env: Environment, root: str) -> Fingerprint:
    """This machine as the publisher with that root sees it."""
    return Fingerprint.of(env.traits(), bytes.fromhex(root.removeprefix("sha256:")))


def full_name(env: Environment) -> str:
    """The host's fully qualified name where the system knows one."""
    name = env.hostname()
    return name if "." in name else socket.getfqdn(name)
