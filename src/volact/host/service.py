# SPDX-License-Identifier: Apache-2.0
"""The KMS host's answers: opens and proves requests, counts their machines, signs their licences, in batches.

All requests that wait in a worker are taken together through numbered phases (:meth:`HostService._answer_batch`): one
durable transaction serves the whole batch, and no licence leaves before its machine is in the table.  One batch is in
flight at a time, so a batch grows with the load while a lone request is answered at once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from volact.core.binding import NONCE_SIZE
from volact.core.count import day_of
from volact.core.errors import ConfigError, InputError, TrustError, VolactError
from volact.core.licence import Licence
from volact.core.refusal import IssuerBusyError, Refusal, SignedRefusal
from volact.core.request import ActivationRequest
from volact.host.hardware import pack
from volact.host.issuing import Accepted, Intervals, decide, licence_for
from volact.host.recording import HOST_SCOPE, Recorded, Refused, Seen
from volact.host.store import HostStore
from volact.issuer import rules
from volact.issuer.form import LicenceForm
from volact.issuer.serving import ServedKey
from volact.sealing import envelope, proof
from volact.wire.batching import Batcher
from volact.wire.server import BusyError, IssuerUnknownError

MAX_BATCH = 64  # one batch keeps the event loop for about 20 ms; larger ones gain little (docs/spec/count.md)
SOFT_LIMIT = 2_000  # waiting requests beyond which newcomers are asked, signed, to come back: about half a second
HARD_LIMIT = 8_000  # beyond which they are turned away unread; each waiting request holds about 2 KiB
BACK_OFF = 60  # seconds, spread by the clients' own jitter
BUSY = Refusal.of(IssuerBusyError, retry_after=BACK_OFF)
# What proves nobody costs its sender nothing and is in the counters; the log keeps so many a minute: it has an end at
# which the oldest goes, and nobody may push out what administrators want to read.
UNPROVEN_EVENTS, UNPROVEN_SECONDS = 60, 60
UNEXPECTED = "internal"  # the counter and event of what no named error foresees; the log has the rest

_log = logging.getLogger("volact.host")


class HostNotActivatedHereError(ConfigError):
    code = "no-activated-key"
    fmt = "this KMS host has no activated key for {product}"
    remedy = "on the host, run `volact host activate`, then `volact host status`"


class NonceSizeError(InputError):
    code = "nonce-size"
    fmt = "the nonce has {size} bytes, it must have 16"
    remedy = "send 16 random bytes, or none"


@dataclass(frozen=True, slots=True)
class Serving(ServedKey):
    """One activated host key, ready to answer.  ``scopes`` maps product groups to the store's scope IDs."""

    scopes: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Form:
    """A licence's form, and whose answer it writes."""

    serving: Serving
    form: LicenceForm


@dataclass(slots=True)
class _Waiting:
    """A request on its way through the phases."""

    serving: Serving
    sealed: bytes
    future: "asyncio.Future[bytes]"
    busy: bool
    text: str = ""
    proven: proof.ProvenRequest | None = None
    decision: Accepted | Refusal | None = None
    error: Exception | None = None


