# SPDX-License-Identifier: Apache-2.0
"""Running the host: workers on one port, and what goes on beside them."""

import argparse
import dataclasses
import functools
import os
from typing import Any

from volact.cli.environment import Environment, counted
from volact.cli.host.common import add_passphrase, fingerprint_for, full_name, opened, passphrase_file
from volact.cli.options import add_verb
from volact.client.service import systemd
from volact.host.application import Companion, HostRun, load_application, load_serving
from volact.host.settings import HostSettings
from volact.wire.serve import Listener, serve

MOST_WORKERS = 64


def build(group: Any) -> None:
    verb = add_verb(
        group,
        "serve",
        "answer the network's machines until stopped (SIGINT, SIGTERM)",
        run,
        examples=["volact host serve", "volact host serve --port 1700 --listen 127.0.0.1 --workers 1"],
    )
    verb.add_argument("--port", type=int, help="the TCP port (default: the host's setting, 1688)")
    verb.add_argument("--listen", metavar="ADDRESS", help="the address (default: the host's setting, :: = all)")
    verb.add_argument("--workers", type=_workers, metavar="N", help="worker processes (default: one a core)")
    add_passphrase(verb)


def run(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (folder, store):
        settings = _settings(args, HostSettings.load(store))
        name = full_name(env)
        activated = len(load_serving(folder, store, name))
    listener = Listener(settings.address, settings.port, args.workers or os.cpu_count() or 1)
    host = HostRun(folder.path.resolve(), passphrase_file(args, env), name)
    companion = Companion(host, lambda root: fingerprint_for(env, root), settings.dns_target or name, settings.port)

    def started() -> None:
        companion.start()
        keys = counted(activated, "activated key")
        env.say(f"KMS host {name} listens on {listener.address}, port {listener.port}, with {keys}")
        if not activated:
            env.hint("it can answer nobody yet: `volact host activate`; it notices while it runs")
        env.stderr.flush()

    with folder.serving():
        load = functools.partial(load_application, host)
        ready = systemd.when_ready(env.variables, f"listens on port {listener.port}")
        serve(load, listener, on_start=started, on_stop=companion.stop, on_ready=ready)
    return 0


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_WORKERS}")
    return int(text)


def _settings(args: argparse.Namespace, stored: HostSettings) -> HostSettings:
    """The host's settings with this command's own in their place, under the same checks."""
    given = {"port": args.port, "address": args.listen}
    return dataclasses.replace(stored, **{name: value for name, value in given.items() if value is not None})
