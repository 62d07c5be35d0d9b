# SPDX-License-Identifier: Apache-2.0
"""Activating a host key with the publisher: online, or by files over an air gap."""

import argparse
from functools import partial
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import STANDARD, read_file, write_file
from volact.cli.issuer.common import Hosting
from volact.cli.options import add_verb
from volact.core.errors import VolactError
from volact.core.exchange import MAX_FILE, AnswerFile
from volact.issuer.activation import Activated, activate_online, apply_answer, service_url, write_request
from volact.issuer.folder import HostKey, IssuerFolder
from volact.wire.client import Server


def build(group: Any, hosting: Hosting[Any, Any]) -> None:
    command = hosting.kind.command
    verb = add_verb(
        group,
        "activate",
        "activate an installed host key with its publisher, or renew its certificate",
        partial(run, hosting),
        aliases=["ato"],
        examples=[
            f"{command} activate                          # online, at the publisher that the definition names",
            f"{command} activate --publisher http://activation.acme.example:1690",
            f"{command} activate --request host1.volreq    # without a network: write a request …",
            "volact publisher answer host1.volreq -o host1.volans        # … let the publisher answer it …",
            f"{command} activate --answer host1.volans     # … and apply the answer",
        ],
    )
    verb.add_argument("--key", metavar="LAST5", help="which key, where several are installed")
    verb.add_argument("--publisher", metavar="URL", help="this key's publisher; remembered for renewals")
    carried = verb.add_mutually_exclusive_group()
    carried.add_argument("--request", metavar="FILE", help="write a request to carry to the publisher (-: stdout)")
    carried.add_argument("--answer", metavar="FILE", help="apply the answer that was carried back (-: stdin)")
    hosting.add_passphrase(verb)


def run(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    with hosting.opened(args, env) as (folder, store):
        host_key = folder.host_key(args.key)
        if args.request:
            return _write(hosting, args, env, folder, host_key)
        try:
            done = (
                _apply(args, folder, host_key) if args.answer else _online(hosting, args, env, folder, host_key, store)
            )
        except VolactError as exc:
            failure = {"key": host_key.key.partial, "code": exc.code, "message": str(exc)[:300]}
            store.log(env.clock(), "error", "host-activation-failed", failure)
            raise
        data = {"key": host_key.key.partial, "until": done.certificate_ends_at, "groups": sorted(done.groups)}
        store.log(env.clock(), "info", "host-activated", data)
    return show(env, done)


def _write(
    hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment, folder: IssuerFolder, host_key: HostKey
) -> int:
    me = hosting.facts(env, host_key.root)
    write_request(folder, host_key, me, lambda data: write_file(args.request, data), now=env.clock())
    if args.request == STANDARD:
        return 0
    if env.json:
        env.write_json({"request": args.request, "key": host_key.key.partial})
    else:
        env.say(f"wrote the request to {args.request}")
        env.hint(f"bring it to the publisher, and its answer back: `{hosting.kind.command} activate --answer FILE`")
    return 0


def _apply(args: argparse.Namespace, folder: IssuerFolder, host_key: HostKey) -> Activated:
    return apply_answer(folder, host_key, AnswerFile.from_bytes(read_file(args.answer, MAX_FILE)))


def _online(
    hosting: Hosting[Any, Any],
    args: argparse.Namespace,
    env: Environment,
    folder: IssuerFolder,
    host_key: HostKey,
    store: Any,
) -> Activated:
    url = args.publisher or service_url(folder, host_key, hosting.publishers(store))
    me = hosting.facts(env, host_key.root)
    done = activate_online(folder, host_key, Server.from_url(url), me, now=env.clock())
    if args.publisher:
        hosting.remember(store, host_key.root, args.publisher)
    return done


def show(env: Environment, done: Activated) -> int:
    """What an activation brought."""
    if env.json:
        env.write_json(
            {
                "key": done.host_key.key.partial,
                "organisation": done.organisation,
                "groups": sorted(done.groups),
                "certificate_ends": env.json_time(done.certificate_ends_at),
            }
        )
        return 0
    groups = ", ".join(map(str, sorted(done.groups)))
    whom = f" for {done.organisation}" if done.organisation else ""
    env.say(f"activated{whom}: product groups {groups}")
    env.say(f"the host's certificate ends on {env.show_time(done.certificate_ends_at)} and renews itself before")
    return 0
