# SPDX-License-Identifier: Apache-2.0
"""``rearm`` and ``generalize``: a grace period begins anew; a machine is made ready to be an image."""

import argparse

from volact.cli.client.shared import machine_of, open_store, say_notes, view
from volact.cli.environment import Environment, counted
from volact.client.deployment import generalize as images
from volact.client.deployment import rearm as rearming
from volact.client.service.events import Event, Log


def rearm(args: argparse.Namespace, env: Environment) -> int:
    store, machine = open_store(args, env), machine_of(env)
    left = rearming.rearm(store, args.product, machine, env.clock())
    Log(store.folder, env.clock).write(Event.REARMED, product=args.product, left=left)
    found = view(args.product, store, machine, env)
    if env.json:
        env.write_json({**found.to_json(env), "rearms_left": left})
    else:
        until = env.show_time(found.evaluation.until)
        env.write(f"{args.product}: {found.evaluation.state} until {until}, {counted(left, 'rearm')} left")
    say_notes(store, env)
    return 0


def generalize(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    products = images.generalize(store, env.clock(), force=args.force)
    if env.json:
        env.write_json({"folder": str(store.folder), "products": products})
        return 0
    if not products and not images.is_generalized(store):
        env.say(f"there is neither a product nor a machine's identity in {store.folder}: nothing to take away")
        return 0
    stay = {0: "no product was added", 1: "one product and its key stay"}
    kept = stay.get(len(products), f"{len(products)} products and their keys stay")
    env.say(f"{store.folder} is no machine's any more: {kept}")
    env.hint("capture the image now; what starts the licensing service or activates here begins a new machine")
    return 0
