# SPDX-License-Identifier: Apache-2.0
"""What the host's verbs share: its folder, store, name and fingerprint."""

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volact.cli.environment import Environment
from volact.core.errors import ConfigError, InputError
from volact.core.fingerprint import Fingerprint
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.host.store import HostStore
from volact.sealing import keys


class FileUnreadableError(InputError):
    code = "file-unreadable"
    fmt = "cannot read {path}: {why}"
    remedy = "check the path and its permissions"


class FileUnwritableError(ConfigError):
    code = "file-unwritable"
    fmt = "cannot write {path}: {why}"
    remedy = "choose another place, or make room there"


def add_passphrase(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help="its first line opens the host's keys (default: VOLACT_HOST_PASSPHRASE_FILE, or DIR/passphrase)",
    )


def passphrase_file(args: argparse.Namespace, env: Environment) -> Path | None:
    given = getattr(args, "passphrase_file", None) or env.variables.get("VOLACT_HOST_PASSPHRASE_FILE")
    return Path(given) if given else None


def open_folder(args: argparse.Namespace, env: Environment) -> HostFolder:
    return HostFolder(env.folder("host", args.dir), passphrase_file(args, env)).check()


@contextmanager
def opened(args: argparse.Namespace, env: Environment) -> Iterator[tuple[HostFolder, HostStore]]:
    folder = open_folder(args, env)
    store = open_store(folder)
    try:
        yield folder, store
    finally:
        store.close()


def read_file(path: str, most: int) -> bytes:
    """A file of at most ``most`` bytes, and one more where it is longer, so that its parser says so."""
    try:
        with Path(path).open("rb") as file:
            return file.read(most + 1)
    except OSError as exc:
        raise FileUnreadableError(path=path, why=exc.strerror or str(exc)) from None


def write_file(path: str, data: bytes) -> None:
    """Whole or not at all."""
    try:
        keys.write_file(Path(path), data, 0o644)
    except OSError as exc:
        raise FileUnwritableError(path=path, why=exc.strerror or str(exc)) from None


def fingerprint_for(env: Environment, root: str) -> Fingerprint:
    """This machine as the publisher with that root sees it."""
    return Fingerprint.of(env.traits(), bytes.fromhex(root.removeprefix("sha256:")))


def full_name(env: Environment) -> str:
    """The host's fully qualified name where the system knows one."""
    name = env.hostname()
    return name if "." in name else socket.getfqdn(name)
