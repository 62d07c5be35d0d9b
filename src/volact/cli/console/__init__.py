# SPDX-License-Identifier: Apache-2.0
"""``volact console``: the web console, its accounts, one-time login links."""

import argparse

from volact.cli import options
from volact.cli.console import account, serve


def build(parser: argparse.ArgumentParser) -> None:
    group = options.verbs(parser)
    serve.build(group)
    account.build(group)
