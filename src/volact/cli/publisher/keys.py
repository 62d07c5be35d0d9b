# SPDX-License-Identifier: Apache-2.0
"""``volact publisher organisation`` and ``key``: who has which key, and what was done with it."""

import argparse
from collections import Counter
from collections.abc import Iterable

from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, open_publisher
from volact.core.product_key import Channel
from volact.publisher.issuing import COUNTED, HOST_ROLES, IssuedKey
from volact.publisher.store import HostActivation

_KEY_HELP = "the key, its last five symbols, or its key ID"


def build(verbs: Verbs) -> None:
    _build_organisation(add_family(verbs, "organisation", "organisations that keys are issued to"))
    family = add_family(verbs, "key", "product keys: issue, show, block")
    _build_issue(family)
    add_verb(family, "list", _list, "list the keys that were issued", "volact publisher key list --json")
    parser = add_verb(family, "show", _show, "show a key and its hosts", "volact publisher key show 33GJK")
    parser.add_argument("key", metavar="KEY", help=_KEY_HELP)
    parser = add_verb(
        family,
        "block",
        _block,
        "refuse all further requests with a key",
        'volact publisher key block 33GJK --reason "published in a forum"',
    )
    parser.add_argument("key", metavar="KEY", help=_KEY_HELP)
    parser.add_argument("--reason", default="", help="why, for the ledger")
    parser = add_verb(family, "unblock", _unblock, "allow a blocked key again", "volact publisher key unblock 33GJK")
    parser.add_argument("key", metavar="KEY", help=_KEY_HELP)


def _build_organisation(family: Verbs) -> None:
    parser = add_verb(
        family, "add", _add_organisation, "add an organisation", 'volact publisher organisation add "Example Ltd"'
    )
    parser.add_argument("name", metavar="NAME")
    add_verb(family, "list", _list_organisations, "list the organisations", "volact publisher organisation list")


def _build_issue(family: Verbs) -> None:
    parser = add_verb(
        family,
        "issue",
        _issue,
        "issue a product key and print it, once",
        """
volact publisher key issue --organisation "Example Ltd" --kind kms-host --product acme-cad --group acme-servers
volact publisher key issue --organisation "Example Ltd" --kind kms-host --product acme-cad --group 102 --hosts 2
volact publisher key issue --organisation "Example Ltd" --kind vm-host --product acme-cad --group acme-servers""",
    )
    parser.add_argument("--organisation", required=True, metavar="NAME")
    parser.add_argument("--kind", required=True, choices=tuple(map(str, HOST_ROLES)), help="what the key activates")
    parser.add_argument("--product", required=True, metavar="PRODUCT")
    parser.add_argument("--group", required=True, metavar="GROUP", help="product group, by name or number")
    parser.add_argument("--hosts", type=int, metavar="N", help="on how many hosts (default: the product's policy)")
    parser.add_argument("--activations", type=int, metavar="N", help="how often each (default: the product's policy)")


def _add_organisation(args: argparse.Namespace, env: Environment) -> int:
    now = env.clock()
    with open_publisher(args, env) as publisher:
        publisher.add_organisation(args.name, now, actor(env))
    if args.json:
        env.write_json({"organisation": args.name, "added_at": env.json_time(now), "keys": 0})
    else:
        env.say(f"added organisation {args.name}")
    return 0


