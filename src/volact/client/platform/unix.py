# SPDX-License-Identifier: Apache-2.0
"""What Linux and macOS have in common."""

import os
from contextlib import suppress


def is_administrator() -> bool:
    return os.geteuid() == 0


def try_lock(descriptor: int) -> bool:
    import fcntl

    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
