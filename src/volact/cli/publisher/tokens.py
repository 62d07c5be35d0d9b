# SPDX-License-Identifier: Apache-2.0
"""``volact publisher token``: who may use the HTTP API, as whom and until when."""

import argparse
from collections.abc import Sequence
from typing import Any

from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, day, open_publisher
from volact.publisher.administration import tokens as room
from volact.publisher.rules.roles import Role, Scope
from volact.web.api.tokens import Token


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "token", "tokens of the HTTP API")
    parser = add_verb(
        family,
        "make",
        _make,
        "make a token and print it, once",
        """
volact publisher token make "fleet tool" --organisation "Example Ltd" --scope keys:read --scope phone:confirm
volact publisher token make "nightly report" --role viewer --end 2027-12-31""",
    )
    parser.add_argument("label", metavar="LABEL", help="who uses it and for what, as ledger and lists call it")
    parser.add_argument("--organisation", metavar="NAME", help="whose it is; it sees nothing of other ones")
    parser.add_argument(
        "--scope",
        action="append",
        default=[],
        choices=tuple(map(str, Scope)),
        metavar="SCOPE",
        help=f"what an organisation's token may do; may be given several times: {', '.join(Scope)}",
    )
    parser.add_argument("--role", choices=tuple(map(str, Role)), help="of an operator's token, which sees all")
    parser.add_argument("--end", type=day, metavar="YYYY-MM-DD", help="the day on which it ends, UTC (default: a year)")
    parser = add_verb(
        family, "list", _list, "list the tokens", 'volact publisher token list --organisation "Example Ltd"'
    )
    parser.add_argument("--organisation", metavar="NAME", help="only its own")
    parser = add_verb(
        family, "revoke", _revoke, "end a token at once", "volact publisher token revoke 1f0c9b2a7d3e4f58"
    )
    parser.add_argument("id", metavar="ID", help="as `token list` shows it; not the token itself")


def _make(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        token, secret = room.make(
            publisher.store,
            args.label,
            env.clock(),
            actor(env),
            organisation=args.organisation,
            scopes=[Scope(scope) for scope in args.scope],
            role=Role(args.role) if args.role else None,
            ends_at=args.end,
        )
    if args.json:
        env.write_json({"token": secret, **_as_json(token, env)})
        return 0
    env.write(secret)
    env.say(f"made token {token.id} for {token.organisation or token.role}, until {env.show_time(token.expires_at)}")
    env.hint("hand it over now: the publisher keeps only its hash and cannot show it again")
    return 0


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        found = room.listed(publisher.store, args.organisation)
    if args.json:
        env.write_json([_as_json(token, env) for token in found])
        return 0
    env.table(("token", "for", "whose", "may", "ends", "last used", "state"), _rows(found, env))
    return 0


def _revoke(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        token = room.revoke(publisher.store, args.id, env.clock(), actor(env))
    env.write_json(_as_json(token, env)) if args.json else env.say(f"token {token.id} is revoked")
    return 0


def _rows(found: Sequence[Token], env: Environment) -> list[tuple[Any, ...]]:
    return [
        (
            token.id, token.label, token.organisation or "operators", token.role or " ".join(token.scopes),
            env.show_time(token.expires_at), env.show_time(token.last_used_at), _state(token, env.clock()),
        )
        for token in found
    ]  # fmt: skip


def _state(token: Token, now: int) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "ended" if now >= token.expires_at else "good"


def _as_json(token: Token, env: Environment) -> dict[str, object]:
    return {
        "id": token.id,
        "label": token.label,
        "organisation": token.organisation,
        "role": token.role,
        "scopes": list(token.scopes),
        "made_at": env.json_time(token.made_at),
        "made_by": token.made_by,
        "ends_at": env.json_time(token.expires_at),
        "last_used_at": env.json_time(token.last_used_at),
        "revoked_at": env.json_time(token.revoked_at),
    }
