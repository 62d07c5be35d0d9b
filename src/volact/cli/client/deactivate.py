# SPDX-License-Identifier: Apache-2.0
"""``deactivate`` and ``remaining``: give an activation of a MAK or retail key back, and ask how many are left."""

import argparse

from volact.cli.client.shared import open_store, say_notes
from volact.cli.environment import Environment
from volact.cli.files import write_file
from volact.client.activation import returns
from volact.client.activation.returns import GivenBack
from volact.client.discovery.routes import GIVEN, PUBLISHER, NoRouteError, Route
from volact.client.folder.store import ClientStore
from volact.client.products.loading import load_product
from volact.core.errors import VolactError
from volact.wire.client import Server

DONE, NOT_REPORTED = 0, 1


def deactivate(args: argparse.Namespace, env: Environment) -> int:
    """Whatever happens on the way to the publisher, the licence is gone from here: said before anything else."""
    store = open_store(args, env)
    route = None if args.file else _route(args.product, store, args.publisher)
    given = returns.give_back(args.product, store, env.clock)
    code = _by_file(given, args.file, env) if route is None else _online(given, store, route, env)
    say_notes(store, env)
    return code


def remaining(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    server = _route(args.product, store, args.publisher).server
    receipt = returns.ask_remaining(args.product, store, server, env.clock)
    if env.json:
        env.write_json(
            {
                "product": args.product,
                "key_id": receipt.key_id,
                "activations": receipt.activations,
                "used": receipt.used,
                "remaining": receipt.remaining,
                "blocked": receipt.blocked,
            }
        )
    else:
        blocked = "; the key is blocked" if receipt.blocked else ""
        env.write(f"{args.product}: {receipt.remaining} of {receipt.activations} activations left{blocked}")
    say_notes(store, env)
    return DONE


def _by_file(given: GivenBack, file: str, env: Environment) -> int:
    write_file(file, given.returned.proof.encode() + b"\n")
    if env.json:
        env.write_json({**_as_json(given), "file": file, "error": None})
        return DONE
    env.say(f"{given.product} is no longer activated on this machine; wrote the proof to {file}")
    env.hint(f"bring it to the publisher: `volact publisher return {file}`")
    return DONE


def _online(given: GivenBack, store: ClientStore, route: Route, env: Environment) -> int:
    try:
        given = returns.report(given, store, route.server, env.clock)
    except VolactError as exc:
        env.say(f"{given.product} is no longer activated on this machine, but the publisher has not taken it back")
        env.say(f"error: {given.product}: {exc}")
        env.hint(f"try again with `volact client deactivate {given.product}`, or carry the proof with --file FILE")
        if env.json:
            env.write_json({**_as_json(given), "error": exc.to_dict()})
        return NOT_REPORTED
    if env.json:
        env.write_json({**_as_json(given), "error": None})
        return DONE
    env.say(f"{given.product} is no longer activated on this machine; {route.address} has taken it back")
    if given.receipt is not None:
        what = (
            "" if given.receipt.credited else " (this return was not credited: the key's returns of a year are used up)"
        )
        env.say(f"{given.receipt.remaining} of {given.receipt.activations} activations are left{what}")
    return DONE


def _route(product: str, store: ClientStore, publisher: str | None) -> Route:
    """The publisher named, configured, or of the definition."""
    url = publisher or store.settings().publisher or load_product(store, product).definition.url
    if url is None:
        channel = load_product(store, product).installation.channel
        raise NoRouteError(channel=str(channel or "mak"), product=product)
    return Route(Server.from_url(url), url, GIVEN if publisher else PUBLISHER)


def _as_json(given: GivenBack) -> dict[str, object]:
    receipt = given.receipt
    return {
        "product": given.product,
        "key_id": given.returned.key_id,
        "confirmed": given.returned.confirmed,
        "credited": receipt.credited if receipt else None,
        "remaining": receipt.remaining if receipt else None,
        "file": None,
    }
