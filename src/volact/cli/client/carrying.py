# SPDX-License-Identifier: Apache-2.0
"""``request``, ``apply --answer``, ``backup`` and ``restore``: activations that are carried, and kept.

What the fleet tool asks of a machine for a proxy activation, and what an administrator with a file can do as well.
"""

import argparse
import secrets
from random import SystemRandom
from typing import Any

from volact.cli.client.shared import machine_of, open_store, say_notes, view
from volact.cli.environment import Environment
from volact.cli.files import read_file, write_file
from volact.client.activation import carried
from volact.client.deployment import backup
from volact.client.folder.store import ClientStore
from volact.client.products.loading import load_product
from volact.core.encoding import b64encode
from volact.core.exchange import MAX_FILE, AnswerFile

LICENSED, NOT_LICENSED = 0, 1
STDIN = "-"


def request(args: argparse.Namespace, env: Environment) -> int:
    """The file is not secret: only the publisher reads it, and only this machine reads the answer."""
    store = open_store(args, env)
    file, made = carried.write_request(
        store, args.product, machine_of(env), env.clock(), secrets.token_bytes, new=args.new
    )
    data = file.to_bytes()
    if args.file:
        write_file(args.file, data)
    if env.json:
        env.write_json(_json(store, args.product, made, data))
    elif args.file:
        env.say(f"wrote {args.file}; let the publisher answer it, then `volact client apply {args.product} --answer …`")
    else:
        env.write(data.decode().rstrip("\n"))
    say_notes(store, env)
    return 0


def apply_answer(args: argparse.Namespace, env: Environment) -> int:
    store, machine = open_store(args, env), machine_of(env)
    answer = AnswerFile.from_bytes(_read(args.answer, MAX_FILE, env))
    applied = carried.apply(store, args.product, answer, machine, env.clock(), SystemRandom())
    if env.json:
        env.write_json({**view(args.product, store, machine, env).to_json(env), "activation": _nonce(applied)})
    else:
        env.write(f"{args.product}: {applied.evaluation.state}, answered by the publisher")
    if applied.evaluation.reason is not None:
        env.say(f"{args.product} is not licensed: {applied.evaluation.reason}")
        env.hint(applied.evaluation.reason.hint)
    say_notes(store, env)
    return LICENSED if applied.evaluation.licensed else NOT_LICENSED


def make_backup(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    made = backup.make_backup(store, args.to)
    sealed = b64encode(made.sealed)
    if env.json:
        env.write_json({"machine_id": made.machine.hex(), "products": list(made.products), "sealed": sealed})
    else:
        env.write(sealed)
    say_notes(store, env)
    return 0


def restore(args: argparse.Namespace, env: Environment) -> int:
    """Reads what the vault has opened: the machine's key is in it, so it comes by file or standard input only."""
    store, machine = open_store(args, env), machine_of(env)
    kept = backup.Backup.from_bytes(_read(args.file, backup.MAX_BACKUP, env))
    states = backup.restore(store, kept, machine, env.clock())
    if env.json:
        env.write_json({"products": [view(product, store, machine, env).to_json(env) for product in states]})
    else:
        for product, evaluation in states.items():
            env.write(f"{product}: {evaluation.state}, restored")
    say_notes(store, env)
    return LICENSED if all(one.licensed for one in states.values()) else NOT_LICENSED


def _json(store: ClientStore, product: str, made: carried.Carried, data: bytes) -> dict[str, Any]:
    loaded, request = load_product(store, product), made.request
    key = store.key(product)
    return {
        "product": product,
        "root": loaded.trust.fingerprint,
        "publisher": loaded.definition.publisher,
        "url": loaded.definition.url,
        "edition": request.edition,
        "channel": request.channel,
        "partial_key": loaded.installation.partial,
        "key_id": key.key_id if key is not None else None,
        "machine_id": made.machine.hex(),
        "fingerprint": request.fingerprint.to_claim(),
        "requested_at": Environment.json_time(request.at),
        "request": data.decode(),
    }


def _nonce(applied: carried.Applied) -> str:
    return applied.licence.nonce.hex()


def _read(path: str, most: int, env: Environment) -> bytes:
    return env.stdin.read(most + 1).encode() if path == STDIN else read_file(path, most)
