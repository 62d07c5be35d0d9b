# SPDX-License-Identifier: Apache-2.0
"""The worker of the publisher's server: made inside each process, from a folder and a passphrase.

Database connections and opened keys do not cross into another process; this is what is handed to
:func:`volact.wire.serve.serve`.  Keys that were rotated are taken without a restart, and without an answer less.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from volact.core.errors import StoreError
from volact.publisher.answering.service import PublisherService
from volact.publisher.folder.renewal import Renewal
from volact.publisher.store import PublisherStore
from volact.wire.server import IssuerApplication, Page

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Loader:
    """Call it in the worker; it can be handed to one by fork and by pickle."""

    path: Path
    passphrase: bytes = field(repr=False)

    def __call__(self) -> IssuerApplication:
        renewal = Renewal(self.path, self.passphrase)
        folder, keys = renewal.open()
        store = folder.store()
        serving = Serving(PublisherService(folder, keys, store, _now))

        async def start() -> None:
            renewal.start(lambda folder, keys: serving.use(PublisherService(folder, keys, store, _now)))

        async def stop() -> None:
            renewal.stop()
            await serving.finish()
            store.close()

        pages = {"/healthz": _health, "/readyz": _readiness(store)}
        return IssuerApplication(serving, pages, on_start=start, on_stop=stop)


class Serving:
    """The service of the present keys, as :class:`volact.wire.server.IssuerService`.  What one was asked it answers
    with its own keys, when there is another already."""

    def __init__(self, service: PublisherService) -> None:
        self._service = service
        self._leaving: set[asyncio.Task[None]] = set()

    async def descriptor(self, root: str, product: str, group: int, nonce: bytes) -> str:
        return await self._service.descriptor(root, product, group, nonce)

    async def activate(self, issuer: str, sealed: bytes) -> bytes:
        return await self._service.activate(issuer, sealed)

    def use(self, service: PublisherService) -> None:
        leaving = asyncio.get_running_loop().create_task(self._service.finish())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        self._service = service

    async def finish(self) -> None:
        """Wait until what was accepted is answered."""
        await asyncio.gather(self._service.finish(), *self._leaving)


async def _health() -> Page:
    return Page(200, _TEXT, b"ok\n")


def _readiness(store: PublisherStore) -> Callable[[], Awaitable[Page]]:
    async def ready() -> Page:
        try:
            await asyncio.to_thread(store.revocations, 0)
        except StoreError as exc:
            return Page(503, _TEXT, f"{exc.code}\n".encode())
        return Page(200, _TEXT, b"ok\n")

    return ready


def _now() -> int:
    return int(time.time())
