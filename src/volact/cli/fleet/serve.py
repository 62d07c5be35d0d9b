# SPDX-License-Identifier: Apache-2.0
"""``volact fleet serve`` and ``token``: the HTTP API, with the schedules and jobs behind it, and who may call it."""

import argparse
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.fleet.opening import open_fleet, tell, verb
from volact.cli.options import add_family, add_verb, between
from volact.client.service import systemd
from volact.core.errors import ConfigError
from volact.fleet.rest import tokens
from volact.fleet.rest.access import Role
from volact.web.api.tokens import Token
from volact.web.site import is_loopback

DEFAULT_PORT = 1692  # beside the publisher's 1690 and the console's 1691


class ApiInClearError(ConfigError):
    code = "fleet-api-needs-tls"
    fmt = "tokens would cross the network in clear text to {address}"
    remedy = "give --tls-certificate and --tls-key, or --behind-proxy where a proxy on the way does TLS"


class TlsHalfError(ConfigError):
    code = "fleet-tls-half"
    fmt = "a certificate and its key belong together"
    remedy = "give --tls-certificate and --tls-key, both"


def build(verbs: Any) -> None:
    parser = verb(
        verbs,
        "serve",
        _serve,
        "serve the HTTP API, run schedules, and work on jobs, until stopped",
        "volact fleet serve                                # http://127.0.0.1:1692/api/v1",
        "volact fleet serve --listen 192.0.2.10 --tls-certificate fleet.pem --tls-key fleet.key",
        secret=True,
    )
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address (default: %(default)s)")
    parser.add_argument("--port", type=between(1, 65535), default=DEFAULT_PORT, help="TCP port (default: %(default)s)")
    parser.add_argument("--tls-certificate", metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")
    parser.add_argument("--behind-proxy", action="store_true", help="a proxy in front does TLS")
    family = add_family(verbs, "token", "tokens of the HTTP API")
    parser = add_verb(
        family,
        "make",
        "make a token; it is shown once",
        _make,
        examples=(
            "volact fleet token make 'ticket system' --role viewer",
            "volact fleet token make ci --role operator --days 90",
        ),
    )
    parser.add_argument("label", metavar="LABEL", help="who uses it, and for what")
    parser.add_argument("--role", choices=tuple(map(str, Role)), required=True, help="what it may do")
    parser.add_argument("--days", type=between(1, 3650), default=365, metavar="N", help="its life (default: 365)")
    add_verb(family, "list", "list the tokens", _list, examples=("volact fleet token list",))
    parser = add_verb(
        family, "revoke", "end a token at once", _revoke, examples=("volact fleet token revoke 0f3c51d2a1b4c7e9",)
    )
    parser.add_argument("id", metavar="ID")


def _serve(args: argparse.Namespace, env: Environment) -> int:
    from volact.fleet.rest.application import BASE, Loader
    from volact.wire.serve import Listener, serve

    if bool(args.tls_certificate) != bool(args.tls_key):
        raise TlsHalfError()
    if not (args.tls_certificate or args.behind_proxy or is_loopback(args.listen)):
        raise ApiInClearError(address=args.listen)
    with open_fleet(args, env) as fleet:  # what is wrong with folder or passphrase is said here, once
        given = fleet.passphrase() if fleet.passphrase and fleet.has_vault() else None
        if given is not None:
            fleet.open_vault()
        path, name = fleet.folder.path.absolute(), fleet.who
    address = f"[{args.listen}]" if ":" in args.listen else args.listen
    scheme = "https" if args.tls_certificate else "http"

    def started() -> None:
        env.say(f"the fleet's API listens on {scheme}://{address}:{args.port}{BASE}")
        env.stderr.flush()

    certificate, key = (Path(file) if file else None for file in (args.tls_certificate, args.tls_key))
    listener = Listener(args.listen, args.port, 1, certificate=certificate, key=key)
    serve(
        Loader(path, given, name),
        listener,
        on_start=started,
        on_stop=lambda: env.say("stopped"),
        on_ready=systemd.when_ready(env.variables, f"listens on port {args.port}"),
    )
    return 0


def _make(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        token, secret = tokens.make(fleet, args.label, args.role, args.days)
    if args.json:
        env.write_json({**_json(token, env), "secret": secret})
        return 0
    env.write(secret)
    env.say(
        f"token {token.id} has the role {token.role} until {env.show_time(token.expires_at)}; it is not shown again"
    )
    return 0


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        found = tokens.listed(fleet)
    if args.json:
        env.write_json([_json(one, env) for one in found])
        return 0
    rows = [
        (
            one.id,
            one.label,
            one.role,
            one.made_by,
            *map(env.show_time, (one.expires_at, one.last_used_at, one.revoked_at)),
        )
        for one in found
    ]
    env.table(("ID", "label", "role", "made by", "ends", "last used", "revoked"), rows)
    return 0


def _revoke(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        token = tokens.revoke(fleet, args.id)
    return tell(env, _json(token, env), f"token {token.id} is revoked")


def _times(token: Token) -> tuple[int | None, ...]:
    return token.expires_at, token.last_used_at, token.revoked_at


def _json(token: Token, env: Environment) -> dict[str, Any]:
    shown = tokens.told(token)
    return {name: env.json_time(value) if name.endswith("_at") else value for name, value in shown.items()}
