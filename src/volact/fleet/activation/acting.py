# SPDX-License-Identifier: Apache-2.0
"""Keys and activations as jobs: what the engine runs on each machine, built of ``install``, ``activate`` and rows.

Each act may be killed anywhere and run again.  A proxy activation writes the machine's request down before the
publisher is asked and the answer before it is brought back; the machine gives the same request again, the publisher
answers it again for nothing, and an answer may be applied twice.  So no activation is used up twice and none is lost.
Keys are opened by the vault where they are needed, and go nowhere but into SSH's standard input.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from volact.core.definition import ProductDefinition
from volact.core.errors import ConfigError, VolactError
from volact.core.exchange import AnswerFile
from volact.core.product_key import ProductKey
from volact.fleet.activation import activate, confirmations, install
from volact.fleet.activation.activate import Done, Options, Step, Way
from volact.fleet.activation.confirmations import Confirmation, KeptBackup
from volact.fleet.activation.install import GENERIC, Choice
from volact.fleet.acts.refresh import SeenProduct
from volact.fleet.acts.seen import ProductNotThereError, look, look_again, usable
from volact.fleet.jobs.acts import Changes, Outcome, Work
from volact.fleet.jobs.records import TaskState
from volact.fleet.keys import keys, publisher, vault
from volact.fleet.keys.keys import KeyRow
from volact.fleet.keys.publisher import KnownDefinition, Service
from volact.fleet.keys.vault import Vault
from volact.fleet.reach import Reach, Session
from volact.fleet.reach.errors import MachineError
from volact.fleet.store import FleetStore

INSTALL, ACTIVATE = "install-key", "activate"
COLLECT, APPLY, KEEP, RESTORE = "proxy-collect", "proxy-apply", "backup", "restore"
PUBLISHER_THREADS = 16  # calls to the publisher at once; it takes what waits together in batches
CONFIRM = "confirm"  # the step before the publisher is asked

T = TypeVar("T")


class NoBackupError(ConfigError):
    code = "fleet-no-backup"
    fmt = "there is no backup of {machine} to put back"
    remedy = "activate it anew; `volact fleet activate --keep {machine}` makes a backup for the next time"


class NoAnswerError(ConfigError):
    code = "fleet-no-answer"
    fmt = "there is no answer of the publisher for {machine} that was not applied yet"
    remedy = "collect its request and have it confirmed: `volact fleet proxy collect`, `volact fleet proxy confirm`"


@dataclass
class Context:
    """What every act works with.  ``vault``: opens it, once, where a key is really needed."""

    store: FleetStore
    reach: Reach
    clock: Callable[[], int]
    vault: Callable[[], Vault]
    service: Callable[[KnownDefinition, str | None], Service] = publisher.service_of
    random: Callable[[int], bytes] = os.urandom
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(PUBLISHER_THREADS, thread_name_prefix="volact-publisher")
    )
    _opened: list[Vault] = field(default_factory=list, repr=False)

    async def ask(self, call_: Callable[[], T]) -> T:
        """A call to the publisher, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call_)

    async def read(self, query: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.store.read() as conn:
                return query(conn)

        return await asyncio.to_thread(run)

    async def write(self, change: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.store.write() as conn:
                return change(conn)

        return await asyncio.to_thread(run)

    async def open_key(self, row: KeyRow) -> ProductKey:
        opened = self.opened_vault()
        return await self.read(lambda conn: keys.open_key(conn, opened, row))

    def opened_vault(self) -> Vault:
        """Its passphrase costs a quarter of a second, so it is opened once a process."""
        if not self._opened:
            self._opened.append(self.vault())
        return self._opened[0]

    async def definition(self, root: str, product: str) -> KnownDefinition | None:
        found = await self.read(publisher.definitions)
        return next((one for one in found if (one.root, one.product) == (root, product)), None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


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
                    results.append({"product": choice.product, "error": _code(exc), "message": str(exc)})
            changes = await look_again(session, work)
        return _outcome(results, error, changes, nothing=not any("edition" in one for one in results))

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
        return _activated(results, changes)

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


class Collect:
    """Only the first part of a proxy activation: for an isolated lab, whose publisher is asked from elsewhere."""

    kind, resumable = COLLECT, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        context, results, error = self._context, [], None
        async with context.reach.session(work.target) as session:
            for product in await self._waiting(session, work):
                try:
                    collected = await activate.collect(session, product.product)
                    row = await _keep_request(context, work.target.name, collected, COLLECT)
                    results.append({"product": product.product, "reference": row.reference, "state": row.state})
                except MachineError as exc:
                    error = error or exc
                    results.append({"product": product.product, "error": _code(exc), "message": str(exc)})
        return _outcome(results, error, None, nothing=not results)

    async def preview(self, work: Work) -> Outcome:
        async with self._context.reach.session(work.target) as session:
            found = await self._waiting(session, work)
        return Outcome({"products": [{"product": one.product, "would_collect": True} for one in found]})

    async def _waiting(self, session: Session, work: Work) -> list[SeenProduct]:
        found = usable(await look(session), work.arguments.get("product"), work.target.name)
        force = bool(work.arguments.get("force"))
        return [one for one in found if one.channel in activate.POOLED and (force or not one.licensed)]


class Apply:
    """Only the last part: answers that came back by file are brought to their machines."""

    kind, resumable = APPLY, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        context, results = self._context, []
        changes: list[Changes] = []
        waiting = await self._answers(work)
        if not waiting:
            raise NoAnswerError(machine=work.target.name)
        async with context.reach.session(work.target) as session:
            for row in waiting:
                step = Step(SeenProduct(row.product, row.root, ""), Way.PROXY)
                answer = row.answer_file
                assert answer is not None, "only answered rows are read"
                results.append(await _apply(session, step, row, answer, changes))
            if work.arguments.get("keep") and any(done.licensed for done in results):
                changes.append(await make_backup(context, session, work.target.name))
            changes.append(await look_again(session, work))
        return _activated(results, changes)

    async def preview(self, work: Work) -> Outcome:
        told = [{"product": row.product, "would_apply": row.reference} for row in await self._answers(work)]
        return Outcome({"products": told})

    async def _answers(self, work: Work) -> list[Confirmation]:
        name = work.target.name
        return await self._context.read(lambda conn: confirmations.answered(conn, [name]))


class Keep:
    """Let a machine seal its key and perpetual licences to the vault."""

    kind, resumable = KEEP, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        async with self._context.reach.session(work.target) as session:
            changes = await make_backup(self._context, session, work.target.name)
        return Outcome({"kept": True}, changes=changes)

    async def preview(self, work: Work) -> Outcome:
        async with self._context.reach.session(work.target) as session:
            seen = await look(session)
        found = [one.product for one in seen.products if one.licensed and one.channel in activate.POOLED]
        return Outcome({"would_keep": found})


class Restore:
    """Local re-activation: the newest backup of a machine of that name, put back on the same hardware."""

    kind, resumable = RESTORE, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        kept = await self._newest(work)
        changes: list[Changes] = []
        async with self._context.reach.session(work.target) as session:
            results = await restore_backup(self._context, session, kept, changes)
            changes.append(await look_again(session, work))
        return _activated(results, changes)

    async def preview(self, work: Work) -> Outcome:
        kept = await self._newest(work)
        return Outcome({"would_restore": list(kept.products), "of": kept.machine_id.hex()})

    async def _newest(self, work: Work) -> KeptBackup:
        kept = await self._context.read(partial(confirmations.backups, machine=work.target.name))
        if not kept:
            raise NoBackupError(machine=work.target.name)
        return kept[0]


ACTS = (InstallKeys, Activate, Collect, Apply, Keep, Restore)


async def by_proxy(
    context: Context, session: Session, work: Work, step: Step, url: str | None, changes: list[Changes]
) -> Done:
    """Collect, confirm, apply: each part is on disk before the next begins."""
    # (1) the machine's request; the same as at an attempt that was interrupted
    collected = await activate.collect(session, step.product.product)
    row = await _keep_request(context, work.target.name, collected, ACTIVATE)
    # (2) the publisher's answer, where it is not here already and good
    await work.intend(CONFIRM, reference=row.reference)
    answer = row.answer_file if row.result in (None, confirmations.OK) else None
    if answer is None:
        answer = await confirm_row(context, row, url)
    # (3) back to the machine
    return await _apply(session, step, row, answer, changes)


async def confirm_row(context: Context, row: Confirmation, url: str | None = None) -> AnswerFile:
    """The publisher's answer to a collected request, kept before it is used."""
    known = await context.definition(row.root, row.product)
    if known is None and url is None:
        raise publisher.NoServiceError(product=row.product)
    service = context.service(known or KnownDefinition(row.root, row.product, 0, None, ""), url)
    answer = await context.ask(lambda: publisher.confirm(row.request_file, service))
    await context.write(lambda conn: confirmations.keep_answer(conn, row.reference, answer.to_bytes(), context.clock()))
    return answer


async def make_backup(context: Context, session: Session, machine: str) -> Changes:
    to = await context.read(vault.recipient)
    identity, products, sealed = await activate.backup(session, to)
    made = KeptBackup(identity, machine, to, products, sealed, context.clock())
    return lambda conn, _now: confirmations.keep_backup(conn, made)


async def restore_backup(context: Context, session: Session, kept: KeptBackup, changes: list[Changes]) -> list[Done]:
    """Definitions first, where the new installation has none; then the backup, opened on its way into SSH only."""
    there = {one.product for one in (await look(session)).products}
    for known in await context.read(publisher.definitions):
        if known.product in kept.products and known.product not in there:
            await install.add_product(session, known)
    opened = context.opened_vault().open_backup(kept.sealed, activate.BACKUP_PURPOSE)
    results = await activate.restore(session, opened)
    changes.append(lambda conn, now: confirmations.note_restored(conn, kept.machine_id, now))
    return results


async def _keep_request(
    context: Context, machine: str, collected: confirmations.Collected, source: str
) -> Confirmation:
    reference = context.random(confirmations.REFERENCE_BYTES)
    return await context.write(
        lambda conn: confirmations.keep_request(conn, machine, collected, reference, context.clock(), source)
    )


async def _apply(session: Session, step: Step, row: Confirmation, answer: AnswerFile, changes: list[Changes]) -> Done:
    done = await activate.apply(session, step, answer)
    result = confirmations.OK if done.error is None or done.licensed else done.error
    changes.append(lambda conn, now: confirmations.keep_result(conn, row.reference, result, now))
    return done


def _installed(choice: Choice, answer: Mapping[str, Any]) -> dict[str, Any]:
    partial_key = answer.get("partial_key")
    shown = {"product": choice.product, "edition": answer.get("edition"), "channel": answer.get("channel")}
    return {**shown, "partial_key": partial_key if isinstance(partial_key, str) else None}


def _activated(results: Sequence[Done], changes: Sequence[Changes]) -> Outcome:
    told = [done.to_json() for done in results]
    bad = next((done for done in results if done.error is not None and done.way is not Way.NONE), None)
    error = None if bad is None else (str(bad.error), bad.message or str(bad.error))
    state = TaskState.DONE if error is None else TaskState.FAILED
    if error is None and all(done.way is Way.NONE for done in results):
        state = TaskState.SKIPPED
    return Outcome({"products": told}, state, error, _all(changes))


def _outcome(
    results: Sequence[Mapping[str, Any]], error: VolactError | None, changes: Changes | None, *, nothing: bool
) -> Outcome:
    if error is not None:
        return Outcome({"products": list(results)}, TaskState.FAILED, (_code(error), str(error)), changes)
    state = TaskState.SKIPPED if nothing else TaskState.DONE
    return Outcome({"products": list(results)}, state, None, changes)


def _all(changes: Sequence[Changes]) -> Changes | None:
    if not changes:
        return None

    def apply(conn: Connection, now: int) -> None:
        for change in changes:
            change(conn, now)

    return apply


def _code(error: VolactError) -> str:
    return str(error.fields.get("remote") or error.code)
