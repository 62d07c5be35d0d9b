# SPDX-License-Identifier: Apache-2.0
"""``volact publisher agreement``: what organisations have bought, from when to when."""

import argparse

from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, day, group_teller, open_publisher
from volact.publisher.rows.records import Agreement
from volact.publisher.rules.issuing import POOLED, IssuedKey


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "agreement", "agreements with organisations: dates and quantities")
    parser = add_verb(
        family,
        "add",
        _add,
        "add an agreement with an organisation",
        """
volact publisher agreement add EA-2027 --organisation "Example Ltd" --quantity clients=100 --quantity servers=5
volact publisher agreement add EA-2027 --organisation "Example Ltd" --quantity 102=100 --end 2029-12-31""",
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--organisation", required=True, metavar="NAME")
    parser.add_argument("--start", type=day, metavar="YYYY-MM-DD", help="its first day, UTC (default: today)")
    parser.add_argument("--end", type=day, metavar="YYYY-MM-DD", help="the day on which it ends, UTC (default: never)")
    parser.add_argument(
        "--quantity",
        type=_quantity,
        action="append",
        required=True,
        metavar="GROUP=N",
        help="licences of a product group, by name or number; may be given several times",
    )
    parser = add_verb(
        family,
        "change",
        _change,
        "extend an agreement, or end it",
        """
volact publisher agreement change EA-2027 --end 2030-12-31
volact publisher agreement change EA-2027 --no-end""",
    )
    parser.add_argument("name", metavar="NAME")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--end", type=day, metavar="YYYY-MM-DD", help="the day on which it ends, UTC")
    end.add_argument("--no-end", action="store_true", help="it does not end")
    add_verb(family, "list", _list, "list the agreements", "volact publisher agreement list --json")
    parser = add_verb(
        family, "show", _show, "show an agreement and its keys", "volact publisher agreement show EA-2027"
    )
    parser.add_argument("name", metavar="NAME")


def _add(args: argparse.Namespace, env: Environment) -> int:
    now = env.clock()
    starts_at = now - now % 86400 if args.start is None else args.start
    with open_publisher(args, env) as publisher:
        quantities = {publisher.find_group(group): quantity for group, quantity in args.quantity}
        agreement = publisher.add_agreement(
            args.name, args.organisation, starts_at, args.end, quantities, now, actor(env)
        )
    return _done(args, env, agreement, f"added agreement {agreement.name} with {agreement.organisation}")


def _change(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        agreement = publisher.change_agreement(args.name, args.end, env.clock(), actor(env))
    ends = "does not end" if agreement.ends_at is None else f"ends at {env.show_time(agreement.ends_at)}"
    return _done(args, env, agreement, f"agreement {agreement.name} {ends}")


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        agreements = publisher.store.agreements()
    if args.json:
        env.write_json([_as_json(one, env) for one in agreements])
        return 0
    rows = [
        (a.name, a.organisation, env.show_time(a.starts_at), env.show_time(a.ends_at), sum(a.quantities.values()))
        for a in agreements
    ]
    env.table(("agreement", "organisation", "starts", "ends", "licences"), rows)
    return 0


def _show(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        agreement = publisher.store.agreement(args.name)
        issued, told = publisher.store.keys(), group_teller(publisher)
    keys = [key for key in issued if key.agreement == agreement.name]
    groups = [
        {"group": group, "quantity": quantity, **_use(group, keys)}
        for group, quantity in sorted(agreement.quantities.items())
    ]
    if args.json:
        shown = [{"key_id": k.key_id, "partial": k.partial, "kind": str(k.channel), "group": k.group} for k in keys]
        env.write_json({**_as_json(agreement, env), "groups": groups, "keys": shown})
        return 0
    env.facts(
        (
            ("Agreement", agreement.name),
            ("Organisation", agreement.organisation),
            ("Starts", env.show_time(agreement.starts_at)),
            ("Ends", env.show_time(agreement.ends_at)),
        )
    )
    rows = [(told(g["group"]), g["quantity"], g["keys"], g["activations"], g["used"]) for g in groups]
    env.table(("group", "licences", "keys", "activations", "used"), rows, "Product groups")
    return 0


def _use(group: int, keys: list[IssuedKey]) -> dict[str, int]:
    """Pools need not equal what was bought: that is what this is looked at for."""
    mine = [key for key in keys if key.group == group]
    pools = [key for key in mine if key.channel in POOLED and key.blocked_at is None]
    return {
        "keys": len(mine),
        "activations": sum(key.activations for key in pools),
        "used": sum(key.used for key in mine),
    }


def _done(args: argparse.Namespace, env: Environment, agreement: Agreement, said: str) -> int:
    env.write_json(_as_json(agreement, env)) if args.json else env.say(said)
    return 0


def _as_json(agreement: Agreement, env: Environment) -> dict[str, object]:
    return {
        "agreement": agreement.name,
        "organisation": agreement.organisation,
        "starts_at": env.json_time(agreement.starts_at),
        "ends_at": env.json_time(agreement.ends_at),
        "added_at": env.json_time(agreement.added_at),
        "quantities": {str(group): quantity for group, quantity in sorted(agreement.quantities.items())},
    }


def _quantity(text: str) -> tuple[str, int]:
    group, _, number = text.rpartition("=")
    if not group or not number.isascii() or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not a product group and a number, as in clients=100")
    return group, int(number)
