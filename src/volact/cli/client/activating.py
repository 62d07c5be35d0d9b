# SPDX-License-Identifier: Apache-2.0
"""``activate``: every product named, or every one that has a key; each gets a line, and its error if it has one."""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from random import SystemRandom
from typing import Any

from volact.cli.client.door import doors_for, open_door
from volact.cli.client.shared import machine_of, open_store, reason_json, say_notes, view
from volact.cli.environment import Environment
from volact.client.activation import online
from volact.client.activation.directory import heed_membership
from volact.client.discovery import mdns
from volact.client.discovery.resolver import DnsResolver
from volact.client.discovery.routes import Route, find_routes
from volact.client.folder.settings import parse_host_port
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, NoKeyError, load_product
from volact.client.service.events import Log
from volact.client.service.memory import load_memory, save_memory
from volact.client.service.rounds import first_boot, note_answer, note_failure, read_counter
from volact.core.errors import ConfigError, InputError, StoreError, TrustError, VolactError
from volact.core.product_key import Channel
from volact.wire.client import Server

LICENSED, NOT_LICENSED = 0, 1


class NothingAddedError(ConfigError):
    code = "no-product-added"
    fmt = "no product has been added in {folder}"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


def activate(args: argparse.Namespace, env: Environment) -> int:
    if args.host is not None:
        parse_host_port(args.host)
    if args.publisher is not None:
        Server.from_url(args.publisher)  # a slip of the administrator's is no attempt of the product's
    store, machine = open_store(args, env), machine_of(env)
    keyed = (name for name in store.products() if store.installation(name).channel)
    products = list(dict.fromkeys(args.products or keyed))
    if not products:
        raise (
            NoKeyError(product=store.products()[0]) if store.products() else NothingAddedError(folder=str(store.folder))
        )
    results = [_activate(product, store, machine, args, env) for product in products]
    if env.json:
        env.write_json({"products": results})
    say_notes(store, env)
    return LICENSED if all(one["licensed"] and one["error"] is None for one in results) else NOT_LICENSED


def _first_boot(store: ClientStore, machine: LocalMachine, env: Environment) -> None:
    """Where no service does it: a machine made from an image begins here."""
    memory = load_memory(store)
    before = (memory.salt, memory.copied_at)
    first_boot(store, machine, memory, env.clock, Log(store.folder, env.clock))
    if (memory.salt, memory.copied_at) != before:
        save_memory(store, memory)


def _activate(
    product: str, store: ClientStore, machine: LocalMachine, args: argparse.Namespace, env: Environment
) -> dict[str, Any]:
    log = Log(store.folder, env.clock)
    try:
        begin = partial(_first_boot, store, machine, env)
        outcome = activate_by_doors(product, store, machine, env, SystemRandom(), args.host, args.publisher, begin)
    except VolactError as exc:
        if not isinstance(exc, ConfigError | InputError | StoreError):  # nobody was asked
            note_failure(log, product, exc)
        _show_error(product, exc, env)
        return {**_present(product, store, machine, env), "error": exc.to_dict()}
    note_answer(log, product, outcome)
    if not env.json:
        _show_outcome(product, outcome, env)
    elif outcome.evaluation.reason is not None:
        env.say(f"{product} is not licensed: {outcome.evaluation.reason}")
    return {**_present(product, store, machine, env), "error": None}


def activate_by_doors(
    product: str,
    store: ClientStore,
    machine: LocalMachine,
    env: Environment,
    random: SystemRandom,
    host: str | None = None,
    publisher: str | None = None,
    begin: Callable[[], None] = lambda: None,
) -> online.Outcome:
    """One activation through every door of this computer, in the order of docs/spec/states.md; ``host`` or
    ``publisher`` instead of all of them.  ``begin``: done once it is clear that somebody will be asked."""
    loaded = load_product(store, product)
    routes = _routes(loaded, store, random, host, publisher, env)
    begin()
    read_counter(store, product, env.clock())
    if host or publisher:
        return online.activate(product, store, routes, machine, env.clock, random)
    doors = doors_for(loaded.installation.channel, store.folder, env)
    heed_membership(store, doors.directory or open_door(store.folder, env))
    every = chain(doors.first, routes, doors.last)
    return online.activate(product, store, every, machine, env.clock, random, doors.directory)


def _routes(
    loaded: LoadedProduct,
    store: ClientStore,
    random: SystemRandom,
    host: str | None,
    publisher: str | None,
    env: Environment,
) -> Iterable[Route]:
    """Hosts or the publisher; those of a guest's VM host and of the firmware ask nobody on the network."""
    if loaded.installation.channel in (None, Channel.OEM, Channel.VM) and not host and not publisher:
        return []
    settings = store.settings()
    resolver = DnsResolver(settings.discovery.resolver_address)
    return find_routes(
        loaded,
        settings,
        store.issuer(loaded.product),
        resolver,
        random,
        host=host,
        publisher=publisher,
        browse=None if env.variables.get(mdns.SWITCH) == "off" else mdns.browse,
    )


def _show_outcome(product: str, outcome: online.Outcome, env: Environment) -> None:
    evaluation = outcome.evaluation
    until = "" if evaluation.until is None else f" until {env.show_time(evaluation.until)}"
    env.write(f"{product}: {evaluation.state}{until}, answered by {outcome.host}")
    if evaluation.reason is not None:
        env.say(f"{product} is not licensed: {evaluation.reason}")
        env.hint(evaluation.reason.hint)


def _show_error(product: str, exc: VolactError, env: Environment) -> None:
    """The cause that tells most, and below it everyone who was asked."""
    said = str(exc) if str(exc).startswith(f"{product} ") else f"{product}: {exc}"
    env.say(f"error: {said}")
    if exc.hint:
        env.hint(exc.hint)
    for attempt in exc.fields.get("attempts", ()):
        env.hint(f"asked {attempt['host']} ({attempt['source']}): {attempt['message']}")


def _present(product: str, store: ClientStore, machine: LocalMachine, env: Environment) -> dict[str, Any]:
    """What the product is now: a failed attempt took nothing away."""
    try:
        return view(product, store, machine, env).to_json(env)
    except (StoreError, TrustError) as exc:
        return {"product": product, "state": None, "licensed": False, "reason": reason_json(exc)}
