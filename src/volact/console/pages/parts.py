# SPDX-License-Identifier: Apache-2.0
"""What pages share: the site behind a visit, values kept for seconds, roles or the error that says so."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from volact.console.jobs import JobRunner
from volact.console.site import ConsoleSite, HostRole
from volact.core.errors import ConfigError, VolactError
from volact.fleet.api import Fleet
from volact.web.pages.visit import Visit

T = TypeVar("T")

_log = logging.getLogger("volact.console")


class NoFleetHereError(ConfigError):
    code = "console-no-fleet"
    fmt = "the fleet tool is not set up on this machine"
    remedy = "make its folder with `volact fleet init`, then open this page again"


def site_of(visit: Visit) -> ConsoleSite:
    site: ConsoleSite = visit.state.site
    return site


def runner_of(visit: Visit) -> JobRunner:
    runner: JobRunner = visit.state.runner
    return runner


def fleet_of(visit: Visit) -> Fleet:
    """The fleet tool, acting as whoever is logged in."""
    role = site_of(visit).fleet()
    if role is None:
        raise NoFleetHereError()
    return site_of(visit).fleet_tool(role, visit.actor)


def counted(number: int, noun: str, one: str = "was", several: str = "were") -> str:
    """``3 machines were``, ``1 machine was``: how a sentence begins that says what was done."""
    return f"{number} {noun} {one}" if number == 1 else f"{number} {noun}s {several}"


def by_whom(name: str) -> str:
    """Who did something, without the second by which a schedule's run is told from its others."""
    words = name.split(" ")
    return " ".join(words[:2]) if len(words) == 3 and words[0] == "schedule" and words[2].isdecimal() else name


def besides(known: int) -> str:
    """What of a list was there before, where any was."""
    return f", {known} known already" if known else ""


def group_names(host: HostRole) -> dict[int, str]:
    """What the products call the groups that the host counts, by the number of the scope."""
    called = {
        (product.trust.fingerprint, group.number): group.name
        for product in host.folder.products()
        for group in product.definition.groups
    }
    return {
        scope.id: called.get((scope.root, scope.product_group), "") or f"product group {scope.product_group}"
        for scope in host.store.scopes()
    }


def refreshed(visit: Visit, key: str, seconds: float, make: Callable[[], T]) -> T | None:
    """A value that takes longer to make than a page has: what is known at once, however old, while a thread makes it
    anew; ``None`` before the first one is there."""
    cache, making = visit.state.cache, visit.state.making
    found = cache.get(key)
    if (found is None or time.monotonic() - found[0] >= seconds) and key not in making:
        making.add(key)
        threading.Thread(target=_make, args=(cache, making, key, make), name=f"sums-{key}", daemon=True).start()
    value: T | None = found[1] if found is not None else None
    return value


def _make(cache: dict[str, tuple[float, T]], making: set[str], key: str, make: Callable[[], T]) -> None:
    try:
        cache[key] = (time.monotonic(), make())
    except VolactError as exc:
        _log.warning("the sums of the dashboard cannot be made: %s", exc)
    finally:
        making.discard(key)


def kept(visit: Visit, key: str, seconds: float, make: Callable[[], T]) -> T:
    """A value that may be some seconds old: what everybody's dashboard asks for."""
    cache = visit.state.cache
    found = cache.get(key)
    if found is not None and time.monotonic() - found[0] < seconds:
        value: T = found[1]
        return value
    made = make()
    cache[key] = (time.monotonic(), made)
    return made
