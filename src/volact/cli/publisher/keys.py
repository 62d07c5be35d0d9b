# SPDX-License-Identifier: Apache-2.0
"""``volact publisher organisation`` and ``key``: who has which key, and what was done with it."""

import argparse
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from volact.cli.environment import Environment, counted
from volact.cli.files import write_file
from volact.cli.publisher.shared import (
    Verbs,
    actor,
    add_family,
    add_verb,
    group_teller,
    open_publisher,
    read_passphrase,
)
from volact.core.errors import ConfigError
from volact.core.product_key import Channel
from volact.core.spreadsheet import as_text
from volact.publisher.administration.keys import NewKey
from volact.publisher.administration.publisher import Publisher
from volact.publisher.rows.records import HostActivation
from volact.publisher.rules.issuing import COUNTED, HOST_ROLES, POOLED, IssuedKey
from volact.publisher.rules.pools import Activation

_KEY_HELP = "the key, its last five symbols, or its key ID"
HAND_OVER = "hand it over now: the publisher keeps only its hash and cannot show it again"
HAND_THEM_OVER = "hand them over now: the publisher keeps only their hashes and cannot show them again"
_KINDS = (*HOST_ROLES, *sorted(POOLED))


class OptionOfOtherKindError(ConfigError):
    code = "key-option-unfit"
    fmt = "{option} is not for a {kind} key"
    remedy = "leave {option} out; see `volact publisher key issue --help`"


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
    parser = add_verb(
        family,
        "raise",
        _raise,
        "give a key more activations, or more hosts",
        """
volact publisher key raise 33GJK --activations 500
volact publisher key raise AEANN --hosts 8""",
    )
    parser.add_argument("key", metavar="KEY", help=_KEY_HELP)
    parser.add_argument("--activations", type=int, metavar="N", help="the new number in all, not what is added")
    parser.add_argument("--hosts", type=int, metavar="N", help="the new number of hosts of a host key")
    parser = add_verb(
        family,
        "supersede",
        _supersede,
        "block a key and issue another one in its place, with what is left of its pool",
        "volact publisher key supersede 33GJK",
        passphrase=True,
    )
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
        "issue a product key, or many, and print them, once",
        """
volact publisher key issue --organisation "Example Ltd" --kind kms-host --product acme-cad --group servers
volact publisher key issue --organisation "Example Ltd" --kind kms-host --product acme-cad --group 102 --hosts 2
volact publisher key issue --organisation "Example Ltd" --kind vm-host --product acme-cad --group servers
volact publisher key issue --organisation "Example Ltd" --kind mak --product acme-cad --group clients --activations 100
volact publisher key issue --organisation "Shop" --kind retail --product acme-cad --group clients --count 500 --csv""",
        passphrase=True,
    )
    parser.add_argument("--organisation", required=True, metavar="NAME")
    parser.add_argument("--kind", required=True, choices=tuple(map(str, _KINDS)), help="what the key activates")
    parser.add_argument("--product", required=True, metavar="PRODUCT")
    parser.add_argument("--group", required=True, metavar="GROUP", help="product group, by name or number")
    parser.add_argument("--hosts", type=int, metavar="N", help="on how many hosts (default: the product's policy)")
    parser.add_argument(
        "--activations",
        type=int,
        metavar="N",
        help="of each host (default: the product's policy); of a MAK in all (default: the agreement's quantity); of a "
        "retail key (default: 1)",
    )
    parser.add_argument("--agreement", metavar="NAME", help="the agreement that the key is issued under")
    parser.add_argument("--count", type=int, metavar="N", help="how many retail or MAK keys (default: 1)")
    parser.add_argument("--csv", action="store_true", help="print the keys as CSV with a header")
    parser.add_argument("-o", "--output", metavar="FILE", help="write what would be printed to FILE, mode 0600")


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
    env.table(("organisation", "keys", "added"), [(o.name, o.keys, env.show_time(o.added_at)) for o in organisations])
    return 0


def _issue(args: argparse.Namespace, env: Environment) -> int:
    pooled = Channel(args.kind) in POOLED
    for option in ("hosts",) if pooled else ("count", "csv"):
        if getattr(args, option):
            raise OptionOfOtherKindError(option=f"--{option}", kind=args.kind)
    with open_publisher(args, env) as publisher:
        new = _issue_pool(args, env, publisher) if pooled else [_issue_host(args, env, publisher)]
    text = _shown(new, args, env)
    if args.output:
        write_file(args.output, text.encode(), 0o600)
        env.say(f"wrote {counted(len(new), 'key')} to {args.output}")
    else:
        env.write(text.rstrip("\n"))
    if not args.json:
        issued = new[0].issued
        uses = counted(issued.activations, "activation")
        hosts = f"{counted(issued.hosts, 'host')} of {issued.organisation}, {uses} each"
        many = len(new) > 1
        env.hint(f"for {uses + (' each' if many else '') if pooled else hosts}")
        env.hint(HAND_THEM_OVER if many else HAND_OVER)
    return 0


def _issue_host(args: argparse.Namespace, env: Environment, publisher: Publisher) -> NewKey:
    return publisher.issue_host_key(
        args.organisation,
        args.product,
        args.group,
        env.clock(),
        actor(env),
        channel=Channel(args.kind),
        hosts=args.hosts,
        activations=args.activations,
        agreement=args.agreement,
    )


