# SPDX-License-Identifier: Apache-2.0
"""``account`` and ``login-link``: who may log in to the console."""

import argparse
import secrets
from typing import Any

from volact.cli import options
from volact.cli.console.common import accounts_of, actor
from volact.cli.console.serve import DEFAULT_PORT
from volact.cli.environment import Environment
from volact.cli.options import add_verb
from volact.web.access.accounts import LINK_SECONDS
from volact.web.access.records import Account
from volact.web.access.roles import STANDARD


def build(group: Any) -> None:
    parser = group.add_parser(
        "account",
        help="local accounts: add, list, role, password, reset-totp, disable, enable, remove",
        description="The console's local accounts.",
    )
    verbs = options.verbs(parser)
    add = add_verb(
        verbs,
        "add",
        "add an account; prints its first password, to be changed at the first login",
        run_add,
        examples=[
            "volact console account add anna --role operator",
            "volact console account add anna --password - < file",
        ],
    )
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", choices=STANDARD.names, default="viewer", help="what it may do (default: %(default)s)")
    add.add_argument("--full-name", default="", metavar="TEXT", help="whose it is, shown beside the name")
    add.add_argument("--password", choices=["-"], help="read the first password from standard input")
    add_verb(verbs, "list", "list the accounts", run_list, examples=["volact console account list --json"])
    role = add_verb(
        verbs, "role", "give an account another role", run_role, examples=["volact console account role anna operator"]
    )
    role.add_argument("name", metavar="NAME")
    role.add_argument("role", choices=STANDARD.names)
    for name, help_text, run in (
        ("password", "set a new first password", run_password),
        ("reset-totp", "let the account set up another authenticator", run_reset),
        ("disable", "end the account's sessions and let it in no more", run_disable),
        ("enable", "let a disabled account in again", run_enable),
        ("remove", "remove an account; the audit keeps what it did", run_remove),
    ):
        verb = add_verb(verbs, name, help_text, run, examples=[f"volact console account {name} anna"])
        verb.add_argument("name", metavar="NAME")
    link = add_verb(
        group,
        "login-link",
        "print a link that logs an account in once, within 15 minutes",
        run_link,
        examples=["volact console login-link", "volact console login-link anna --url https://console.example.com"],
    )
    link.add_argument("name", metavar="NAME", nargs="?", default="admin", help="the account (default: %(default)s)")
    link.add_argument(
        "--url",
        metavar="URL",
        default=f"http://localhost:{DEFAULT_PORT}",
        help="where the console answers (default: %(default)s)",
    )


def run_add(args: argparse.Namespace, env: Environment) -> int:
    password = env.stdin.readline().rstrip("\r\n") if args.password else secrets.token_urlsafe(12)
    with accounts_of(args, env) as accounts:
        made = accounts.add(args.name, args.role, actor(), full_name=args.full_name, password=password)
    shown = None if args.password else password
    if env.json:
        env.write_json({**_json(env, made), "password": shown})
        return 0
    env.say(f"added {made.name} as {made.role}")
    if shown:
        env.write(shown)
        env.hint("that is the first password; the first login asks for another")
    return 0


def run_list(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        found = accounts.store.accounts()
    if env.json:
        env.write_json([_json(env, account) for account in found])
        return 0
    rows = [
        (one.name, one.full_name, one.role, one.source, "yes" if one.totp else "no",
         env.show_time(one.last_login_at), "yes" if one.enabled else "disabled")
        for one in found
    ]  # fmt: skip
    env.table(("name", "full name", "role", "kept by", "authenticator", "last login", "enabled"), rows)
    return 0


def run_role(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        accounts.set_role(args.name, args.role, actor())
    return _done(env, args.name, f"{args.name} is {args.role} now")


def run_password(args: argparse.Namespace, env: Environment) -> int:
    password = secrets.token_urlsafe(12)
    with accounts_of(args, env) as accounts:
        accounts.set_password(args.name, password, actor())
    if env.json:
        env.write_json({"name": args.name, "password": password})
    else:
        env.write(password)
        env.hint("the next login asks for another; the account's sessions have ended")
    return 0


def run_reset(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        accounts.reset_totp(args.name, actor())
    return _done(env, args.name, f"the next login of {args.name} sets up another authenticator")


def run_disable(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        accounts.disable(args.name, actor())
    return _done(env, args.name, f"{args.name} is disabled, its sessions have ended")


def run_enable(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        accounts.enable(args.name, actor())
    return _done(env, args.name, f"{args.name} may log in again")


def run_remove(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        accounts.remove(args.name, actor())
    return _done(env, args.name, f"removed {args.name}")


def run_link(args: argparse.Namespace, env: Environment) -> int:
    with accounts_of(args, env) as accounts:
        token = accounts.make_link(args.name, actor())
    link = f"{args.url.rstrip('/')}/login/link/{token}"
    if env.json:
        env.write_json({"name": args.name, "link": link, "seconds": LINK_SECONDS})
    else:
        env.write(link)
    return 0


def _done(env: Environment, name: str, text: str) -> int:
    if env.json:
        env.write_json({"name": name})
    else:
        env.say(text)
    return 0


def _json(env: Environment, account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "full_name": account.full_name,
        "role": account.role,
        "source": account.source,
        "authenticator": account.totp is not None,
        "added": env.json_time(account.added_at),
        "last_login": env.json_time(account.last_login_at),
        "enabled": account.enabled,
    }
