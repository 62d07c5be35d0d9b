# SPDX-License-Identifier: Apache-2.0
"""What Linux and macOS have in common."""

import os
from contextlib import suppress
from pathlib import Path


def is_administrator() -> bool:
    return os.geteuid() == 0


def protect(path: Path) -> None:
    """Nothing to do: a file is made with its mode, which keeps it its owner's."""


def try_lock(descriptor: int) -> bool:
    import fcntl

    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
