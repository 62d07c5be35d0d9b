# SPDX-License-Identifier: Apache-2.0
"""``serve``: the console in the browser."""

import argparse
import sys
from pathlib import Path
from typing import Any

from volact.cli.console.common import actor, folder_of
from volact.cli.environment import Environment
from volact.cli.options import add_verb, between
from volact.client.service import systemd
from volact.console.application import ConsoleRun, open_accounts
from volact.console.folder import ROLES, ConsoleFolder
from volact.fleet.api import PASSPHRASE_VARIABLE
from volact.web.sign_on.logins import check_logins
from volact.web.site import WebListener
from volact.wire.serve import Listener, serve

DEFAULT_PORT = 1691  # beside the KMS host's 1688 and the publisher's 1690
FIRST = "admin"  # the account of a console that has none yet


def build(group: Any) -> None:
    verb = add_verb(
        group,
        "serve",
        "answer browsers until stopped (SIGINT, SIGTERM)",
        run,
        examples=[
            "volact console serve                                  # on http://localhost:1691; prints the first login",
            "volact console serve --listen 192.0.2.10 --tls-certificate console.pem --tls-key console.key",
            "volact console serve --web-logins logins.toml         # people of the directory log in, too",
            "volact console serve --trust-proxy 127.0.0.1 --name console.example.com      # behind a reverse proxy",
        ],
    )
    verb.add_argument("--listen", metavar="ADDRESS", default="127.0.0.1", help="the address (default: %(default)s)")
    verb.add_argument(
        "--port",
        type=between(1, 65535),
        default=DEFAULT_PORT,
        metavar="PORT",
        help="the TCP port (default: %(default)s)",
    )
    verb.add_argument("--tls-certificate", metavar="FILE", help="its certificate chain, PEM")
    verb.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")
    verb.add_argument(
        "--trust-proxy", metavar="ADDRESS", action="append", default=[], help="believe this proxy's X-Forwarded headers"
    )
    verb.add_argument("--name", metavar="NAME", action="append", default=[], help="another name it is reached by")
    verb.add_argument("--title", metavar="TEXT", default="", help="whose console it is, shown under its name")
    verb.add_argument(
        "--require-totp", action="store_true", help="accounts of this site and of LDAP need an authenticator"
    )
    verb.add_argument(
        "--web-logins", metavar="FILE", help="let people log in through LDAP or OpenID Connect, as this TOML file says"
    )
    verb.add_argument(
        "--no-schedules", action="store_true", help="leave the fleet's schedules to `volact fleet serve`, or to cron"
    )
    for role in ROLES:
        verb.add_argument(f"--{role}", metavar="DIR", help=f"the folder of the {role} role; remembered")
    verb.set_defaults(parser=verb)


def run(args: argparse.Namespace, env: Environment) -> int:
    if bool(args.tls_certificate) != bool(args.tls_key):
        args.parser.error("--tls-certificate and --tls-key belong together")
    listener = _listener(args)
    listener.check()
    folder = folder_of(args, env).with_roles({role: Path(getattr(args, role)) for role in ROLES if getattr(args, role)})
    folders = {role: folder.roles.get(role) or env.folder(role, None) for role in ROLES}
    program = (sys.executable, "-m", "volact.cli.main")
    logins = Path(args.web_logins).absolute() if args.web_logins else None
    console = ConsoleRun(
        folder.path.absolute(), folders, program, listener, args.title, args.require_totp, logins,
        schedules=not args.no_schedules, vault=_vault(env),
    )  # fmt: skip
    check_logins(console.logins, open_accounts(folder))
    first = _first_login(folder, listener, private=not systemd.is_listening(env.variables))

    def started() -> None:
        env.say(f"the console answers on {listener.url}")
        if first:
            env.say(f"there is no account yet; {first}")
        env.stderr.flush()

    serve(
        console.load,
        Listener(args.listen, args.port, 1, certificate=listener.certificate, key=listener.key),
        on_start=started,
        on_stop=lambda: env.say("stopped"),
        on_ready=systemd.when_ready(env.variables, f"listens on port {args.port}"),
    )
    return 0


def _listener(args: argparse.Namespace) -> WebListener:
    certificate, key = (Path(path) if path else None for path in (args.tls_certificate, args.tls_key))
    return WebListener(args.listen, args.port, certificate, key, tuple(args.trust_proxy), tuple(args.name))


def _vault(env: Environment) -> Path | None:
    """What the fleet's own commands take, too."""
    file = env.variables.get(PASSPHRASE_VARIABLE)
    return Path(file).absolute() if file else None


def _first_login(folder: ConsoleFolder, listener: WebListener, *, private: bool) -> str:
    """A console without accounts gets its administrator; whoever started it is one already.  A service's words are in
    the journal, where others read them: no ``private`` place for a link that logs in."""
    accounts = open_accounts(folder)
    try:
        if accounts.store.accounts():
            return ""
        if not private:
            return "make one with `volact console account add NAME --role administrator`"
        accounts.add(FIRST, "administrator", actor(), password=None)
        link = f"{listener.url}/login/link/{accounts.make_link(FIRST, actor())}"
        return f"log in once, as {FIRST}, within 15 minutes: {link}"
    finally:
        accounts.store.close()
