# SPDX-License-Identifier: Apache-2.0
"""Looking at a host: status, events, machines, clones."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from volact.cli.environment import Environment
from volact.cli.host.common import opened
from volact.cli.options import add_verb
from volact.core.errors import InputError
from volact.host.status import GroupStatus, HostStatus, host_status
from volact.host.store import Event, HostStore, Machine, Scope
from volact.issuer.status import KeyStatus

PAGE = 1000
MOST_SHOWN = 100_000
UNITS = {"m": 60, "h": 3600, "d": 86400}


class DurationError(InputError):
    code = "duration-invalid"
    fmt = "{text} is not a time span"
    remedy = "give a number and a unit: 30m, 12h or 7d"


def build(group: Any) -> None:
    add_verb(
        group,
        "status",
        "show keys, counts against thresholds, requests and settings",
        run_status,
        aliases=["dlv", "dli"],
        examples=["volact host status", "volact host status --json | jq '.groups[].count'"],
    )
    events = add_verb(
        group,
        "events",
        "show or export the event log",
        run_events,
        examples=[
            "volact host events --last 1h",
            "volact host events --code clock-skew --code machine-activated --limit 20",
            "volact host events --jsonl > events.jsonl        # everything, one JSON object a line",
        ],
    )
    events.add_argument("--last", metavar="SPAN", help="only of the last 30m, 12h, 7d …")
    events.add_argument("--code", action="append", default=[], help="only events of this code; may be repeated")
    events.add_argument("--limit", type=_limit, default=50, help="at most so many, the newest (default: %(default)s)")
    events.add_argument("--jsonl", action="store_true", help="export all that match as JSON lines, oldest first")
    machines = add_verb(
        group,
        "machines",
        "list the machines that a product group has counted",
        run_machines,
        examples=["volact host machines", "volact host machines --group 101 --jsonl > machines.jsonl"],
    )
    machines.add_argument("--group", type=int, help="only of this product group")
    machines.add_argument("--limit", type=_limit, default=100, help="at most so many (default: %(default)s)")
    machines.add_argument("--jsonl", action="store_true", help="export all as JSON lines")
    add_verb(
        group,
        "clones",
        "show machines that share an ID, and IDs that share hardware",
        run_clones,
        examples=["volact host clones"],
    )


def run_status(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (folder, store):
        status = host_status(folder, store, env.clock())
    if env.json:
        env.write_json(_json(env, status))
        return 0
    _show_keys(env, status)
    _show_groups(env, status)
    _show_settings(env, status)
    if not status.keys:
        env.hint("no host key is installed: `volact host install-key -`")
    elif not any(key.activated for key in status.keys):
        env.hint("no host key is activated: `volact host activate`")
    return 0


def run_events(args: argparse.Namespace, env: Environment) -> int:
    since = max(0, env.clock() - _seconds(args.last)) if args.last else 0
    with opened(args, env) as (_, store):
        scopes = {scope.id: scope for scope in store.scopes()}
        if args.jsonl:
            return _export_events(env, store, scopes, since, args.code)
        events = store.events(since, args.limit, args.code, newest_first=True)[::-1]
    if env.json:
        env.write_json([_event_json(env, scopes, event) for event in events])
        return 0
    rows = [
        (env.show_time(event.at), event.level, event.code, _short(event.machine_id), _sentence(env, event))
        for event in events
    ]
    env.table(("time", "level", "event", "machine", "what"), rows)
    return 0


def run_machines(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (_, store):
        scopes = [s for s in store.scopes() if args.group in (None, s.product_group)]
        found: list[tuple[Scope, Machine]] = []
        most = args.limit + 1  # one more tells whether there are more
        for scope in scopes:
            after = b""
            while page := store.machines(scope.id, PAGE if args.jsonl else min(PAGE, most - len(found)), after):
                after = page[-1].identity
                if args.jsonl:
                    for machine in page:
                        env.write(json.dumps(_machine_json(env, scope, machine)))
                    continue
                found += [(scope, machine) for machine in page]
                if len(found) >= most:
                    break
    if args.jsonl:
        return 0
    if len(found) == most:
        found.pop()
        env.hint(f"there are more than these {args.limit}: --limit N shows more, --jsonl exports all")
    if env.json:
        env.write_json([_machine_json(env, scope, machine) for scope, machine in found])
        return 0
    shown = [
        (scope.product_group, _short(m.machine_id), m.name, m.edition, m.state, env.show_time(m.last_seen), m.requests)
        for scope, m in found
    ]
    env.table(("group", "machine ID", "name", "edition", "state when it asked", "last seen", "requests"), shown)
    return 0


def run_clones(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (_, store):
        clones, shared = store.clones(), store.shared_fingerprints()
        groups = {scope.id: scope.product_group for scope in store.scopes()}
    if env.json:
        env.write_json(
            {
                "one_id_on_several_machines": [
                    {
                        "group": groups.get(c.scope_id),
                        "machine": c.machine_id.hex(),
                        "proved": env.json_time(c.proved_at),
                        "fingerprints": len(c.fingerprints),
                    }
                    for c in clones
                ],
                "one_machine_under_several_ids": [
                    {"group": groups.get(s.scope_id), "machines": [m.hex() for m in s.machine_ids]} for s in shared
                ],
            }
        )
        return 0
    rows: list[tuple[object, ...]] = [
        (
            groups.get(c.scope_id),
            _short(c.machine_id),
            "two machines share this ID" if c.proved_at else "its hardware changed once",
            len(c.fingerprints),
            env.show_time(c.fingerprints[-1].last_seen),
        )
        for c in clones
    ]
    rows += [
        (groups.get(s.scope_id), ", ".join(map(_short, s.machine_ids[:3])), "one hardware under several IDs",
         len(s.machine_ids), "")
        for s in shared
    ]  # fmt: skip
    env.table(("group", "machine ID", "finding", "how many", "last seen"), rows)
    if any(c.proved_at for c in clones):
        env.hint("run `volact client generalize` in the image before it is cloned; a clone counts once")
    return 0


def _show_keys(env: Environment, status: HostStatus) -> None:
    env.table(
        ("host key", "publisher", "product", "group", "activated", "for", "certificate ends"),
        [
            (
                "…" + key.partial,
                key.publisher,
                key.product,
                key.group,
                "yes" if key.activated else "no",
                key.organisation or "",
                env.show_time(key.certificate_ends_at),
            )
            for key in status.keys
        ],
        title="Keys",
    )


def _show_groups(env: Environment, status: HostStatus) -> None:
    env.write("")
    env.table(
        ("product group", "count", "thresholds", "reached", "requests", "failed", "by the client's state"),
        [
            (
                f"{group.group} {group.name}",
                group.count,
                ", ".join(f"{edition}: {need}" for edition, need in group.thresholds.items()),
                _reached(group),
                group.total,
                group.failed,
                ", ".join(f"{state} {n}" for state, n in group.states.items() if n),
            )
            for group in status.groups
        ],
        title="Counts of the last 30 days",
    )
    if status.clones or status.shared_hardware:
        env.hint("some machines look like clones of each other: `volact host clones`")


def _show_settings(env: Environment, status: HostStatus) -> None:
    settings = status.settings
    domains = ", ".join(d.domain for d in settings.dns_domains()) or "none configured"
    env.write("")
    env.facts(
        (
            ("port", settings.port),
            ("address", settings.address),
            ("activation interval", interval(settings.activation_minutes)),
            ("renewal interval", interval(settings.renewal_minutes)),
            ("DNS publishing", f"on, {domains}" if settings.dns_publishing else "off"),
            ("unproven requests", status.unproven),
        ),
        title="Settings",
    )


def _reached(group: GroupStatus) -> str:
    reached = [group.count >= need for need in group.thresholds.values()]
    return "yes" if all(reached) else "partly" if any(reached) else "no"


def interval(value: int | None) -> str:
    return "the product's policy" if value is None else f"{value} minutes"


def _json(env: Environment, status: HostStatus) -> dict[str, Any]:
    settings = asdict(status.settings)
    settings["dns"] = [dict(table) for table in settings["dns"]]
    return {
        "keys": [_key_json(env, key) for key in status.keys],
        "groups": [_group_json(group) for group in status.groups],
        "products": [
            {
                "product": t.definition.product,
                "version": t.definition.version,
                "publisher": t.definition.publisher,
                "root": t.trust.fingerprint,
            }
            for t in status.products
        ],
        "settings": settings,
        "clones": status.clones,
        "shared_hardware": status.shared_hardware,
        "unproven_requests": status.unproven,
    }


def _group_json(group: GroupStatus) -> dict[str, Any]:
    values = asdict(group)
    del values["scope_id"]
    return values


def _key_json(env: Environment, key: KeyStatus) -> dict[str, Any]:
    values = asdict(key)
    values["certificate_ends"] = env.json_time(values.pop("certificate_ends_at"))
    return values


def _event_json(env: Environment, scopes: dict[int, Scope], event: Event) -> dict[str, Any]:
    """``root`` and ``group`` are null for what belongs to no product group."""
    scope = scopes.get(event.scope_id)
    return {
        "id": event.id,
        "time": env.json_time(event.at),
        "level": event.level,
        "code": event.code,
        "root": scope.root if scope else None,
        "group": scope.product_group if scope else None,
        "machine": event.machine_id.hex() if event.machine_id else None,
        "data": event.data,
    }


def _machine_json(env: Environment, scope: Scope, machine: Machine) -> dict[str, Any]:
    return {
        "root": scope.root,
        "group": scope.product_group,
        "machine": machine.machine_id.hex(),
        "name": machine.name,
        "product": machine.product,
        "edition": machine.edition,
        "state": machine.state,
        "first_seen": env.json_time(machine.first_seen),
        "last_seen": env.json_time(machine.last_seen),
        "requests": machine.requests,
    }


def _export_events(env: Environment, store: HostStore, scopes: dict[int, Scope], since: int, codes: list[str]) -> int:
    after = 0
    while page := store.events(since, PAGE, codes, after_id=after):
        for event in page:
            env.write(json.dumps(_event_json(env, scopes, event), ensure_ascii=False))
        after = page[-1].id
    return 0


def _sentence(env: Environment, event: Event) -> str:
    data = event.data
    if "text" in data:
        return str(data["text"])
    if "message" in data:
        return str(data["message"])
    if "count" in data:
        return (
            f"{data.get('name') or 'a machine'}, {data.get('edition')}: count {data['count']}, was {data.get('state')}"
        )
    policys = {name: interval(None) for name, value in data.items() if name.endswith("_minutes") and value is None}
    return env.show_fields({**data, **policys})


def _short(machine: bytes | None) -> str:
    return machine.hex()[:16] if machine else ""


def _limit(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_SHOWN:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_SHOWN}; --jsonl exports all")
    return int(text)


def _seconds(text: str) -> int:
    unit = UNITS.get(text[-1:])
    if unit is None or not text[:-1].isdecimal():
        raise DurationError(text=text)
    return int(text[:-1]) * unit
