# SPDX-License-Identifier: Apache-2.0
"""What the verbs of ``volact console`` share: the folder and its accounts."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from volact.cli.environment import Environment
from volact.console.application import open_accounts
from volact.console.folder import ConsoleFolder
from volact.fleet.folder import who
from volact.web.access.accounts import Accounts


def folder_of(args: argparse.Namespace, env: Environment) -> ConsoleFolder:
    return ConsoleFolder.open(env.folder("console", args.dir))


@contextmanager
def accounts_of(args: argparse.Namespace, env: Environment) -> Iterator[Accounts]:
    accounts = open_accounts(folder_of(args, env))
    try:
        yield accounts
    finally:
        accounts.store.close()


def actor() -> str:
    return f"command line:{who()}"
