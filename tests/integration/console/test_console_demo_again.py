# SPDX-License-Identifier: Apache-2.0
"""A demo whose folder was kept runs again as the same site: its console reaches its machines."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from support.processes import wait_for
from volact.fleet.api import Fleet

LINK = re.compile(r"/login/link/\S+")
ENDS = 240


def demo(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "volact.cli.main", "demo", "--machines", "2", "--dir", str(folder), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def test_a_demo_s_folder_runs_again_and_its_machines_are_reached(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    first = demo(folder, "--exit")
    told, _ = first.communicate(timeout=ENDS)
    assert first.returncode == 0, told
    again = demo(folder)
    assert again.stdout is not None
    try:
        lines = []
        for line in again.stdout:
            lines.append(line)
            if LINK.search(line):
                break
        assert "runs again, each part where it was" in "".join(lines), lines
        with Fleet.open(folder / "fleet") as fleet:
            wait_for(lambda: fleet.list_machines(filter="reach=reached").total == 2, 90)
    finally:
        again.send_signal(signal.SIGTERM)
        again.communicate(timeout=ENDS)
    assert again.returncode == 0
