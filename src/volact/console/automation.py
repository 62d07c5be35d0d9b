# SPDX-License-Identifier: Apache-2.0
"""The fleet's schedules, run by the console: one thread with an event loop of its own, beside the pages.

Whoever sets a schedule in the browser expects it to run.  Other programs may run the same fleet's schedules at the same
time: a run is one's at a time (``volact.fleet.schedules.schedule``).  Jobs that wait for nobody in particular are not
taken up here: their pages go on with them, or ``volact fleet serve`` does.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from volact.console.site import ConsoleSite, FleetRole
from volact.core.errors import VolactError
from volact.fleet.schedules.automation import LOOK_SECONDS, Automation
from volact.fleet.schedules.runners import Program

WHO = "console"
STOP_SECONDS = 5.0  # then a run under way is left, and taken up by whoever comes next

_log = logging.getLogger("volact.console")


class ScheduleRunner:
    def __init__(self, site: ConsoleSite) -> None:
        self._site = site
        self._thread: threading.Thread | None = None
        self._end: Callable[[], object] = bool
        self._said = ""

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        loop = asyncio.new_event_loop()
        work = loop.create_task(self._serve())
        self._end = partial(loop.call_soon_threadsafe, work.cancel)
        self._thread = threading.Thread(target=_run, args=(loop, work), name="schedules", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._end()
            self._thread.join(STOP_SECONDS)

    async def _serve(self) -> None:
        """The fleet's folder may be made later: it is looked for until it is there."""
        while True:
            try:
                role = await asyncio.to_thread(self._site.fleet)
                if role is not None:
                    await self._automation(role)
            except VolactError as exc:
                self._say(str(exc))
            except Exception:  # whatever it was, the next look may be better
                _log.exception("schedules")
            await asyncio.sleep(LOOK_SECONDS)

    def _say(self, text: str) -> None:
        """Once, not at every look."""
        if text != self._said:
            _log.warning("schedules: %s", text)
        self._said = text

    def _automation(self, role: FleetRole) -> Coroutine[Any, Any, None]:
        return Automation(self._site.fleet_tool(role, WHO), program=Program.CONSOLE).serve_schedules(asyncio.Event())


def _run(loop: asyncio.AbstractEventLoop, work: asyncio.Task[None]) -> None:
    try:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(work)
    finally:
        loop.close()
