# SPDX-License-Identifier: Apache-2.0
"""An examination: the steps of one walk and the cause that it found, and what the doctor may look at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from volact.client.discovery.hosts import Browse, Resolver
from volact.client.discovery.routes import IssuerServer
from volact.client.machine import LocalMachine
from volact.core.errors import VolactError
from volact.core.states import State


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk.  ``ok``: ``None`` where there was nothing to judge."""

    what: str
    ok: bool | None
    detail: str

    def to_dict(self) -> dict[str, Any]:
        return {"step": self.what, "ok": self.ok, "detail": self.detail}


@dataclass(slots=True)
class Examination:
    """The walk of one product.  ``cause``: ``None`` where it is licensed and will be renewed."""

    product: str
    steps: list[Step] = field(default_factory=list)
    cause: VolactError | None = None
    state: State | None = None
    licensed: bool = False

    def note(self, what: str, ok: bool | None, detail: object) -> None:
        self.steps.append(Step(what, ok, str(detail)))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the doctor looks at beside the folder.  ``account``: who this computer is to its directory, a word or an
    error; ``vm_host``: the channel to the VM host, where there is one; ``browse``: who answers by multicast."""

    machine: LocalMachine
    resolver: Resolver
    clock: Callable[[], int]
    random: Random
    account: Callable[[], str | None] = lambda: None
    vm_host: Callable[[], IssuerServer | None] = lambda: None
    browse: Browse | None = None
