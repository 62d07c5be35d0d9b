# SPDX-License-Identifier: Apache-2.0
"""``volact fleet init, discover, tag, set-machine, remove, set``: the folder, and which machines are in it."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment, counted
from volact.cli.files import FileUnreadableError
from volact.cli.fleet.opening import add_filter, add_selection, chosen, folder_of, open_fleet, tell, verb
from volact.cli.options import between
from volact.fleet.discovery import ldap
from volact.fleet.folder import MOST_PARALLEL, MOST_SECONDS, SUDO, FleetFolder
from volact.fleet.inventory.machines import Found

MOST_SHOWN = 50
STDIN = "-"


def build(group: Any) -> None:
    _folder(group)
    _discover(group)
    _changes(group)


def _folder(group: Any) -> None:
    init = verb(
        group,
        "init",
        run_init,
        "make the fleet tool's folder, with its database",
        "volact fleet init",
        "volact fleet init --database postgresql://volact@db.example.com/fleet      # one inventory for a team",
    )
    init.add_argument("--database", metavar="URL", help="a PostgreSQL database instead of a file in the folder")
    settings = verb(
        group,
        "set",
        run_set,
        "show or change how machines are reached by SSH",
        "volact fleet set",
        "volact fleet set --account admin --identity ~/.ssh/fleet --parallel 100",
    )
    settings.add_argument("--account", metavar="NAME", help='whom to log in as; "" leaves it to the SSH configuration')
    settings.add_argument("--port", type=between(0, 65535), metavar="N", help="SSH's port; 0 leaves it likewise")
    settings.add_argument("--identity", dest="identities", action="append", metavar="FILE", help="a private key")
    settings.add_argument("--ssh-config", action="append", metavar="FILE", help="instead of ~/.ssh/config")
    settings.add_argument("--known-hosts", action="append", metavar="FILE", help="instead of ~/.ssh/known_hosts")
    settings.add_argument("--command", metavar="NAME", help="volact there: a name or a path (volact)")
    settings.add_argument("--sudo", choices=SUDO, help="run it through sudo: auto means for all accounts but root")
    settings.add_argument("--parallel", type=between(1, MOST_PARALLEL), metavar="N", help="machines at once (64)")
    settings.add_argument("--starts", type=between(1, MOST_PARALLEL), metavar="N", help="handshakes at once (16)")
    settings.add_argument("--timeout", type=between(1, MOST_SECONDS), metavar="SECONDS", help="for one machine (60)")
    settings.add_argument(
        "--gssapi", action=argparse.BooleanOptionalAction, default=None, help="log in with a Kerberos ticket too"
    )


def _discover(group: Any) -> None:
    find = verb(
        group,
        "discover",
        run_discover,
        "find machines and add them; nothing is asked of them yet",
        "volact fleet discover web1 admin@db1:2222 192.0.2.0/28 'pc[001-120].example.com'",
        "volact fleet discover --file machines.txt --tag berlin --match '*.berlin.example.com'",
        "volact fleet discover --ldap dc1.example.com --base OU=Clients,DC=example,DC=com",
        "volact fleet discover --ansible inventory.yml --known-hosts --mdns 5",
    )
    find.add_argument("words", metavar="NAME", nargs="*", help="names, addresses, ranges; - reads standard input")
    find.add_argument("--file", action="append", default=[], metavar="FILE", help="names in a file; - standard input")
    find.add_argument("--ssh-config", nargs="?", const="~/.ssh/config", metavar="FILE", help="its Host lines")
    find.add_argument("--known-hosts", nargs="?", const="~/.ssh/known_hosts", metavar="FILE", help="its names")
    find.add_argument("--ansible", action="append", default=[], metavar="FILE", help="an inventory: INI, YAML, JSON")
    find.add_argument("--mdns", type=between(1, 300), metavar="SECONDS", help="listen on the local network so long")
    find.add_argument("--match", action="append", default=[], metavar="PATTERN", help="only names that fit: 'web*'")
    find.add_argument("--tag", action="append", default=[], metavar="TAG", help="give each of them this tag")
    find.add_argument("--dry-run", action="store_true", help="show what is found, and add nothing")
    directory = find.add_argument_group("Active Directory and LDAP")
    directory.add_argument("--ldap", metavar="SERVER", help="a domain controller or directory server, or its URL")
    directory.add_argument("--base", default="", metavar="DN", help="below this entry (default: everything)")
    directory.add_argument("--ldap-filter", metavar="FILTER", help="what is a machine (enabled computer accounts)")
    directory.add_argument("--attribute", default=ldap.DNS_NAME, help="what holds its name (%(default)s)")
    directory.add_argument("--user", metavar="USER", help="bind as; without one, by the Kerberos ticket of kinit")
    directory.add_argument("--password-file", metavar="FILE", help="its password, in a file; needs TLS")
    directory.add_argument("--keytab", metavar="FILE", help="its Kerberos keys instead")
    directory.add_argument("--ca-file", metavar="FILE", help="the authority of the server's certificate (PEM)")


def _changes(group: Any) -> None:
    for name, run, what, example in (
        ("tag", run_tag, "give machines tags", "volact fleet tag berlin office --filter 'name~pc*'"),
        ("untag", run_untag, "take tags from machines", "volact fleet untag lab --machine pc7.example.com"),
    ):
        parser = verb(group, name, run, what, example)
        parser.add_argument("tags", metavar="TAG", nargs="+")
        parser.add_argument(
            "--machine", dest="names", action="append", default=[], metavar="MACHINE", help="may be repeated"
        )
        add_filter(parser)
    place = verb(
        group,
        "set-machine",
        run_set_machine,
        "say where machines are reached, where SSH's configuration does not",
        "volact fleet set-machine db1 --address 192.0.2.7 --port 2222 --account admin",
    )
    place.add_argument("--address", metavar="ADDRESS", help='"" for its name again')
    place.add_argument("--port", type=between(0, 65535), metavar="N", help="0 for the usual one")
    place.add_argument("--account", metavar="NAME", help='"" for the usual one')
    add_selection(place)
    gone = verb(
        group,
        "remove",
        run_remove,
        "remove machines from the inventory, with their history; nothing changes on them",
        "volact fleet remove pc7.example.com",
        "volact fleet remove --filter 'contacted<-365d'",
    )
    add_selection(gone)


def run_init(args: argparse.Namespace, env: Environment) -> int:
    folder = FleetFolder.create(folder_of(args, env), args.database)
    if env.json:
        env.write_json({"folder": str(folder.path), "database": str(folder.database)})
        return 0
    env.say(f"made {folder.path}")
    env.hint("find machines: `volact fleet discover`; then ask them: `volact fleet refresh`")
    return 0


def run_set(args: argparse.Namespace, env: Environment) -> int:
    folder = FleetFolder.open(folder_of(args, env))
    given = {name: getattr(args, name, None) for name in asdict(folder.settings)}
    changes = {
        name: tuple(filter(None, value)) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    if changes:
        folder = folder.change(changes)
        with open_fleet(args, env) as fleet:
            fleet.note("set", "ssh", changes)
    values = asdict(folder.settings)
    if env.json:
        env.write_json(values)
        return 0
    env.facts((name.replace("_", " "), _shown(value)) for name, value in values.items())
    return 0


def run_discover(args: argparse.Namespace, env: Environment) -> int:
    from volact.fleet.discovery import matching

    found = list(_found(args, env))
    if args.dry_run:
        chosen_ = list(matching(found, args.match, args.tag))
        _show_found(chosen_, env)
        return 0
    with open_fleet(args, env) as fleet:
        added = fleet.discover(found=found, match=args.match, tags=args.tag)
    if env.json:
        env.write_json({"new": list(added.new), "known": list(added.known)})
        return 0
    for name in added.new[:MOST_SHOWN]:
        env.write(name)
    if len(added.new) > MOST_SHOWN:
        env.write(f"… and {len(added.new) - MOST_SHOWN} more")
    new = f"{len(added.new)} machines are" if len(added.new) != 1 else "1 machine is"
    env.say(f"{new} new, {len(added.known)} known already")
    if added.new:
        env.hint("ask them for their products: `volact fleet refresh`")
    return 0


def run_tag(args: argparse.Namespace, env: Environment) -> int:
    return _change(args, env, "tagged", lambda fleet: fleet.tag(args.tags, **chosen(args)))


def run_untag(args: argparse.Namespace, env: Environment) -> int:
    return _change(args, env, "untagged", lambda fleet: fleet.untag(args.tags, **chosen(args)))


def run_set_machine(args: argparse.Namespace, env: Environment) -> int:
    names = ("address", "port", "account")
    values = {name: getattr(args, name) or None for name in names if getattr(args, name) is not None}
    if not values:
        args.parser.error("give --address, --port or --account")
    return _change(args, env, "changed", lambda fleet: fleet.set_machine(**chosen(args), **values))


def run_remove(args: argparse.Namespace, env: Environment) -> int:
    return _change(args, env, "removed", lambda fleet: fleet.remove(**chosen(args)))


def _change(args: argparse.Namespace, env: Environment, done: str, change: Any) -> int:
    with open_fleet(args, env) as fleet:
        number = change(fleet)
    return tell(env, {"machines": number}, f"{done} {counted(number, 'machine')}")


def _found(args: argparse.Namespace, env: Environment) -> Iterator[Found]:
    """Every source that was named; what is slow or needs a library comes last."""
    from volact.fleet.discovery import ansible, names, ssh_config

    words = [word for word in args.words if word != STDIN]
    yield from names.from_words(words)
    files = args.file + [STDIN] * (STDIN in args.words)
    for file in files:
        text = env.stdin.read(names.MOST_BYTES) if file == STDIN else names.read_source(file)
        yield from names.from_text(text, "standard input" if file == STDIN else f"file {file}")
    if args.ssh_config:
        yield from ssh_config.from_config(args.ssh_config)
    if args.known_hosts:
        yield from ssh_config.from_known_hosts(args.known_hosts)
    for file in args.ansible:
        yield from ansible.from_inventory(file)
    if args.mdns:
        from volact.fleet.discovery import mdns

        yield from mdns.browse(args.mdns)
    if args.ldap:
        yield from ldap.find(_search(args))
    if not (words or files or args.ssh_config or args.known_hosts or args.ansible or args.mdns or args.ldap):
        args.parser.error("say where to look: names, --file, --ssh-config, --known-hosts, --ansible, --mdns, --ldap")


def _search(args: argparse.Namespace) -> ldap.Search:
    return ldap.Search(
        args.ldap,
        args.base,
        args.ldap_filter or ldap.COMPUTERS,
        args.attribute,
        args.user,
        _password(args.password_file),
        Path(args.keytab) if args.keytab else None,
        Path(args.ca_file) if args.ca_file else None,
    )


def _password(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, ValueError) as exc:
        raise FileUnreadableError(path=file, why=getattr(exc, "strerror", None) or str(exc)) from None


def _show_found(found: list[Found], env: Environment) -> None:
    if env.json:
        env.write_json([asdict(one) for one in found])
        return
    rows = [(one.name, one.address, one.port, one.account, one.source, " ".join(one.tags)) for one in found]
    env.table(("name", "address", "port", "account", "source", "tags"), rows)


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or None
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value or None
