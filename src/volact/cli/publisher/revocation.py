# SPDX-License-Identifier: Apache-2.0
"""``volact publisher revoke`` and ``status``: what hosts, issuers and organisations sign is void from a date on."""

import argparse
from collections.abc import Callable
from typing import Any

from volact.cli.environment import Environment, counted
from volact.cli.files import write_file
from volact.cli.publisher.shared import (
    Verbs,
    actor,
    add_family,
    add_verb,
    day,
    open_publisher,
    read_passphrase,
)
from volact.publisher.administration.publisher import Publisher
from volact.publisher.administration.revocation import Revoked
from volact.publisher.answering.service import PublisherService


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "revoke", "revoke hosts, issuers and organisations, from a date on")
    _build_revoke(
        family, "host", "HOST", "its name, or 8 or more digits of its machine ID", _revoke_host,
        "revoke a host: its licences end at the machines' next renewal",
        'volact publisher revoke host kms1.example.com --reason "stolen"',
    )  # fmt: skip
    _build_revoke(
        family, "issuer", "THUMBPRINT", "SHA-256 of the key's SubjectPublicKeyInfo", _revoke_issuer,
        "revoke any issuer by its key's thumbprint",
        "volact publisher revoke issuer 6b1d… --since 2027-03-01",
    )  # fmt: skip
    _build_revoke(
        family, "organisation", "NAME", "as it was added", _revoke_organisation,
        "revoke all hosts of an organisation and block all of its keys",
        'volact publisher revoke organisation "Example Ltd" --reason "does not pay"',
    )  # fmt: skip
    family = add_family(verbs, "status", "the signed revocation status")
    add_verb(family, "show", _show, "show what is revoked", "volact publisher status show")
    parser = add_verb(
        family,
        "export",
        _export,
        "write the signed status, to be carried to hosts: `volact host status-update FILE`",
        "volact publisher status export -o acme.volstatus",
        passphrase=True,
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: stdout)")


def _build_revoke(family: Verbs, name: str, metavar: str, what: str, run: Any, text: str, example: str) -> None:
    parser = add_verb(family, name, run, text, example)
    parser.add_argument("wanted", metavar=metavar, help=what)
    parser.add_argument(
        "--since", type=day, metavar="YYYY-MM-DD", help="what it signed from this day on is void (default: from now on)"
    )
    parser.add_argument("--reason", default="", help="why, for the ledger")


def _revoke_host(args: argparse.Namespace, env: Environment) -> int:
    return _revoke(args, env, Publisher.revoke_host)


def _revoke_issuer(args: argparse.Namespace, env: Environment) -> int:
    return _revoke(args, env, Publisher.revoke_issuer)


def _revoke_organisation(args: argparse.Namespace, env: Environment) -> int:
    return _revoke(args, env, Publisher.revoke_organisation)


def _revoke(args: argparse.Namespace, env: Environment, act: Callable[..., Revoked]) -> int:
    now = env.clock()
    since = now if args.since is None else args.since
    with open_publisher(args, env) as publisher:
        revoked = act(publisher, args.wanted, since, args.reason, now, actor(env))
    if args.json:
        env.write_json({"revoked": list(revoked.signers), "since": env.json_time(since), "epoch": revoked.epoch})
        return 0
    issuers = _counted(len(revoked.signers))
    whom, more = issuers, ""
    if act is Publisher.revoke_organisation:
        whom, more = f"organisation {args.wanted}", f": its keys are blocked, and {issuers} of it revoked"
    env.say(f"revoked {whom} from {env.show_time(since)} on, epoch {revoked.epoch}{more}")
    env.hint("online hosts fetch it by themselves; carry it to others: `volact publisher status export -o FILE`")
    return 0


def _counted(issuers: int) -> str:
    return "no issuer" if not issuers else counted(issuers, "issuer")


def _show(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        status = publisher.store.revocations(0)
    revoked = sorted(status.revoked.items(), key=lambda one: one[1])
    if args.json:
        shown = [{"signer": signer, "since": env.json_time(since)} for signer, since in revoked]
        env.write_json({"epoch": status.epoch, "began_at": env.json_time(status.issued_at), "revoked": shown})
        return 0
    env.facts((("Epoch", status.epoch), ("Since", env.show_time(status.issued_at))))
    env.table(("issuer's key", "revoked from"), [(s, env.show_time(since)) for s, since in revoked], "Revoked")
    return 0


def _export(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        keys = publisher.folder.open_keys(read_passphrase(args, env))
        token = PublisherService(publisher.folder, keys, publisher.store, env.clock).status(env.clock())
        epoch = publisher.store.revocations(0).epoch
    if args.output:
        write_file(args.output, token.encode() + b"\n")
        env.say(f"wrote epoch {epoch} to {args.output}")
    about = {"epoch": epoch, "output": args.output}
    if args.json:
        env.write_json(about if args.output else {**about, "status": token})
    elif not args.output:
        env.write(token)
    return 0
