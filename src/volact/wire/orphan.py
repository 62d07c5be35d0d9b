# SPDX-License-Identifier: Apache-2.0
"""Ends a worker whose parent was killed: it would keep the port, and answer with nobody to look after it."""

import multiprocessing
import os
import signal
import threading
import time

GRACE_SECONDS = 10.0  # for what was accepted to be answered; then the worker ends all the same


def watch_parent() -> None:
    """Start to watch, in a thread of its own: an event loop that hangs must not keep its worker alive."""
    threading.Thread(target=_watch, name="volact-parent", daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()  # on a pipe that the parent holds, so that it is noticed even before this worker has started
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)
