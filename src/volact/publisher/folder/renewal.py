# SPDX-License-Identifier: Apache-2.0
"""Reading a publisher's folder anew while its service runs: after its issuing CA or root was rotated, or a phone key
was made.  What changes in the database (products, keys, revocations, tokens) is read there at each request, and the
makers of TPMs whenever their folder changes; none of it needs this.

The folder's stamp says that there is something new (``generations``).  Keys take a tenth of a
second to open; meanwhile, and as long as they cannot be opened, the service goes on with those that it has, which stay
good.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from volact.publisher.folder import generations
from volact.publisher.folder.opening import PublisherFolder, PublisherKeys

RELOAD_SECONDS = 1.0  # as a KMS host looks at its own

T = TypeVar("T")
Use = Callable[[PublisherFolder, PublisherKeys], None]

_log = logging.getLogger("volact.publisher")


@dataclass(slots=True)
class Latest(Generic[T]):
    """What was made of the folder last."""

    current: T


@dataclass(slots=True)
class Renewal:
    """``open`` the folder, then ``start`` to be told of each later state of it, in the loop's own thread."""

    path: Path
    passphrase: bytes = field(repr=False)
    _stamp: bytes | None = None
    _failed: bool = False
    _watcher: "asyncio.Task[None] | None" = None

    def open(self) -> tuple[PublisherFolder, PublisherKeys]:
        stamp = generations.stamp(self.path)  # before all else: what changes meanwhile is seen at the next look
        folder = PublisherFolder.open(self.path)
        keys = folder.open_keys(self.passphrase)
        self._stamp, self._failed = stamp, False
        return folder, keys

    def start(self, use: Use) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch(use))

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self, use: Use) -> None:
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            if generations.stamp(self.path) != self._stamp:
                await self._renew(use)

    async def _renew(self, use: Use) -> None:
        """Tried again each time until it works, and complained of once."""
        try:
            use(*await asyncio.to_thread(self.open))
        except Exception as exc:
            if not self._failed:
                _log.error("the folder cannot be read anew, the service goes on with the keys that it has: %s", exc)
            self._failed = True
        else:
            _log.info("the folder was read anew")
