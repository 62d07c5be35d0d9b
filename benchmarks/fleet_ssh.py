# SPDX-License-Identifier: Apache-2.0
"""Machines a second across a real sshd: ``python benchmarks/fleet_ssh.py [--machines 200]``.

Every machine is a state folder with the production client, behind one sshd on this computer; a tenth are dead, slow,
unknown, without sudo or without volact.  The far side's own work (a Python process a machine) is timed apart, since on
a real network it is done by the machines.
"""

import argparse
import dataclasses
import itertools
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.fleet import Far, Kind, far_side, give_product
from support.site import Vendor
from volact.fleet.api import Fleet
from volact.fleet.desk import SshOptions
from volact.fleet.discovery.names import from_words
from volact.fleet.folder import FleetFolder

BAD = (Kind.DEAD, Kind.OTHER_KEY, Kind.UNKNOWN_KEY, Kind.NO_SUDO, Kind.NO_VOLACT, Kind.SLOW)
TIMEOUT = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=200)
    args = parser.parse_args()
    bad = list(itertools.islice(itertools.cycle(BAD), args.machines // 10))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        vendor = Vendor.make(folder)
        with far_side(folder / "far", [*bad, *[Kind.GOOD] * (args.machines - len(bad))], _free_port) as far:
            for machine in far.of(Kind.GOOD):
                give_product(machine, vendor.file, vendor.root)
            measure(folder / "fleet", far)


def measure(path: Path, far: Far) -> None:
    good = far.of(Kind.GOOD)
    print(f"the client alone, one after the other: {1000 * _client_seconds(far):.0f} ms a machine")
    changes = dict(zip(("account", "identities", "known_hosts", "ssh_config"), _settings(far), strict=True))
    with Fleet.init(path) as fleet:
        folder: FleetFolder = fleet.folder.change({**changes, "sudo": "always"})
        fleet = dataclasses.replace(fleet, folder=folder, ssh=SshOptions(changes={"timeout": TIMEOUT}))
        begin = time.perf_counter()
        fleet.discover(found=from_words(machine.word for machine in far.machines))
        print(f"discovered {len(far.machines)} in {time.perf_counter() - begin:.2f} s")
        for parallel in (64, 16):
            fleet.ssh = SshOptions(changes={"timeout": TIMEOUT, "parallel": parallel})
            ended: list[float] = []
            fleet.progress = lambda step, ended=ended: ended.append(time.perf_counter()) if step.error is None else None
            begin = time.perf_counter()
            job = fleet.refresh()
            seconds, whole = ended[-1] - begin, time.perf_counter() - begin
            assert job.counts["done"] == len(good), job.counts
            rate = f"{len(good)} good ones in {seconds:.1f} s, {len(good) / seconds:.0f} a second"
            print(f"--parallel {parallel}: {rate}; all {job.total}, slow ones until their time-out, in {whole:.1f} s")


def _settings(far: Far) -> list[object]:
    import getpass

    return [getpass.getuser(), (str(far.identity),), (str(far.known_hosts),), (str(far.folder / "ssh_config"),)]


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
