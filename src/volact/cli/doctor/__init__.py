# SPDX-License-Identifier: Apache-2.0
"""``volact doctor``: walks from each product to its licence and names one cause and its remedy.

Exit code 0: nothing is wrong; 1: a cause was named.  Guide: docs/guide/doctor.md.
"""

import argparse
from collections.abc import Callable
from random import SystemRandom
from typing import Any

from volact.cli.environment import Environment
from volact.cli.options import path
from volact.core.errors import ConfigError

WELL, ILL = 0, 1
CHANNEL_SECONDS = 2.0
_MARK = {True: "ok", False: "!!", None: "--"}


class NoProductError(ConfigError):
    code = "doctor-no-product"
    fmt = "no product has been added in {folder}"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


def build(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  volact doctor                     # every product of this machine\n"
        "  volact doctor acme-cad --json     # one product, for a program"
    )
    parser.add_argument("products", metavar="PRODUCT", nargs="*", help="default: every product")
    where = "the client's folder (default: its variable, or the system's)"
    parser.add_argument("--dir", type=path, metavar="DIR", help=where)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    from volact.cli.client.shared import machine_of, open_store
    from volact.client.discovery import mdns
    from volact.client.discovery.resolver import DnsResolver
    from volact.client.doctor.examination import Surroundings
    from volact.client.doctor.walk import examine, products_of

    store = open_store(args, env)
    products = products_of(store, args.products)
    if not products:
        raise NoProductError(folder=str(store.folder))
    around = Surroundings(
        machine_of(env),
        DnsResolver(store.settings().discovery.resolver_address),
        env.clock,
        SystemRandom(),
        _account(store.folder, env),
        _vm_host,
        None if env.variables.get(mdns.SWITCH) == "off" else mdns.browse,
    )
    examined = [examine(product, store, around) for product in products]
    if env.json:
        env.write_json({"products": [_json(one) for one in examined]})
    else:
        for one in examined:
            _show(one, env)
    return WELL if all(one.cause is None for one in examined) else ILL


def _account(folder: Any, env: Environment) -> Callable[[], str | None]:
    def account() -> str | None:
        from volact.cli.client.door import open_door

        door = open_door(folder, env)
        return None if door is None else door.account()

    return account


def _vm_host() -> Any:
    """The channel to the VM host, with less patience than an activation has."""
    from volact.vm.door import is_guest
    from volact.vm.guest import GuestChannel

    return GuestChannel(seconds=CHANNEL_SECONDS) if is_guest() else None


def _show(one: Any, env: Environment) -> None:
    env.write(f"{one.product}: {one.state or 'unknown'}")
    for step in one.steps:
        env.write(f"  {_MARK[step.ok]}  {step.what}: {step.detail}")
    if one.cause is None:
        failed = ", ".join(dict.fromkeys(step.what for step in one.steps if step.ok is False))
        ahead = f"it is licensed; before its next renewal, look at what failed above: {failed}"
        env.write(f"  {ahead if failed else 'nothing is wrong: it is licensed'}")
        return
    env.write(f"  cause: {one.cause.code}: {one.cause}")
    env.write(f"  remedy: {one.cause.hint}")


def _json(one: Any) -> dict[str, Any]:
    return {
        "product": one.product,
        "state": one.state,
        "licensed": one.licensed,
        "cause": None if one.cause is None else one.cause.to_dict(),
        "steps": [step.to_dict() for step in one.steps],
    }
