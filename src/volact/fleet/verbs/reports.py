# SPDX-License-Identifier: Apache-2.0
"""Reports, when they and other things are done by themselves, and where reports are mailed through."""

from collections.abc import Mapping, Sequence
from typing import Any

from volact.fleet.reports.asked import DEFAULT_DAYS, Asked, scope_of
from volact.fleet.reports.catalogue import make_report
from volact.fleet.reports.report import Report
from volact.fleet.schedules import kinds, mail, runners, schedule
from volact.fleet.schedules.cron import Times, local_zone
from volact.fleet.schedules.mail import MailSettings
from volact.fleet.schedules.runners import Runner
from volact.fleet.schedules.schedule import Schedule
from volact.fleet.store import note
from volact.fleet.verbs.base import Base


class Reports(Base):
    def report(self, name: str, *, filter: str = "", days: int = DEFAULT_DAYS, since: int = 0) -> Report:
        """See :data:`volact.fleet.reports.catalogue.REPORTS`; ``volact.fleet.reports.render`` makes files of it."""
        now = self.clock()
        asked = Asked(now, days, since, scope_of(filter, now), filter.strip())
        return self._read(lambda conn: make_report(conn, name, asked))

    def schedule_add(
        self, name: str, cron: str, kind: str, arguments: Mapping[str, Any] | None = None, *, zone: str | None = None
    ) -> Schedule:
        """``kind``: see :data:`volact.fleet.schedules.kinds.KINDS`; ``zone``: this computer's by default."""
        times = Times.of(cron, zone or local_zone())
        given = kinds.check(kind, arguments or {})
        return self._write(lambda conn, now: schedule.add(conn, name, times, kind, given, now, self.who))

    def schedules(self) -> Sequence[Schedule]:
        return self._read(schedule.listed)

    def runners(self) -> Sequence[Runner]:
        """Who runs schedules now, or did lately."""
        return self._read(lambda conn: runners.seen(conn, self.clock()))

    def schedule_remove(self, name: str) -> None:
        self._write(lambda conn, now: schedule.remove(conn, name, now, self.who))

    def schedule_enable(self, name: str, *, enabled: bool = True) -> Schedule:
        return self._write(lambda conn, now: schedule.enable(conn, name, now, self.who, enabled=enabled))

    def set_mail(self, settings: MailSettings) -> MailSettings:
        """Where reports are mailed through."""
        settings.save(self.folder.path)
        about = {"server": settings.server, "from": settings.sender}
        self._write(lambda conn, now: note(conn, now, self.who, "set-mail", settings.server, about))
        return settings

    def mail_settings(self) -> MailSettings:
        return mail.MailSettings.load(self.folder.path)
