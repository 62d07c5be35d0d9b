# SPDX-License-Identifier: Apache-2.0
"""Answering in batches: whatever waits is taken together, one batch at a time, so that a batch grows with the load
while a lone request is answered at once.  What a batch does with its members is the caller's."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A request with the future that its sender awaits."""

    future: "asyncio.Future[Any]"


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
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._settle(batch)
        finally:
            self._running = None

    async def _settle(self, batch: list[W]) -> None:
        try:
            await self._answer(batch)
        except Exception as exc:  # a full disk, say: every one of the batch is told, none is answered
            for one in batch:
                if not one.future.done():
                    one.future.set_exception(exc)
