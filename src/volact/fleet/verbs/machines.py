# SPDX-License-Identifier: Apache-2.0
"""Machines and their rows: found, listed, tagged, removed; lists that are kept under a name."""

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from volact.core.errors import InputError
from volact.fleet.discovery import matching
from volact.fleet.discovery.names import from_words
from volact.fleet.inventory import inventory, machines
from volact.fleet.inventory import views as saved_views
from volact.fleet.inventory.inventory import Group, Machine, Page, Query
from volact.fleet.inventory.machines import Added, Found
from volact.fleet.inventory.selection import Selection
from volact.fleet.inventory.views import View
from volact.fleet.verbs.base import Base, Names


class NothingToSetError(InputError):
    code = "machine-nothing-to-set"
    fmt = "nothing was given that machines could be set to"
    remedy = "give an address, a port or an account"


class Machines(Base):
    def discover(
        self, words: Iterable[str] = (), *, found: Iterable[Found] = (), match: Names = (), tags: Names = ()
    ) -> Added:
        """Adds machines: names, addresses and ranges as ``words``, and what the modules of
        :mod:`volact.fleet.discovery` found."""
        everything = [*from_words(builtins.list(words)), *found]
        chosen = builtins.list(matching(everything, match, tags))
        return self._write(lambda conn, now: machines.add(conn, chosen, now, self.who))

    def list(
        self, *, filter: str = "", sort: Names = (), columns: Names = (), limit: int = 100, offset: int = 0
    ) -> Page:
        """A row for each product of each machine that fits."""
        query = Query(filter, tuple(sort), tuple(columns), limit, offset)
        return self._read(lambda conn: inventory.products(conn, query, self.clock()))

    def list_machines(
        self, *, filter: str = "", sort: Names = (), columns: Names = (), limit: int = 100, offset: int = 0
    ) -> Page:
        """A row for each machine that fits."""
        query = Query(filter, tuple(sort), tuple(columns), limit, offset)
        return self._read(lambda conn: inventory.machines(conn, query, self.clock()))

    def group(self, by: Names, *, filter: str = "") -> Sequence[Group]:
        """How many machines and products there are with each combination of values."""
        return self._read(lambda conn: inventory.groups(conn, by, filter, self.clock()))

    def show(self, machine: str) -> Machine:
        """One machine in full."""
        return self._read(lambda conn: inventory.machine(conn, machine))

    def history(self, *, since: int = 0, filter: str = "", limit: int = 1000) -> Sequence[Mapping[str, Any]]:
        """What changed, the newest first."""
        return self._read(lambda conn: inventory.history(conn, filter, since, self.clock(), limit))

    def view_save(
        self, name: str, *, filter: str = "", sort: Names = (), columns: Names = (), grouping: Names = ()
    ) -> View:
        """Keeps a list under a name, for everybody, in the place of one of that name."""
        view = View(name, filter, tuple(sort), tuple(columns), tuple(grouping))
        return self._write(lambda conn, now: saved_views.save(conn, view, now, self.who))

    def views(self) -> Sequence[View]:
        return self._read(saved_views.all_views)

    def view(self, name: str) -> View:
        return self._read(lambda conn: saved_views.find(conn, name))

    def view_remove(self, name: str) -> None:
        self._write(lambda conn, now: saved_views.remove(conn, name, now, self.who))

    def tag(self, tags: Names, *, names: Names = (), filter: str = "", all: bool = False) -> int:
        """Adds tags to the selected machines; how many they are."""
        return self._on_selected(
            Selection(names, filter, all), lambda conn, ids, now: machines.tag(conn, ids, tags, now, self.who)
        )

    def untag(self, tags: Names, *, names: Names = (), filter: str = "", all: bool = False) -> int:
        return self._on_selected(
            Selection(names, filter, all), lambda conn, ids, now: machines.untag(conn, ids, tags, now, self.who)
        )

    def set_machine(self, *, names: Names = (), filter: str = "", all: bool = False, **values: Any) -> int:
        """``address``, ``port``, ``account`` of the selected machines; ``None`` clears one."""
        if not values:
            raise NothingToSetError()
        return self._on_selected(
            Selection(names, filter, all), lambda conn, ids, now: machines.change(conn, ids, values, now, self.who)
        )

    def remove(self, *, names: Names = (), filter: str = "", all: bool = False) -> int:
        """Forgets the selected machines; they notice nothing."""
        return self._on_selected(
            Selection(names, filter, all), lambda conn, ids, now: machines.remove(conn, ids, now, self.who)
        )

    def _on_selected(self, selection: Selection, change: Callable[[Connection, builtins.list[int], int], Any]) -> int:
        """Raises :class:`~volact.fleet.inventory.selection.WholeFleetError`."""
        selection.check()

        def on_them(conn: Connection, now: int) -> int:
            chosen = inventory.select_machines(conn, selection.filter, selection.names, now)
            change(conn, chosen, now)
            return len(chosen)

        return self._write(on_them)
