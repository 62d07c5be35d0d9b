# SPDX-License-Identifier: Apache-2.0
"""Machines a second across a real sshd: ``python benchmarks/fleet_ssh.py [--machines 200] [--whole]``.

Every machine is a state folder with the production client, behind one sshd on this computer; a tenth are dead, slow,
unknown, without sudo or without volact.  The far side's own work (a Python process a machine) is timed apart, since on
a real network it is done by the machines.  ``--whole`` begins without products: a real publisher and a real KMS host,
and every machine is found, asked, given its key, and activated, half by KMS and half by MAK proxy.
"""

import argparse
import dataclasses
import itertools
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.fleet import Far, Kind, far_side, give_product
from support.fleet_folders import EDITION, issue, used
from support.processes import ADDRESS, Server, serving
from support.processes import good as run
from support.site import RealPublisher, Vendor
from volact.fleet.api import Fleet
from volact.fleet.desk import SshOptions
from volact.fleet.discovery.names import from_words
from volact.fleet.folder import FleetFolder
from volact.fleet.jobs.engine import Progress
from volact.fleet.jobs.records import Job

BAD = (Kind.DEAD, Kind.OTHER_KEY, Kind.UNKNOWN_KEY, Kind.NO_SUDO, Kind.NO_VOLACT, Kind.SLOW)
TIMEOUT = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--whole", action="store_true", help="keys and activations too")
    args = parser.parse_args()
    bad = list(itertools.islice(itertools.cycle(BAD), args.machines // 10))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with far_side(folder / "far", [*bad, *[Kind.GOOD] * (args.machines - len(bad))], _free_port) as far:
            if args.whole:
                whole(folder, far)
                return
            vendor = Vendor.make(folder)
            for machine in far.of(Kind.GOOD):
                give_product(machine, vendor.file, vendor.root)
            measure(folder / "fleet", far)


def measure(path: Path, far: Far) -> None:
    good = far.of(Kind.GOOD)
    print(f"the client alone, one after the other: {1000 * _client_seconds(far):.0f} ms a machine")
    with Fleet.init(path) as fleet:
        folder: FleetFolder = fleet.folder.change(far.settings())
        fleet = dataclasses.replace(fleet, folder=folder, ssh=SshOptions(changes={"timeout": TIMEOUT}))
        begin = time.perf_counter()
        fleet.discover(found=from_words(machine.word for machine in far.machines))
        print(f"discovered {len(far.machines)} in {time.perf_counter() - begin:.2f} s")
        for parallel in (64, 16):
            fleet.ssh = SshOptions(changes={"timeout": TIMEOUT, "parallel": parallel})
            ended: list[float] = []
            fleet.progress = partial(_note, ended)
            begin = time.perf_counter()
            job = fleet.refresh()
            seconds, whole = ended[-1] - begin, time.perf_counter() - begin
            assert job.counts["done"] == len(good), job.counts
            rate = f"{len(good)} good ones in {seconds:.1f} s, {len(good) / seconds:.0f} a second"
            print(f"--parallel {parallel}: {rate}; all {job.total}, slow ones until their time-out, in {whole:.1f} s")


def whole(folder: Path, far: Far) -> None:
    """All of a fleet's life, against the production publisher and KMS host as processes of their own."""
    site = RealPublisher.make(folder / "site")
    good = far.of(Kind.GOOD)
    plant = [machine.name for machine in good[: len(good) // 2]]
    office = [machine.name for machine in good[len(good) // 2 :]]
    mak = issue(site, activations=len(plant))
    port, host, host_port = _free_port(), folder / "host", _free_port()
    words = ["publisher", "serve", "--dir", site.folder / "publisher", "--passphrase-file", site.folder / "passphrase"]
    publisher = Server([*words, "--listen", ADDRESS, "--port", port], folder / "publisher.log", port)
    try:
        publisher.wait_until("/readyz")
        for more in (["init"], ["add-product", site.file, "--root", site.root], ["install-key", site.host_key()],
                     ["activate", "--publisher", publisher.url]):  # fmt: skip
            run("host", *more, "--dir", host)
        with serving(host, host_port), Fleet.init(folder / "fleet") as fleet:
            _prepare(fleet, far, site, mak)
            _timed("found", len(far.machines), lambda: fleet.discover(found=from_words(m.word for m in far.machines)))
            _job("refreshed", len(good), fleet.refresh)
            named: dict[str, Any] = {"product": site.product, "add": True, "edition": EDITION}
            _job("generic volume keys", len(office), lambda: fleet.install_key(names=office, **named))
            _job("MAKs", len(plant), lambda: fleet.install_key(mak[-5:], names=plant, **named))
            kms: dict[str, Any] = {"kms": "host", "kms_name": f"{ADDRESS}:{host_port}"}
            kms |= {"mak": "proxy", "publisher": publisher.url}
            _job("activated, KMS and proxy", len(good), lambda: fleet.activate(names=office + plant, **kms))
            licensed = fleet.list(filter="state=licensed", limit=1).total
            print(
                f"licensed: {licensed} of {len(good)}; activations of the MAK used: {used(site, mak)} for {len(plant)}"
            )
            assert (licensed, used(site, mak)) == (len(good), len(plant))
            print(f"by cause: {_causes(fleet)}")
    finally:
        publisher.stop()


def _prepare(fleet: Fleet, far: Far, site: RealPublisher, mak: str) -> None:
    fleet.folder = fleet.folder.change(far.settings())
    fleet.ssh = SshOptions(changes={"timeout": 4 * TIMEOUT})
    fleet.definition_add(site.file.read_text().strip(), site.root)
    fleet.keys_add([mak])


def _note(ended: list[float], step: Progress) -> None:
    """When each machine that is well was done."""
    if step.error is None:
        ended.append(time.perf_counter())


def _job(what: str, least: int, make: Callable[[], Job]) -> Job:
    job: Job = _timed(what, None, make)
    assert job.counts.get("done", 0) >= least, (what, job.counts)
    return job


def _timed(what: str, number: int | None, make: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    made = make()
    seconds = time.perf_counter() - begin
    done = number if number is not None else made.counts.get("done", 0)
    told = "" if number is not None else f" ({', '.join(f'{n} {s}' for s, n in sorted(made.counts.items()) if n)})"
    print(f"{what}: {done} in {seconds:.1f} s, {done / seconds:.0f} a second{told}", flush=True)
    return made


def _causes(fleet: Fleet) -> str:
    groups = fleet.group(["result"], filter="result!=ok")
    return ", ".join(f"{group.machines} {group.values[0]}" for group in groups)


def _client_seconds(far: Far) -> float:
    begin = time.perf_counter()
    for machine in far.of(Kind.GOOD)[:10]:
        variables = {"SSH_ORIGINAL_COMMAND": "sudo -n volact client status --json"}
        subprocess.run([machine.folder / "shell"], env=variables, capture_output=True, check=True)
    return (time.perf_counter() - begin) / 10


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