def _list_organisations(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        organisations = publisher.store.organisations()
    if args.json:
        env.write_json(
            [{"organisation": o.name, "added_at": env.json_time(o.added_at), "keys": o.keys} for o in organisations]
        )
        return 0
    env.table(("ORGANISATION", "KEYS", "ADDED"), [(o.name, o.keys, env.show_time(o.added_at)) for o in organisations])
    return 0


def _issue(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        new = publisher.issue_host_key(
            args.organisation,
            args.product,
            args.group,
            env.clock(),
            actor(env),
            channel=Channel(args.kind),
            hosts=args.hosts,
            activations=args.activations,
        )
    if args.json:
        env.write_json({"key": str(new.key), **_as_json(new.issued, env)})
        return 0
    env.write(str(new.key))
    issued = new.issued
    env.hint(f"for {issued.hosts} hosts of {issued.organisation}, {issued.activations} activations each")
    env.hint("hand it over now: the publisher keeps only its hash and cannot show it again")
    return 0


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        keys, acts = publisher.store.keys(), publisher.store.host_activations()
    hosts = {key.key_id: len({act.machine for act in acts if act.key_id == key.key_id}) for key in keys}
    if args.json:
        env.write_json([{**_as_json(key, env), "hosts_used": hosts[key.key_id]} for key in keys])
        return 0
    rows = [
        (
            key.partial, key.channel, key.product, key.group, key.organisation,
            f"{hosts[key.key_id]} of {key.hosts}", key.activations, _state(key),
        )
        for key in keys
    ]  # fmt: skip
    env.table(("KEY", "KIND", "PRODUCT", "GROUP", "ORGANISATION", "HOSTS", "ACTIVATIONS EACH", "STATE"), rows)
    return 0


def _show(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        key = publisher.find_key(args.key)
        acts = publisher.store.host_activations(key.key_id)
    hosts = _hosts(acts)
    if args.json:
        shown = [
            {
                "machine": host.machine.hex(),
                "name": host.name,
                "activations": used,
                "last_at": env.json_time(host.at),
                "ends_at": env.json_time(host.ends_at),
            }
            for host, used in hosts
        ]
        env.write_json({**_as_json(key, env), "hosts_used": len(hosts), "machines": shown})
        return 0
    env.facts(
        (
            ("Key", f"…{key.partial}"),
            ("Key ID", key.key_id),
            ("Kind", key.channel),
            ("Organisation", key.organisation),
            ("Product", key.product),
            ("Product group", key.group),
            ("Hosts", f"{len(hosts)} of {key.hosts}"),
            ("Activations each", key.activations),
            ("Issued", env.show_time(key.issued_at)),
            ("State", _state(key)),
        )
    )
    rows = [
        (h.name, h.machine.hex()[:16], f"{used} of {key.activations}", env.show_time(h.at), env.show_time(h.ends_at))
        for h, used in hosts
    ]
    env.table(("HOST", "MACHINE ID", "ACTIVATIONS", "LAST", "CERTIFICATE ENDS"), rows, "Hosts")
    return 0


def _block(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        key = publisher.find_key(args.key)
        changed = publisher.block_key(key, args.reason, env.clock(), actor(env))
        key = publisher.find_key(key.key_id)
    return _changed(args, env, key, f"key …{key.partial} is {'now' if changed else 'already'} blocked")


def _unblock(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        key = publisher.find_key(args.key)
        changed = publisher.unblock_key(key, env.clock(), actor(env))
        key = publisher.find_key(key.key_id)
    return _changed(args, env, key, f"key …{key.partial} is {'no longer' if changed else 'not'} blocked")


def _changed(args: argparse.Namespace, env: Environment, key: IssuedKey, message: str) -> int:
    if args.json:
        env.write_json(_as_json(key, env))
    else:
        env.say(message)
    return 0


def _hosts(acts: Iterable[HostActivation]) -> list[tuple[HostActivation, int]]:
    """Each host's latest act, and how many of its acts are counted."""
    latest = {act.machine: act for act in acts}
    counted = Counter(act.machine for act in acts if act.kind in COUNTED)
    return [(act, counted[machine]) for machine, act in latest.items()]


def _state(key: IssuedKey) -> str:
    if key.blocked_at is None:
        return "usable"
    return f"blocked: {key.blocked_reason}" if key.blocked_reason else "blocked"


def _as_json(key: IssuedKey, env: Environment) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "partial": key.partial,
        "kind": str(key.channel),
        "product": key.product,
        "group": key.group,
        "organisation": key.organisation,
        "hosts": key.hosts,
        "activations": key.activations,
        "issued_at": env.json_time(key.issued_at),
        "blocked_at": env.json_time(key.blocked_at),
        "blocked_reason": key.blocked_reason,
    }