class HostService:
    """An :class:`~volact.wire.server.IssuerService` over one store.  ``use`` replaces what it serves at any time."""

    def __init__(self, store: HostStore, clock: Callable[[], int]) -> None:
        self._store, self._clock = store, clock
        self._serving: dict[str, Serving] = {}
        self._intervals = Intervals()
        self._forms: dict[tuple[str, str, str], _Form] = {}  # by issuer, product and edition
        self._batches = Batcher(self._answer_batch, MAX_BATCH)
        self._noted: tuple[int, int] = (0, 0)  # the present minute, and how many of the unproven it has in the log

    def use(self, serving: Sequence[Serving], intervals: Intervals) -> None:
        self._serving = {one.opening.id: one for one in serving}
        self._intervals = intervals
        self._forms = {}

    @property
    def ready(self) -> bool:
        """Whether a licence that it signs now would be accepted."""
        return any(serving.issuer.ends_at > self._clock() for serving in self._serving.values())

    async def descriptor(self, root: str, product: str, group: int, nonce: bytes) -> str:
        if len(nonce) not in (0, NONCE_SIZE):
            raise NonceSizeError(size=len(nonce))
        found = [s for s in self._serving.values() if s.root == root and product in s.definitions]
        granting = [s for s in found if group in s.issuer.grant.groups]
        # Without a key for the group another key of the publisher answers: it can sign the refusal that says so.
        for serving in granting or found:
            return serving.descriptor(nonce, self._clock())
        raise HostNotActivatedHereError(product=product[:63] or "this product")

    async def activate(self, issuer: str, sealed: bytes) -> bytes:
        serving = self._serving.get(issuer)
        if serving is None:
            raise IssuerUnknownError(issuer=issuer[:64])
        waiting = len(self._batches)
        if waiting >= HARD_LIMIT:
            raise BusyError(retry_after=BACK_OFF)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._batches.add(_Waiting(serving, sealed, future, waiting >= SOFT_LIMIT))
        return await future

    async def finish(self) -> None:
        """Wait until what was accepted is answered: the graceful stop."""
        await self._batches.finish()

    async def _answer_batch(self, batch: list[_Waiting]) -> None:
        now = self._clock()
        # (1) open the seals, (2) prove the requests, (3) decide them by the rules
        self._open(batch)
        self._prove(batch)
        self._decide(batch, now)
        # (4) count the accepted and note the refused, in one durable transaction
        recorded = await self._record(batch, now)
        # (5) write the licences, (6) sign, (7) seal and answer
        inputs = [self._write(waiting, recorded, now) for waiting in batch]
        tokens = [self._sign(waiting, written, now) for waiting, written in zip(batch, inputs, strict=True)]
        for waiting, token in zip(batch, tokens, strict=True):
            _answer(waiting, token)

    # Each phase keeps to itself what is wrong with one request: the others of its batch go on.

    def _open(self, batch: list[_Waiting]) -> None:
        for waiting in batch:
            try:
                waiting.text = waiting.serving.opening.open_request(waiting.sealed).decode("ascii", "replace")
            except (TrustError, InputError) as exc:
                waiting.error = exc
            except Exception as exc:
                waiting.error = _unexpected(exc)

    def _prove(self, batch: list[_Waiting]) -> None:
        opened = [waiting for waiting in batch if waiting.error is None]
        for waiting, outcome in zip(opened, proof.verify_requests([one.text for one in opened]), strict=True):
            if isinstance(outcome, proof.ProvenRequest):
                waiting.proven = outcome
            else:
                waiting.error = outcome

    def _decide(self, batch: list[_Waiting], now: int) -> None:
        for waiting in batch:
            if waiting.proven is None:
                continue
            try:
                waiting.decision = BUSY if waiting.busy else _decision(waiting.proven.request, waiting.serving, now)
            except Exception as exc:
                waiting.error = _unexpected(exc)

    async def _record(self, batch: list[_Waiting], now: int) -> dict[int, Recorded]:
        """Returns what was recorded by the request's place in memory, as ``id`` gives it."""
        seen: list[Seen] = []
        order: list[int] = []
        refused: list[Refused] = []
        for waiting in batch:
            if isinstance(waiting.decision, Accepted):
                seen.append(_seen(waiting, now))
                order.append(id(waiting))
            else:
                noted = waiting.error is None or self._may_note(now)
                refused.append(_refused(waiting, now)._replace(noted=noted))
        work: Callable[[], list[Recorded]] = lambda: self._store.record(seen, day_of(now), refused)  # noqa: E731
        recorded = await asyncio.get_running_loop().run_in_executor(None, work)
        return dict(zip(order, recorded, strict=True))

    def _may_note(self, now: int) -> bool:
        minute, number = now // UNPROVEN_SECONDS, self._noted[1]
        if minute != self._noted[0]:
            number = 0
        self._noted = (minute, number + 1)
        return number < UNPROVEN_EVENTS

    def _write(self, waiting: _Waiting, recorded: dict[int, Recorded], now: int) -> str:
        """What is to be signed of a licence; empty where there is none to give, or nobody left to take it."""
        decision = waiting.decision
        if waiting.error is not None or waiting.future.done() or not isinstance(decision, Accepted):
            return ""
        try:
            claims = self._claims(waiting, decision, recorded[id(waiting)].count, now)
            return waiting.serving.issuer.licence_input(claims)
        except Exception as exc:
            waiting.error = _unexpected(exc)
            return ""

    def _sign(self, waiting: _Waiting, signing_input: str, now: int) -> str:
        """The answer's token; empty where there is an error to tell, or nobody left to tell it."""
        proven, issuer, decision = waiting.proven, waiting.serving.issuer, waiting.decision
        if waiting.error is not None or proven is None or waiting.future.done():
            return ""
        try:
            if isinstance(decision, Refusal):
                return issuer.refusal(SignedRefusal(waiting.serving.opening.id, proven.request.nonce, now, decision))
            return issuer.sign(signing_input)
        except Exception as exc:
            waiting.error = _unexpected(exc)
            return ""

    def _claims(self, waiting: _Waiting, accepted: Accepted, count: int, now: int) -> bytes:
        proven, serving = waiting.proven, waiting.serving
        assert proven is not None
        return self._form(proven, accepted, serving, now).fill(
            proven.machine,
            proven.request.nonce,
            proven.request.fingerprint,
            count=count,
            issued_at=now,
            expires_at=rules.lease_end(accepted.edition, serving.issuer.ends_at, now),
        )

    def _form(self, proven: proof.ProvenRequest, accepted: Accepted, serving: Serving, now: int) -> LicenceForm:
        """Of the licences of the request's edition, made from the first machine's.  One of before :meth:`use` is made
        anew: a batch that was under way then may have left it."""
        place = (proven.request.issuer, proven.request.product, proven.request.edition)
        known = self._forms.get(place)
        if known is not None and known.serving is serving:
            return known.form
        form = LicenceForm(_sample(proven, accepted, serving, self._intervals, now))
        self._forms[place] = _Form(serving, form)
        return form


