# SPDX-License-Identifier: Apache-2.0
"""How many machines a second one domain controller activates, beside one KMS host.

Both are real and run in a network of their own: a Samba domain controller, and `volact host serve` with one worker.
Each machine is the production client in a folder of its own; it has the product and its key, and activates once:

  directory   finds a controller in DNS, gets its Kerberos tickets with its keytab, binds, reads the object, verifies
  kms         gets the host's descriptor, seals a request, verifies the answer, which the host has counted

Clients and servers share the processors, so besides the rate the servers' own CPU time for each machine is given: it
says how many machines a second one core of a server could activate.  Needs root (network namespaces).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.domain import PRODUCT, Domain, Member, make_vendor, open_domain  # noqa: E402
from support.netns import ip  # noqa: E402
from support.samba import DOMAIN, MACHINES, make_forest  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=60, help="for each of the two (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=2, help="client processes at once (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--client", nargs="+", metavar="KIND FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        print(run_client(args.client[0], [Path(folder) for folder in args.client[1:]]))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args.machines, args.clients)
    print(json.dumps(result) if args.json else show(result))


def measure(folder: Path, machines: int, clients: int) -> dict[str, object]:
    for name in ("vendor", "domain"):
        (folder / name).mkdir()
    vendor, image = make_vendor(folder / "vendor"), make_forest(folder / "image" / "forest")
    with open_domain(image, vendor, folder / "domain") as domain:
        domain.good("prepare", "--yes")
        domain.activate()
        with domain.kms_host() as host:
            members = [domain.member(n % MACHINES + 1, host=host) for n in range(2 * machines)]
            run(domain, "directory", members[:1], 1)  # tickets, caches and imports warm
            run(domain, "kms", members[:1], 1)
            directory = run(domain, "directory", members[:machines], clients)
            kms = run(domain, "kms", members[machines:], clients)
    return {"machines": machines, "clients": clients, "directory": directory, "kms": kms}


def run(domain: Domain, kind: str, members: list[Member], clients: int) -> dict[str, float]:
    """The members activate in so many processes at once; the rate, and what it cost the server."""
    server = "dc1" if kind == "directory" else "kms1"
    parts = [[member.folder for member in members[n::clients]] for n in range(clients)]
    before = cpu_seconds(domain, server)
    running = [
        subprocess.Popen(client(domain, kind, part), env=environment(domain), stdout=subprocess.PIPE, text=True)
        for part in parts
        if part
    ]
    told = [process.communicate()[0] for process in running]
    cpu = cpu_seconds(domain, server) - before
    assert all(process.returncode == 0 for process in running), f"{kind}: a client failed"
    seconds = max(map(float, told))  # of the longest, without its start
    per_machine = cpu / len(members)
    return {
        "machines_per_second": round(len(members) / seconds, 1),
        "server_cpu_ms": round(per_machine * 1000, 2),
        "machines_per_server_core_second": round(1 / per_machine, 0) if per_machine else 0.0,
    }


def client(domain: Domain, kind: str, folders: list[Path]) -> list[str]:
    return domain.forest.net.command("member", [sys.executable, __file__, "--client", kind, *folders])


def environment(domain: Domain) -> dict[str, str]:
    return {**os.environ, **domain.forest.variables}


def run_client(kind: str, folders: list[Path]) -> float:
    """One client process: each folder's machine activates; the seconds that took."""
    from volact.client.activation import online
    from volact.client.discovery.resolver import DnsResolver
    from volact.client.discovery.routes import find_routes
    from volact.client.folder.store import ClientStore
    from volact.client.machine import LocalMachine
    from volact.client.products.loading import load_product
    from volact.directory import plug
    from volact.testing.machines import simulated_traits

    began = time.monotonic()
    clock: Callable[[], int] = lambda: int(time.time())  # noqa: E731
    for number, folder in enumerate(folders):
        store, random = ClientStore(folder), Random(number)
        machine = LocalMachine(partial(simulated_traits, number), partial(str, folder.name))
        door = plug.open_door(folder, print) if kind == "directory" else None
        loaded = load_product(store, PRODUCT)
        routes = find_routes(loaded, store.settings(), store.issuer(PRODUCT), DnsResolver(None), random)
        outcome = online.activate(PRODUCT, store, routes, machine, clock, random, door)
        assert outcome.evaluation.licensed
        assert (outcome.source == "directory") == (kind == "directory")
    return time.monotonic() - began


def cpu_seconds(domain: Domain, host: str) -> float:
    """User and system time of every process of a host, ended children included."""
    total = 0
    for pid in ip("netns", "pids", domain.forest.net.name(host)).split():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def show(result: dict[str, object]) -> str:
    lines = [f"{result['machines']} machines each, {result['clients']} client processes, domain {DOMAIN}"]
    for kind, name in (("directory", "one domain controller"), ("kms", "one KMS host")):
        row = result[kind]
        assert isinstance(row, dict)
        lines.append(
            f"{name:<22} {row['machines_per_second']:>8} machines/s   {row['server_cpu_ms']:>7} ms server CPU each   "
            f"{row['machines_per_server_core_second']:>7.0f} machines/s a server core"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
