# SPDX-License-Identifier: Apache-2.0
"""What the client costs: a cold ``volact client status``, ``volact.check()`` cold and warm, the bare install's size,
the licensing service's memory and wake-ups.

A licensed folder is made first, so that every figure includes reading and verifying a definition, a status and two
licences.  Cold figures are whole processes, best and median of ``--runs``; Python's own start is measured beside them
in turn, since a busy machine slows both, and processor seconds are given too.  The size is that of ``pip install
--target`` without extras (needs pip's index); ``--no-size`` leaves it out.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from volact.client.activation import online
from volact.client.check import World, check
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing
from volact.testing import Site

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = "acme-cad"
STATUS_LIMIT, CHECK_LIMIT, SIZE_LIMIT = 0.15, 0.001, 40_000_000  # seconds, seconds, bytes
RESIDENT_LIMIT = 30_000_000  # bytes, of the licensing service
QUIET_SECONDS = 10  # the service is watched while it has nothing to do


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = licensed_folder(folder / "client")
        result = {**cold(folder / "client", root, args.runs), **warm(folder / "client", root)}
        result |= service(folder / "client")
        if args.size:
            result |= size(folder / "installed")
    verdict = {"ok": within_limits(result)}
    print(json.dumps(result | verdict) if args.json else table(result | verdict))
    return 0 if verdict["ok"] else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21, help="processes a figure (21)")
    parser.add_argument("--size", action=argparse.BooleanOptionalAction, default=True, help="measure the bare install")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


def licensed_folder(folder: Path) -> str:
    """This machine, licensed by a host in memory; returns the publisher's root."""
    site = Site.make(now=int(time.time()))
    root, store = site.publisher.fingerprint, ClientStore(folder)
    installing.add_product(store, site.token, root, 0, site.clock())
    installing.install_generic_key(store, PRODUCT, "client")
    host = site.kms_host()
    host.fill(101, 24)
    route = Route(host, "kms.example.test:1688", "given")
    outcome = online.activate(PRODUCT, store, [route], LocalMachine.of_system(), site.clock, Random())
    assert outcome.evaluation.licensed
    return root


def cold(folder: Path, root: str, runs: int) -> dict[str, float]:
    called = f"import volact; assert volact.check({PRODUCT!r}, root={root!r}, dir={str(folder)!r})"
    figures = {
        "python_pass": ["-c", "pass"],
        "import_volact": ["-c", "import volact"],
        "check_cold": ["-c", called],
        "status_cold": [str(Path(sys.executable).with_name("volact")), "client", "status", "--dir", str(folder)],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in figures}
    for _ in range(runs):
        for name, command in figures.items():
            times[name].append(process(command))
    result: dict[str, float] = {}
    for name, taken in times.items():
        walls, processors = zip(*taken, strict=True)
        result[f"{name}_best"] = round(min(walls), 4)
        result[f"{name}_median"] = round(statistics.median(walls), 4)
        result[f"{name}_cpu"] = round(min(processors), 4)
    return result


def process(command: Sequence[str]) -> tuple[float, float]:
    """Seconds on the wall and on the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warm(folder: Path, root: str) -> dict[str, float]:
    world = World.of_system()

    def call() -> None:
        assert check(PRODUCT, root=root, dir=folder, _world=world)

    began = time.perf_counter()
    call()
    first = time.perf_counter() - began
    return {"check_first": round(first, 6), "check_warm": round(best_of(call), 7)}


def best_of(call: Callable[[], None], rounds: int = 20, calls: int = 200) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - began) / calls)
    return best


def service(folder: Path) -> dict[str, Any]:
    """The licensing service asleep: its memory, its greatest memory, and how often it wakes up."""
    words = ["-m", "volact.cli.main", "client", "serve", "--no-api", "--dir", str(folder)]
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    try:
        begins = time.monotonic()
        while not (folder / "service.json").exists() and time.monotonic() < begins + 30:
            time.sleep(0.05)
        time.sleep(1.0)  # the round's process ends
        before = figure(process.pid, "voluntary_ctxt_switches")
        time.sleep(QUIET_SECONDS)
        woken = figure(process.pid, "voluntary_ctxt_switches") - before
        resident, most = figure(process.pid, "VmRSS") * 1024, figure(process.pid, "VmHWM") * 1024
    finally:
        process.terminate()
        process.wait()
    return {"service_bytes": resident, "service_most_bytes": most, "service_wakeups": woken}


def figure(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def size(folder: Path) -> dict[str, Any]:
    """Bytes on disk of the bare install and everything it pulls in, compiled files included."""
    source = folder.with_name("source")  # a build leaves files beside what it builds
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True, stdout=sys.stderr)
    total = sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
    packages = sorted(path.name.split("-")[0] for path in folder.glob("*.dist-info"))
    return {"install_bytes": total, "install_packages": packages}


def within_limits(result: dict[str, Any]) -> bool:
    limits = {"status_cold_median": STATUS_LIMIT, "check_warm": CHECK_LIMIT, "install_bytes": SIZE_LIMIT}
    limits |= {"service_most_bytes": RESIDENT_LIMIT, "service_wakeups": 1}
    return all(result.get(name, 0) < limit for name, limit in limits.items())


def table(result: dict[str, Any]) -> str:
    lines = [f"{name:<22} {shown(name, value)}" for name, value in result.items()]
    limits = (
        f"limits: status_cold_median < {STATUS_LIMIT} s, check_warm < 1 ms, install_bytes < {SIZE_LIMIT // 10**6} MB, "
        f"service_most_bytes < {RESIDENT_LIMIT // 10**6} MB, no wake-up of the service in {QUIET_SECONDS} s"
    )
    return "\n".join([*lines, limits])


def shown(name: str, value: Any) -> str:
    if isinstance(value, bool) or name.endswith("wakeups") or not isinstance(value, float | int):
        return str(value) if not isinstance(value, list) else ", ".join(value)
    if name.endswith("_bytes"):
        return f"{value / 1e6:.1f} MB"
    return f"{value * 1e6:.1f} µs" if value < 0.001 else f"{value * 1e3:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
