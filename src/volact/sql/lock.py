# SPDX-License-Identifier: Apache-2.0
"""The queue of a SQLite database's writers: an advisory lock on a file beside it.

SQLite's own busy handler sleeps and tries again, so that under load one process starves for seconds.  ``flock``
wakes waiters as the lock is released, is free of charge when nobody waits, and goes with its process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".lock"
_MODE = 0o600


@contextmanager
def file_lock(database: str | Path) -> Iterator[None]:
    """Holds the write lock of a SQLite file against every other holder, in this process and in others.

    Opened anew each time (3 µs): a descriptor that is kept would be one lock for all threads, and for forked children.
    """
    descriptor = os.open(f"{database}{SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # releases the lock
