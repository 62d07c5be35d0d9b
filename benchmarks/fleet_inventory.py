# SPDX-License-Identifier: Apache-2.0
"""How long the fleet tool's lists take over 100,000 machines: ``python benchmarks/fleet_inventory.py [--postgresql]``.

Fills a new database (130,000 products, 20,000 tags), then times each list, group and selection once cold and once warm.
"""

import argparse
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, text

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import postgresql
from volact.fleet.inventory import inventory
from volact.fleet.inventory.inventory import Query
from volact.fleet.schema import MACHINES, PRODUCTS, TAGS
from volact.fleet.store import FleetStore, batches

NOW, DAY = 1_800_000_000, 86_400
STATES = ("licensed",) * 90 + ("initial-grace",) * 6 + ("out-of-tolerance-grace",) * 2 + ("notification",) * 2
ROOT = "sha256:" + "ab" * 32


def fill(conn: Connection, number: int) -> None:
    chance = random.Random(1)
    machines: list[dict[str, Any]] = [
        {
            "id": n, "name": f"pc{n:06d}.example.com", "source": "bench", "reach_state": "reached", "os": "Debian 12",
            "added_at": NOW - 100 * DAY, "refreshed_at": NOW - chance.randrange(DAY), "volact_version": "0.1.0",
            "contacted_at": NOW - chance.randrange(30 * DAY), "last_action": "refresh",
            "machine_id": chance.randbytes(32),
            "last_result": "ok" if chance.random() < 0.95 else "machine-unreachable", "last_action_at": NOW,
        }
        for n in range(1, number + 1)
    ]  # fmt: skip
    products: list[dict[str, Any]] = []
    for n in range(1, number + 1):
        for product in ("acme-cad", "acme-office")[: 2 if chance.random() < 0.3 else 1]:
            state = chance.choice(STATES)
            products.append(
                {
                    "machine_id": n, "root": ROOT, "product": product, "edition": "client", "channel": "volume",
                    "state": state, "licensed": int(state == "licensed"), "partial_key": "ABCDE",
                    "expires_at": NOW + chance.randrange(180 * DAY) if state == "licensed" else None,
                    "grace_ends_at": NOW + chance.randrange(30 * DAY) if "grace" in state else None,
                    "last_host": f"kms{chance.randrange(4)}:1688", "count": 5000, "threshold": 25,
                    "first_seen_at": NOW, "refreshed_at": NOW, "fingerprint": chance.randbytes(16),
                }
            )  # fmt: skip
    tags: list[dict[str, Any]] = [{"machine_id": n, "tag": f"site{n % 40}"} for n in range(1, number + 1, 5)]
    for table, rows in ((MACHINES, machines), (PRODUCTS, products), (TAGS, tags)):
        for part in batches(rows, 5000):
            conn.execute(insert(table), part)


LISTS: dict[str, Callable[[Connection], Any]] = {
    "products, first page": lambda c: inventory.products(c, Query(), NOW),
    "products, page 1,000": lambda c: inventory.products(c, Query(offset=100_000), NOW),
    "products by expiry": lambda c: inventory.products(c, Query(sort=("expires", "name")), NOW),
    "products by state, descending": lambda c: inventory.products(c, Query(sort=("-state",)), NOW),
    "products in notification": lambda c: inventory.products(c, Query("state=notification"), NOW),
    "expiring in 30 days": lambda c: inventory.products(c, Query("expires<+30d", sort=("expires",)), NOW),
    "a pattern and a tag": lambda c: inventory.products(c, Query("name~*99* tag=site7"), NOW),
    "machines, first page": lambda c: inventory.machines(c, Query(), NOW),
    "machines, page 900": lambda c: inventory.machines(c, Query(offset=90_000), NOW),
    "machines by last contact": lambda c: inventory.machines(c, Query(sort=("-contacted",)), NOW),
    "machines by number of products": lambda c: inventory.machines(c, Query(sort=("-products",)), NOW),
    "machines unreachable": lambda c: inventory.machines(c, Query("result=machine-unreachable"), NOW),
    "grouped by product and state": lambda c: inventory.groups(c, ("product", "state"), "", NOW),
    "grouped by tag": lambda c: inventory.groups(c, ("tag",), "", NOW),
    "overview": inventory.overview,
    "one machine": lambda c: inventory.machine(c, "pc050000.example.com"),
    "select everything": lambda c: inventory.select_machines(c, "", (), NOW),
    "select unlicensed": lambda c: inventory.select_machines(c, "state=unlicensed-any", (), NOW),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--postgresql", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.postgresql:
            with postgresql.server(_free_port()) as address:
                postgresql.execute(address, "CREATE DATABASE fleet")
                measure(f"{address}fleet", args.machines)
        else:
            measure(Path(folder) / "fleet.sqlite", args.machines)


def measure(database: str | Path, number: int) -> None:
    with FleetStore.open(database) as store:
        begin = time.perf_counter()
        with store.write() as conn:
            fill(conn, number)
        if store.engine.dialect.name == "postgresql":
            with store.write() as conn:
                conn.execute(text("ANALYZE"))
        print(f"{store.engine.dialect.name}: filled {number} machines in {time.perf_counter() - begin:.1f} s")
        for name, query in LISTS.items():
            times = []
            for _ in range(2):
                begin = time.perf_counter()
                with store.read() as conn:
                    query(conn)
                times.append((time.perf_counter() - begin) * 1000)
            print(f"{name:<34} {times[0]:7.0f} ms {times[1]:7.0f} ms")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
