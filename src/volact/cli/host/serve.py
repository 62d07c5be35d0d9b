# SPDX-License-Identifier: Apache-2.0
"""Running the host: workers on one port, and what goes on beside them."""

import argparse
import functools
import os
from typing import Any

from volact.cli.environment import Environment
from volact.cli.host.common import add_passphrase, fingerprint_for, full_name, opened, passphrase_file
from volact.cli.options import add_verb
from volact.host.application import Companion, HostRun, load_application, load_serving
from volact.host.settings import HostSettings
from volact.wire.serve import Listener, serve


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
    verb.add_argument("--workers", type=int, help="worker processes (default: one a core)")
    add_passphrase(verb)


def run(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (folder, store):
        settings = HostSettings.load(store)
        name = full_name(env)
        activated = len(load_serving(folder, store, name))
    port = args.port if args.port is not None else settings.port
    listener = Listener(args.listen or settings.address, port, args.workers or os.cpu_count() or 1)
    host = HostRun(folder.path.resolve(), passphrase_file(args, env), name)
    companion = Companion(host, lambda root: fingerprint_for(env, root), settings.dns_target or name, port)

    def started() -> None:
        companion.start()
        env.say(f"KMS host {name} listens on {listener.address}, port {port}, with {activated} activated keys")
        if not activated:
            env.hint("it can answer nobody yet: `volact host activate`; it notices while it runs")
        env.stderr.flush()

    serve(functools.partial(load_application, host), listener, on_start=started, on_stop=companion.stop)
    return 0
