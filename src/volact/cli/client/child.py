# SPDX-License-Identifier: Apache-2.0
"""The licensing service's children, ``python -m volact.cli.client.child round|api``: they do the work and end.

Not for people: ``volact client serve`` starts them.  A round prints one line of JSON; the API serves the socket whose
descriptor it is given.
"""

import argparse
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

from volact.cli.client.activating import activate_by_doors
from volact.cli.client.door import open_door
from volact.cli.client.shared import machine_of
from volact.cli.environment import Environment
from volact.client.activation.directory import heed_membership
from volact.client.check import World
from volact.client.deployment.image import take_waiting
from volact.client.folder.store import ClientStore
from volact.client.service.api import Asked, Server
from volact.client.service.events import Event, Log
from volact.client.service.rounds import run_round
from volact.core.errors import VolactError

START = "start"  # of the service: then a domain that was left licenses no more


def main(argv: list[str] | None = None, environment: Environment | None = None) -> int:
    parser = argparse.ArgumentParser(prog="volact.cli.client.child", description=__doc__)
    parser.add_argument("what", choices=["round", "api"])
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--because", default=START)
    parser.add_argument("--fd", type=int, default=-1)
    args = parser.parse_args(argv)
    env = environment or Environment.of_process()
    return _round(args, env) if args.what == "round" else _api(args, env)


def _round(args: argparse.Namespace, env: Environment) -> int:
    store, machine, random = ClientStore(args.dir), machine_of(env), SystemRandom()
    log = Log(args.dir, env.clock)
    if args.because == START:
        _take_answer_file(store, env, log)
        with suppress(VolactError):  # what is wrong with its settings, the activations below say
            heed_membership(store, open_door(args.dir, env))
    done = run_round(
        store,
        machine,
        lambda product: activate_by_doors(product, store, machine, env, random),
        env.clock,
        random,
        log,
        because=args.because,
    )
    env.write_json(done.to_claim(), one_line=True)
    env.stdout.flush()
    return 0


def _take_answer_file(store: ClientStore, env: Environment, log: Log) -> None:
    try:
        for product in take_waiting(store, env.clock()):
            log.write(Event.PREPARED, product=product)
    except VolactError as exc:
        log.write(Event.FOLDER_UNUSABLE, message=str(exc))


def _api(args: argparse.Namespace, env: Environment) -> int:
    os.set_inheritable(args.fd, False)
    with Server(socket.socket(fileno=args.fd), Asked(args.dir, World(env.clock, machine_of(env)))) as server:
        server.serve_until_idle()
    return 0


if __name__ == "__main__":
    sys.exit(main())
