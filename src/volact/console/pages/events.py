# SPDX-License-Identifier: Apache-2.0
"""Events: the logs of the KMS host and the VM host, and the fleet tool's audit, with search, the newest first."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from volact.console.pages.parts import by_whom, group_names, site_of
from volact.core.count import SECONDS_PER_DAY
from volact.host.recording import ACTIVATED
from volact.host.store import EventSearch
from volact.web.access.roles import VIEW
from volact.web.pages.form import Form
from volact.web.pages.renderer import iso
from volact.web.pages.visit import Page, Visit

SIZE = 50
LEVELS = ("info", "warning", "error")
SOURCES = (("host", "KMS host"), ("vm", "VM host"), ("fleet", "Fleet tool"))
MOST_VM = 2000
SPANS = (("1", "today"), ("7", "7 days"), ("30", "30 days"))


@dataclass(frozen=True, slots=True)
class Row:
    """One event of any log, as the page shows it."""

    id: int
    at: int
    level: str
    code: str
    who: str
    text: str
    id_hex: str = ""


def events(visit: Visit) -> Response:
    form = Form(dict(visit.query))
    source = form.choice("source", [name for name, _ in SOURCES], required=False) or "host"
    level = form.choice("level", LEVELS, required=False)
    code = form.text("code", most=80, required=False)
    text = form.text("text", most=100, required=False)
    before = form.integer("before", least=1, most=1 << 62, required=False)
    since = form.integer("since", least=0, most=1 << 40, required=False)
    until = form.integer("until", least=0, most=1 << 40, required=False)
    days = form.integer("days", least=1, most=3650, required=False)
    if days:
        since = visit.now - days * SECONDS_PER_DAY
    search = EventSearch(before, until, level, text)
    rows = _READ[source](visit, search, since or 0, code) if form.valid else []
    more = ""
    if len(rows) > SIZE:
        rows = rows[:SIZE]
        kept = {name: value for name, value in visit.query.items() if name != "before" and value}
        more = "/events?" + urlencode({**kept, "before": rows[-1].id})
    return visit.render(
        "events.html",
        200 if form.valid else 422,
        form=form,
        rows=rows,
        more=more,
        source=source,
        sources=SOURCES,
        levels=LEVELS,
        spans=SPANS,
        known=ACTIVATED,
        missing=_missing(visit, source) if form.valid else "",
    )


def _missing(visit: Visit, source: str) -> str:
    """What is not on this machine, so that it has no log."""
    site = site_of(visit)
    roles = {"host": ("KMS host", site.host), "vm": ("VM host", site.vm), "fleet": ("fleet tool", site.fleet)}
    name, find = roles[source]
    return "" if find() is not None else f"There is no {name} on this machine."


def _host(visit: Visit, search: EventSearch, since: int, code: str) -> list[Row]:
    host = site_of(visit).host()
    if host is None:
        return []
    codes = (code,) if code else ()
    found = host.store.events(since, SIZE + 1, codes, newest_first=True, search=search)
    groups = group_names(host)
    return [
        Row(
            one.id, one.at, one.level, one.code, str(one.data.get("name") or ""),
            _told(one.data, groups.get(one.scope_id, "")), _short(one.machine_id),
        )
        for one in found
    ]  # fmt: skip


def _vm(visit: Visit, search: EventSearch, since: int, code: str) -> list[Row]:
    """A VM host's log is short: what is asked for is picked out here."""
    role = site_of(visit).vm()
    if role is None:
        return []
    found = role.store.events(since, MOST_VM, (code,) if code else (), newest_first=True)
    rows = [
        Row(
            e.id, e.at, e.level, e.code, str(e.data.get("name") or e.channel), _told(e.data, ""), _short(e.machine_id)
        )
        for e in found
    ]  # fmt: skip
    return [row for row in rows if _fits(row, search)][: SIZE + 1]


def _fleet(visit: Visit, search: EventSearch, since: int, code: str) -> list[Row]:
    role = site_of(visit).fleet()
    if role is None:
        return []
    found = role.store.audit(MOST_VM, search.before)
    rows = [
        Row(
            one.id, one.at, "info" if one.result == "ok" else "warning", one.act, by_whom(one.who),
            " ".join((one.object, _told(one.detail, ""))).strip(),
        )
        for one in found
        if one.at >= since and (not code or one.act == code)
    ]  # fmt: skip
    return [row for row in rows if _fits(row, search)][: SIZE + 1]


def _fits(row: Row, search: EventSearch) -> bool:
    text = f"{row.code} {row.who} {row.id_hex} {row.text}".lower()
    return (
        (search.before is None or row.id < search.before)
        and (search.until is None or row.at <= search.until)
        and (not search.level or row.level == search.level)
        and search.text.lower() in text
    )


_READ = {"host": _host, "vm": _vm, "fleet": _fleet}


def _short(machine: bytes | None) -> str:
    return machine.hex()[:16] if machine else ""


def _told(data: Mapping[str, Any], group: str) -> str:
    if "text" in data or "message" in data:
        return str(data.get("text") or data.get("message"))
    if "count" in data:
        told = f"{data.get('edition')} was {str(data.get('state')).replace('-', ' ')}"
        return f"{told}; {group or 'its group'} counts {data['count']}"
    return ", ".join(
        f"{name.replace('_', ' ')} {iso(value) if name == 'planned' and isinstance(value, int) else _words(value)}"
        for name, value in data.items()
        if name != "name"
    )


def _words(value: Any) -> str:
    """What a log keeps as JSON, read by people: lists and what is named in them, without what is empty."""
    if isinstance(value, Mapping):
        told = ((name.replace("_", " "), one) for name, one in value.items() if one not in (None, "", []))
        return ", ".join(f"{name} {_words(one)}" for name, one in told)
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value)


PAGES = (
    Page(
        "/events",
        events,
        VIEW,
        "Events",
        group="Hosts",
        menu=True,
        icon="journal-text",
        help="guide/kms-host#5-watch-it",
    ),
)
