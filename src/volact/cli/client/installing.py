# SPDX-License-Identifier: Apache-2.0
"""``add-product``, ``remove-product``, ``install-key``, ``remove-key``, ``set-host``, ``clear-host``."""

import argparse
from dataclasses import asdict, replace

from volact.cli.client.shared import machine_of, open_store, say_notes, view
from volact.cli.environment import Environment
from volact.cli.files import read_token
from volact.client.activation.oem import adopt_if_marked
from volact.client.deployment.generalize import holds_activation
from volact.client.folder.records import ClientSettings, default_settings
from volact.client.folder.settings import Settings, parse_host_port, parse_resolver_address
from volact.client.folder.store import ClientStore
from volact.client.products import installing
from volact.core.product_key import Channel
from volact.sealing import jws
from volact.wire.client import Server


def add_product(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    loaded = installing.add_product(
        store, read_token(args.file, jws.MAX_TOKEN), args.root, args.min_version, env.clock()
    )
    definition = loaded.definition
    said = f"added {definition.product} version {definition.version} of {definition.publisher}, root {definition.root}"
    marked = adopt_if_marked(store, definition.product, machine_of(env), env.clock())
    if marked is not None:
        said = f"{said}; licensed by the marker in the firmware: edition {marked.installation.edition}"
    return _done(definition.product, said, store, env)


def remove_product(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    pooled = args.product in store.products() and holds_activation(store, args.product)
    store.remove_product(args.product)
    env.write_json({"removed": args.product}) if env.json else env.say(f"removed {args.product} and its licence")
    if pooled:
        env.hint(
            "its key's activation was not given back: this machine may use it again, and nobody else; "
            "`volact client deactivate` before gives it back"
        )
    return 0


def install_key(args: argparse.Namespace, env: Environment) -> int:
    if sum((args.generic, args.guest, bool(args.key))) != 1:
        args.parser.error("give either KEY or --generic or --guest")
    store = open_store(args, env)
    if args.generic:
        loaded = installing.install_generic_key(store, args.product, args.edition)
    elif args.guest:
        loaded = installing.install_generic_key(store, args.product, args.edition, Channel.VM)
    else:
        text = env.stdin.readline() if args.key == ["-"] else " ".join(args.key)
        loaded = installing.install_key(store, args.product, text, args.edition)
    key = loaded.installation
    said = f"installed the {key.channel} key ending in {key.partial}: {args.product}, edition {key.edition}"
    return _done(args.product, said, store, env)


def remove_key(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    had = store.installation(args.product).channel is not None
    installing.remove_key(store, args.product)
    said = f"removed the key of {args.product}; its licence stays stored" if had else f"{args.product} had no key"
    return _done(args.product, said, store, env)


def set_host(args: argparse.Namespace, env: Environment) -> int:
    given = (args.host, args.domain, args.resolver, args.publisher, args.caching, args.mdns)
    if all(value is None for value in given):
        args.parser.error("give NAME[:PORT] or one of the options")
    store = open_store(args, env)
    with store.lock():
        settings = store.settings()
        if args.publisher is not None:
            Server.from_url(args.publisher)
            settings = settings._replace(publisher=args.publisher)
        settings = settings._replace(discovery=_discovery(settings.discovery, args))
        store.save_settings(settings)
    return _show_settings(settings, env)


def clear_host(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    settings = default_settings()
    store.save_settings(settings)
    return _show_settings(settings, env)


def _discovery(settings: Settings, args: argparse.Namespace) -> Settings:
    """A host replaces a domain and the other way round: only one of them decides."""
    if args.domain is not None:
        settings = replace(settings, host=None, port=None, domain=args.domain)
    if args.host is not None:
        host, port = parse_host_port(args.host)
        settings = replace(settings, host=host, port=port, domain=args.domain)
    if args.resolver is not None:
        parse_resolver_address(args.resolver)
        settings = replace(settings, resolver_address=args.resolver)
    if args.mdns is not None:
        settings = replace(settings, mdns=args.mdns)
    return settings if args.caching is None else replace(settings, caching=args.caching)


def _show_settings(settings: ClientSettings, env: Environment) -> int:
    values = {**asdict(settings.discovery), "publisher": settings.publisher}
    if env.json:
        env.write_json(values)
        return 0
    found = {name.replace("_", " "): value for name, value in values.items() if value is not None}
    env.facts([(name, {True: "on", False: "off"}.get(value, value)) for name, value in found.items()])
    return 0


def _done(product: str, said: str, store: ClientStore, env: Environment) -> int:
    if env.json:
        env.write_json(view(product, store, machine_of(env), env).to_json(env))
    else:
        env.say(said)
    say_notes(store, env)
    return 0
