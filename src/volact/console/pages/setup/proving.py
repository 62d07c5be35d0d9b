# SPDX-License-Identifier: Apache-2.0
"""The wizard's last step for a KMS host: is it running, and does it activate a machine."""

import json
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from volact.console import probe
from volact.console.pages.setup import frame
from volact.console.setup import host
from volact.console.setup.state import SetupState
from volact.console.targets import Command
from volact.core.errors import VolactError
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

KEY = "proof"
ANY = ("::", "0.0.0.0")  # noqa: S104 - what a host says that listens on every address


def proof(visit: Visit) -> Response:
    return frame.away(visit, KEY) or _show(visit, Form())


def ready(visit: Visit) -> Response:
    """Asked every two seconds until the host answers."""
    where = _where(visit)
    running, why = probe.is_ready(*where) if where else (False, "the machine does not say its port")
    return visit.render_part("setup/parts.html", "ready", running, why, where)


def prove(visit: Visit) -> Response:
    if (away := frame.away(visit, KEY)) is not None:
        return away
    form = Form(visit.form)
    edition = form.text("edition", most=100)

    def act(state: SetupState) -> SetupState:
        where = _where(visit)
        name = f"[{where[0]}]:{where[1]}" if where and ":" in where[0] else f"{where[0]}:{where[1]}" if where else ""
        site = frame.site_of(visit)
        found = probe.prove(site.folder, site.here, state.product, edition, name)
        visit.note("setup-proof", f"{state.product} through {name}", "done" if found.proven else "failed")
        return replace(state, proof=probe.dump(found))

    if form.valid:
        try:
            frame.keep(visit, act(frame.state_of(visit)).with_done(KEY))
            return visit.redirect(frame.link(KEY))
        except VolactError as exc:
            form.fail(exc)
    return _show(visit, form)


def _show(visit: Visit, form: Form) -> Response:
    state, site = frame.state_of(visit), frame.site_of(visit)
    editions = probe.editions(site.folder, state.product)
    lines: list[str] = []
    serve = ""
    try:
        machine = frame.target_of(visit, state)
        serve = machine.shown(Command(("host", "serve")))
        if editions:
            commands = probe.commands(site.folder, state.product, editions[0][0], "HOST:PORT")
            lines = [str(command) for command in commands]
    except VolactError as exc:
        form.fail(exc)
    found: dict[str, Any] = json.loads(state.proof) if state.proof and KEY in state.done else {}
    return frame.show(visit, KEY, form, editions=editions, proof=found, serve=serve, lines=lines)


def _where(visit: Visit) -> tuple[str, int] | None:
    """Where the host listens, as this machine reaches it."""
    state = frame.state_of(visit)
    try:
        machine = frame.target_of(visit, state)
        settings = host.look(machine).settings
    except VolactError:
        return None
    address, port = str(settings.get("address", "::")), settings.get("port")
    if not isinstance(port, int):
        return None
    if state.target:
        return getattr(machine, "address").host, port  # noqa: B009 - a remote target has one
    return ("127.0.0.1" if address in ANY else address), port
