# SPDX-License-Identifier: Apache-2.0
"""The wizard's first half for a KMS host: method, machine, product, key."""

from dataclasses import replace

from starlette.responses import Response

from volact.console.pages.setup import frame
from volact.console.setup import host, steps
from volact.console.setup.state import METHODS, SetupState
from volact.console.targets import Target
from volact.core.errors import VolactError
from volact.sealing import verify
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit


def begin(visit: Visit) -> Response:
    """Goes on where this session left off."""
    state = frame.state_of(visit)
    return visit.redirect(frame.link(steps.frontier(state).key))


def restart(visit: Visit) -> Response:
    frame.forget(visit)
    return visit.redirect(frame.link("method"))


# ---- method


def method(visit: Visit) -> Response:
    return frame.show(visit, "method", Form(method=frame.state_of(visit).method or METHODS[0]))


def choose_method(visit: Visit) -> Response:
    """Another method than before begins anew; the same one keeps what was done."""
    form = Form(visit.form)
    chosen = form.choice("method", METHODS)

    def act(state: SetupState) -> SetupState:
        return state if state.method == chosen else SetupState(method=chosen)

    return frame.attempt(visit, form, "method", act, lambda again: frame.show(visit, "method", again))


# ---- machine


def target(visit: Visit) -> Response:
    state = frame.state_of(visit)
    return frame.away(visit, "target") or _show_target(visit, Form(where="there" if state.target else "here"))


def choose_target(visit: Visit) -> Response:
    if (away := frame.away(visit, "target")) is not None:
        return away
    form = Form(visit.form)
    where = form.choice("where", ("here", "there"))
    name = form.text("machine", most=253).lower() if where == "there" else ""

    def act(state: SetupState) -> SetupState:
        chosen = replace(state, target=name)
        host.look(frame.target_of(visit, chosen))
        return chosen if name == state.target else SetupState(method=state.method, target=name, done=("method",))

    return frame.attempt(visit, form, "target", act, lambda again: _show_target(visit, again))


def _show_target(visit: Visit, form: Form) -> Response:
    site = frame.site_of(visit)
    return frame.show(visit, "target", form, fleet=site.fleet() is not None, here=site.folders["host"])


# ---- product


def product(visit: Visit) -> Response:
    if (away := frame.away(visit, "product")) is not None:
        return away
    return _show_product(visit, Form(root=frame.state_of(visit).root))


def give_product(visit: Visit) -> Response:
    if (away := frame.away(visit, "product")) is not None:
        return away
    form = Form(visit.form)
    root, kept = form.text("root", most=200, required=False), form.flag("keep")

    def act(state: SetupState) -> SetupState:
        machine = frame.target_of(visit, state)
        present = host.look(machine)
        if kept and present.products:
            one = present.products[0]
            _keep_local_definition(visit, state, str(one["product"]), str(one["root"]))
            return replace(state, product=str(one["product"]), root=str(one["root"]))
        name, data = visit.file("definition") or ("", b"")
        added = host.add_product(data, name, root)
        frame.run(visit, machine, [*([] if present.exists else [host.init()]), added])
        trusted = verify.verify_definition(data.decode("ascii", "replace").strip(), root.strip().lower())
        frame.site_of(visit).folder.keep_definition(trusted.definition.product, trusted.trust.fingerprint, data)
        return replace(state, product=trusted.definition.product, root=trusted.trust.fingerprint)

    return frame.attempt(visit, form, "product", act, lambda again: _show_product(visit, again))


def _keep_local_definition(visit: Visit, state: SetupState, product: str, root: str) -> None:
    """A host on this machine has its definition in a file; the test activation takes it from there."""
    role = None if state.target else frame.site_of(visit).host()
    for trusted in role.folder.products() if role else []:
        if (trusted.definition.product, trusted.trust.fingerprint) == (product, root):
            frame.site_of(visit).folder.keep_definition(product, root, trusted.token.encode())


def _show_product(visit: Visit, form: Form) -> Response:
    machine, present, problem = _present(visit)
    lines = [machine.shown(host.init())] if present and not present.exists and machine else []
    return frame.show(visit, "product", form, present=present, problem=problem, lines=lines, machine=machine)


# ---- key


def key(visit: Visit) -> Response:
    return frame.away(visit, "key") or _show_key(visit, Form())


def give_key(visit: Visit) -> Response:
    if (away := frame.away(visit, "key")) is not None:
        return away
    form = Form(visit.form)
    text, chosen = form.text("key", most=100, required=False), form.text("chosen", most=5, required=False)

    def act(state: SetupState) -> SetupState:
        machine = frame.target_of(visit, state)
        if chosen:
            known = host.look(machine).key(chosen)
            if known is not None:
                return replace(state, partial=chosen, group=int(known["group"]))
        command, parsed = host.install_key(text)
        frame.run(visit, machine, [command])
        return replace(state, partial=parsed.partial, group=parsed.group)

    return frame.attempt(visit, form, "key", act, lambda again: _show_key(visit, again))


def skip_key(visit: Visit) -> Response:
    """A host without a key answers nobody; it can be given one later."""
    if (away := frame.away(visit, "key")) is not None:
        return away
    state = replace(frame.state_of(visit), partial="", group=0)
    frame.keep(visit, state.with_done("key").with_done("activate"))
    return visit.redirect(frame.link("configure"))


def _show_key(visit: Visit, form: Form) -> Response:
    machine, present, problem = _present(visit)
    return frame.show(visit, "key", form, present=present, problem=problem, machine=machine)


def _present(visit: Visit) -> tuple[Target | None, host.Present | None, VolactError | None]:
    """The machine and what it says; its error is shown on the page, which then offers nothing."""
    try:
        machine = frame.target_of(visit, frame.state_of(visit))
        return machine, host.look(machine), None
    except VolactError as exc:
        return None, None, exc
