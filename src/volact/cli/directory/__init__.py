# SPDX-License-Identifier: Apache-2.0
"""``volact directory``: activation objects in Active Directory and LDAP."""

import argparse

from volact.cli.directory import activating, looking, member, preparing
from volact.cli.options import verbs


def build(parser: argparse.ArgumentParser) -> None:
    group = verbs(parser)
    for part in (preparing, activating, looking, member):
        part.build(group)
