# SPDX-License-Identifier: Apache-2.0
"""``volact fleet keys …`` and ``install-key``: the organisation's keys, encrypted here, and put on machines."""

import argparse
import getpass
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import read_file, read_token
from volact.cli.fleet.opening import add_machines, chosen, new_passphrase, open_fleet, read_passphrase, run_job, verb
from volact.cli.options import add_family, root_fingerprint
from volact.core.errors import InputError, VolactError
from volact.fleet.activation.install import GENERIC, PREFERENCES
from volact.fleet.keys import keys as rows
from volact.fleet.keys import vault
from volact.fleet.keys.keys import KeyRow
from volact.sealing import jws

MOST_FILE = 1024 * 1024
KEY_HELP = "its last five symbols, or its key ID"


class KeysFileFaultyError(InputError):
    code = "fleet-key-lines"
    fmt = "{count} of the lines are no product keys, the first of them line {line}: {why}"
    remedy = "correct them; nothing was added, so the whole file can be given again"


def build(group: Any) -> None:
    about = "the key vault: keys encrypted at rest, what is left of them, and their products"
    inner = add_family(group, "keys", about)
    _vault_verbs(inner)
    _key_verbs(inner)
    _product_verbs(inner)
    _install(group)


def _key_verbs(inner: Any) -> None:
    add = verb(
        inner,
        "add",
        run_add,
        "add keys, typed or from a file; never on the command line",
        "volact fleet keys add                    # asks for one key",
        "volact fleet keys add bought.csv         # a key a line, a description behind a comma",
        "volact fleet keys add - < bought.csv",
        secret=True,
    )
    add.add_argument("file", metavar="FILE", nargs="?", help="keys, one a line; - reads standard input")
    add.add_argument("--description", default="", metavar="TEXT", help="for keys that bring none")

    listed = verb(inner, "list", run_list, "list the keys and what is left of them", "volact fleet keys list --json")
    listed.add_argument("--product", metavar="PRODUCT", help="of this product only")
    listed.add_argument("--channel", metavar="CHANNEL", help="of this channel only: mak, retail, kms-host")

    refresh = verb(
        inner,
        "refresh",
        run_refresh,
        "ask the publisher how many activations are left",
        "volact fleet keys refresh",
        "volact fleet keys refresh 33GJK",
        secret=True,
    )
    refresh.add_argument("keys", metavar="KEY", nargs="*", help=f"{KEY_HELP} (default: every MAK and retail key)")
    refresh.add_argument("--publisher", metavar="URL", help="the publisher's service (default: the definition's)")

    describe = verb(inner, "describe", run_describe, "note what a key is for", "volact fleet keys describe 33GJK 'lab'")
    describe.add_argument("key", metavar="KEY", help=KEY_HELP)
    describe.add_argument("text", metavar="TEXT")

    remove = verb(
        inner,
        "remove",
        run_remove,
        "take a key out of the vault; machines keep theirs",
        "volact fleet keys remove 33GJK",
    )
    remove.add_argument("key", metavar="KEY", help=KEY_HELP)


def _vault_verbs(inner: Any) -> None:
    verb(
        inner,
        "vault",
        run_vault,
        "show the vault, and the key that machines seal backups to",
        "volact fleet keys vault",
    )
    change = verb(
        inner, "passphrase", run_passphrase, "change what opens the vault", "volact fleet keys passphrase", secret=True
    )
    change.add_argument("--new-passphrase-file", metavar="FILE", help="first line: the new passphrase (else asked)")


def _product_verbs(inner: Any) -> None:
    add = verb(
        inner,
        "add-product",
        run_add_product,
        "add a product's definition: it says whose keys are what, and where the publisher is",
        "volact fleet keys add-product acme-cad.volproduct --root sha256:5f0c…",
    )
    add.add_argument("file", metavar="FILE", help="the definition (.volproduct); - reads standard input")
    add.add_argument(
        "--root",
        required=True,
        type=root_fingerprint,
        metavar="sha256:…",
        help="the publisher's root, from the publisher",
    )
    verb(inner, "products", run_products, "list the definitions that the fleet has", "volact fleet keys products")


def _install(group: Any) -> None:
    install = verb(
        group,
        "install-key",
        run_install,
        "install recommended or chosen keys on machines",
        "volact fleet install-key --filter 'tag=office'                    # the generic volume key",
        "volact fleet install-key --prefer mak --product acme-cad ws1 ws2  # the vault's best MAK",
        "volact fleet install-key --key 33GJK --filter 'state=unlicensed'",
        secret=True,
    )
    install.add_argument("--key", metavar="KEY", help=f"this key of the vault: {KEY_HELP}")
    install.add_argument(
        "--prefer", choices=PREFERENCES, default=GENERIC, help="which key is recommended (default: generic)"
    )
    install.add_argument("--product", metavar="PRODUCT", help="this product only")
    install.add_argument("--edition", metavar="EDITION", help="which edition, where a key fits several")
    install.add_argument("--replace", action="store_true", help="also where a key is installed")
    install.add_argument("--add", action="store_true", help="bring the product's definition where it lacks")
    add_machines(install)


