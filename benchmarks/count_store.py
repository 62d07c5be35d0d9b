# SPDX-License-Identifier: Apache-2.0
"""How fast the KMS host's store records activations, durably, with a large table.

    python benchmarks/count_store.py --machines 1000000 --batch 1 16 64 --processes 1 2

Each activation writes its machine, the histogram, counters and an event; each batch is one synced commit.  Machines are
drawn at random from the table, as renewals come.  CPU is that of recording, checkpoints included.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from volact.core.count import SECONDS_PER_DAY
from volact.host.store import HostStore, Seen

START_DAY = 20_000
FILL_BATCH = 20_000
CHECKPOINT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    machines: int
    processes: int
    batch: int
    recorded_per_second: int
    cpu_us: float  # of one activation
    p50_ms: float  # of one batch, waiting for the lock included
    p99_ms: float


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        database = Path(folder) / "host.db"
        fill_seconds = fill(database, args.machines)
        count_us = time_count(database)
        results = [
            measure(database, args.machines, batch, processes, args.seconds)
            for processes in args.processes
            for batch in args.batch
        ]
        size = database.stat().st_size
    if args.json:
        summary = {"fill_seconds": round(fill_seconds, 1), "count_us": count_us, "database_bytes": size}
        print(json.dumps(summary | {"results": [asdict(result) for result in results]}))
    else:
        _print_table(results, fill_seconds, count_us, size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1_000_000, help="rows in the table")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64], help="activations in one transaction")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="recording at the same time")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the result")
    parser.add_argument("--dir", help="where the database is made; its disk is what is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser.parse_args()


def fill(database: Path, machines: int) -> float:
    started = time.perf_counter()
    store = HostStore.open(database)
    scope_id = store.scope("sha256:benchmark", 1).id
    for first in range(0, machines, FILL_BATCH):
        numbers = range(first, min(first + FILL_BATCH, machines))
        day = START_DAY + first // FILL_BATCH % 28
        store.record([seen(scope_id, number, day) for number in numbers], day)
        store.checkpoint()
    store.close()
    return time.perf_counter() - started


def time_count(database: Path) -> float:
    """Microseconds of the 30-day count, on a store opened a moment ago."""
    store = HostStore.open(database)
    started = time.perf_counter()
    for _ in range(100):
        store.count(1, START_DAY + 28)
    elapsed = time.perf_counter() - started
    store.close()
    return round(elapsed / 100 * 1e6, 1)


def measure(database: Path, machines: int, batch: int, processes: int, seconds: float) -> Result:
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        jobs = [(database, machines, batch, seconds, seed) for seed in range(processes)]
        done = pool.starmap(record_for, jobs)
    waits = sorted(wait for one in done for wait in one[2])
    recorded = sum(one[0] for one in done)
    return Result(
        machines=machines,
        processes=processes,
        batch=batch,
        recorded_per_second=round(sum(one[0] / one[3] for one in done)),
        cpu_us=round(sum(one[1] for one in done) / recorded * 1e6, 1),
        p50_ms=round(waits[len(waits) // 2] * 1e3, 2),
        p99_ms=round(waits[len(waits) * 99 // 100] * 1e3, 2),
    )


def record_for(
    database: Path, machines: int, batch: int, seconds: float, seed: int
) -> tuple[int, float, list[float], float]:
    """Records random batches; returns how many activations, CPU seconds, each batch's seconds, and the time it took."""
    store, batches, waits, recorded, cpu = HostStore.open(database), random_batches(machines, batch, seed), [], 0, 0.0
    started = checkpointed = time.perf_counter()
    while time.perf_counter() - started < seconds:
        seen_now = next(batches)
        before, cpu_before = time.perf_counter(), time.process_time()
        store.record(seen_now, START_DAY + 28)
        waits.append(time.perf_counter() - before)
        recorded += len(seen_now)
        if seed == 0 and time.perf_counter() - checkpointed > CHECKPOINT_SECONDS:
            store.checkpoint()
            checkpointed = time.perf_counter()
        cpu += time.process_time() - cpu_before
    elapsed = time.perf_counter() - started
    store.close()
    return recorded, cpu, waits, elapsed


def random_batches(machines: int, batch: int, seed: int) -> Iterator[list[Seen]]:
    draw = random.Random(seed)
    while True:
        yield [seen(1, draw.randrange(machines), START_DAY + 28) for _ in range(batch)]


def seen(scope_id: int, number: int, day: int) -> Seen:
    at = day * SECONDS_PER_DAY + number % SECONDS_PER_DAY
    machine_id = hashlib.sha256(b"machine %d" % number).digest()
    return Seen(
        scope_id=scope_id,
        machine_id=machine_id,
        fingerprint=machine_id[:16],
        at=at,
        request_iat=at,
        name=f"ws-{number:07}.example.test",
        product="acme-cad",
        edition="professional",
        state="licensed",
    )


def _print_table(results: list[Result], fill_seconds: float, count_us: float, size: int) -> None:
    print(f"table filled in {fill_seconds:.1f} s, {size / 1e6:.0f} MB; the count takes {count_us:.0f} µs")
    print(f"{'processes':>9} {'batch':>6} {'recorded/s':>11} {'CPU µs':>7} {'p50 ms':>7} {'p99 ms':>7}")
    for one in results:
        print(
            f"{one.processes:>9} {one.batch:>6} {one.recorded_per_second:>11,} {one.cpu_us:>7.1f} "
            f"{one.p50_ms:>7.2f} {one.p99_ms:>7.2f}"
        )


if __name__ == "__main__":
    main()
