# SPDX-License-Identifier: Apache-2.0
"""A fleet's database filled with rows of the kinds that real fleets have, always the same ones.

Two products, leases and graces, clones, dead machines, a year of daily figures, changes, keys and agreements: for the
tests of figures and reports, and for their benchmarks with 100,000 machines.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, insert

from volact.fleet.figures.forecast import DAY
from volact.fleet.schema import AGREEMENTS, HISTORY, KEYS, MACHINES, PRODUCTS, SAMPLES, TAGS
from volact.fleet.store import FleetStore

NOW = 1_795_000_000
STATES = (["licensed"] * 88 + ["initial-grace"] * 5 + ["out-of-tolerance-grace"] * 2 + ["notification"] * 3
          + ["unlicensed"] * 2)  # fmt: skip
CAUSES = ("no-issuer-reached", "count-below-threshold", "clock-skew", "key-blocked", "issuer-untrusted")
REACH = ("ssh-unreachable", "ssh-host-key-changed", "ssh-login-refused", "sudo-refused")
HOSTS = [f"kms{number}.example.net:1688" for number in range(1, 7)]
ROOT = "sha256:" + "5a" * 32
BATCH = 5_000


def fill(store: FleetStore, machines: int, seed: int = 7) -> None:
    """A fleet of this many machines, always the same one."""
    dice = random.Random(seed)
    with store.write() as conn:
        _insert(conn, MACHINES, _machines(dice, machines))
        _insert(conn, TAGS, ({"machine_id": n, "tag": f"site-{n % 12}"} for n in range(1, machines + 1)))
        _insert(conn, PRODUCTS, _products(dice, machines))
        _insert(conn, HISTORY, _history(dice, machines))
        _insert(conn, KEYS, _keys())
        _insert(conn, SAMPLES, _samples(dice, machines))
        _insert(conn, AGREEMENTS, _agreements(machines))
        if conn.dialect.name == "postgresql":
            _move_sequences(conn)
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("ANALYZE")


def _insert(conn: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, BATCH)):
        conn.execute(insert(table), batch)


def _machines(dice: random.Random, number: int) -> Iterator[dict[str, Any]]:
    for n in range(1, number + 1):
        dead, new = dice.random() < 0.03, dice.random() < 0.01
        seen = None if new else NOW - (dice.randrange(40, 200) * DAY if dead else dice.randrange(DAY))
        clone = n % 997 == 0 and n > 1
        yield {
            "id": n, "name": f"pc{n:06}.example.net", "address": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}",
            "source": "directory", "os": "Debian 12", "volact_version": "0.1.0",
            "machine_id": None if new else (997 if clone else n).to_bytes(32, "big"),
            "reach_state": "new" if new else "failed" if dead else "reached", "added_at": NOW - 300 * DAY,
            "refreshed_at": seen, "contacted_at": seen, "last_action": None if new else "refresh",
            "last_result": None if new else dice.choice(REACH) if dead else "ok",
            "last_error": "the machine did not answer within 60 seconds" if dead else None, "last_action_at": seen,
        }  # fmt: skip


def _products(dice: random.Random, number: int) -> Iterator[dict[str, Any]]:
    row = 0
    for n in range(1, number + 1):
        for product, group in (("acme-cad", 10), ("acme-office", 20))[: 1 if n % 4 else 2]:
            row += 1
            state = dice.choice(STATES)
            licensed, grace = state == "licensed", state.endswith("grace")
            channel = dice.choices(("volume", "mak", "retail", "oem", "vm"), (82, 9, 3, 4, 2))[0]
            lease = channel in ("volume", "vm")
            cause = None if licensed else dice.choice(CAUSES)
            yield {
                "id": row, "machine_id": n, "root": ROOT, "product": product, "publisher": "Acme",
                "edition": dice.choice(("pro", "standard")), "version": 3, "product_group": group, "channel": channel,
                "partial_key": dice.choice(("33GJK", "9QXTR", "WM2PD")), "state": state, "licensed": int(licensed),
                "enforcement": "count-only", "reason": None if licensed else "not-activated",
                "reason_text": None if licensed else f"{product} has not been activated yet", "cause": cause,
                "cause_text": None if cause is None else f"the last attempt ended with {cause}",
                "expires_at": NOW + dice.randrange(-2, 180) * DAY if licensed and lease else None,
                "grace_ends_at": NOW + dice.randrange(-1, 30) * DAY if grace else None,
                "last_attempt_at": NOW - dice.randrange(7 * DAY), "last_host": dice.choice(HOSTS) if lease else None,
                "host_source": "dns", "count": dice.randrange(20, 60), "threshold": 25, "organisation": "Example",
                "fingerprint": (n - 1 if n % 1500 == 0 else n).to_bytes(32, "big"),
                "first_seen_at": NOW - 300 * DAY,
                "activated_at": NOW - 200 * DAY if licensed or dice.random() < 0.5 else None,
                "refreshed_at": NOW - 3600,
            }  # fmt: skip


def _history(dice: random.Random, number: int) -> Iterator[dict[str, Any]]:
    for n in range(1, number + 1):
        course = [(NOW - 300 * DAY, "initial-grace"), (NOW - 299 * DAY, "licensed")]
        if dice.random() < 0.1:
            course.append((NOW - dice.randrange(60) * DAY, dice.choice(("notification", "out-of-tolerance-grace"))))
        for at, state in course:
            yield {
                "machine_id": n, "root": ROOT, "product": "acme-cad", "at": at, "edition": "pro", "channel": "volume",
                "partial_key": "33GJK", "state": state, "reason": None, "expires_at": None,
            }  # fmt: skip


def _keys() -> Iterator[dict[str, Any]]:
    for n, (partial, activations, remaining) in enumerate(
        (("9QXTR", 2_000, 140), ("WM2PD", 500, 430), ("7TTQ4", 50, 0), ("H6KXN", 5_000, 4_100)), 1
    ):
        yield {
            "id": n, "key_id": f"key-{n}", "partial": partial, "channel": "mak", "publisher_tag": "ab12", "root": ROOT,
            "product": "acme-cad" if n % 2 else "acme-office", "product_group": 10 if n % 2 else 20,
            "description": ("branch offices", "laptops", "trade fair", "engineering")[n - 1], "sealed": b"\0",
            "activations": activations, "remaining": remaining, "added_at": NOW - 300 * DAY, "added_by": "benchmark",
            "refreshed_at": NOW - 3600,
        }  # fmt: skip


def _samples(dice: random.Random, machines: int) -> Iterator[dict[str, Any]]:
    today = NOW - NOW % DAY
    left = {"key-1": 140, "key-2": 430, "key-4": 4_100}
    for back in range(1, 366):
        at = today - back * DAY
        for key, a_day in (("key-1", 4), ("key-2", 0.2), ("key-4", 2)):
            left[key] += int(dice.random() * 2 * a_day + 0.5) if at % (7 * DAY) < 5 * DAY else 0
            yield {"kind": "remaining", "key": key, "at": at, "value": left[key]}
        for state, part in (("licensed", 88), ("initial-grace", 5), ("notification", 3), ("unlicensed", 2)):
            yield {"kind": "state", "key": state, "at": at, "value": max(0, machines * part // 100 - back * part)}
        for number, host in enumerate(HOSTS):
            yield {"kind": "host", "key": host, "at": at, "value": 50 - number * 4 + dice.randrange(6)}
        for cause in CAUSES:
            yield {"kind": "cause", "key": cause, "at": at, "value": dice.randrange(machines // 100 + 2)}


def _agreements(machines: int) -> Iterator[dict[str, Any]]:
    for name, group, product, quantity in (
        ("EA-2025", 10, "acme-cad", machines * 4 // 5), ("EA-2026", 10, "acme-cad", machines // 4),
        ("EA-2026", 20, "acme-office", machines // 5),
    ):  # fmt: skip
        yield {
            "name": name, "product": product, "product_group": group, "publisher": "Acme", "quantity": quantity,
            "starts_at": NOW - 300 * DAY, "ends_at": NOW + 65 * DAY, "source": "benchmark", "refreshed_at": NOW,
        }  # fmt: skip


def _move_sequences(conn: Connection) -> None:
    """Rows were given their IDs: PostgreSQL's counters do not know."""
    for table in (MACHINES, PRODUCTS, KEYS):
        conn.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM {table.name}))"
        )
