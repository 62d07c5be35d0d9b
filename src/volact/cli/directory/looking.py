# SPDX-License-Identifier: Apache-2.0
"""``list``, ``show``, ``remove`` and ``acl``: the activation objects of a forest and who may read them."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from volact.cli.directory.shared import add_connection, connected, folder_of
from volact.cli.environment import Environment
from volact.cli.options import add_verb
from volact.core.activation_object import RENEWAL_WINDOW, ForestMismatchError, ObjectExpiredError, show_groups
from volact.core.errors import InputError, TrustError
from volact.directory import objects, permissions
from volact.directory.objects import Stored
from volact.directory.permissions import Change, Rule
from volact.directory.place import Place
from volact.sealing.confirmation import PhonePartMissingError
from volact.sealing.objects import verify_activation_object
from volact.sealing.verify import Trust

GOOD = "good"
UNKNOWN_PUBLISHER = "not verified: this computer was not given its publisher's definition"


def build(group: Any) -> None:
    listing = add_verb(
        group, "list", "list the forest's activation objects", run_list, examples=["volact directory list --json"]
    )
    show = add_verb(
        group,
        "show",
        "show one activation object, and who may read it",
        run_show,
        examples=["volact directory show 'Head office'"],
    )
    remove = add_verb(
        group,
        "remove",
        "remove an activation object; computers keep what they have until it ends",
        run_remove,
        aliases=["delete"],
        examples=["volact directory remove 'Head office'"],
    )
    acl = add_verb(
        group,
        "acl",
        "show or set who may read an activation object",
        run_acl,
        examples=[
            "volact directory acl 'Head office'                            # who may read it",
            "volact directory acl 'Head office' --only 'CAD workstations'  # only this group's computers",
            "volact directory acl 'Head office' --deny Kiosks              # all but these",
            "volact directory acl 'Head office' --reset                    # every computer again",
        ],
    )
    share = add_verb(
        group,
        "share-dns",
        "let several KMS hosts publish under one name in Active Directory's DNS",
        run_share,
        examples=["volact directory share-dns kms2$ --domain ad.example.com  # after the first host has published"],
    )
    share.add_argument("names", nargs="+", metavar="NAME", help="the other hosts' accounts, or a group of them")
    share.add_argument("--zone", metavar="ZONE", help="the DNS zone (default: the forest's)")
    add_connection(share)
    for verb in (show, remove, acl):
        verb.add_argument("object", metavar="OBJECT", help="its name or ID")
    acl.add_argument("--reset", action="store_true", help="every computer and user of the forest may read it")
    acl.add_argument("--only", nargs="+", default=[], metavar="NAME", help="nobody but administrators and these")
    acl.add_argument("--allow", nargs="+", default=[], metavar="NAME", help="these too")
    acl.add_argument("--deny", nargs="+", default=[], metavar="NAME", help="not these, whatever else is allowed")
    for verb in (listing, show, remove, acl):
        add_connection(verb)


def run_list(args: argparse.Namespace, env: Environment) -> int:
    with connected(args, env) as (session, place):
        found = objects.read_objects(session, place)
        prepared = bool(found) or session.read(place.container, ("objectClass",)) is not None
    trusts = folder_of(args, env).trusts()
    rows = [_present(one, place, trusts, env) for one in found]
    if env.json:
        forest = place.forest.to_claim() if place.forest else None
        env.write_json({"forest": forest, "container": place.container, "prepared": prepared, "objects": rows})
        return 0
    columns = ("name", "groups", "key", "expires", "status", "id")
    table = [
        (row["name"] or "–", ", ".join(map(str, row["groups"])), row["key"], _end(env, one), row["status"], row["id"])
        for one, row in zip(found, rows, strict=True)
    ]
    env.table(columns, table, title=place.forest.name if place.forest else place.container)
    for one, row in zip(found, rows, strict=True):
        if row["status"] in (GOOD, ObjectExpiredError.code):
            _hint_at_end(env, one)
    if not prepared:
        env.hint("the directory has no place for them that you may see: `volact directory prepare` makes it")
    elif not rows:
        env.hint("there are none, or none that you may read: `volact directory activate` makes one")
    return 0


def _end(env: Environment, found: Stored) -> str:
    return env.show_time(found.claimed.expires_at if found.claimed else None)


def _hint_at_end(env: Environment, found: Stored) -> None:
    """In the last lease's time before its end: from then on what members get lasts less than a lease."""
    claimed = found.claimed
    if claimed is None or env.clock() < claimed.expires_at - RENEWAL_WINDOW:
        return
    which = shlex.quote(claimed.name or claimed.id)
    how = f"`volact directory renew {which}`"
    if found.by_telephone:
        how = f"`volact directory installation-id`, then `volact directory apply --replace {which}`"
    env.hint(f"{claimed.name or claimed.id} lasts until {env.show_time(claimed.expires_at)} only; renew it: {how}")


