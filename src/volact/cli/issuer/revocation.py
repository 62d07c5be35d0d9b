# SPDX-License-Identifier: Apache-2.0
"""``status-update``: the publisher's newest revocation status, over the network or from a file."""

import argparse
from functools import partial
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import read_file
from volact.cli.issuer.common import Hosting
from volact.cli.options import add_verb
from volact.issuer.activation import service_url
from volact.issuer.folder import HostKey, IssuerFolder
from volact.issuer.revocation import MAX_FILE, NoActivatedKeyError, Updated, apply_status, fetch_status
from volact.wire.client import Server


def build(group: Any, hosting: Hosting[Any, Any]) -> None:
    command = hosting.kind.command
    verb = add_verb(
        group,
        "status-update",
        "take the publisher's newest revocation status, which this host hands on to its machines",
        partial(run, hosting),
        examples=[
            f"{command} status-update                     # from the publisher",
            f"{command} status-update acme.volstatus      # carried here: `volact publisher status export -o FILE`",
        ],
    )
    verb.add_argument("file", metavar="FILE", nargs="?", help="the status that was carried here (.volstatus)")
    verb.add_argument("--publisher", metavar="URL", help="the publisher's service (default: as for `activate`)")


def run(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    with hosting.opened(args, env) as (folder, store):
        if args.file:
            updates = [apply_status(folder, read_file(args.file, MAX_FILE).decode("ascii", "replace").strip())]
        else:
            updates = _fetch(hosting, args, env, folder, store)
        for one in updates:
            store.log(env.clock(), "info", "status-updated", {"epoch": one.status.epoch, "keys": list(one.keys)})
    return _show(updates, env)


def _fetch(
    hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment, folder: IssuerFolder, store: Any
) -> list[Updated]:
    """From each publisher that the host has an activated key of, once."""
    by_root: dict[str, HostKey] = {key.root: key for key in folder.host_keys() if key.activated}
    if not by_root:
        raise NoActivatedKeyError(command=folder.kind.command)
    updates = []
    for key in by_root.values():
        url = args.publisher or service_url(folder, key, hosting.publishers(store))
        updates.append(apply_status(folder, fetch_status(folder, key, Server.from_url(url), env.clock())))
    return updates


def _show(updates: list[Updated], env: Environment) -> int:
    if env.json:
        env.write_json(
            [
                {
                    "epoch": one.status.epoch,
                    "issued_at": env.json_time(one.status.issued_at),
                    "keys": list(one.keys),
                    "revoked_keys": list(one.revoked),
                }
                for one in updates
            ]
        )
        return 0
    for one in updates:
        env.say(f"took epoch {one.status.epoch}, {len(one.status.revoked)} issuers are revoked")
        for partial_key in one.revoked:
            env.say(f"the key …{partial_key} of this host is one of them: machines will accept it no more")
    return 0
