# SPDX-License-Identifier: Apache-2.0
"""The reports by name: what the command line, the REST interface, schedules and the console offer."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from volact.core.errors import InputError
from volact.fleet.reports import changing, licences, pools, trouble
from volact.fleet.reports.asked import Asked
from volact.fleet.reports.report import Report


class ReportUnknownError(InputError):
    code = "report-unknown"
    fmt = "there is no report {name}"
    remedy = "choose one of: {known}"


@dataclass(frozen=True, slots=True)
class ReportKind:
    """``takes``: which of ``days``, ``since`` and ``machines`` it heeds."""

    name: str
    about: str
    build: Callable[[Connection, Asked], Report]
    takes: frozenset[str] = frozenset({"machines"})


REPORTS = {
    one.name: one
    for one in (
        ReportKind("overview", "how many installations are licensed, by product, edition, channel and state",
                   licences.overview),
        ReportKind("expiring", "licences and grace periods that end within some days", licences.expiring,
                   frozenset({"machines", "days"})),
        ReportKind("never-activated", "installations that were never seen licensed, and why", licences.never_activated),
        ReportKind("failures", "what fails, by cause, with the remedy", trouble.failures),
        ReportKind("clones", "machines that share a machine ID or a fingerprint", trouble.clones),
        ReportKind("hosts", "KMS hosts, their counts and whom they answer", pools.hosts,
                   frozenset({"machines", "since"})),
        ReportKind("consumption", "MAK pools over time, with the day each runs out", pools.consumption,
                   frozenset({"since"})),
        ReportKind("compliance", "licences used against licences bought", pools.compliance, frozenset()),
        ReportKind("changes", "what changed since a date", changing.changes, frozenset({"machines", "since"})),
    )
}  # fmt: skip


def find_report(name: str) -> ReportKind:
    found = REPORTS.get(name)
    if found is None:
        raise ReportUnknownError(name=name, known=", ".join(REPORTS))
    return found


def make_report(conn: Connection, name: str, asked: Asked) -> Report:
    """One moment's report."""
    return find_report(name).build(conn, asked)
