# SPDX-License-Identifier: Apache-2.0
"""``bind-tpm``: the machine's key is made in its TPM, before anything was activated with another."""

import argparse

from volact.cli.client.shared import open_store, say_notes
from volact.cli.environment import Environment
from volact.sealing.tpm import SYSTEM


def bind_tpm(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    machine = store.bind_tpm(args.tcti or SYSTEM)
    if env.json:
        env.write_json({"machine_id": machine.hex(), "tcti": args.tcti or SYSTEM})
    else:
        env.say(f"this machine's key is in its TPM; its machine ID is {machine.hex()}")
    say_notes(store, env)
    return 0
