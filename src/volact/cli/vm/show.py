# SPDX-License-Identifier: Apache-2.0
"""Looking at a VM host: status, guests, events, and the numbers that a provider reports."""

import argparse
from dataclasses import asdict
from typing import Any

from volact.cli.environment import Environment
from volact.cli.options import add_verb, between
from volact.cli.vm.common import HOSTING
from volact.core.count import SECONDS_PER_DAY, day_of
from volact.issuer.folder import IssuerFolder
from volact.issuer.status import KeyStatus, key_status
from volact.vm.store import FAILED, REFUSED, TOTAL, Event, Guest

MOST_SHOWN = 100_000
CLAIMED = ("name", "os", "state")  # of a guest; the machine ID is proven by its key, the channel known to the host


def build(group: Any) -> None:
    add_verb(
        group,
        "status",
        "show keys, guests and requests",
        run_status,
        aliases=["dlv", "dli"],
        examples=["volact vm status", "volact vm status --json | jq '.guests[].machine'"],
    )
    guests = add_verb(
        group,
        "guests",
        "list the guests that were seen, the latest first",
        run_guests,
        examples=["volact vm guests", "volact vm guests --limit 1000 --json"],
    )
    guests.add_argument(
        "--limit", type=between(0, MOST_SHOWN), default=100, help="at most so many (default: %(default)s)"
    )
    events = add_verb(
        group,
        "events",
        "show the event log",
        run_events,
        examples=["volact vm events", "volact vm events --code group-not-granted --limit 20 --json"],
    )
    events.add_argument("--code", action="append", default=[], help="only events of this code; may be repeated")
    events.add_argument(
        "--limit", type=between(0, MOST_SHOWN), default=50, help="at most so many, the newest (default: %(default)s)"
    )
    report = add_verb(
        group,
        "report",
        "show how many guests were licensed, day by day",
        run_report,
        examples=["volact vm report --days 31 --json > september.json"],
    )
    report.add_argument("--days", type=between(1, 400), default=31, help="back to so many days (default: %(default)s)")


def run_status(args: argparse.Namespace, env: Environment) -> int:
    with HOSTING.opened(args, env) as (folder, store):
        keys = _keys(folder)
        guests, counters = store.guests(), store.counters()
        places = store.licensed_guests(env.clock())
    if env.json:
        env.write_json(
            {
                "keys": [_key_json(env, key) for key in keys],
                "guests": [_guest_json(env, guest) for guest in guests],
                "licensed": [{"root": r, "product": p, "edition": e, "guests": n} for (r, p, e), n in places.items()],
                "requests": counters[TOTAL],
                "failed": counters[FAILED],
                "refusals": {n.removeprefix(REFUSED): v for n, v in counters.items() if n.startswith(REFUSED)},
            }
        )
        return 0
    _show_keys(env, keys)
    rows = [(product, edition, number) for (_, product, edition), number in sorted(places.items())]
    env.table(("product", "edition", "guests licensed in 30 days"), rows, title="Places")
    _show_guests(env, guests[:100])
    env.facts((("requests", counters[TOTAL]), ("refused", counters[FAILED])), title="Requests")
    if not any(key.activated for key in keys):
        env.hint("no VM host key is activated: `volact vm install-key -`, then `volact vm activate`")
    return 0


def run_guests(args: argparse.Namespace, env: Environment) -> int:
    with HOSTING.opened(args, env) as (_, store):
        guests = store.guests(args.limit)
    if env.json:
        env.write_json([_guest_json(env, guest) for guest in guests])
    else:
        _show_guests(env, guests)
    return 0


def run_events(args: argparse.Namespace, env: Environment) -> int:
    with HOSTING.opened(args, env) as (_, store):
        events = store.events(0, args.limit, args.code, newest_first=True)[::-1]
    if env.json:
        env.write_json([_event_json(env, event) for event in events])
        return 0
    rows = [
        (env.show_time(e.at), e.level, e.code, e.channel, _short(e.machine_id), _sentence(env, e.data)) for e in events
    ]
    env.table(("time", "level", "event", "channel", "machine", "what"), rows)
    return 0


def run_report(args: argparse.Namespace, env: Environment) -> int:
    with HOSTING.opened(args, env) as (_, store):
        days = store.report(day_of(env.clock()) - args.days + 1)
    rows = [(env.json_time(d.day * SECONDS_PER_DAY), d.product, d.edition, d.guests, d.root) for d in days]
    if env.json:
        names = ("day", "product", "edition", "guests", "root")
        env.write_json([dict(zip(names, ((row[0] or "")[:10], *row[1:]), strict=True)) for row in rows])
        return 0
    env.table(("day", "product", "edition", "guests"), [((row[0] or "")[:10], *row[1:4]) for row in rows])
    return 0


def _keys(folder: IssuerFolder) -> list[KeyStatus]:
    publishers = {t.trust.fingerprint: t.definition.publisher for t in folder.products()}
    return [key_status(key, publishers.get(key.root, "")) for key in folder.host_keys()]


def _show_keys(env: Environment, keys: list[KeyStatus]) -> None:
    env.table(
        ("VM host key", "publisher", "product", "group", "activated", "for", "certificate ends"),
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
            for key in keys
        ],
        title="Keys",
    )


def _show_guests(env: Environment, guests: list[Guest]) -> None:
    rows = [
        (
            g.channel,
            _short(g.machine_id),
            g.product,
            g.edition,
            g.refused or "licensed",
            env.show_time(g.licensed_until),
            g.name,
            g.os,
            g.state,
            env.show_time(g.first_seen),
            env.show_time(g.last_seen),
        )
        for g in guests
    ]
    columns = ("channel", "machine ID", "product", "edition", "last answer", "licensed until")
    claimed = ("claims name", "claims OS", "claimed state")
    env.table((*columns, *claimed, "first seen", "last seen"), rows, title="Guests")


def _guest_json(env: Environment, guest: Guest) -> dict[str, Any]:
    """What the guest says of itself stands apart, under ``claimed``."""
    return {
        "machine": guest.machine_id.hex(),
        "channel": guest.channel,
        "root": guest.root,
        "product": guest.product,
        "edition": guest.edition,
        "last_answer": guest.refused or "licensed",
        "licensed_until": env.json_time(guest.licensed_until),
        "first_seen": env.json_time(guest.first_seen),
        "last_seen": env.json_time(guest.last_seen),
        "requests": guest.requests,
        "claimed": {name: getattr(guest, name) for name in CLAIMED},
    }


def _key_json(env: Environment, key: KeyStatus) -> dict[str, Any]:
    values = asdict(key)
    values["certificate_ends"] = env.json_time(values.pop("certificate_ends_at"))
    return values


def _event_json(env: Environment, event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "time": env.json_time(event.at),
        "level": event.level,
        "code": event.code,
        "channel": event.channel,
        "machine": event.machine_id.hex() if event.machine_id else None,
        "data": event.data,
    }


def _sentence(env: Environment, data: dict[str, Any]) -> str:
    if "message" in data:
        return str(data["message"])
    return env.show_fields(data)


def _short(machine: bytes | None) -> str:
    return machine.hex()[:16] if machine else ""
