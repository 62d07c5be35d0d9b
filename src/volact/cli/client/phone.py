# SPDX-License-Identifier: Apache-2.0
"""``installation-id`` and ``apply``: activation by telephone, by QR code or by pasted text."""

import argparse
import secrets
from typing import Any

from volact.cli.client.shared import machine_of, open_store, say_notes, view
from volact.cli.digits import read_id, read_text_file, write_groups, write_qr
from volact.cli.environment import Environment
from volact.client.activation import phone
from volact.client.folder.store import ClientStore
from volact.client.products.loading import load_product
from volact.client.products.phone_licence import PhoneRequest
from volact.core.phone import CONFIRMATION_GROUPS, ConfirmationId, check_reference, parse_confirmation_group

LICENSED, NOT_LICENSED = 0, 1


def installation_id(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    request = phone.installation_id(
        store, args.product, machine_of(env), env.clock(), secrets.token_bytes, new=args.new
    )
    groups = request.installation.groups
    if env.json:
        env.write_json(_json(store, args.product, request, env))
    elif args.text:
        env.write("-".join(groups))
    elif args.qr:
        write_qr(env, groups)
        env.write("-".join(groups))
    else:
        write_groups(env, groups)
        publisher = load_product(store, args.product).definition.publisher
        env.hint(f"read these {len(groups)} groups to the desk of {publisher}, with the last five symbols of your key")
        env.hint(f"then type what it answers: `volact client apply {args.product}`")
    say_notes(store, env)
    return 0


def apply(args: argparse.Namespace, env: Environment) -> int:
    if bool(args.file) + bool(args.confirmation) + bool(args.answer) > 1:
        args.parser.error("give one of ID, --file and --answer")
    if args.answer:
        from volact.cli.client.carrying import apply_answer

        return apply_answer(args, env)
    store, product = open_store(args, env), args.product
    waiting = phone.open_request(store, product)
    text = read_text_file(args.file) if args.file else _read(args, env, waiting, store)
    applied = phone.apply(store, product, ConfirmationId.parse(text), machine_of(env), env.clock())
    if env.json:
        env.write_json(view(product, store, machine_of(env), env).to_json(env))
    else:
        env.write(f"{product}: {applied.evaluation.state}, activated by telephone")
    if applied.evaluation.reason is not None:
        env.say(f"{product} is not licensed: {applied.evaluation.reason}")
        env.hint(applied.evaluation.reason.hint)
    say_notes(store, env)
    return LICENSED if applied.evaluation.licensed else NOT_LICENSED


def _read(args: argparse.Namespace, env: Environment, waiting: PhoneRequest | None, store: ClientStore) -> str:
    """Asked for group by group only where an installation ID waits: the first group must answer it."""
    given = " ".join(args.confirmation) or None
    if given is None and env.stdin.isatty():
        waiting = phone.require_request(store, args.product)
    check = None if waiting is None else lambda group: check_reference(group, waiting.installation.reference)
    return read_id(env, given, CONFIRMATION_GROUPS, parse_confirmation_group, check)


def _json(store: ClientStore, product: str, request: PhoneRequest, env: Environment) -> dict[str, Any]:
    loaded, installation = load_product(store, product), request.installation
    return {
        "product": product,
        "publisher": loaded.definition.publisher,
        "edition": request.edition,
        "channel": installation.channel,
        "partial_key": loaded.installation.partial,
        "installation_id": str(installation),
        "groups": list(installation.groups),
        "requested_at": env.json_time(installation.requested_at),
    }
