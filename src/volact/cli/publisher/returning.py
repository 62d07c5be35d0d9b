# SPDX-License-Identifier: Apache-2.0
"""``volact publisher return`` and ``tpm-maker``: take the proof of a machine that gave its activation back without a
network; and whose TPMs vouch for returns.
"""

import argparse
from pathlib import Path

from volact.cli.environment import Environment
from volact.cli.files import read_file
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, open_publisher, read_passphrase
from volact.core.returning import MAX_PROOF
from volact.publisher.answering.service import PublisherService, ReceiptOutcome
from volact.publisher.answering.vouching import Makers, fingerprint, read_maker
from volact.publisher.rows.ledger import Act
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
    family = add_family(verbs, "tpm-maker", "whose TPMs vouch for returns, which need no cap then")
    add = add_verb(
        family,
        "add",
        _add_maker,
        "accept the TPMs whose endorsement certificates this CA signed; never a virtual TPM's, which can be copied",
        "volact publisher tpm-maker add infineon-optiga-ecc-ca-042.pem",
    )
    add.add_argument("file", metavar="FILE", help="the CA certificate, in PEM; the one right above the TPMs'")
    add_verb(family, "list", _list_makers, "list the accepted makers", "volact publisher tpm-maker list --json")
    remove = add_verb(
        family,
        "remove",
        _remove_maker,
        "accept the TPMs of a maker no longer; licences that are bound already stay bound",
        "volact publisher tpm-maker remove 5f0c…",
    )
    remove.add_argument("fingerprint", metavar="FINGERPRINT", help="SHA-256 of the certificate, as list shows it")


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


def _add_maker(args: argparse.Namespace, env: Environment) -> int:
    certificate = read_maker(Path(args.file))
    name, subject = fingerprint(certificate), certificate.subject.rfc4514_string()
    with open_publisher(args, env) as publisher, publisher.store.change() as change:
        told = {"fingerprint": name, "subject": subject}
        change.append(env.clock(), Act.TPM_MAKER_ADDED, actor(env), None, told)
        Makers(publisher.folder.path).add(certificate)
    if args.json:
        env.write_json(told)
    else:
        env.say(f"TPMs of {subject} vouch for returns from now on")
    return 0


def _list_makers(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        makers = [(fingerprint(one), one.subject.rfc4514_string()) for one in Makers(publisher.folder.path)()]
    if args.json:
        env.write_json({"makers": [{"fingerprint": name, "subject": subject} for name, subject in makers]})
    else:
        env.table(["fingerprint", "subject"], makers)
    return 0


def _remove_maker(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher, publisher.store.change() as change:
        change.append(env.clock(), Act.TPM_MAKER_REMOVED, actor(env), None, {"fingerprint": args.fingerprint})
        Makers(publisher.folder.path).remove(args.fingerprint)
    if args.json:
        env.write_json({"fingerprint": args.fingerprint})
    else:
        env.say(f"TPMs of {args.fingerprint} vouch no longer")
    return 0
