# SPDX-License-Identifier: Apache-2.0
"""What the wizard's pages share: the state in the session, the way through the steps, running what a step would run."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select
from starlette.responses import Response

from volact.console.remote import FleetMachine
from volact.console.setup import steps
from volact.console.setup.state import SetupState
from volact.console.setup.steps import Step
from volact.console.site import ConsoleSite
from volact.console.targets import Command, Ended, Target
from volact.core.errors import InputError, VolactError
from volact.fleet.reach import Target as Address
from volact.fleet.schema import MACHINES
from volact.web.pages.form import Form
from volact.web.pages.visit import Visit

REMEMBERED = "setup"

Act = Callable[[SetupState], SetupState]  # what a step does: the state after it, or an error


class NoSuchMachineError(InputError):
    code = "setup-machine-unknown"
    fmt = "the fleet has no machine {name}"
    remedy = "choose one of the list, or add it: Fleet, Add machines"


def site_of(visit: Visit) -> ConsoleSite:
    site: ConsoleSite = visit.state.site
    return site


def state_of(visit: Visit) -> SetupState:
    return SetupState.load(visit.recall(REMEMBERED))


def keep(visit: Visit, state: SetupState) -> None:
    visit.remember(REMEMBERED, state.dump())


def forget(visit: Visit) -> None:
    visit.remember(REMEMBERED, None)


def target_of(visit: Visit, state: SetupState) -> Target:
    """The machine that the steps are about; raises :class:`NoSuchMachineError`."""
    site = site_of(visit)
    if not state.target:
        return site.here
    fleet = site.fleet()
    if fleet is None:
        raise NoSuchMachineError(name=state.target)
    m = MACHINES.c
    with fleet.store.read() as conn:
        row = conn.execute(select(m.name, m.address, m.port, m.account).where(m.name == state.target)).first()
    if row is None:
        raise NoSuchMachineError(name=state.target)
    return FleetMachine(fleet.folder, Address(*row))


def run(visit: Visit, target: Target, commands: Sequence[Command]) -> list[Ended]:
    """One after the other, until one fails; each is in the audit with what came of it."""
    ended = []
    for command in commands:
        done = target.run(command)
        visit.note("setup-command", f"{target.name}: {command}", "done" if done.code == 0 else "failed")
        ended.append(done.checked())
    return ended


def link(step: str) -> str:
    return f"/setup/{step}"


def away(visit: Visit, key: str) -> Response | None:
    """Where somebody is sent who opens a step before its time."""
    state = state_of(visit)
    return None if steps.may_open(state, key) else visit.redirect(link(steps.frontier(state).key))


def show(visit: Visit, key: str, form: Form, **context: Any) -> Response:
    """A step's page: its template is named like it."""
    state = state_of(visit)
    step = steps.find(state, key) or steps.METHOD
    all_steps = steps.steps_of(state) if state.method else (steps.METHOD,)
    place = next(number for number, one in enumerate(all_steps, 1) if one.key == step.key)
    status = 200 if form.valid else 422
    return visit.render(
        f"setup/{key}.html",
        status,
        form=form,
        state=state,
        step=step,
        place=place,
        steps=[one.title for one in all_steps],
        back=link(all_steps[place - 2].key) if place > 1 else "",
        **context,
    )


def attempt(visit: Visit, form: Form, key: str, act: Act, again: Callable[[Form], Response]) -> Response:
    """Does a step and goes on to the next one, or shows it again with what went wrong."""
    if not form.valid:
        return again(form)
    try:
        state = act(state_of(visit))
    except VolactError as exc:
        form.fail(exc)
        return again(form)
    keep(visit, state.with_done(key))
    return go_on(visit, key)


def go_on(visit: Visit, key: str) -> Response:
    after: Step = steps.after(state_of(visit), key)
    return visit.redirect(link(after.key))
