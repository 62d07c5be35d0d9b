# SPDX-License-Identifier: Apache-2.0
"""``volact host``: one file a family of verbs; ``common`` opens the folder and the store."""

import argparse

from volact.cli import options
from volact.cli.host import activate, dns, serve, settings, setup, show


def build(parser: argparse.ArgumentParser) -> None:
    group = options.verbs(parser)
    for family in (setup, activate, serve, show, settings, dns):
        family.build(group)
