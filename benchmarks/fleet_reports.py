# SPDX-License-Identifier: Apache-2.0
"""How long each list and report of the fleet tool takes over many machines, on SQLite and on PostgreSQL.

    python benchmarks/fleet_reports.py [--machines 100000] [--postgresql] [--render] [--json]

Fills a database with machines of the kinds that real fleets have (two products, leases, graces, clones, dead machines,
a year of daily figures, changes), then times lists with filter, order and groups, and each report's queries and
composition.  ``--render`` times the formats too.  ``--postgresql`` starts a server of its own; without it a SQLite file
of the moment is used.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sqlalchemy import Connection

from support import postgresql
from support.fleet_rows import NOW, fill
from volact.fleet import figures
from volact.fleet.figures.forecast import DAY
from volact.fleet.inventory import inventory
from volact.fleet.inventory.inventory import Query
from volact.fleet.reports.asked import Asked
from volact.fleet.reports.catalogue import REPORTS, make_report
from volact.fleet.reports.render import FORMATS
from volact.fleet.store import FleetStore
from volact.wire.serve import free_port


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with ExitStack() as stack:
        store = stack.enter_context(FleetStore.open(_database(stack, postgresql_wanted=args.postgresql)))
        begun = time.perf_counter()
        fill(store, args.machines)
        print(f"filled in {time.perf_counter() - begun:.1f} s", file=sys.stderr)
        lists = [measure_list(store, name, ask) for name, ask in LISTS.items()]
        results = [measure(store, name, render=args.render) for name in REPORTS]
    if args.json:
        print(json.dumps({"machines": args.machines, "lists": lists, "reports": results}, indent=2))
    else:
        for row in lists:
            print(f"{row['list']:<46} {row['rows']:>7,} rows  {row['seconds']:.2f} s")
        for result in results:
            rest = "  ".join(f"{name} {seconds:.2f} s" for name, seconds in result["formats"].items())
            print(f"{result['report']:<16} {result['rows']:>7,} rows  {result['seconds']:.2f} s  {rest}")
    return 0


LISTS: dict[str, Callable[[Connection], int]] = {
    "products, first page": lambda conn: inventory.products(conn, Query(), NOW).total,
    "products, unlicensed, by expiry, page 50": lambda conn: (
        inventory.products(conn, Query("not state=licensed", ("-grace-ends",), limit=100, offset=4_900), NOW).total
    ),
    "machines, first page": lambda conn: inventory.machines(conn, Query(), NOW).total,
    "machines, a pattern, by contact": lambda conn: (
        inventory.machines(conn, Query("name~*77*", ("-contacted",)), NOW).total
    ),
    "machines of a tag with a product in trouble": lambda conn: (
        inventory.machines(conn, Query("tag=site-3 and state=notification"), NOW).total
    ),
    "groups by product and state": lambda conn: len(inventory.groups(conn, ("product", "state"), "", NOW)),
    "groups by tag": lambda conn: len(inventory.groups(conn, ("tag",), "", NOW)),
    "a selection of machines": lambda conn: len(inventory.select_machines(conn, "channel=mak", (), NOW)),
    "expiry buckets (dashboard)": lambda conn: len(figures.expiry_buckets(conn, NOW)),
    "fleet in numbers (dashboard)": lambda conn: figures.fleet_size(conn, NOW).installations,
}


def measure_list(store: FleetStore, name: str, ask: Callable[[Connection], int]) -> dict[str, Any]:
    with store.read() as conn:
        begun = time.perf_counter()
        rows = ask(conn)
        return {"list": name, "rows": rows, "seconds": round(time.perf_counter() - begun, 3)}


def _database(stack: ExitStack, *, postgresql_wanted: bool) -> Path | str:
    if not postgresql_wanted:
        return Path(stack.enter_context(tempfile.TemporaryDirectory())) / "fleet.sqlite"
    address = stack.enter_context(postgresql.server(free_port(), durable=True))
    postgresql.execute(address, "CREATE DATABASE fleet")
    return f"{address}fleet"


def measure(store: FleetStore, name: str, *, render: bool) -> dict[str, Any]:
    begun = time.perf_counter()
    with store.read() as conn:
        report = make_report(conn, name, Asked(NOW, since=NOW - 30 * DAY if name == "changes" else 0))
    taken = time.perf_counter() - begun
    formats = {}
    for kind in FORMATS.values() if render else ():
        begun = time.perf_counter()
        kind.render(report)
        formats[kind.name] = round(time.perf_counter() - begun, 3)
    return {"report": name, "rows": len(report.rows), "seconds": round(taken, 3), "formats": formats}


if __name__ == "__main__":
    sys.exit(main())
