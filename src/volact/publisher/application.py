# SPDX-License-Identifier: Apache-2.0
"""The worker of the publisher's server: made inside each process, from a folder and a passphrase.

Database connections and opened keys do not cross into another process; this is what is handed to
:func:`volact.wire.serve.serve`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from volact.core.errors import StoreError
from volact.publisher.folder import PublisherFolder
from volact.publisher.service import PublisherService
from volact.publisher.store import PublisherStore
from volact.wire.server import IssuerApplication, Page

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Loader:
    """Call it in the worker; it can be handed to one by fork and by pickle."""

    path: Path
    passphrase: bytes = field(repr=False)

    def __call__(self) -> IssuerApplication:
        folder = PublisherFolder.open(self.path)
        store = folder.store()
        service = PublisherService(folder, folder.open_keys(self.passphrase), store, _now)

        async def stop() -> None:
            await service.finish()
            store.close()

        return IssuerApplication(service, {"/healthz": _health, "/readyz": _readiness(store)}, on_stop=stop)


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
