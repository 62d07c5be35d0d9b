# SPDX-License-Identifier: Apache-2.0
"""The wizard's steps for activation through a directory: which one, prepare it, activate it, read it back."""

import tempfile
from dataclasses import replace
from pathlib import Path

from starlette.responses import Response

from volact.console.pages.setup import frame
from volact.console.setup import directory
from volact.console.setup.host import NothingGivenError
from volact.console.setup.state import SetupState
from volact.core.errors import VolactError
from volact.sealing import verify
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

REQUEST = "forest.volreq"

# ---- which directory


def forest(visit: Visit) -> Response:
    if (away := frame.away(visit, "forest")) is not None:
        return away
    state = frame.state_of(visit)
    return frame.show(visit, "forest", Form(**{name: getattr(state, name) for name in directory.CONNECTION}))


def choose_forest(visit: Visit) -> Response:
    if (away := frame.away(visit, "forest")) is not None:
        return away
    form = Form(visit.form)
    for name in directory.CONNECTION:
        form.text(name, most=400, required=False)

    def act(state: SetupState) -> SetupState:
        chosen = state.with_connection(directory.connection_of(visit.form))
        frame.run(visit, frame.site_of(visit).here, [directory.plan(chosen)])
        return chosen

    return frame.attempt(visit, form, "forest", act, lambda again: frame.show(visit, "forest", again))


# ---- prepare


def prepare(visit: Visit) -> Response:
    return frame.away(visit, "prepare") or _show_prepare(visit, Form(schema="yes"))


def make_room(visit: Visit) -> Response:
    if (away := frame.away(visit, "prepare")) is not None:
        return away
    form = Form(visit.form)

    def act(state: SetupState) -> SetupState:
        here = frame.site_of(visit).here
        plan = here.run(directory.plan(state)).checked().value
        if plan.get("steps"):
            frame.run(visit, here, [directory.prepare(state, schema=form.flag("schema"))])
        return state

    return frame.attempt(visit, form, "prepare", act, lambda again: _show_prepare(visit, again))


def _show_prepare(visit: Visit, form: Form) -> Response:
    state, here = frame.state_of(visit), frame.site_of(visit).here
    plan: dict[str, object] = {}
    try:
        plan = here.run(directory.plan(state)).checked().value or {}
    except VolactError as exc:
        form.error = form.error or exc
    line = here.shown(directory.prepare(state, schema=True))
    return frame.show(visit, "prepare", form, plan=plan, line=line)


# ---- activate


def activate(visit: Visit) -> Response:
    return frame.away(visit, "object") or _show_object(visit, Form(), visit.query.get("way", "online"))


def make_object(visit: Visit) -> Response:
    if (away := frame.away(visit, "object")) is not None:
        return away
    form = Form(visit.form)
    name, url = form.text("name", most=64, required=False), form.text("publisher", most=400, required=False)

    def act(state: SetupState) -> SetupState:
        key = directory.check_key(form.text("key", most=100, required=False))
        definition, root = _definition(visit, form)
        command = directory.activate(state, key, name, definition, root, url)
        (ended,) = frame.run(visit, frame.site_of(visit).here, [command])
        made = str((ended.value or {}).get("name") or name)
        _remember(visit, state)
        return replace(state, partial=key.partial, object_name=made, publisher=url)

    return frame.attempt(visit, form, "object", act, lambda again: _show_object(visit, again, "online"))


def request(visit: Visit) -> Response:
    """The request file for the publisher; what waits for its answer stays in the directory role's folder."""
    if (away := frame.away(visit, "object")) is not None:
        return away
    form, state = Form(visit.form), frame.state_of(visit)
    name = form.text("name", most=64, required=False)
    try:
        key = directory.check_key(form.text("key", most=100, required=False))
        definition, root = _definition(visit, form)
        with tempfile.TemporaryDirectory(prefix="volact-") as folder:
            out = Path(folder) / REQUEST
            command = directory.request(state, key, name, definition, root, out)
            frame.run(visit, frame.site_of(visit).here, [command])
            return visit.download(REQUEST, out.read_bytes())
    except VolactError as exc:
        form.fail(exc)
        return _show_object(visit, form, "file")


def answer(visit: Visit) -> Response:
    if (away := frame.away(visit, "object")) is not None:
        return away
    form = Form(visit.form)

    def act(state: SetupState) -> SetupState:
        _, data = visit.file("answer") or ("", b"")
        (ended,) = frame.run(visit, frame.site_of(visit).here, [directory.apply(state, data)])
        _remember(visit, state)
        return replace(state, object_name=str((ended.value or {}).get("name") or ""))

    return frame.attempt(visit, form, "object", act, lambda again: _show_object(visit, again, "file"))


def _remember(visit: Visit, state: SetupState) -> None:
    """The dashboard shows the directory's objects from now on."""
    frame.site_of(visit).folder.keep_directory({name: getattr(state, name) for name in directory.CONNECTION})


def _definition(visit: Visit, form: Form) -> tuple[Path | None, str]:
    """The uploaded definition, verified and kept; none where the directory's folder knows the publisher."""
    upload = visit.file("definition")
    if upload is None:
        return None, ""
    root = form.text("root", most=200, required=False).lower()
    if not root:
        raise NothingGivenError(what="the publisher's root fingerprint")
    trusted = verify.verify_definition(upload[1].decode("ascii", "replace").strip(), root)
    folder = frame.site_of(visit).folder
    folder.keep_definition(trusted.definition.product, trusted.trust.fingerprint, upload[1])
    kept = folder.definition(trusted.definition.product)
    return (kept[0] if kept else None), trusted.trust.fingerprint


def _show_object(visit: Visit, form: Form, way: str) -> Response:
    form.values.pop("key", None)
    return frame.show(visit, "object", form, way=way if way in ("online", "file") else "online")


# ---- read it back


def check(visit: Visit) -> Response:
    if (away := frame.away(visit, "check")) is not None:
        return away
    state, here = frame.state_of(visit), frame.site_of(visit).here
    form = Form()
    objects: list[object] = []
    try:
        objects = list(directory.listed(here, state))
    except VolactError as exc:
        form.fail(exc)
    return frame.show(visit, "check", form, objects=objects, line=here.shown(directory.objects(state)))
