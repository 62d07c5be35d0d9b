# SPDX-License-Identifier: Apache-2.0
"""Proxy activation as jobs: requests collected from machines, confirmed by the publisher, answers brought back.

Each act may be killed anywhere and run again.  A machine's request is written down before the publisher is asked, and
the answer before it is brought back; the machine gives the same request again, the publisher answers it again for
nothing, and an answer may be applied twice.  So no activation is used up twice and none is lost.  Spec:
docs/spec/proxy.md.
"""

from volact.core.errors import ConfigError
from volact.core.exchange import AnswerFile
from volact.fleet.activation import activate, confirmations
from volact.fleet.activation.activate import ACTIVATE, Done, Step, Way
from volact.fleet.activation.backups import make_backup
from volact.fleet.activation.confirmations import Confirmation
from volact.fleet.activation.outcomes import activated, code_of, outcome
from volact.fleet.acts.context import Context
from volact.fleet.acts.refresh import SeenProduct
from volact.fleet.acts.seen import look, look_again, usable
from volact.fleet.jobs.acts import Changes, Outcome, Work
from volact.fleet.keys import publisher
from volact.fleet.keys.publisher import KnownDefinition
from volact.fleet.reach import Session
from volact.fleet.reach.errors import MachineError

COLLECT, APPLY = "proxy-collect", "proxy-apply"

CONFIRM = "confirm"  # the step before the publisher is asked


class NoAnswerError(ConfigError):
    code = "fleet-no-answer"
    fmt = "there is no answer of the publisher for {machine} that was not applied yet"
    remedy = "collect its request and have it confirmed: `volact fleet proxy collect`, `volact fleet proxy confirm`"


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
                    results.append({"product": product.product, "error": code_of(exc), "message": str(exc)})
        return outcome(results, error, None, nothing=not results)

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
        return activated(results, changes)

    async def preview(self, work: Work) -> Outcome:
        told = [{"product": row.product, "would_apply": row.reference} for row in await self._answers(work)]
        return Outcome({"products": told})

    async def _answers(self, work: Work) -> list[Confirmation]:
        name = work.target.name
        return await self._context.read(lambda conn: confirmations.answered(conn, [name]))


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
