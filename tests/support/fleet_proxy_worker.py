# SPDX-License-Identifier: Apache-2.0
"""A fleet tool in a process of its own, to be killed: works through a job of proxy activations on folders of clients.

python -m support.fleet_proxy_worker LAB PUBLISHER ROOT JOB
"""

import asyncio
import sys
import time
from pathlib import Path

from support.fleet_folders import PASSPHRASE, Computer, FolderReach, Lab
from support.site import RealPublisher
from volact.fleet.activation.acting import Activate
from volact.fleet.jobs.engine import Engine
from volact.fleet.keys import vault
from volact.fleet.store import FleetStore


def now() -> int:
    return int(time.time())


def reopen(folder: Path, publisher: Path, root: str) -> Lab:
    """The lab that another process has made; a machine's number is at the end of its name."""
    lab = Lab(folder, FleetStore.open(folder / "fleet.sqlite"), now, FolderReach())
    lab.publisher = RealPublisher(publisher, "acme-cad", now, root)
    with lab.store.read() as conn:
        lab.opened = vault.open_vault(conn, PASSPHRASE)
    for path in (folder / "machines").iterdir():
        lab.reach.computers[path.name] = Computer(path.name, int(path.name.rpartition("-")[2]), path, now)
    return lab


def main(words: list[str]) -> None:
    """Says when it begins, so that a killer's dice are not thrown over Python's start."""
    lab = reopen(Path(words[0]), Path(words[1]), words[2])
    print("working", flush=True)
    asyncio.run(Engine(lab.store, Activate(lab.context), now).run(int(words[3])))


if __name__ == "__main__":
    main(sys.argv[1:])
