# SPDX-License-Identifier: Apache-2.0
"""The worker of the publisher's web listener, made inside each of its processes: the HTTP API and the operators' desk.

A listener and a process of its own: tokens never travel where machines' sealed requests do, and a list of a million
rows keeps no machine waiting.  Why: docs/adr/0023-http-api.md.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse

from volact.publisher.administration.publisher import Publisher
from volact.publisher.api.application import build
from volact.publisher.api.office import Office
from volact.publisher.desk.application import build_desk
from volact.publisher.folder.opening import PublisherFolder, PublisherKeys
from volact.publisher.folder.renewal import Renewal
from volact.web.site import WebListener

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class WebLoader:
    """Call it in the worker; it can be handed to one by fork and by pickle."""

    path: Path
    passphrase: bytes = field(repr=False)
    listener: WebListener = field(default_factory=WebListener)
    logins: Path | None = None

    def __call__(self) -> "WebApplication":
        renewal = Renewal(self.path, self.passphrase)
        folder, keys = renewal.open()
        publisher = Publisher(folder, folder.store())
        api = build(Office(publisher, keys, _now, time.monotonic))
        desk = build_desk(publisher, keys, _now, listener=self.listener, logins=self.logins)

        def use(folder: PublisherFolder, keys: PublisherKeys) -> None:
            anew = Publisher(folder, publisher.store)
            api.state.office = api.state.office.anew(anew, keys)
            desk.use(anew, keys)

        def close() -> None:
            renewal.stop()
            desk.close()
            publisher.store.close()

        return WebApplication(api, desk, lambda: renewal.start(use), close)


class WebApplication:
    """ASGI 3: the API below ``/api/``, a page for probes, and the desk everywhere else."""

    def __init__(self, api: Any, desk: Any, start: Callable[[], None], close: Callable[[], None]) -> None:
        self._api, self._desk, self._start, self._close = api, desk, start, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["path"] == "/healthz":
            await PlainTextResponse("ok\n")(scope, receive, send)
        elif scope["path"].startswith("/api/"):
            await self._api(scope, receive, send)
        else:
            await self._desk(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            self._start()
            await send({"type": "lifespan.startup.complete"})
        self._close()
        await send({"type": "lifespan.shutdown.complete"})


def _now() -> int:
    return int(time.time())
