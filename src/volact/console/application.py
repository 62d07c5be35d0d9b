# SPDX-License-Identifier: Apache-2.0
"""Wiring of the console: the site that pages see, who may log in, the application that a server runs.

One worker process: pages take milliseconds, jobs and schedules run in threads beside them, and all see one set of open
stores.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volact.console.automation import ScheduleRunner
from volact.console.folder import ConsoleFolder
from volact.console.jobs import JobRunner
from volact.console.pages import MENU, PAGES
from volact.console.site import ConsoleSite
from volact.web.access import credentials
from volact.web.access.accounts import Accounts
from volact.web.access.store import WebStore
from volact.web.app import build_app
from volact.web.sign_on.logins import open_logins
from volact.web.site import Site, WebListener

TITLE = "Volact console"
MAX_BODY = 32 * 1024 * 1024  # a bundle of tens of thousands of requests


def clock() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class ConsoleRun:
    """What the worker needs to start by itself, picklable.  ``subtitle``: whose console it is, under its name.
    ``logins``: the file that says who else vouches for people, see ``web.logins``.  ``schedules``: whether the fleet's
    are run here.  ``vault``: the file with the passphrase of the fleet's key vault, where its folder keeps none."""

    folder: Path
    folders: Mapping[str, Path]
    program: tuple[str, ...]
    listener: WebListener
    subtitle: str = ""
    totp_required: bool = False
    logins: Path | None = None
    schedules: bool = True
    vault: Path | None = None

    def load(self) -> Any:
        """Makes the application; runs inside the worker."""
        return load_application(self)


def open_accounts(folder: ConsoleFolder, *, login: bool = False, totp_required: bool = False) -> Accounts:
    """``login``: with the site's own key, which logging in needs and the command line does not."""
    key = credentials.read_secret(folder.secret) if login else None
    return Accounts(WebStore.open(folder.database), clock, key, totp_required=totp_required, title=TITLE)


def load_application(run: ConsoleRun) -> Any:
    folder = ConsoleFolder.open(run.folder)
    site = ConsoleSite(folder, run.folders, run.program, clock, run.vault)
    runner = JobRunner()
    schedules = ScheduleRunner(site) if run.schedules else None
    local = open_accounts(folder, login=True, totp_required=run.totp_required)
    accounts, single_sign_on = open_logins(run.logins, local)
    web = Site(
        "console",
        TITLE,
        run.subtitle or "set up, activate, watch",
        accounts,
        run.listener.hosts,
        proxies=frozenset(run.listener.proxies),
        secure=run.listener.secure,
        state=ConsoleState(site, runner, schedules),
        packages=("volact.console",),
        menu=MENU,
        max_body=MAX_BODY,
        single_sign_on=single_sign_on,
    )

    async def stop() -> None:
        if schedules is not None:
            await asyncio.to_thread(schedules.stop)
        runner.stop()
        site.close()
        accounts.store.close()

    return build_app(web, PAGES, on_start=schedules.start if schedules else None, on_stop=stop)


@dataclass(slots=True)
class ConsoleState:
    """What pages get as ``visit.state``."""

    site: ConsoleSite
    runner: JobRunner
    schedules: ScheduleRunner | None = None
    cache: dict[str, tuple[float, Any]] = field(default_factory=dict)
    making: set[str] = field(default_factory=set)  # what of the cache is being made anew
