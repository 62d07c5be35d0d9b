# SPDX-License-Identifier: Apache-2.0
"""The wizard's step Configure for a KMS host: port, intervals, and the domains that it is published in."""

from collections.abc import Callable

from starlette.responses import Response

from volact.console.pages.setup import frame
from volact.console.setup import host, steps
from volact.console.setup.state import SetupState
from volact.console.targets import Command
from volact.core.errors import VolactError
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

KEY = "configure"


def configure(visit: Visit) -> Response:
    return frame.away(visit, KEY) or _show(visit, None)


def save(visit: Visit) -> Response:
    if (away := frame.away(visit, KEY)) is not None:
        return away
    form = Form(visit.form)

    def act(state: SetupState) -> SetupState:
        machine = frame.target_of(visit, state)
        frame.run(visit, machine, host.settings(visit.form, host.look(machine).settings))
        return state

    return frame.attempt(visit, form, KEY, act, lambda again: _show(visit, again))


def add_domain(visit: Visit) -> Response:
    form = Form(visit.form)
    return _one(visit, form, lambda: host.add_domain(visit.form), "The domain was added.")


def remove_domain(visit: Visit) -> Response:
    form = Form(visit.form)
    name = form.text("domain", most=300)
    return _one(visit, form, lambda: host.remove_domain(name), "The domain was removed.")


def preview(visit: Visit) -> Response:
    """The commands that the form as it stands would run; what is wrong with it is said there too."""
    state = frame.state_of(visit)
    if not steps.may_open(state, KEY):
        return visit.render_part("setup/parts.html", "commands", [], "")
    try:
        machine = frame.target_of(visit, state)
        commands = host.settings(visit.form, host.look(machine).settings)
        return visit.render_part("setup/parts.html", "commands", [machine.shown(one) for one in commands], "")
    except VolactError as exc:
        return visit.render_part("setup/parts.html", "commands", [], str(exc))


def _one(visit: Visit, form: Form, make: Callable[[], Command], done: str) -> Response:
    if (away := frame.away(visit, KEY)) is not None:
        return away
    if form.valid:
        try:
            frame.run(visit, frame.target_of(visit, frame.state_of(visit)), [make()])
            return visit.redirect(frame.link(KEY), done)
        except VolactError as exc:
            form.fail(exc)
    return _show(visit, form)


def _show(visit: Visit, sent: Form | None) -> Response:
    problem: VolactError | None = None
    settings: dict[str, object] = {}
    machine = None
    try:
        machine = frame.target_of(visit, frame.state_of(visit))
        settings = dict(host.look(machine).settings)
    except VolactError as exc:
        problem = exc
    form = _form(settings)
    if sent is not None:
        form.values |= sent.values
        form.errors, form.error = sent.errors, sent.error
    port = settings.get("port")
    return frame.show(
        visit,
        KEY,
        form,
        problem=problem,
        settings=settings,
        machine=machine,
        domains=settings.get("dns", ()),
        firewall=host.firewall_lines(port if isinstance(port, int) else 1688),
    )


def _form(settings: dict[str, object]) -> Form:
    own = settings.get("activation_minutes") is not None or settings.get("renewal_minutes") is not None
    return Form(
        port=settings.get("port", 1688),
        address=settings.get("address", "::"),
        intervals="own" if own else "policy",
        activation=settings.get("activation_minutes") or 120,
        renewal=settings.get("renewal_minutes") or 10080,
        publishing="yes" if settings.get("dns_publishing", True) else "",
        sign="none",
        priority=0,
        weight=0,
    )
