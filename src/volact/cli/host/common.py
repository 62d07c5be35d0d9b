# SPDX-License-Identifier: Apache-2.0
"""What the host's verbs share: its folder, store, name and fingerprint."""

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volact.cli.environment import Environment
from volact.core.fingerprint import Fingerprint
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.host.store import HostStore


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


def fingerprint_for(env: Environment, root: str) -> Fingerprint:
    """This machine as the publisher with that root sees it."""
    return Fingerprint.of(env.traits(), bytes.fromhex(root.removeprefix("sha256:")))


def full_name(env: Environment) -> str:
    """The host's fully qualified name where the system knows one."""
    name = env.hostname()
    return name if "." in name else socket.getfqdn(name)
