# SPDX-License-Identifier: Apache-2.0
"""``volact publisher return``: take the proof of a machine that gave its activation back without a network."""

import argparse

from volact.cli.environment import Environment
from volact.cli.files import read_file
from volact.cli.publisher.shared import Verbs, add_verb, open_publisher, read_passphrase
from volact.core.returning import MAX_PROOF
from volact.publisher.service import PublisherService, ReceiptOutcome
from volact.sealing.returns import verify_return


def build(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "return",
        _return,
        "take an activation back by the proof that its machine made: `volact client deactivate --file FILE`",
        "volact publisher return machine7.volreturn --passphrase-file pass.txt",
        passphrase=True,
    )
    parser.add_argument("file", metavar="FILE", help="the machine's proof (.volreturn)")


def _return(args: argparse.Namespace, env: Environment) -> int:
    proven = verify_return(read_file(args.file, MAX_PROOF).decode("ascii", "replace").strip())
    with open_publisher(args, env) as publisher:
        keys = publisher.folder.open_keys(read_passphrase(args, env))
        service = PublisherService(publisher.folder, keys, publisher.store, env.clock)
        (outcome,) = service.answer_proven([proven], carried=True)
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, ReceiptOutcome), "a proof is answered by a receipt"
    if outcome.refusal is not None:
        raise outcome.refusal.error()
    receipt = outcome.receipt
    assert receipt is not None, "what is not refused has a receipt"
    if args.json:
        env.write_json(
            {
                "machine": proven.machine.hex(),
                "key_id": receipt.key_id,
                "credited": receipt.credited,
                "used": receipt.used,
                "remaining": receipt.remaining,
            }
        )
        return 0
    env.say(f"machine {proven.machine.hex()[:16]} has given its activation back; {receipt.remaining} are left")
    if not receipt.credited:
        env.hint("the pool got nothing back: the key's returns of a year are used up (policy returns_per_key_year)")
    return 0
