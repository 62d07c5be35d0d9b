# SPDX-License-Identifier: Apache-2.0
"""Where one activation's processor time goes in a KMS host, phase by phase, in microseconds.

Two views of the same work.  *In process*: the host's service answers full batches without a network, each phase timed,
beside what its public-key operations alone cost.  *Running*: `volact host serve` with one worker answers one connection
an activation, and the kernel tells what each kind of thread used.  The difference is the network's share.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from host_storm import Bench, _children, host_server
from loadgen import post_all

from volact.host import service as service_module
from volact.host.application import load_serving, open_store
from volact.host.issuing import Intervals
from volact.host.service import MAX_BATCH, HostService
from volact.wire.gen.volact.v1.activation_pb import ActivateRequest
from volact.wire.server import ACTIVATE

PHASES = {
    "_open": "open the seals (HPKE)",
    "_prove": "read and prove the requests",
    "_decide": "decide",
    "record": "count and commit (SQLite, the worker's thread)",
    "_write": "write the licences",
    "_sign": "sign them",
    "_answer": "seal the answers",
}


def in_process(bench: Bench, batches: int) -> dict[str, float]:
    """Microseconds of an activation in each phase, in full batches."""
    spent: dict[str, float] = defaultdict(float)
    store = open_store(bench.host)
    service = HostService(store, lambda: int(time.time()))
    service.use(load_serving(bench.host, store, "bench"), Intervals())
    for name in ("_open", "_prove", "_decide", "_write", "_sign"):
        setattr(service, name, _timed(spent, name, getattr(service, name)))
    store.record = _timed(spent, "record", store.record)  # type: ignore[method-assign]
    plain = service_module._answer
    service_module._answer = _timed(spent, "_answer", plain)
    try:
        total = sum(asyncio.run(_batch(service, bench)) for _ in range(batches))
    finally:
        service_module._answer = plain
        store.close()
    number = batches * MAX_BATCH
    return {name: spent[name] / number * 1e6 for name in PHASES} | {"total": total / number * 1e6}


def running(bench: Bench, number: int, concurrency: int) -> dict[str, float]:
    """Microseconds of an activation in each kind of thread of a running host."""
    port, server = host_server(bench, 1)
    with server as cpu:
        post_all(("127.0.0.1", port), ACTIVATE, [body for _, body in bench.requests(300)], concurrency)
        requests = [body for _, body in bench.requests(number)]
        (worker,) = (pid for pid in _children(cpu.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())
        before = _threads(worker)
        post_all(("127.0.0.1", port), ACTIVATE, requests, concurrency)
        after = _threads(worker)
    kinds: dict[str, float] = defaultdict(float)
    for thread, (name, nanoseconds) in after.items():
        kind = "event loop" if thread == worker else "HTTP server" if name.startswith("tokio") else "other threads"
        kinds[kind] += (nanoseconds - before.get(thread, ("", 0))[1]) / number / 1e3
    return dict(kinds)


async def _batch(service: HostService, bench: Bench) -> float:
    messages = [ActivateRequest.from_binary(body) for _, body in bench.requests(MAX_BATCH)]
    began = time.process_time()
    await asyncio.gather(*(service.activate(one.issuer, one.sealed) for one in messages))
    return time.process_time() - began


def _timed(spent: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*args)
        finally:
            spent[name] += time.thread_time() - began

    return wrapped


def _threads(pid: int) -> dict[int, tuple[str, int]]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        found[int(task.name)] = (name, int((task / "schedstat").read_text().split()[0]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=60, help="batches of 64 in process (default: %(default)s)")
    parser.add_argument("--machines", type=int, default=4000, help="activations of the running host")
    parser.add_argument("--concurrency", type=int, default=128, help="connections at a time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="volact-bench-"))
    try:
        bench = Bench(folder / "host")
        floor = 1e6 / bench.floor(1.0)
        phases = in_process(bench, args.batches)
        threads = running(bench, args.machines, args.concurrency)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        figures = {"floor_us": floor, "phases_us": phases, "threads_us": threads}
        print(json.dumps(figures, default=lambda value: round(value, 1)))
        return
    print(f"public-key operations alone          {floor:6.1f} µs")
    print("in process, full batches")
    for name, what in PHASES.items():
        print(f"  {what:<50} {phases[name]:6.1f}")
    print(f"  {'in all, with the event loop':<50} {phases['total']:6.1f}")
    print("running, one connection an activation")
    for kind, spent in sorted(threads.items(), key=lambda item: -item[1]):
        print(f"  {kind:<50} {spent:6.1f}")
    print(f"  {'in all':<50} {sum(threads.values()):6.1f}")


if __name__ == "__main__":
    main()
