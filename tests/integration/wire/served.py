# SPDX-License-Identifier: Apache-2.0
"""A tiny issuer behind the production server, run by the tests as its own process: ``served.py ADDRESS PORT SECONDS``.

What it does depends on the issuer it is asked for: ``missing``, ``busy``, ``broken``, ``slow``; any other answers with
the sealed bytes turned round.  ``/calls`` tells how often it was asked to activate, ``/collector`` how the garbage
collector is set and how many objects it leaves alone.
"""

import asyncio
import functools
import gc
import sys

from volact.wire.serve import Listener, serve
from volact.wire.server import BusyError, IssuerApplication, IssuerUnknownError, Page

SLOW_SECONDS = 1.5


class Echo:
    calls = 0

    async def descriptor(self, root: str, product: str, group: int, nonce: bytes) -> str:
        return f"{root} {product} {group} {nonce.hex()}"

    async def activate(self, issuer: str, sealed: bytes) -> bytes:
        self.calls += 1
        if issuer == "missing":
            raise IssuerUnknownError(issuer=issuer)
        if issuer == "busy":
            raise BusyError(retry_after=7)
        if issuer == "broken":
            raise RuntimeError("a secret of the inside")
        if issuer == "slow":
            print("slow", flush=True)
            await asyncio.sleep(SLOW_SECONDS)
        return sealed[::-1]


def load(body_seconds: float) -> IssuerApplication:
    service = Echo()

    async def health() -> Page:
        return Page(200, "text/plain; charset=utf-8", b"ok\n")

    async def calls() -> Page:
        return Page(200, "text/plain; charset=utf-8", str(service.calls).encode())

    async def collector() -> Page:
        return Page(200, "text/plain; charset=utf-8", f"{gc.get_threshold()[0]} {gc.get_freeze_count()}".encode())

    pages = {"/healthz": health, "/calls": calls, "/collector": collector}
    return IssuerApplication(service, pages, body_seconds=body_seconds)


def main() -> None:
    address, port, seconds = sys.argv[1:]
    serve(
        functools.partial(load, float(seconds)),
        Listener(address, int(port)),
        on_start=lambda: print("started", flush=True),
        on_stop=lambda: print("stopped", flush=True),
    )


if __name__ == "__main__":
    main()
