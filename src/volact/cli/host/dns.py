# SPDX-License-Identifier: Apache-2.0
"""The host's SRV records: domains to publish in, on and off, and a look at what stands there."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from volact.cli import options
from volact.cli.environment import Environment
from volact.cli.host.common import full_name, opened
from volact.cli.options import add_verb
from volact.core.errors import VolactError
from volact.host import dns
from volact.host.dns.kerberos import SYSTEM_KEYTAB
from volact.host.dns.mdns import check_interfaces
from volact.host.settings import HostSettings
from volact.host.store import HostStore

Act = Callable[[dns.DnsDomain, str, int], tuple[str, dict[str, Any]]]  # what was done in a domain, in words and as data

DNS_PORT = 53
PORT_DIGITS = 6  # more are out of every range anyway


def build(group: Any) -> None:
    parser = group.add_parser(
        "dns",
        help="the host's SRV records: add, remove, on, off, status, publish, withdraw",
        description="The SRV records by which machines find this host.",
    )
    verbs = options.verbs(parser)
    add = add_verb(
        verbs,
        "add",
        "publish in a domain, from the next start on",
        run_add,
        examples=[
            "volact host dns add example.com",
            "volact host dns add example.com,10,60 --server 192.0.2.53 --key-file /etc/volact/dns.key",
            "volact host dns add ad.example.com --kerberos          # Active Directory, as this computer's account",
        ],
    )
    add.add_argument("domain", metavar="DOMAIN[,PRIORITY[,WEIGHT]]")
    add.add_argument(
        "--server", metavar="ADDRESS[:PORT]", help="the name server that takes updates (default: the zone's primary)"
    )
    add.add_argument("--server-port", metavar="PORT", type=int, help=f"its port (default: {DNS_PORT})")
    keys = add.add_mutually_exclusive_group()
    keys.add_argument("--key-file", metavar="FILE", help="the TSIG key, as `tsig-keygen` writes it")
    keys.add_argument(
        "--kerberos",
        nargs="?",
        const=SYSTEM_KEYTAB,
        metavar="KEYTAB",
        help=f"sign as this computer's account, for Active Directory's DNS (default: {SYSTEM_KEYTAB})",
    )
    add.add_argument("--target", metavar="NAME", help="this host's full name in the record (default: its own)")
    remove = add_verb(
        verbs, "remove", "stop publishing in a domain", run_remove, examples=["volact host dns remove example.com"]
    )
    remove.add_argument("domain", metavar="DOMAIN")
    add_verb(verbs, "on", "publish at each start", run_on, aliases=["sdns"], examples=["volact host dns on"])
    add_verb(verbs, "off", "do not publish", run_off, aliases=["cdns"], examples=["volact host dns off"])
    add_verb(verbs, "status", "show what stands in DNS now", run_status, examples=["volact host dns status"])
    add_verb(
        verbs, "publish", "publish now, without starting the host", run_publish, examples=["volact host dns publish"]
    )
    multicast = add_verb(
        verbs,
        "mdns",
        "answer by multicast DNS as well, for networks without a DNS server",
        run_mdns,
        examples=[
            "volact host dns mdns on",
            "volact host dns mdns on --interface 192.0.2.7",
            "volact host dns mdns off",
        ],
    )
    multicast.add_argument("switch", choices=("on", "off"))
    multicast.add_argument(
        "--interface", metavar="ADDRESS", action="append", default=[], help="only there (default: every network)"
    )
    add_verb(verbs, "withdraw", "withdraw this host's records now", run_withdraw, examples=["volact host dns withdraw"])


def run_add(args: argparse.Namespace, env: Environment) -> int:
    files = {name: str(Path(path).resolve()) if path else None for name, path in _key_files(args).items()}
    server, port = _server(args)
    domain = dns.DnsDomain.parse(
        args.domain,
        server=server,
        port=port,
        **{name: Path(path) if path else None for name, path in files.items()},
    )
    domain.key()
    with opened(args, env) as (_, store):
        settings = HostSettings.load(store)
        target = args.target or settings.dns_target
        dns.checked_target(target or full_name(env))
        table = {**dataclasses.asdict(domain), **files}
        others = tuple(t for t in settings.dns if t["domain"] != domain.domain)
        dataclasses.replace(settings, dns=(*others, table), dns_target=target).save(store)
        _note(store, env, publishes_in=domain.domain)
    return _done(env, f"publishes in {domain.domain} from the next start on", {"domain": domain.domain})


def _server(args: argparse.Namespace) -> tuple[str | None, int]:
    """The port may stand behind the address, an IPv6 address in brackets then."""
    if args.server is None or args.server_port is not None:
        return args.server, DNS_PORT if args.server_port is None else args.server_port
    name, _, port = args.server.rpartition(":")
    bracketed = name.startswith("[") and name.endswith("]")
    if not port.isdecimal() or not name or (":" in name and not bracketed):
        return args.server, DNS_PORT
    return name.strip("[]"), int(port[:PORT_DIGITS])


def _key_files(args: argparse.Namespace) -> dict[str, str | None]:
    return {"key_file": args.key_file, "keytab": args.kerberos}


def run_remove(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (_, store):
        settings = HostSettings.load(store)
        wanted = args.domain.rstrip(".").lower()
        left = tuple(t for t in settings.dns if t["domain"].rstrip(".").lower() != wanted)
        if len(left) == len(settings.dns):
            raise dns.DnsDomainUnknownError(domain=wanted)
        dataclasses.replace(settings, dns=left).save(store)
        _note(store, env, publishes_no_more_in=wanted)
    return _done(env, f"does not publish in {wanted} any more", {"domain": wanted})


def run_on(args: argparse.Namespace, env: Environment) -> int:
    return _switch(args, env, on=True)


def run_off(args: argparse.Namespace, env: Environment) -> int:
    return _switch(args, env, on=False)


def run_status(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (_, store):
        settings = HostSettings.load(store)
    target = settings.dns_target or full_name(env)
    rows: list[tuple[str, str, str]] = []
    for domain in settings.dns_domains():
        try:
            found = dns.lookup(domain, target)
        except VolactError as exc:
            rows.append((domain.domain, "unknown", f"{exc}; {exc.hint}"))
            continue
        rows += [(domain.domain, "this host", str(record)) for record in found.ours]
        rows += [(domain.domain, "another host", str(record)) for record in found.others]
        if not found.ours:
            rows.append((domain.domain, "this host", "no record"))
    if env.json:
        names = ("domain", "whose", "record")
        records = [dict(zip(names, row, strict=True)) for row in rows]
        env.write_json({"publishing": settings.dns_publishing, "records": records})
        return 0
    env.table(("domain", "whose", "record"), rows)
    _hint_at_none(env, settings)
    if not settings.dns_publishing:
        env.hint("publishing is off: `volact host dns on`")
    return 0


def run_publish(args: argparse.Namespace, env: Environment) -> int:
    def publish(domain: dns.DnsDomain, target: str, port: int) -> tuple[str, dict[str, Any]]:
        record = str(dns.publish(domain, target, port).record)
        return f"published {record} in {domain.domain}", {"record": record}

    return _in_each(args, env, "published", publish)


def _in_each(args: argparse.Namespace, env: Environment, done: str, act: Act) -> int:
    """Each domain stands for itself: what fails in one keeps no other from it, and is told at the end."""
    with opened(args, env) as (_, store):
        settings = HostSettings.load(store)
    target, rows = settings.dns_target or full_name(env), list[dict[str, Any]]()
    failed: dict[str, VolactError] = {}
    for domain in settings.dns_domains():
        try:
            text, row = act(domain, target, settings.port)
        except VolactError as exc:
            failed[domain.domain] = exc
        else:
            rows.append({"domain": domain.domain, **row})
            if not env.json:
                env.say(text)
    if env.json:
        env.write_json(_each_json(done, rows, failed))
    for error in failed.values():
        env.say(f"error: {error}")
        env.hint(error.hint)
    _hint_at_none(env, settings)
    return 1 if failed else 0


def _each_json(done: str, rows: list[dict[str, Any]], failed: dict[str, VolactError]) -> dict[str, Any]:
    """``error`` is the first of the failures, as every command that fails has one."""
    errors = [{"domain": domain, "error": error.to_dict()} for domain, error in failed.items()]
    return {done: rows, "failed": errors, **({"error": errors[0]["error"]} if errors else {})}


def _hint_at_none(env: Environment, settings: HostSettings) -> None:
    if not settings.dns_domains():
        env.hint("no domain is configured: `volact host dns add DOMAIN`")


def run_withdraw(args: argparse.Namespace, env: Environment) -> int:
    def withdraw(domain: dns.DnsDomain, target: str, _port: int) -> tuple[str, dict[str, Any]]:
        removed = [str(record) for record in dns.withdraw(domain, target).removed]
        return f"withdrew {', '.join(removed) or 'nothing'} from {domain.domain}", {"records": removed}

    return _in_each(args, env, "withdrawn", withdraw)


def run_mdns(args: argparse.Namespace, env: Environment) -> int:
    on = args.switch == "on"
    interfaces = check_interfaces(args.interface)
    with opened(args, env) as (_, store):
        dataclasses.replace(HostSettings.load(store), mdns=on, mdns_interfaces=interfaces).save(store)
        _note(store, env, mdns=on)
    data = {"mdns": on, "interfaces": list(interfaces)}
    return _done(env, f"multicast DNS is {'on' if on else 'off'} from the next start on", data)


def _switch(args: argparse.Namespace, env: Environment, *, on: bool) -> int:
    with opened(args, env) as (_, store):
        dataclasses.replace(HostSettings.load(store), dns_publishing=on).save(store)
        _note(store, env, dns_publishing=on)
    return _done(env, f"DNS publishing is {'on' if on else 'off'} from the next start on", {"publishing": on})


def _note(store: HostStore, env: Environment, **values: object) -> None:
    store.log(env.clock(), "info", "setting-changed", values)


def _done(env: Environment, text: str, data: dict[str, object]) -> int:
    if env.json:
        env.write_json(data)
    else:
        env.say(text)
    return 0
