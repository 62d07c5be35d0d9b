# SPDX-License-Identifier: Apache-2.0
"""The fleet tool is killed at random points of a job of proxy activations, again and again, until the job is done.

    VOLACT_TEST_PROXY_MACHINES=1000 pytest -s tests/integration/fleet/test_fleet_proxy_killed.py

is the same with a thousand machines and a hundred kills; it says how many it came to and how long the job took.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from support.fleet_folders import EDITION, Lab, issue, used
from support.fleet_proxy_worker import now
from support.site import RealPublisher
from volact.core.product_key import ProductKey
from volact.fleet.activation import confirmations
from volact.fleet.activation.acting import InstallKeys
from volact.fleet.activation.activate import ACTIVATE
from volact.fleet.jobs import store as rows
from volact.fleet.keys import keys

MACHINES = int(os.environ.get("VOLACT_TEST_PROXY_MACHINES", "24"))
KILLS = max(8, MACHINES // 10)
TESTS = Path(__file__).resolve().parents[2]


def test_no_activation_is_used_twice_and_none_is_lost(tmp_path: Path) -> None:
    site = RealPublisher.make(tmp_path / "acme")
    lab = Lab.make(tmp_path / "lab", now, site)
    mak = issue(site, activations=MACHINES)  # one too many would be refused
    assert lab.opened is not None
    with lab.store.write() as conn:
        (row,) = keys.add(conn, lab.opened, [(ProductKey.parse(mak), "")], now(), "tester")[0]
    for number in range(1, MACHINES + 1):
        lab.add(f"ws-{number}", number)
    assert asyncio.run(lab.job(InstallKeys(lab.context), None, key_id=row.key_id, edition=EDITION)).well
    job = lab.queue(ACTIVATE, None, mak="proxy")

    dice, kills, begun = random.Random(11), 0, time.monotonic()
    words = [sys.executable, "-m", "support.fleet_proxy_worker", lab.folder, site.folder, site.root, job]
    path = os.pathsep.join([str(TESTS), *(part for part in sys.path if part)])
    for last in (*[False] * KILLS, True):
        tool = subprocess.Popen([*map(str, words)], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
        assert tool.stdout is not None
        tool.stdout.readline()
        try:
            tool.wait(None if last else dice.uniform(0.05, 1.0))
        except subprocess.TimeoutExpired:
            tool.kill()
            kills += 1
        tool.communicate()
        if tool.returncode == 0:
            break
    print(f"{MACHINES} machines, {kills} kills, {time.monotonic() - begun:.0f} s")
    with lab.store.read() as conn:
        done = rows.job(conn, job)
        requests = confirmations.listed(conn, limit=10 * MACHINES)
    assert done.well, [(one.machine, one.error, one.error_text) for one in lab.tasks(done) if one.error]
    assert {computer.state for computer in lab.reach.computers.values()} == {"licensed"}
    assert used(site, mak) == MACHINES
    assert len(requests) == MACHINES  # one request a machine, however often it was asked
    assert kills, "the tool was never killed: give it more machines"
    lab.close()
