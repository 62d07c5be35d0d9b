# SPDX-License-Identifier: Apache-2.0
"""``volact host``: one file a family of verbs; those that a VM host has too are in ``cli.issuer``."""

import argparse

from volact.cli import options
from volact.cli.host import dns, history, serve, settings, show
from volact.cli.host.common import HOSTING
from volact.cli.issuer import activate, backup, phone, revocation, setup


def build(parser: argparse.ArgumentParser) -> None:
    group = options.verbs(parser)
    setup.build(group, HOSTING)
    activate.build(group, HOSTING)
    phone.build(group, HOSTING)
    revocation.build(group, HOSTING)
    backup.build(group, HOSTING)
    for family in (serve, show, history, settings, dns):
        family.build(group)
