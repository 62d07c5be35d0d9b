# SPDX-License-Identifier: Apache-2.0
"""Schedules: what runs by itself, who runs it, when it ran and how that went; adding, pausing, running now.

This console runs them, unless it was told not to; `volact fleet serve` may, or cron.  A report goes by mail only: files
on this computer are for its command line.
"""

import socket
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from volact.console.automation import ScheduleRunner
from volact.console.pages.parts import fleet_of, runner_of
from volact.core.errors import VolactError
from volact.fleet.reports.catalogue import REPORTS
from volact.fleet.schedules import schedule
from volact.fleet.schedules.cron import local_zone
from volact.fleet.schedules.kinds import JOB_KINDS, KEYS_REFRESH, KINDS, REPORT
from volact.fleet.schedules.runners import Program, Runner
from volact.fleet.schedules.schedule import Schedule
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

LATE = 5 * 60  # by then whoever runs schedules has taken one that is due
TIMES = (
    ("@nightly", "every night at 2:00"),
    ("@hourly", "every hour"),
    ("0 7 * * mon", "Mondays at 7:00"),
    ("0 7 1 * *", "on the first of the month at 7:00"),
    ("", "at the times below"),
)
ACTS = {
    REPORT: "mail a report",
    KEYS_REFRESH: "ask what is left of the keys",
    "refresh": "refresh machines",
    "activate": "activate machines",
    "install-key": "install the keys that suit",
    "proxy-collect": "collect requests for proxy activation",
    "proxy-apply": "bring answers to their machines",
    "backup": "back machines up",
}


PROGRAMS = {
    Program.CONSOLE: "the console",
    Program.SERVE: "volact fleet serve",
    Program.RUN_DUE: "volact fleet schedule run-due",
}


Row = tuple[Schedule, str, bool, bool]  # what it does, whether it runs, whether it should have run already


@dataclass(frozen=True, slots=True)
class Service:
    """Who runs the schedules: this console, others that stay, one that came lately; and what is due next."""

    here: bool
    others: list[str]
    lately: Runner | None
    next: Schedule | None

    @property
    def anybody(self) -> bool:
        return self.here or bool(self.others) or self.lately is not None


def schedules(visit: Visit) -> Response:
    return _show(visit, Form(None, times="@nightly", kind="refresh"), None)


def part(visit: Visit) -> Response:
    """The table, asked for again while something runs."""
    rows = _rows(visit)
    return visit.render_part("fleet/schedule_parts.html", "table", rows, _service(visit, rows))


def add(visit: Visit) -> Response:
    form = Form(visit.form)
    name = form.text("name", most=60).lower()
    kind = form.choice("kind", KINDS)
    cron = form.choice("times", [value for value, _ in TIMES], required=False) or form.text("cron", most=100)
    zone = form.text("zone", most=60, required=False) or None
    given = _arguments(form, kind)
    if form.valid:
        try:
            made = fleet_of(visit).schedule_add(name, cron, kind, given, zone=zone)
            visit.note("schedule-add", f"{made.name}: {_what(made)}")
            return visit.redirect("/fleet/schedules", f"{made.name} was added.")
        except VolactError as exc:
            form.fail(exc)
    return _show(visit, form, "add")


def enable(visit: Visit) -> Response:
    made = fleet_of(visit).schedule_enable(visit.part("name"))
    return visit.redirect("/fleet/schedules", f"{made.name} runs again, from its next time on.")


def disable(visit: Visit) -> Response:
    made = fleet_of(visit).schedule_enable(visit.part("name"), enabled=False)
    return visit.redirect("/fleet/schedules", f"{made.name} waits until it is enabled.")


def run(visit: Visit) -> Response:
    """Now, beside the pages; how it went is in the table."""
    fleet, name = fleet_of(visit), _known(visit)
    runner_of(visit).run_schedule(fleet, name)
    return visit.redirect("/fleet/schedules", f"{name} runs now.")


def remove(visit: Visit) -> Response:
    name = visit.part("name")
    fleet_of(visit).schedule_remove(name)
    return visit.redirect("/fleet/schedules", f"{name} was removed.")


def _known(visit: Visit) -> str:
    """Raises the fleet tool's error where there is none; nothing is begun then."""
    with fleet_of(visit).store.read() as conn:
        return schedule.find(conn, visit.part("name")).name


def _arguments(form: Form, kind: str) -> dict[str, Any]:
    given: dict[str, Any] = {"filter": form.text("filter", most=2000, required=False)}
    if kind in JOB_KINDS:
        given |= {"all": form.flag("all")}
    if kind == REPORT:
        given |= {
            "report": form.choice("report", list(REPORTS)),
            "mail_to": form.text("mail_to", most=2000).replace(",", " ").split(),
        }
    return given


def _service(visit: Visit, rows: list[Row]) -> Service:
    own: ScheduleRunner | None = visit.state.schedules
    here, myself = own is not None and own.is_running, (Program.CONSOLE, socket.gethostname())
    seen = [one for one in fleet_of(visit).runners() if not here or (one.program, one.computer) != myself]
    lately = next((one for one in seen if not one.stays), None)
    waiting = [one for one, *_ in rows if one.enabled and one.next_at is not None]
    return Service(
        here,
        [f"{PROGRAMS[one.program]} on {one.computer}" for one in seen if one.stays],
        lately,
        min(waiting, key=lambda one: (one.next_at or 0, one.name), default=None),
    )


def _rows(visit: Visit) -> list[Row]:
    """Each with what it does, whether it runs, and whether it should have run already."""
    runner = runner_of(visit)
    rows = []
    for one in fleet_of(visit).schedules():
        running = one.running or runner.is_running(one.name)
        late = one.enabled and not running and one.next_at is not None and one.next_at < visit.now - LATE
        rows.append((one, _what(one), running, late))
    return rows


def _what(one: Schedule) -> str:
    given = one.arguments
    if one.kind == REPORT:
        to = ", ".join(given.get("mail_to", ())) or str(given.get("folder", ""))
        return f"report {given.get('report')} to {to}"
    act = ACTS.get(one.kind, one.kind)
    return f"{act}: {given['filter']}" if given.get("filter") else act


def _show(visit: Visit, form: Form, opened: str | None) -> Response:
    rows = _rows(visit)
    return visit.render(
        "fleet/schedules.html",
        200 if form.valid else 422,
        rows=rows,
        service=_service(visit, rows),
        form=form,
        opened=opened,
        kinds=[(kind, ACTS.get(kind, kind)) for kind in KINDS],
        reports=[(name, name.replace("-", " ")) for name in REPORTS],
        times=TIMES,
        zone=local_zone(),
    )
