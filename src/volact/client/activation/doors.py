# SPDX-License-Identifier: Apache-2.0
"""Doors: ways to a licence beside KMS hosts and the publisher, each brought along by a package of its own.

A door is found as an entry point of the group ``volact.doors``, and loaded only when a product asks for a licence: what
sleeps or only looks pays nothing for it.  Its entry point names a module (or an object) with

    CHANNELS    the channels of product keys for which it is asked, such as ("volume",)
    FIRST       whether it is asked before hosts and publisher, or after all of them
    open_door   called with the client's folder and a function that tells people something; gives ``None`` where this
                computer has no such door, else either a directory's door (``activation.directory.Door``) or an issuer's
                (``discovery.routes.IssuerServer``), then with the names ADDRESS and SOURCE beside it

A door is a place to ask and no more: what comes through it is verified as what comes from anywhere.
Guide: docs/guide/embedding.md.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from volact.client.activation.directory import Door
from volact.client.discovery.routes import Route
from volact.core.errors import VolactError
from volact.core.product_key import Channel

GROUP = "volact.doors"

Say = Callable[[str], None]


class Plug(Protocol):
    """What an entry point names."""

    CHANNELS: tuple[str, ...]
    FIRST: bool
    open_door: Callable[[Path, Say], Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """The doors of this computer for one channel: the directory's, and issuers in the order in which they are asked."""

    directory: Door | None = None
    first: list[Route] = field(default_factory=list)
    last: list[Route] = field(default_factory=list)


def entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=GROUP)


def find_plugs(
    built_in: Mapping[str, str], say: Say, found: Callable[[], Iterable[importlib.metadata.EntryPoint]] = entry_points
) -> Iterator[tuple[str, Plug]]:
    """Volact's own first, as ``built_in`` names them, whatever the installed metadata says of them; then what others
    have installed, in order of their names.  One that cannot be loaded is told of and left aside."""
    for name, module in built_in.items():
        yield name, importlib.import_module(module)
    for one in sorted(found(), key=lambda one: one.name):
        if one.name in built_in:
            continue
        try:
            yield one.name, one.load()
        except Exception as exc:  # whatever a stranger's package does when it is imported
            say(f"note: the door {one.name} cannot be loaded: {exc}")


def open_doors(channel: Channel | None, folder: Path, plugs: Iterable[tuple[str, Plug]], say: Say) -> Opened:
    """Every door for a channel.  What is wrong with one of Volact's own settings is raised; a stranger's fault is told
    of."""
    opened, directory = Opened(), None
    for name, plug in plugs:
        try:
            door = plug.open_door(folder, say) if str(channel) in plug.CHANNELS else None
        except VolactError:
            raise
        except Exception as exc:
            say(f"note: the door {name} is broken: {type(exc).__name__}: {exc}")
            continue
        if door is None:
            continue
        if hasattr(door, "read"):
            directory = directory or door
        else:
            (opened.first if plug.FIRST else opened.last).append(_route(name, plug, door))
    return Opened(directory, opened.first, opened.last)


def _route(name: str, plug: Plug, door: Any) -> Route:
    return Route(door, str(getattr(plug, "ADDRESS", name)), str(getattr(plug, "SOURCE", name)))
