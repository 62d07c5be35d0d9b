# SPDX-License-Identifier: Apache-2.0
"""The wizard's step Activate for a KMS host: online, by telephone, or by a file that is carried."""

from dataclasses import replace

from starlette.responses import Response

from volact.console.pages.setup import frame
from volact.console.setup import host
from volact.console.setup.state import SetupState
from volact.core.errors import VolactError
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

WAYS = ("online", "phone", "file")


def activate(visit: Visit) -> Response:
    if (away := frame.away(visit, "activate")) is not None:
        return away
    return _show(visit, Form(publisher=frame.state_of(visit).publisher), visit.query.get("way", "online"))


def online(visit: Visit) -> Response:
    if (away := frame.away(visit, "activate")) is not None:
        return away
    form = Form(visit.form)
    url = form.text("publisher", most=400, required=False)

    def act(state: SetupState) -> SetupState:
        command = host.activate_online(state.partial, url)
        (ended,) = frame.run(visit, frame.target_of(visit, state), [command])
        return replace(_activated(state, ended.value), publisher=url)

    return frame.attempt(visit, form, "activate", act, lambda again: _show(visit, again, "online"))


def request(visit: Visit) -> Response:
    """The request file, for the way by file; it waits for its answer in the host's folder."""
    if (away := frame.away(visit, "activate")) is not None:
        return away
    state = frame.state_of(visit)
    try:
        machine = frame.target_of(visit, state)
        (ended,) = frame.run(visit, machine, [host.write_request(state.partial)])
    except VolactError as exc:
        form = Form()
        form.fail(exc)
        return _show(visit, form, "file")
    return visit.download(f"host-{state.partial}.volreq", ended.out)


def answer(visit: Visit) -> Response:
    if (away := frame.away(visit, "activate")) is not None:
        return away
    form = Form(visit.form)

    def act(state: SetupState) -> SetupState:
        _, data = visit.file("answer") or ("", b"")
        (ended,) = frame.run(visit, frame.target_of(visit, state), [host.apply_answer(state.partial, data)])
        return _activated(state, ended.value)

    return frame.attempt(visit, form, "activate", act, lambda again: _show(visit, again, "file"))


def confirmation(visit: Visit) -> Response:
    if (away := frame.away(visit, "activate")) is not None:
        return away
    form = Form(visit.form)
    digits = form.text("confirmation", most=400, required=False, lines=True)

    def act(state: SetupState) -> SetupState:
        machine = frame.target_of(visit, state)
        (ended,) = frame.run(visit, machine, [host.apply_confirmation(state.partial, digits)])
        return _activated(state, ended.value)

    return frame.attempt(visit, form, "activate", act, lambda again: _show(visit, again, "phone"))


def _activated(state: SetupState, told: object) -> SetupState:
    organisation = told.get("organisation") if isinstance(told, dict) else None
    return replace(state, organisation=str(organisation or ""))


def _show(visit: Visit, form: Form, way: str) -> Response:
    state = frame.state_of(visit)
    way = way if way in WAYS else "online"
    installation: list[str] = []
    problem: VolactError | None = None
    lines: dict[str, str] = {}
    try:
        machine = frame.target_of(visit, state)
        lines = {
            "online": machine.shown(host.activate_online(state.partial, "")),
            "phone": machine.shown(host.installation_id(state.partial)),
            "apply": machine.shown(host.apply_confirmation(state.partial, "-")),
            "request": machine.shown(host.write_request(state.partial)),
            "answer": machine.shown(host.apply_answer(state.partial, b"-")),
        }
        if way == "phone":
            installation = _installation(machine.run(host.installation_id(state.partial)).checked().value)
    except VolactError as exc:
        problem = exc
    return frame.show(visit, "activate", form, way=way, lines=lines, installation=installation, problem=problem)


def _installation(told: object) -> list[str]:
    """The installation ID in its groups of digits."""
    return [str(group) for group in told.get("groups", ())] if isinstance(told, dict) else []
