# SPDX-License-Identifier: Apache-2.0
"""``volact publisher operator``: who may log in at the desk.  Spec: docs/guide/web-accounts.md."""

import argparse
import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, folder
from volact.publisher.folder.opening import PublisherFolder

if TYPE_CHECKING:  # the web's parts take a third of a second to load
    from volact.web.access.accounts import Accounts
    from volact.web.access.records import Account

ROLES = ("viewer", "phone", "operator", "administrator")  # as in volact.publisher.desk.state
_NAME_HELP = "as it is typed at the login"


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "operator", "accounts of the desk: who may log in, and as what")
    parser = add_verb(
        family,
        "add",
        _add,
        "add an account; `operator link` lets its owner in",
        """
volact publisher operator add ann --role administrator
volact publisher operator add bob --role phone --full-name "Bob Miller" """,
    )
    parser.add_argument("name", metavar="NAME", help=_NAME_HELP)
    parser.add_argument("--role", required=True, choices=ROLES, help="what the account may do")
    parser.add_argument("--full-name", default="", metavar="TEXT", help="whose account it is")
    parser.add_argument("--password", action="store_true", help="ask for a first password, to be changed at the login")
    add_verb(family, "list", _list, "list the accounts", "volact publisher operator list --json")
    for name, run, help_text in (
        ("link", _link, "make a login link that is good once, for 15 minutes"),
        ("reset-totp", _reset_totp, "let the next login set up another authenticator"),
        ("disable", _disable, "end an account's sessions and let it in no more"),
        ("enable", _enable, "let a disabled account in again"),
        ("remove", _remove, "take an account away; the audit keeps its name"),
    ):
        _named(add_verb(family, name, run, help_text, f"volact publisher operator {name} ann"))
    parser = add_verb(
        family, "set-role", _set_role, "give an account another role", "volact publisher operator set-role bob viewer"
    )
    _named(parser)
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help=", ".join(ROLES))


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=_NAME_HELP)


@contextmanager
def _accounts(args: argparse.Namespace, env: Environment) -> Iterator["Accounts"]:
    from volact.publisher.desk.application import open_accounts

    accounts = open_accounts(PublisherFolder.open(folder(args, env)), env.clock)
    try:
        yield accounts
    finally:
        accounts.store.close()


def _add(args: argparse.Namespace, env: Environment) -> int:
    password = getpass.getpass(f"First password of {args.name}: ", stream=env.stderr) if args.password else None
    with _accounts(args, env) as accounts:
        account = accounts.add(args.name, args.role, actor(env), full_name=args.full_name, password=password)
    if args.json:
        env.write_json(_as_json(account, env))
        return 0
    env.say(f"added {account.name} as {account.role}")
    if password is None:
        env.hint(f"`volact publisher operator link {account.name}` makes the link for the first login")
    return 0


def _list(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        found = accounts.store.accounts()
    if args.json:
        env.write_json([_as_json(one, env) for one in found])
        return 0
    rows = [
        (
            one.name, one.full_name, one.role, "enabled" if one.enabled else "disabled", "yes" if one.totp else "no",
            env.show_time(one.last_login_at),
        )
        for one in found
    ]  # fmt: skip
    env.table(("name", "full name", "role", "state", "authenticator", "last login"), rows)
    return 0


def _link(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        token = accounts.make_link(args.name, actor(env))
    path = f"/login/link/{token}"
    if args.json:
        env.write_json({"path": path})
    else:
        env.write(path)
        env.hint("open it behind the desk's address; it is good for one login, within 15 minutes")
    return 0


def _reset_totp(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        accounts.reset_totp(args.name, actor(env))
    return _said(args, env, "the next login sets up another authenticator")


def _disable(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        accounts.disable(args.name, actor(env))
    return _said(args, env, f"disabled {args.name}")


def _enable(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        accounts.enable(args.name, actor(env))
    return _said(args, env, f"enabled {args.name}")


def _remove(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        accounts.remove(args.name, actor(env))
    return _said(args, env, f"removed {args.name}", gone=True)


def _set_role(args: argparse.Namespace, env: Environment) -> int:
    with _accounts(args, env) as accounts:
        accounts.set_role(args.name, args.role, actor(env))
    return _said(args, env, f"{args.name} is {args.role} now")


def _said(args: argparse.Namespace, env: Environment, text: str, *, gone: bool = False) -> int:
    if not args.json:
        env.say(text)
        return 0
    with _accounts(args, env) as accounts:
        found = None if gone else accounts.store.account(args.name)
    env.write_json(_as_json(found, env) if found else {"name": args.name, "removed": True})
    return 0


def _as_json(account: "Account", env: Environment) -> dict[str, object]:
    return {
        "name": account.name,
        "full_name": account.full_name,
        "role": account.role,
        "enabled": account.enabled,
        "authenticator": account.totp is not None,
        "added_at": env.json_time(account.added_at),
        "last_login_at": env.json_time(account.last_login_at),
    }
