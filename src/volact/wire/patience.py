# SPDX-License-Identifier: Apache-2.0
"""How long a server waits for a request's body.  One timer serves all requests: one of its own for each would cost a
busy host more than reading the body does."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class PatienceEndedError(Exception):
    """The body did not come in time."""


class Patience:
    """Gives each awaited body the same number of seconds.  Belongs to one event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: dict[asyncio.Task[Any], float] = {}  # in the order of their ends, since all get as long
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, body: Coroutine[Any, Any, T]) -> T:
        """What ``body`` returns, or :class:`PatienceEndedError`."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._waiting[task] = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._cut_off, loop)
        try:
            return await body
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            raise PatienceEndedError from None
        finally:
            self._waiting.pop(task, None)

    def _cut_off(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for task, end in list(self._waiting.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._cut_off, loop)
                return
            del self._waiting[task]
            self._late.add(task)
            task.cancel()
