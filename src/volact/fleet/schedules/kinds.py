# SPDX-License-Identifier: Apache-2.0
"""What can be scheduled, and which arguments each kind takes.  What comes of it is in ``automation``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volact.core.errors import InputError
from volact.fleet.desk import CHANGING
from volact.fleet.inventory.selection import Selection
from volact.fleet.reports.catalogue import REPORTS, find_report
from volact.fleet.reports.render import FORMATS, find_format
from volact.fleet.schedules import mail

REPORT, KEYS_REFRESH = "report", "keys-refresh"
JOB_KINDS = ("refresh", "activate", "install-key", "proxy-collect", "proxy-apply", "backup")
KINDS = (REPORT, KEYS_REFRESH, *JOB_KINDS)

TEXT, NUMBER, TEXTS, VALUES = "a text", "a number", "a list of texts", "names with values that are texts or flags"
FLAG = "true or false"
TAKES = {
    "filter": TEXT, "mail_to": TEXTS, "formats": TEXTS, "folder": TEXT, "report": TEXT, "days": NUMBER,
    "since_days": NUMBER, "arguments": VALUES, "all": FLAG,
}  # fmt: skip


class ScheduleKindError(InputError):
    code = "schedule-kind-unknown"
    fmt = "nothing of the kind {kind} can be scheduled"
    remedy = "choose one of: {known}"


class ScheduleArgumentError(InputError):
    code = "schedule-argument-unfit"
    fmt = "{name} is not {expected}"
    remedy = "see `volact fleet schedule add --help`; nothing was changed"


def check(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as they are stored; raises :class:`ScheduleKindError`, :class:`ScheduleArgumentError`, and
    :class:`~volact.fleet.inventory.selection.WholeFleetError` for an act on every machine that does not say so."""
    if kind not in KINDS:
        raise ScheduleKindError(kind=repr(kind[:60]), known=", ".join(KINDS))
    given = {name: value for name, value in arguments.items() if value not in (None, "", [], (), {}, False)}
    for name, value in given.items():
        if name not in TAKES:
            raise ScheduleArgumentError(name=name[:60], expected="an argument of a schedule")
        if not _is(TAKES[name], value):
            raise ScheduleArgumentError(name=name, expected=TAKES[name])
    if kind == REPORT:
        _check_report(given)
    elif given.keys() & {"mail_to", "folder", "formats", "report", "days", "since_days"}:
        raise ScheduleArgumentError(name=f"a report's argument with {kind}", expected="possible: schedule a report")
    if "all" in given and kind not in JOB_KINDS:
        raise ScheduleArgumentError(name="all", expected=f"possible with {kind}")
    if kind in CHANGING:
        Selection(filter=given.get("filter", ""), all="all" in given).check()
    return given


def _is(kind: str, value: Any) -> bool:
    """What comes over HTTP can be anything that JSON says."""
    if kind == TEXT:
        return isinstance(value, str)
    if kind == NUMBER:
        return type(value) is int
    if kind == FLAG:
        return type(value) is bool
    if kind == TEXTS:
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return isinstance(value, Mapping) and all(isinstance(one, str | bool | None) for one in value.values())


def _check_report(given: Mapping[str, Any]) -> None:
    if "report" not in given:
        raise ScheduleArgumentError(name="report", expected="one of " + ", ".join(REPORTS))
    takes = find_report(str(given["report"])).takes
    for name in given.get("formats", ()):
        find_format(name)
    if "mail_to" in given:
        mail.check_recipients(given["mail_to"])
    for name, fits, expected in (
        ("mail-to or folder", bool(given.keys() & {"mail_to", "folder"}), "given: a report goes somewhere"),
        ("folder", Path(given.get("folder", "/")).is_absolute(), "an absolute path"),
        ("filter", "machines" in takes or "filter" not in given, "heeded by this report"),
        ("arguments", "arguments" not in given, "an argument of a report"),
        ("formats", set(given.get("formats", ())) <= set(FORMATS), "known"),
    ):
        if not fits:
            raise ScheduleArgumentError(name=name, expected=expected)
    for name in ("days", "since_days"):
        if not 0 < int(given.get(name, 1)) <= 3650:
            raise ScheduleArgumentError(name=name.replace("_", "-"), expected="from 1 to 3650")
