# SPDX-License-Identifier: Apache-2.0
"""The host's settings: port, address, intervals, publisher."""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from volact.cli.environment import Environment
from volact.cli.host.common import opened
from volact.cli.host.show import interval
from volact.cli.options import add_verb
from volact.host.settings import HostSettings
from volact.wire.client import Server


def build(group: Any) -> None:
    port = add_verb(
        group,
        "set-port",
        "set the TCP port, from the next start on",
        run_port,
        aliases=["sprt"],
        examples=["volact host set-port 1688"],
    )
    port.add_argument("port", type=int, metavar="PORT")
    listen = add_verb(
        group,
        "set-listen",
        "set the address to listen on, from the next start on",
        run_listen,
        examples=["volact host set-listen ::", "volact host set-listen 192.0.2.10"],
    )
    listen.add_argument("address", metavar="ADDRESS", help=":: for every IPv6 and IPv4 address")
    intervals = add_verb(
        group,
        "set-intervals",
        "set how often machines come back, in minutes (15 to 43200), or leave it to the products' policy",
        run_intervals,
        aliases=["sai", "sri"],
        examples=["volact host set-intervals --activation 120 --renewal 10080", "volact host set-intervals --policy"],
    )
    intervals.add_argument("--activation", type=int, metavar="MINUTES", help="machines that are not activated yet")
    intervals.add_argument("--renewal", type=int, metavar="MINUTES", help="activated machines")
    intervals.add_argument("--policy", action="store_true", help="leave both to the products' policy")
    intervals.set_defaults(parser=intervals)
    publisher = add_verb(
        group,
        "set-publisher",
        "set the service of a key's publisher, instead of the one that the definition names",
        run_publisher,
        examples=["volact host set-publisher https://activation.acme.example"],
    )
    publisher.add_argument("url", metavar="URL")
    publisher.add_argument("--key", metavar="LAST5", help="whose publisher, where several keys are installed")


def run_port(args: argparse.Namespace, env: Environment) -> int:
    return _change(args, env, port=args.port)


def run_listen(args: argparse.Namespace, env: Environment) -> int:
    return _change(args, env, address=args.address)


def run_intervals(args: argparse.Namespace, env: Environment) -> int:
    if args.policy == (args.activation is not None or args.renewal is not None):
        args.parser.error("give --activation, --renewal or both, or --policy")
    if args.policy:
        return _change(args, env, activation_minutes=None, renewal_minutes=None)
    given = {"activation_minutes": args.activation, "renewal_minutes": args.renewal}
    return _change(args, env, **{name: value for name, value in given.items() if value is not None})


def run_publisher(args: argparse.Namespace, env: Environment) -> int:
    Server.from_url(args.url)
    with opened(args, env) as (folder, store):
        root = folder.host_key(args.key).root
        publishers = {**HostSettings.load(store).publishers, root: args.url}
    return _change(args, env, publishers=publishers)


def _change(args: argparse.Namespace, env: Environment, **values: Any) -> int:
    """Change settings in one write; a running host notices the intervals, the rest at its next start."""
    with opened(args, env) as (folder, store):
        before = HostSettings.load(store)
        after = dataclasses.replace(before, **values)
        after.save(store)
        store.log(env.clock(), "info", "setting-changed", values)
        folder.touch()
    if env.json:
        env.write_json(dataclasses.asdict(after))
    else:
        for sentence in _sentences(before, values):
            env.say(sentence)
    return 0


def _sentences(before: HostSettings, values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        was = getattr(before, name)
        if name == "publishers":
            yield from (
                f"the publisher {root} is asked at {url} now" for root, url in value.items() if was.get(root) != url
            )
        elif name.endswith("_minutes"):
            yield f"{name.removesuffix('_minutes')} interval is {interval(value)} now (was {interval(was)})"
        else:
            yield f"{name} is {value} now (was {was})"
