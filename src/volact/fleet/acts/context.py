# SPDX-License-Identifier: Apache-2.0
"""What acts work with: the database, the way to machines, the key vault, the publisher, the clock."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection

from volact.core.product_key import ProductKey
from volact.fleet.keys import keys, publisher
from volact.fleet.keys.keys import KeyRow
from volact.fleet.keys.publisher import KnownDefinition, Service
from volact.fleet.keys.vault import Vault
from volact.fleet.reach import Reach
from volact.fleet.store import FleetStore

PUBLISHER_THREADS = 16  # calls to the publisher at once; it takes what waits together in batches

T = TypeVar("T")


@dataclass
class Context:
    """What every act works with.  ``vault``: opens it, once, where a key is really needed."""

    store: FleetStore
    reach: Reach
    clock: Callable[[], int]
    vault: Callable[[], Vault]
    service: Callable[[KnownDefinition, str | None], Service] = publisher.service_of
    random: Callable[[int], bytes] = os.urandom
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(PUBLISHER_THREADS, thread_name_prefix="volact-publisher")
    )
    _opened: list[Vault] = field(default_factory=list, repr=False)

    async def ask(self, call_: Callable[[], T]) -> T:
        """A call to the publisher, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call_)

    async def read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.store.read() as conn:
                return query(conn)

        return await asyncio.to_thread(run)

    async def write(self, change: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.store.write() as conn:
                return change(conn)

        return await asyncio.to_thread(run)

    async def open_key(self, row: KeyRow) -> ProductKey:
        opened = self.opened_vault()
        return await self.read(lambda conn: keys.open_key(conn, opened, row))

    def opened_vault(self) -> Vault:
        """Its passphrase costs a quarter of a second, so it is opened once a process."""
        if not self._opened:
            self._opened.append(self.vault())
        return self._opened[0]

    async def definition(self, root: str, product: str) -> KnownDefinition | None:
        found = await self.read(publisher.definitions)
        return next((one for one in found if (one.root, one.product) == (root, product)), None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
