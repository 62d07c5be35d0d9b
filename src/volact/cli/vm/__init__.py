# SPDX-License-Identifier: Apache-2.0
"""``volact vm``: one file a family of verbs; those that a KMS host has too are in ``cli.issuer``."""

import argparse

from volact.cli import options
from volact.cli.issuer import activate, backup, phone, revocation, setup
from volact.cli.vm import serve, show
from volact.cli.vm.common import HOSTING


def build(parser: argparse.ArgumentParser) -> None:
    group = options.verbs(parser)
    setup.build(group, HOSTING)
    activate.build(group, HOSTING)
    phone.build(group, HOSTING)
    revocation.build(group, HOSTING)
    backup.build(group, HOSTING)
    for family in (serve, show):
        family.build(group)
