# SPDX-License-Identifier: Apache-2.0
"""Answering in batches: whatever waits is taken together, one batch at a time, so that a batch grows with the load
while a lone request is answered at once.  What a batch does with its members is the caller's.

While a batch keeps the event loop, requests pile up in the loop's own queue, and the answers of the batch before stand
there too.  So the loop gets its turns between two batches for as long as they bring something: answers leave earlier,
and fewer and larger batches do the same work with less.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A request with the future that its sender awaits."""

    future: "asyncio.Future[Any]"


TURNS = 2  # of the loop until what has arrived waits here: one calls the application, one brings the body

W = TypeVar("W", bound=Waiting)


class Batcher(Generic[W]):
    """``answer`` settles the futures of its batch; what it raises is told to all of them that it left open."""

    def __init__(self, answer: Callable[[list[W]], Awaitable[None]], most: int) -> None:
        self._answer, self._most = answer, most
        self._waiting: list[W] = []
        self._running: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many wait, those of the present batch not counted."""
        return len(self._waiting)

    def add(self, one: W) -> None:
        self._waiting.append(one)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._drain())

    async def finish(self) -> None:
        """Wait until what was added is answered: the graceful stop."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._settle(batch)
        finally:
            self._running = None

    async def _gather(self) -> None:
        """A round of turns at least, and another while they bring something and the batch is not full."""
        more = True
        while more:
            before = len(self._waiting)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            more = before < len(self._waiting) < self._most

    async def _settle(self, batch: list[W]) -> None:
        try:
            await self._answer(batch)
        except Exception as exc:  # a full disk, say: every one of the batch is told, none is answered
            for one in batch:
                if not one.future.done():
                    one.future.set_exception(exc)
