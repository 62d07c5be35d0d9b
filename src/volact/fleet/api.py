# SPDX-License-Identifier: Apache-2.0
"""The fleet tool for programs: a method for each verb of ``volact fleet``, under the same name.

    from volact.fleet.api import Fleet

    with Fleet.open("/var/lib/volact/fleet") as fleet:
        fleet.discover(["web[1-20].example.com"], tags=["web"])
        job = fleet.refresh(filter="tag=web")
        print(fleet.report("overview", filter="tag=web").summary)

Verbs that act on machines make a job and work through it; with ``wait=False`` they only make it, and ``volact fleet
serve``, or ``run_job`` anywhere, does the work.  Everything is written to the audit trail with ``who``.  What is wrong
is a :class:`~volact.core.errors.VolactError` with its code.  Guide: docs/guide/fleet-api.md.
"""

from collections.abc import Sequence

from volact.core.errors import VolactError
from volact.fleet.figures import samples
from volact.fleet.schedules import automation, schedule
from volact.fleet.schedules.schedule import Schedule
from volact.fleet.verbs.acts import Acts
from volact.fleet.verbs.base import PASSPHRASE_VARIABLE
from volact.fleet.verbs.bundles import Bundles, confirm_bundle
from volact.fleet.verbs.keys import Keys
from volact.fleet.verbs.machines import Machines, NothingToSetError
from volact.fleet.verbs.reports import Reports

__all__ = ["PASSPHRASE_VARIABLE", "Fleet", "NothingToSetError", "confirm_bundle"]


class Fleet(Machines, Acts, Keys, Bundles, Reports):
    """One fleet folder, opened: see :class:`~volact.fleet.verbs.base.Base` for its fields."""

    def take_samples(self) -> int:
        """Writes the day's figures, which trends and forecasts are made of."""
        return self._write(samples.take_daily_samples)

    async def schedule_run(self, name: str | None = None) -> Sequence[tuple[Schedule, VolactError | None]]:
        """Everything that is due, or the one that is named, due or not."""
        if name is not None:
            self._write(lambda conn, now: schedule.run_now(conn, name, now, self.who))
        return await automation.Automation(self).run_due(name)
