# SPDX-License-Identifier: Apache-2.0
"""The guest's side is part of the bare client: it loads the standard library and nothing heavy."""

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[3] / "src"
PROGRAM = "import sys, volact.vm.door; print('\\n'.join(sorted(sys.modules)))"
HEAVY = {"sqlalchemy", "cryptography", "connectrpc", "granian", "prometheus_client", "asyncio", "ssl"}


def test_the_guests_door_loads_the_standard_library_only() -> None:
    """Without site-packages there is nothing else to load."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        env={"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= set(sys.stdlib_module_names) | {"volact", "__main__"}
    assert not loaded & HEAVY
