# SPDX-License-Identifier: Apache-2.0
"""Acts on chosen machines: each becomes a job of the fleet tool, but for tags and removal, which are done at once."""

from collections.abc import Callable, Mapping

from starlette.responses import Response

from volact.console.pages.fleet import machines
from volact.console.pages.parts import counted, fleet_of, runner_of
from volact.core.errors import InputError, VolactError
from volact.fleet.api import Fleet
from volact.fleet.jobs.records import Job
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

Chosen = Mapping[str, object]  # names, or filter and all, as the fleet tool takes them
Begin = Callable[[Fleet, Form, bool, Chosen], Job]
Change = Callable[[Fleet, Form, Chosen], str]


class NothingChosenError(InputError):
    code = "console-nothing-chosen"
    fmt = "no machine was chosen"
    remedy = "tick some rows, or choose all that fit the filter"


def _refresh(fleet: Fleet, _: Form, dry_run: bool, chosen: Chosen) -> Job:
    return fleet.refresh(wait=False, dry_run=dry_run, **chosen)  # type: ignore[arg-type]


def _install(fleet: Fleet, form: Form, dry_run: bool, chosen: Chosen) -> Job:
    key = form.text("key", most=60, required=False) or None
    prefer = form.choice("prefer", ("generic", "mak"), required=False) or "generic"
    replace = form.flag("replace")
    return fleet.install_key(key, prefer=prefer, replace=replace, wait=False, dry_run=dry_run, **chosen)  # type: ignore[arg-type]


def _activate(fleet: Fleet, form: Form, dry_run: bool, chosen: Chosen) -> Job:
    options: dict[str, object] = {"mak": form.choice("mak", ("independent", "proxy"), required=False) or "independent"}
    name = form.text("kms_name", most=253, required=False)
    if name:
        options |= {"kms": "host", "kms_name": name}
    options |= {"force": form.flag("force")}
    return fleet.activate(wait=False, dry_run=dry_run, **options, **chosen)  # type: ignore[arg-type]


def _collect(fleet: Fleet, _: Form, dry_run: bool, chosen: Chosen) -> Job:
    return fleet.proxy_collect(wait=False, dry_run=dry_run, **chosen)  # type: ignore[arg-type]


def _apply(fleet: Fleet, _: Form, dry_run: bool, chosen: Chosen) -> Job:
    return fleet.proxy_apply(wait=False, dry_run=dry_run, **chosen)  # type: ignore[arg-type]


def _backup(fleet: Fleet, _: Form, dry_run: bool, chosen: Chosen) -> Job:
    return fleet.backup(wait=False, dry_run=dry_run, **chosen)  # type: ignore[arg-type]


def _restore(fleet: Fleet, _: Form, dry_run: bool, chosen: Chosen) -> Job:
    return fleet.restore(wait=False, dry_run=dry_run, **chosen)  # type: ignore[arg-type]


def _tag(fleet: Fleet, form: Form, chosen: Chosen) -> str:
    tags = form.text("tags_to", most=400).split()
    number = fleet.tag(tags, **chosen)  # type: ignore[arg-type]
    return f"{counted(number, 'machine', 'is', 'are')} tagged {' '.join(tags)}."


def _untag(fleet: Fleet, form: Form, chosen: Chosen) -> str:
    tags = form.text("tags_to", most=400).split()
    number = fleet.untag(tags, **chosen)  # type: ignore[arg-type]
    return f"{counted(number, 'machine', 'has', 'have')} no tag {' '.join(tags)} any more."


def _remove(fleet: Fleet, _: Form, chosen: Chosen) -> str:
    removed = fleet.remove(**chosen)  # type: ignore[arg-type]
    return f"{counted(removed, 'machine')} removed from the inventory."


JOBS: dict[str, Begin] = {
    "refresh": _refresh,
    "install": _install,
    "activate": _activate,
    "collect": _collect,
    "apply": _apply,
    "backup": _backup,
    "restore": _restore,
}
WITHOUT_DIALOG = ("refresh", "apply")  # what is wrong with these stands above the list
CHANGES: dict[str, Change] = {"tag": _tag, "untag": _untag, "remove": _remove}


def act(visit: Visit) -> Response:
    form = Form(visit.form)
    name = form.choice("act", (*JOBS, *CHANGES))
    dry_run = bool(visit.query.get("dry"))
    if not form.valid:
        return machines.show(visit, form, None)
    try:
        chosen = _chosen(visit)
        fleet = fleet_of(visit)
        if name in CHANGES:
            done = CHANGES[name](fleet, form, chosen)
            visit.note(f"fleet-{name}", _told(chosen))
            return visit.redirect("/fleet/machines?view=machines", done)
        job = runner_of(visit).start(fleet, lambda fleet: JOBS[name](fleet, form, dry_run, chosen))
    except VolactError as exc:
        form.fail(exc)
        return machines.show(visit, form, None if name in WITHOUT_DIALOG else name)
    visit.note(f"fleet-{name}", f"job {job.id}, {job.total} machines")
    return visit.redirect(f"/fleet/jobs/{job.id}")


def _chosen(visit: Visit) -> Chosen:
    """The ticked rows, or all that fit the filter which the page showed."""
    if visit.form.get("scope") == "all":
        return {"filter": visit.form.get("filter", ""), "all": True}
    names = tuple(dict.fromkeys(visit.chosen("machine")))
    if not names:
        raise NothingChosenError()
    return {"names": names}


def _told(chosen: Chosen) -> str:
    names = chosen.get("names")
    return f"{len(names)} machines" if isinstance(names, tuple) else f"filter {chosen.get('filter')!r}"
