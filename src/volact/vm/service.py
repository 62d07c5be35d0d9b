# SPDX-License-Identifier: Apache-2.0
"""The VM host's answers: opens and proves guests' requests, decides, records and signs, in batches.

One durable transaction serves all requests that wait, and no licence leaves before its guest is in the table.  A
channel has one request waiting at most, so that a batch is as fair as it is large.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from volact.core.definition import Edition
from volact.core.errors import VolactError
from volact.core.refusal import GuestIdentitiesError, GuestLimitError, Refusal, SignedRefusal
from volact.issuer.serving import ServedKey
from volact.sealing import envelope, proof
from volact.vm.guest import NOT_ACTIVATED, OTHER_PUBLISHER
from volact.vm.issuing import HostState, decide, licence_for
from volact.vm.messages import Activate, Activated, Answer, Failed, GetIssuer, Issuer, Request
from volact.vm.store import GUEST_DAYS, IDENTITIES, IDENTITY_HOURS, LIMIT, MOST_IDENTITIES, Asked, Unread, VmStore
from volact.wire.batching import Batcher

MAX_BATCH = 64  # keeps the event loop for about 20 ms
UNKNOWN_ISSUER = "issuer-unknown"
UNEXPECTED = "internal"

Licensed = Callable[[str, str], frozenset[str]]  # root and product → editions this computer is licensed for

_log = logging.getLogger("volact.vm")


@dataclass(slots=True)
class _Waiting:
    """A request on its way through the phases."""

    asked: Activate
    channel: str
    serving: ServedKey
    future: "asyncio.Future[Answer]"
    proven: proof.ProvenRequest | None = None
    decision: Edition | Refusal | None = None
    error: Exception | None = None


class VmService:
    """``use`` replaces what it serves at any time; ``licensed`` is asked only where a policy demands it."""

    def __init__(self, store: VmStore, clock: Callable[[], int], *, nested: bool, licensed: Licensed) -> None:
        self._store, self._clock, self._nested, self._licensed = store, clock, nested, licensed
        self._serving: dict[str, ServedKey] = {}
        self._batches = Batcher(self._answer_batch, MAX_BATCH)

    def use(self, serving: Sequence[ServedKey]) -> None:
        self._serving = {one.opening.id: one for one in serving}

    @property
    def ready(self) -> bool:
        """Whether a licence that it signs now would be accepted."""
        return bool(self._valid())

    async def answer(self, request: Request, channel: str) -> Answer:
        """The answer to one request; what went wrong in this program is an answer too."""
        try:
            if isinstance(request, GetIssuer):
                return await self._describe(request, channel)
            return await self._activate(request, channel)
        except VolactError as exc:
            return Failed(request.id, exc.code, str(exc)[:300])
        except Exception:
            _log.exception("a request could not be answered")
            return Failed(request.id, UNEXPECTED, "see the VM host's log")

    async def finish(self) -> None:
        """Wait until what was accepted is answered: the graceful stop."""
        await self._batches.finish()

    async def _describe(self, request: GetIssuer, channel: str) -> Answer:
        now = self._clock()
        valid = self._valid()
        mine = [s for s in valid if s.root == request.root]
        if not mine:
            return await self._cannot(request, channel, active=bool(valid))
        granting = [s for s in mine if request.group in s.issuer.grant.groups]
        # Without a key for the group another key of the publisher answers: it can sign the refusal that says so.
        return Issuer(request.id, (granting or mine)[0].descriptor(request.nonce, now))

    async def _activate(self, request: Activate, channel: str) -> Answer:
        valid = self._valid()
        serving = next((one for one in valid if one.opening.id == request.issuer), None)
        if serving is None:
            if not valid:
                return await self._cannot(request, channel, active=False)
            return Failed(request.id, UNKNOWN_ISSUER, "no issuer of that ID is served here")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._batches.add(_Waiting(request, channel, serving, future))
        return await future

    async def _cannot(self, request: Request, channel: str, *, active: bool) -> Answer:
        """There is no key to sign a refusal with: an unsigned word, and an event."""
        if active and isinstance(request, GetIssuer):
            code, message = OTHER_PUBLISHER, f"it has no activated key of the publisher {request.root}"
        else:
            code, message = NOT_ACTIVATED, "no VM host key is activated here"
        await self._record([], [Unread(code, channel, message)], self._clock())
        return Failed(request.id, code, message)

    def _valid(self) -> list[ServedKey]:
        now = self._clock()
        return [one for one in self._serving.values() if one.issuer.ends_at > now]

    async def _answer_batch(self, batch: list[_Waiting]) -> None:
        now = self._clock()
        # (1) open and prove each request, (2) decide it by the rules
        for waiting in batch:
            self._take(waiting, now)
        # (3) take their places and note them, in one durable transaction
        good = [waiting for waiting in batch if waiting.error is None]
        unread = [_unread(waiting) for waiting in batch if waiting.error is not None]
        refused = await self._record([_asked(waiting, now) for waiting in good], unread, now)
        # (4) sign and seal, (5) answer
        for waiting, code in zip(good, refused, strict=True):
            self._settle(waiting, code, now)
        for waiting in batch:
            if waiting.error is not None:
                _give(waiting, waiting.error)

    def _take(self, waiting: _Waiting, now: int) -> None:
        """Whatever is wrong with one request, the others of its batch are answered."""
        serving = waiting.serving
        try:
            text = serving.opening.open_request(waiting.asked.sealed).decode("ascii", "replace")
            proven = proof.verify_request(text)
            request = proven.request
            definition = serving.definitions.get(request.product)
            waiting.proven, waiting.decision = (
                proven,
                decide(
                    request,
                    issuer=serving.opening.id,
                    definition=definition,
                    groups=serving.issuer.grant.groups,
                    host=self._host_state(serving, request.product),
                    now=now,
                ),
            )
        except Exception as exc:
            if not isinstance(exc, VolactError):
                _log.exception("a request could not be read, for no reason that it should have")
            waiting.error = exc

    def _host_state(self, serving: ServedKey, product: str) -> HostState:
        definition = serving.definitions.get(product)
        asks = definition is not None and any(e.policy.guests.host_edition for e in definition.editions)
        return HostState(self._nested, self._licensed(serving.root, product) if asks else frozenset())

    async def _record(self, asked: list[Asked], unread: list[Unread], now: int) -> list[str]:
        work: Callable[[], list[str]] = lambda: self._store.record(asked, now, unread)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def _settle(self, waiting: _Waiting, refused: str, now: int) -> None:
        try:
            _give(waiting, self._answered(waiting, refused, now))
        except Exception as exc:
            _give(waiting, exc)

    def _answered(self, waiting: _Waiting, refused: str, now: int) -> Answer:
        proven, serving, decision = waiting.proven, waiting.serving, waiting.decision
        assert proven is not None
        assert decision is not None
        request = proven.request
        if isinstance(decision, Edition):
            decision = _by_store(refused, decision)
        if isinstance(decision, Refusal):
            token = serving.issuer.refusal(SignedRefusal(serving.opening.id, request.nonce, now, decision))
        else:
            licence = licence_for(
                request,
                decision,
                proven.machine,
                key_id=serving.key_id,
                organisation=serving.issuer.grant.organisation,
                certificate_ends_at=serving.issuer.ends_at,
                now=now,
            )
            token = serving.issuer.licence(licence)
        return Activated(waiting.asked.id, envelope.seal_answer(request.response_key, request.nonce, token.encode()))


def _by_store(code: str, edition: Edition) -> Edition | Refusal:
    """What the store said of a request that the rules allow."""
    if code == LIMIT:
        limit = edition.policy.guests.per_host
        return Refusal.of(GuestLimitError, limit=limit, edition=edition.id, days=GUEST_DAYS)
    if code == IDENTITIES:
        return Refusal.of(GuestIdentitiesError, limit=MOST_IDENTITIES, hours=IDENTITY_HOURS)
    return edition


def _give(waiting: _Waiting, outcome: Answer | Exception) -> None:
    if waiting.future.done():  # the channel went away
        return
    if isinstance(outcome, Exception):
        waiting.future.set_exception(outcome)
    else:
        waiting.future.set_result(outcome)


def _asked(waiting: _Waiting, now: int) -> Asked:
    proven, decision, serving = waiting.proven, waiting.decision, waiting.serving
    assert proven is not None
    assert decision is not None
    request = proven.request
    asked = Asked(
        root=serving.root,
        product=request.product,
        edition=request.edition,
        machine_id=proven.machine,
        channel=waiting.channel,
        state=str(request.state),
        name=request.name,
        os=waiting.asked.os,
    )
    if isinstance(decision, Refusal):
        return replace(asked, refused=decision.code, data=dict(decision.fields))
    until = min(now + decision.policy.lease, serving.issuer.ends_at)
    return replace(asked, until=until, limit=decision.policy.guests.per_host)


def _unread(waiting: _Waiting) -> Unread:
    code = waiting.error.code if isinstance(waiting.error, VolactError) else UNEXPECTED
    return Unread(code, waiting.channel, str(waiting.error)[:200])
