# SPDX-License-Identifier: Apache-2.0
"""``volact fleet``: find machines, ask them, give them keys, activate them, and report.  Guide: docs/guide/fleet.md."""

import argparse

from volact.cli.fleet import activate, backup, jobs, keys, looking, machines, proxy, report, schedule, serve
from volact.cli.options import verbs


def build(parser: argparse.ArgumentParser) -> None:
    group = verbs(parser)
    machines.build(group)
    looking.build(group)
    jobs.build(group)
    keys.build(group)
    activate.build(group)
    proxy.build(group)
    report.build(group)
    schedule.build(group)
    serve.build(group)
    backup.build(group)
