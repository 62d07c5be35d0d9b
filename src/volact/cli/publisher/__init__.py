# SPDX-License-Identifier: Apache-2.0
"""``volact publisher``: one file for each family of verbs.  Wires the room ``publisher`` to the terminal."""

import argparse

from volact.cli.publisher import (
    agreements,
    backup,
    hardware,
    keys,
    ledger,
    oem,
    operators,
    phone,
    products,
    returning,
    revocation,
    rotate,
    service,
    setup,
    tokens,
)


def build(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    setup.build(verbs)
    products.build(verbs)
    agreements.build(verbs)
    keys.build(verbs)
    service.build(verbs)
    phone.build(verbs)
    returning.build(verbs)
    revocation.build(verbs)
    ledger.build(verbs)
    hardware.build(verbs)
    backup.build(verbs)
    oem.build(verbs)
    operators.build(verbs)
    rotate.build(verbs)
    tokens.build(verbs)