def _decision(request: ActivationRequest, serving: Serving, now: int) -> Accepted | Refusal:
    return decide(
        request,
        issuer=serving.opening.id,
        definition=serving.definitions.get(request.product),
        groups=serving.issuer.grant.groups,
        now=now,
    )


def _sample(
    proven: proof.ProvenRequest, accepted: Accepted, serving: Serving, intervals: Intervals, now: int
) -> Licence:
    return licence_for(
        proven.request,
        accepted,
        proven.machine,
        count=0,
        key_id=serving.key_id,
        organisation=serving.issuer.grant.organisation,
        certificate_ends_at=serving.issuer.ends_at,
        intervals=intervals,
        now=now,
    )


def _answer(waiting: _Waiting, token: str) -> None:
    if waiting.future.done():  # the client hung up
        return
    if waiting.error is not None or waiting.proven is None:
        waiting.future.set_exception(waiting.error or RuntimeError("a request fell through the phases"))
        return
    request = waiting.proven.request
    waiting.future.set_result(envelope.seal_answer(request.response_key, request.nonce, token.encode()))


def _unexpected(exc: Exception) -> Exception:
    _log.error("a request could not be answered, for no reason that it should have", exc_info=exc)
    return exc


def _seen(waiting: _Waiting, now: int) -> Seen:
    proven, decision = waiting.proven, waiting.decision
    assert proven is not None
    assert isinstance(decision, Accepted)
    request = proven.request
    return Seen(
        waiting.serving.scopes[decision.edition.group],
        proven.machine,
        pack(request.fingerprint, proven.machine),
        now,
        request.at,
        request.name,
        request.product,
        request.edition,
        request.state.value,
    )


def _refused(waiting: _Waiting, now: int) -> Refused:
    """An unproven sender is noted without a machine ID: anybody could have claimed one."""
    if waiting.error is not None:
        code = waiting.error.code if isinstance(waiting.error, VolactError) else UNEXPECTED
        return Refused(HOST_SCOPE, code, now, None, {"message": str(waiting.error)[:200]})
    assert waiting.proven is not None
    assert isinstance(waiting.decision, Refusal)
    request, refusal = waiting.proven.request, waiting.decision
    data: dict[str, Any] = {"name": request.name, "product": request.product, **refusal.fields}
    definition = waiting.serving.definitions.get(request.product)
    edition = definition.edition(request.edition) if definition else None
    scope = waiting.serving.scopes.get(edition.group, HOST_SCOPE) if edition else HOST_SCOPE
    return Refused(scope, refusal.code, now, waiting.proven.machine, data)