def run_show(args: argparse.Namespace, env: Environment) -> int:
    with connected(args, env) as (session, place):
        found = objects.find_object(session, place, args.object)
        rules = permissions.rules(session, place, found.dn) if place.domain_sid else []
    row = _present(found, place, folder_of(args, env).trusts(), env)
    claimed = found.claimed
    if env.json:
        forest = claimed.forest.to_claim() if claimed else None
        about = {"by_telephone": found.by_telephone, "standard_class": found.standard}
        made = {"forest": forest, "created": env.json_time(found.created), **about}
        env.write_json({**row, **made, "acl": [_rule(rule) for rule in rules]})
        return 0
    env.facts(
        [
            ("name", row["name"] or None),
            ("id", row["id"]),
            ("status", row["status"]),
            ("product groups", show_groups(claimed.groups) if claimed else None),
            ("organisation", row["organisation"] or None),
            ("host key", f"…-{row['key']}" if row["key"] else None),
            ("made by", "telephone" if found.by_telephone else "its publisher's signature"),
            ("publisher's root", row["root"]),
            ("forest", claimed.forest.name if claimed else None),
            ("ends", _end(env, found)),
            ("class", "standard" if found.standard else "volactActivationObject"),
            ("created", None if found.created is None else env.show_time(found.created)),
            ("entry", found.dn),
        ]
    )
    _show_rules(env, rules)
    return 0


def run_remove(args: argparse.Namespace, env: Environment) -> int:
    with connected(args, env) as (session, place):
        found = objects.find_object(session, place, args.object)
        session.delete(found.dn)
    if env.json:
        env.write_json({"removed": found.dn})
    else:
        env.say(f"removed {found.dn}")
        env.hint("computers that read it stay licensed until their lease ends, and look for a KMS host at each renewal")
    return 0


def run_acl(args: argparse.Namespace, env: Environment) -> int:
    wanted = Change(args.reset, tuple(args.only), tuple(args.allow), tuple(args.deny))
    with connected(args, env) as (session, place):
        found = objects.find_object(session, place, args.object)
        if wanted:
            rules = permissions.change(session, place, found.dn, wanted)
        else:
            rules = permissions.rules(session, place, found.dn)
    if env.json:
        env.write_json({"dn": found.dn, "acl": [_rule(rule) for rule in rules]})
        return 0
    _show_rules(env, rules)
    return 0


def run_share(args: argparse.Namespace, env: Environment) -> int:
    with connected(args, env) as (session, place):
        zone = args.zone or (place.forest.name if place.forest else "")
        dn = permissions.share_name(session, zone, tuple(args.names))
    if env.json:
        env.write_json({"dn": dn, "shared_with": args.names})
    else:
        env.say(f"{', '.join(args.names)} may update {permissions.DNS_NAME}.{zone} as well")
    return 0


def _present(found: Stored, place: Place, trusts: dict[str, Trust], env: Environment) -> dict[str, Any]:
    claimed = found.claimed
    return {
        "id": claimed.id if claimed else "",
        "name": claimed.name if claimed else "",
        "groups": sorted(claimed.groups) if claimed else [],
        "organisation": claimed.organisation if claimed else "",
        "key": claimed.partial if claimed else "",
        "root": claimed.root if claimed else "",
        "expires": env.json_time(claimed.expires_at) if claimed else None,
        "renew_from": env.json_time(claimed.expires_at - RENEWAL_WINDOW) if claimed else None,
        "status": _status(found, place, trusts, env.clock()),
        "dn": found.dn,
    }


def _status(found: Stored, place: Place, trusts: dict[str, Trust], now: int) -> str:
    """``good``, or the code of what is wrong with it."""
    if found.claimed is None:
        return "malformed"
    trust = trusts.get(found.claimed.root)
    if trust is None:
        return UNKNOWN_PUBLISHER
    try:
        made = verify_activation_object(found.token, trust).object
        if place.forest is None:
            return ForestMismatchError.code
        made.check(place.forest, min(made.groups), now)
    except (TrustError, InputError, PhonePartMissingError) as exc:
        return exc.code
    return GOOD


def _show_rules(env: Environment, rules: Sequence[Rule]) -> None:
    """In words; one that the entry has of its own and inherits as well is said once."""
    own = {(rule.allow, rule.right, rule.sid) for rule in rules if not rule.inherited}
    for rule in rules:
        if not rule.inherited or (rule.allow, rule.right, rule.sid) not in own:
            env.write(str(rule))


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "allow": rule.allow,
        "right": rule.right,
        "name": rule.name,
        "sid": rule.sid,
        "inherited": rule.inherited,
        "text": str(rule),
    }
