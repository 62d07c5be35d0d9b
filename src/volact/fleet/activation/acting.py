# SPDX-License-Identifier: Apache-2.0
"""Keys and activations as jobs: what the engine runs on each machine, built of ``install``, ``activate`` and rows.

Each act may be killed anywhere and run again; ``proxy`` says why no activation is used up twice then.  Keys are opened
by the vault where they are needed, and go nowhere but into SSH's standard input.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from volact.core.definition import ProductDefinition
from volact.core.errors import VolactError
from volact.fleet.activation import activate, confirmations, install
from volact.fleet.activation.activate import ACTIVATE, Done, Options, Step, Way
from volact.fleet.activation.backups import make_backup, restore_backup
from volact.fleet.activation.install import GENERIC, INSTALL, Choice
from volact.fleet.activation.outcomes import activated, code_of, outcome
from volact.fleet.activation.proxy import by_proxy
from volact.fleet.acts.context import Context
from volact.fleet.acts.refresh import SeenProduct
from volact.fleet.acts.seen import ProductNotThereError, look, look_again, usable
from volact.fleet.jobs.acts import Changes, Outcome, Work
from volact.fleet.keys import keys, publisher
from volact.fleet.reach import Session
from volact.fleet.reach.errors import MachineError


class InstallKeys:
    """``key_id``: the chosen key; without one, the recommended key of each product by ``prefer`` (generic, mak).
    ``replace``: also where a key is installed.  ``add``: bring definitions that the fleet has, where they lack."""

    kind, resumable = INSTALL, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        context, results, error = self._context, [], None
        async with context.reach.session(work.target) as session:
            products = await self._products(session, work)
            choices = await self._choices(products, work)
            for product, choice in choices:
                if install.is_installed(product, choice):
                    results.append({"product": choice.product, "partial_key": product.partial_key, "was": "installed"})
                    continue
                try:
                    key = None if choice.key is None else await context.open_key(choice.key)
                    answer = await install.install(session, choice, key)
                    results.append(_installed(choice, answer))
                except MachineError as exc:
                    error = error or exc
                    results.append({"product": choice.product, "error": code_of(exc), "message": str(exc)})
            changes = await look_again(session, work)
        return outcome(results, error, changes, nothing=not any("edition" in one for one in results))

    async def preview(self, work: Work) -> Outcome:
        async with self._context.reach.session(work.target) as session:
            products = usable(await look(session), work.arguments.get("product"), work.target.name)
        chosen = await self._choices(products, work)
        told = [
            {"product": choice.product, "would_install": choice.partial or GENERIC}
            for product, choice in chosen
            if not install.is_installed(product, choice)
        ]
        return Outcome({"products": told})

    async def _products(self, session: Session, work: Work) -> list[SeenProduct]:
        """What is there; a product that is asked for by name is added where the fleet has its definition."""
        name = work.arguments.get("product")
        found = usable(await look(session), None, work.target.name)
        chosen = [one for one in found if name in (None, one.product)]
        if chosen or name is None:
            return chosen
        known = [one for one in await self._context.read(publisher.definitions) if one.product == name]
        if not work.arguments.get("add") or not known:
            raise ProductNotThereError(machine=session.target.name, product=name)
        await install.add_product(session, known[0])
        return usable(await look(session), name, work.target.name)

    async def _choices(self, products: Sequence[SeenProduct], work: Work) -> list[tuple[SeenProduct, Choice]]:
        arguments, machine = work.arguments, work.target.name
        rows = await self._context.read(keys.listed)
        edition = arguments.get("edition")
        if arguments.get("key_id"):
            key = next((row for row in rows if row.key_id == arguments["key_id"]), None)
            if key is None:
                raise keys.KeyUnknownHereError(key=str(arguments["key_id"])[:8])
            fitting = [one for one in products if install.fitting(one, key)]
            if not fitting:
                raise install.KeyOfOtherPublisherError(partial=key.partial, machine=machine)
            return [(one, Choice(one.product, key, edition or one.edition)) for one in fitting]
        known = await self._definitions()
        prefer = str(arguments.get("prefer", GENERIC))
        wanted = [one for one in products if one.channel is None or arguments.get("replace")]
        made = [(one, install.recommend(one, rows, known, prefer, machine)) for one in wanted]
        return [(one, Choice(c.product, c.key, edition or c.edition)) for one, c in made]

    async def _definitions(self) -> dict[tuple[str, str], ProductDefinition]:
        found = await self._context.read(publisher.definitions)
        return {(one.root, one.product): one.verified().definition for one in found}


class Activate:
    """Each product of a machine by its own way, see :class:`~volact.fleet.activation.activate.Options`."""

    kind, resumable = ACTIVATE, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        context, options = self._context, Options.from_arguments(work.arguments)
        results: list[Done] = []
        changes: list[Changes] = []
        async with context.reach.session(work.target) as session:
            if options.restore:
                results += await self._restore(session, work, changes)
            steps = activate.plan(usable(await look(session), options.product, work.target.name), options)
            if any(step.way is Way.VOLUME for step in steps):
                await activate.set_kms(session, options)
            for step in steps:
                results.append(await self._one(session, work, step, options, changes))
            if options.keep:
                await self._keep(session, work, steps, results, changes)
            changes.append(await look_again(session, work))
        return activated(results, changes)

    async def preview(self, work: Work) -> Outcome:
        options = Options.from_arguments(work.arguments)
        async with self._context.reach.session(work.target) as session:
            steps = activate.plan(usable(await look(session), options.product, work.target.name), options)
        told = [{"product": one.product.product, "by": str(one.way), "state": one.product.state} for one in steps]
        return Outcome({"products": told})

    async def _one(self, session: Session, work: Work, step: Step, options: Options, changes: list[Changes]) -> Done:
        """One product; what fails of it does not keep the machine's others, unless the machine is gone."""
        if step.way is Way.NONE:
            return activate.skipped(step)
        try:
            if step.way is Way.PROXY:
                return await by_proxy(self._context, session, work, step, options.publisher, changes)
            return await activate.activate(session, step, options)
        except MachineError as exc:
            if not exc.fields.get("remote"):
                raise
            return activate.failed(step, exc)
        except VolactError as exc:
            return activate.failed(step, exc)

    async def _restore(self, session: Session, work: Work, changes: list[Changes]) -> list[Done]:
        """A machine that was set up anew gets its identity back before anything else is asked for.  Where that is
        refused, for its hardware for instance, it is activated as the new machine that it is."""
        kept = await self._context.read(partial(confirmations.backups, machine=work.target.name))
        if not kept:
            return []
        seen = await look(session)
        if seen.machine_id in {one.machine_id for one in kept} or any(one.licensed for one in seen.products):
            return []
        try:
            return await restore_backup(self._context, session, kept[0], changes)
        except VolactError as exc:
            if isinstance(exc, MachineError) and not exc.fields.get("remote"):
                raise
            return []

    async def _keep(
        self, session: Session, work: Work, steps: Sequence[Step], results: Sequence[Done], changes: list[Changes]
    ) -> None:
        pooled = {step.product.product for step in steps if step.product.channel in activate.POOLED}
        if any(done.licensed and done.product in pooled for done in results):
            changes.append(await make_backup(self._context, session, work.target.name))


def _installed(choice: Choice, answer: Mapping[str, Any]) -> dict[str, Any]:
    partial_key = answer.get("partial_key")
    shown = {"product": choice.product, "edition": answer.get("edition"), "channel": answer.get("channel")}
    return {**shown, "partial_key": partial_key if isinstance(partial_key, str) else None}