def run_add(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        lines = _lines(args, env)
        parsed = rows.parse_lines(lines, args.file or "what was typed")
        if parsed.problems:
            first = parsed.problems[0]
            raise KeysFileFaultyError(count=len(parsed.problems), line=first.line, why=str(first.error))
        opened = fleet.open_vault(create=True)
        described = [(key, text or args.description) for key, text in parsed.keys]
        with fleet.store.write() as conn:
            added, known = rows.add(conn, opened, described, env.clock(), fleet.who)
    if env.json:
        env.write_json({"added": [row.to_json() for row in added], "known": [row.to_json() for row in known]})
        return 0
    for row in added:
        env.write(f"added the {row.channel} key ending in {row.partial}" + (f", {row.product}" if row.product else ""))
    for row in known:
        env.say(f"the {row.channel} key ending in {row.partial} was there already")
    if any(row.product is None for row in added):
        env.hint(
            "whose they are is told by the product's definition: `volact fleet keys add-product FILE --root sha256:…`"
        )
    return 0


def run_list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        found = fleet.keys_list(args.product, args.channel)
    if env.json:
        env.write_json({"keys": [row.to_json() for row in found]})
    else:
        env.table(_COLUMNS, [_row(row, env) for row in found])
    return 0


def run_refresh(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        asked = fleet.keys_refresh(args.keys, url=args.publisher)
    failed = [one for one in asked if one.error is not None]
    if env.json:
        shown = [{**one.key.to_json(), "error": one.error.to_dict() if one.error else None} for one in asked]
        env.write_json({"keys": shown})
        return 1 if failed else 0
    env.table(_COLUMNS, [_row(one.key, env) for one in asked if one.error is None])
    for one in failed:
        env.say(f"error: the key ending in {one.key.partial}: {one.error}")
        env.hint(one.error.hint if isinstance(one.error, VolactError) else "")
    return 1 if failed else 0


def run_describe(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet, fleet.store.write() as conn:
        row = rows.describe(conn, rows.find(conn, args.key), args.text, env.clock(), fleet.who)
    return _say(row, f"the key ending in {row.partial} is described as: {row.description}", env)


def run_remove(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        row = fleet.keys_remove(args.key)
    return _say(row, f"removed the {row.channel} key ending in {row.partial} from the vault", env)


def run_vault(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        with fleet.store.read() as conn:
            to, number = vault.recipient(conn), len(rows.listed(conn))
        kept = vault.passphrase_file(fleet.folder)
    shown = {"recipient": to, "keys": number, "passphrase_kept_in": str(kept) if kept.exists() else None}
    env.write_json(shown) if env.json else env.facts([(name.replace("_", " "), value) for name, value in shown.items()])
    return 0


def run_passphrase(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        old, new = read_passphrase(args, env, fleet.folder), new_passphrase(args.new_passphrase_file, env)
        with fleet.store.write() as conn:
            vault.change_passphrase(conn, old, new, env.clock(), fleet.who)
        kept = vault.passphrase_file(fleet.folder)
        kept.unlink(missing_ok=True)
    env.write_json({"changed": True}) if env.json else env.say("the vault opens by its new passphrase only")
    return 0


def run_add_product(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        known = fleet.definition_add(read_token(args.file, jws.MAX_TOKEN), args.root)
    shown = {"product": known.product, "version": known.version, "root": known.root, "url": known.url}
    if env.json:
        env.write_json(shown)
    else:
        env.say(f"added {known.product} version {known.version}, publisher's service {known.url or 'not named'}")
    return 0


def run_products(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        found = fleet.definitions()
    if env.json:
        shown = [{"product": d.product, "version": d.version, "root": d.root, "url": d.url} for d in found]
        env.write_json({"products": shown})
    else:
        env.table(
            ["product", "version", "publisher's service", "root"],
            [[d.product, d.version, d.url, d.root] for d in found],
        )
    return 0


def run_install(args: argparse.Namespace, env: Environment) -> int:
    return run_job(
        args,
        env,
        lambda fleet: fleet.install_key(
            args.key,
            **chosen(args),
            product=args.product,
            edition=args.edition,
            prefer=args.prefer,
            replace=args.replace,
            add=args.add,
            wait=False,
            dry_run=args.dry_run,
        ),
    )


_COLUMNS = ["key", "channel", "product", "group", "left", "of", "asked", "description"]


def _row(row: KeyRow, env: Environment) -> list[object]:
    left: object = "blocked" if row.blocked_at is not None else row.remaining
    asked = env.show_time(row.refreshed_at) if row.refreshed_at else None
    return [f"…{row.partial}", row.channel, row.product, row.group, left, row.activations, asked, row.description]


def _lines(args: argparse.Namespace, env: Environment) -> list[str]:
    if args.file == "-":
        return env.stdin.read(MOST_FILE).splitlines()
    if args.file:
        return read_file(args.file, MOST_FILE).decode("utf-8", "replace").splitlines()
    if env.stdin.isatty():
        return [getpass.getpass("Product key: ", stream=env.stderr)]
    return [env.stdin.readline()]


def _say(row: KeyRow, text: str, env: Environment) -> int:
    env.write_json(row.to_json()) if env.json else env.say(text)
    return 0