def _issue_pool(args: argparse.Namespace, env: Environment, publisher: Publisher) -> list[NewKey]:
    keys = publisher.folder.open_keys(read_passphrase(args, env))
    count = 1 if args.count is None else args.count
    with env.progress("making keys", count) as done:
        return publisher.issue_pool_keys(
            args.organisation,
            args.product,
            args.group,
            env.clock(),
            actor(env),
            channel=Channel(args.kind),
            keys=keys,
            activations=args.activations,
            count=count,
            agreement=args.agreement,
            done=done,
        )


def _shown(new: Sequence[NewKey], args: argparse.Namespace, env: Environment) -> str:
    """One key alone on its line, or all with what was issued."""
    rows = [{"key": str(one.key), **_as_json(one.issued, env)} for one in new]
    if args.json:
        return json.dumps({"keys": rows} if args.count is not None else rows[0])
    if not args.csv:
        return "".join(f"{one.key}\n" for one in new)
    text = io.StringIO()
    columns = ("key", "key_id", "partial", "kind", "product", "group", "organisation", "agreement", "activations")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: as_text(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        keys, acts, told = publisher.store.keys(), publisher.store.host_activations(), group_teller(publisher)
    used_on: dict[str, set[bytes]] = {key.key_id: set() for key in keys}
    for act in acts:
        used_on[act.key_id].add(act.machine)
    hosts = {key_id: len(machines) for key_id, machines in used_on.items()}
    if args.json:
        env.write_json([{**_as_json(key, env), "hosts_used": hosts[key.key_id]} for key in keys])
        return 0
    rows = [
        (
            key.partial, key.channel, key.product, told(key.group), key.organisation,
            "" if key.channel in POOLED else f"{hosts[key.key_id]} of {key.hosts}",
            f"{key.used} of {key.activations}" if key.channel in POOLED else f"{key.activations} each", _state(key),
        )
        for key in keys
    ]  # fmt: skip
    env.table(("key", "kind", "product", "group", "organisation", "hosts", "activations", "state"), rows)
    return 0


def _show(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        key = publisher.find_key(args.key)
        acts = publisher.store.host_activations(key.key_id)
        held = publisher.store.activations(key.key_id)
        group = group_teller(publisher)(key.group)
    if key.channel in POOLED:
        return _show_pool(args, env, key, held, group)
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
            ("Product group", group),
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
    env.table(("host", "machine ID", "activations", "last", "certificate ends"), rows, "Hosts")
    return 0


def _show_pool(
    args: argparse.Namespace, env: Environment, key: IssuedKey, held: Sequence[Activation], group: str
) -> int:
    machines = [one for one in held if one.returned_at is None]
    returned = len(held) - len(machines)
    if args.json:
        shown = [
            {
                "machine": one.machine.hex(),
                "name": one.name,
                "product": one.product,
                "edition": one.edition,
                "activations": one.used,
                "first_at": env.json_time(one.first_at),
                "last_at": env.json_time(one.last_at),
            }
            for one in machines
        ]
        env.write_json({**_as_json(key, env), "returned": returned, "machines": shown})
        return 0
    env.facts(
        (
            ("Key", f"…{key.partial}"),
            ("Key ID", key.key_id),
            ("Kind", key.channel),
            ("Organisation", key.organisation),
            ("Agreement", key.agreement),
            ("Product", key.product),
            ("Product group", group),
            ("Activations", f"{key.used} of {key.activations} used, {key.remaining} left"),
            ("Given back", returned),
            ("Issued", env.show_time(key.issued_at)),
            ("State", _state(key)),
        )
    )
    rows = [
        (
            one.name,
            one.machine.hex()[:16],
            one.edition,
            one.times,
            env.show_time(one.first_at),
            env.show_time(one.last_at),
        )
        for one in machines
    ]
    env.table(("machine", "machine ID", "edition", "times", "first", "last"), rows, "Machines")
    return 0


def _raise(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        key = publisher.find_key(args.key)
        if args.hosts is not None and key.channel in POOLED:
            raise OptionOfOtherKindError(option="--hosts", kind=str(key.channel))
        key = publisher.raise_key(key, env.clock(), actor(env), activations=args.activations, hosts=args.hosts)
    more = f"{key.remaining} activations left" if key.channel in POOLED else f"{key.hosts} hosts"
    return _changed(args, env, key, f"key …{key.partial} has {more}")


def _supersede(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        keys = publisher.folder.open_keys(read_passphrase(args, env))
        new = publisher.supersede_key(publisher.find_key(args.key), keys, env.clock(), actor(env))
    if args.json:
        env.write_json({"key": str(new.key), **_as_json(new.issued, env)})
        return 0
    env.write(str(new.key))
    env.hint(HAND_OVER)
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
        "used": key.used if key.channel in POOLED else None,
        "remaining": key.remaining if key.channel in POOLED else None,
        "agreement": key.agreement,
        "superseded_by": key.superseded_by,
        "issued_at": env.json_time(key.issued_at),
        "blocked_at": env.json_time(key.blocked_at),
        "blocked_reason": key.blocked_reason,
    }
