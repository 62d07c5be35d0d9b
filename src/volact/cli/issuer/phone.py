# SPDX-License-Identifier: Apache-2.0
"""``installation-id`` and ``apply`` of a host: activation by telephone, by QR code or by pasted text."""

import argparse
import secrets
from functools import partial
from typing import Any

from volact.cli.digits import read_id, read_text_file, write_id
from volact.cli.environment import Environment
from volact.cli.issuer.activate import show
from volact.cli.issuer.common import Hosting
from volact.cli.options import add_verb
from volact.core.errors import VolactError
from volact.core.phone import CONFIRMATION_GROUPS, ConfirmationId, check_reference, parse_confirmation_group
from volact.issuer import phone
from volact.issuer.folder import HostKey, IssuerFolder


def build(group: Any, hosting: Hosting[Any, Any]) -> None:
    command = hosting.kind.command
    shown = add_verb(
        group,
        "installation-id",
        "show the digits to read to the publisher's desk, where there is no network",
        partial(run_installation_id, hosting),
        examples=[
            f"{command} installation-id                 # read these groups to the desk …",
            "volact publisher phone                    # … which answers with others …",
            f"{command} apply                           # … that are typed here",
        ],
    )
    shown.add_argument("--new", action="store_true", help="other digits, where those shown before are not answered")
    form = shown.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="print the digits in one line, to paste")
    form.add_argument("--qr", action="store_true", help="print them as a QR code, with the digits below it")
    applied = add_verb(
        group,
        "apply",
        "activate the host with the confirmation ID that the desk read out",
        partial(run_apply, hosting),
        examples=[
            f"{command} apply                           # the digits are asked for, group by group",
            f"{command} apply 0072385-9925617-…         # or given at once; - reads them from standard input",
        ],
    )
    applied.add_argument("confirmation", metavar="ID", nargs="*", help="the confirmation ID")
    applied.add_argument("--file", metavar="FILE", help="a file that holds it")
    for verb in (shown, applied):
        verb.add_argument("--key", metavar="LAST5", help="which key, where several are installed")
        hosting.add_passphrase(verb)


def run_installation_id(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    with hosting.opened(args, env) as (folder, _):
        host_key = folder.host_key(args.key)
        me = hosting.facts(env, host_key.root)
        call = phone.installation_id(folder, host_key, me, env.clock(), secrets.token_bytes, new=args.new)
    groups = call.installation.groups
    if env.json:
        env.write_json(
            {
                "key": host_key.key.partial,
                "product": call.subject.product,
                "product_groups": sorted(call.subject.groups),
                "installation_id": str(call.installation),
                "groups": list(groups),
                "requested_at": env.json_time(call.installation.begins_at),
            }
        )
        return 0
    write_id(env, groups, text=args.text, qr=args.qr)
    env.hint(f"read these {len(groups)} groups to the publisher's desk, with the last five symbols of the host key")
    env.hint(f"then type what it answers: `{hosting.kind.command} apply`")
    return 0


def run_apply(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    if args.file and args.confirmation:
        args.parser.error("give either ID or --file")
    with hosting.opened(args, env) as (folder, store):
        host_key = folder.host_key(args.key)
        confirmation = ConfirmationId.parse(_text(args, env, folder, host_key))
        try:
            done = phone.apply(folder, host_key, confirmation, hosting.facts(env, host_key.root))
        except VolactError as exc:
            failure = {"key": host_key.key.partial, "code": exc.code, "message": str(exc)[:300]}
            store.log(env.clock(), "error", "host-activation-failed", failure)
            raise
        data = {"key": host_key.key.partial, "until": done.certificate_ends_at, "groups": sorted(done.groups)}
        store.log(env.clock(), "info", "host-activated", data)
    return show(env, done)


def _text(args: argparse.Namespace, env: Environment, folder: IssuerFolder, host_key: HostKey) -> str:
    if args.file:
        return read_text_file(args.file)
    reference = phone.waiting(folder, host_key).installation.reference
    given = " ".join(args.confirmation) or None
    return read_id(
        env, given, CONFIRMATION_GROUPS, parse_confirmation_group, lambda first: check_reference(first, reference)
    )
