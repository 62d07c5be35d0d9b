# SPDX-License-Identifier: Apache-2.0
"""Every error, refusal and reason has its section in the documentation, and it says what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_each_error_code_is_documented_as_it_is_in_the_code() -> None:
    # A process of its own: only what the package defines is in the registry there, nothing that a test has added.
    script = ROOT / "tools" / "make_error_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
