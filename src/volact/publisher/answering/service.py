# SPDX-License-Identifier: Apache-2.0
"""The publisher as an issuer: answers sealed messages, online and by file, by the same steps, in batches.

All messages that wait in a worker are taken together: one durable transaction serves the whole batch, and no answer
leaves before what it says is in the tables.  One batch is in flight at a time, so a batch grows with the load while a
lone request is answered at once.  What is decided is said in ``judging``.  Spec: docs/spec/exchange.md, ledger.md.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from volact.core.binding import NONCE_SIZE
from volact.core.definition import ProductDefinition
from volact.core.errors import InputError, MalformedError, StoreError, TrustError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.issuer import RevocationStatus
from volact.core.licence import Checkpoint, Licence
from volact.core.product_key import ProductKey
from volact.core.refusal import Refusal, SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.returning import Inquiry, Receipt, ReturnProof
from volact.publisher.answering.judging import (
    Bench,
    CertifiedHost,
    KeyState,
    Message,
    PlacedMachine,
    Signed,
    Verdict,
    ends_at,
)
from volact.publisher.answering.keyfinder import KeyFinder
from volact.publisher.answering.vouching import Makers, Vouching
from volact.publisher.folder.descriptor import describe
from volact.publisher.folder.opening import PublisherFolder, PublisherKeys
from volact.publisher.rows.change import Change
from volact.publisher.rules.forests import BoundForest
from volact.publisher.rules.issuing import Kind
from volact.publisher.store import PublisherStore
from volact.sealing import certificates, returns
from volact.sealing.envelope import seal_answer
from volact.sealing.proof import REQUEST, ProvenRequest, verify_request
from volact.sealing.verify import verify_definition
from volact.wire.batching import Batcher
from volact.wire.server import BusyError, IssuerUnknownError

DESCRIPTOR_SECONDS = 86400  # an online descriptor is proven fresh by its nonce; this ends one that was kept
STATUS_SECONDS = 86400  # the revocation status is signed anew daily, so that the one that hosts staple stays young
ONLINE, CARRIED = "service", "answer-file"  # the ledger's actors
MAX_BATCH = 64  # as at the KMS host: larger batches gain little and make the first of them wait
HARD_LIMIT = 8_000  # waiting messages beyond which newcomers are turned away unread
MOST_KEYS_READ = 4096  # a MAK comes again with each machine; to read it takes as long as to sign
BACK_OFF = 60  # seconds that those are asked to wait

_log = logging.getLogger("volact.publisher")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.  ``kind`` and ``ends_at`` of a licence (``None``: perpetual), or ``refusal``;
    ``sealed`` is the answer."""

    sealed: bytes
    request: ActivationRequest
    machine: bytes
    kind: Kind | None = None
    ends_at: int | None = None
    organisation: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class ReceiptOutcome:
    """What became of a return or an inquiry.  ``sealed`` is empty for a proof that was carried."""

    sealed: bytes
    machine: bytes
    receipt: Receipt | None = None
    refusal: Refusal | None = None


@dataclass(slots=True)
class _Asked:
    """A message that waits for its batch."""

    issuer: str
    sealed: bytes
    future: "asyncio.Future[bytes]"


class PublisherService:
    """Implements :class:`volact.wire.server.IssuerService`.  ``clock`` gives Unix seconds."""

    def __init__(
        self, folder: PublisherFolder, keys: PublisherKeys, store: PublisherStore, clock: Callable[[], int]
    ) -> None:
        self._folder, self._keys, self._store, self._clock = folder, keys, store, clock
        self._root = folder.fingerprint
        self._finder = KeyFinder(store, keys.index)
        self._vouching = Vouching(Makers(folder.path), keys.lookup)
        self._definitions: dict[tuple[str, int], ProductDefinition] = {}
        self._sign_status = lru_cache(maxsize=4)(self._make_status)
        self._batches = Batcher(self._answer_batch, MAX_BATCH)
        # A thread of its own: in the loop's pool a batch would wait behind everybody who asks for a descriptor.
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="volact-answers")

    @property
    def issuer(self) -> str:
        """The ID of the key that requests are sealed to."""
        return self._keys.sealing.id

    # ---- the contract

    async def descriptor(self, root: str, product: str, group: int, nonce: bytes) -> str:  # noqa: ARG002
        """The publisher has one descriptor for all of its products; whether it knows one, its answers say."""
        return await asyncio.to_thread(self.describe, root, nonce)

    async def activate(self, issuer: str, sealed: bytes) -> bytes:
        if len(self._batches) >= HARD_LIMIT:
            raise BusyError(retry_after=BACK_OFF)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._batches.add(_Asked(issuer, sealed, future))
        return await future

    async def finish(self) -> None:
        """Wait until what was accepted is answered: the graceful stop."""
        await self._batches.finish()
        self._answering.shutdown(wait=False)

    async def _answer_batch(self, batch: list[_Asked]) -> None:
        asked = [(one.issuer, one.sealed) for one in batch]
        outcomes = await asyncio.get_running_loop().run_in_executor(self._answering, self.answer_all, asked)
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.future.done():  # the client hung up
                continue
            if isinstance(outcome, Exception):
                one.future.set_exception(outcome)
            else:
                one.future.set_result(outcome.sealed)

    def describe(self, root: str, nonce: bytes) -> str:
        if root != self._root:
            raise IssuerUnknownError(issuer=root[:80])
        if len(nonce) not in (0, NONCE_SIZE):
            raise MalformedError(what="issuer request", why=f"its nonce is not {NONCE_SIZE} bytes")
        now = self._clock()
        described = describe(self._folder, self._keys, self.status(now), now, nonce=nonce, lifetime=DESCRIPTOR_SECONDS)
        return self._keys.issuer.descriptor(described)

    def status(self, now: int) -> str:
        """The signed revocation status: made anew for each epoch and each day."""
        today = now - now % STATUS_SECONDS
        status = self._store.revocations(today)
        return self._sign_status(status.epoch, status.issued_at, tuple(sorted(status.revoked.items())))

    # ---- answers

    def answer_file(self, request: RequestFile, actor: str | None = None) -> tuple[AnswerFile, Outcome]:
        """Answers a request that was carried here on removable media, or sent by ``actor`` for somebody else."""
        if request.root != self._root:
            raise IssuerUnknownError(issuer=request.root)
        outcome = self.answer(request.issuer, request.sealed, carried=True, actor=actor)
        return AnswerFile(request.issuer, outcome.sealed), outcome

    def owner_of(self, request: RequestFile) -> str | None:
        """Whose key is in a request; ``None`` where it is nobody's.  Raises what makes it unanswerable."""
        if request.root != self._root:
            raise IssuerUnknownError(issuer=request.root)
        signed = self._open(request.issuer, request.sealed)
        if isinstance(signed, Exception):
            raise signed
        (message,) = self._find_keys([signed])
        return self._store.key_owner(message.key_id) if message.key_id else None

    def answer(self, issuer: str, sealed: bytes, *, carried: bool = False, actor: str | None = None) -> Outcome:
        """Answers a request, or raises what makes it unanswerable: sealed for another key, malformed, unproven."""
        (outcome,) = self.answer_all([(issuer, sealed)], carried=carried, actor=actor)
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, ReceiptOutcome):
            raise MalformedError(what="request", why="it asks for no licence")
        return outcome

    def answer_all(
        self, asked: Sequence[tuple[str, bytes]], *, carried: bool = False, actor: str | None = None
    ) -> list[Outcome | ReceiptOutcome | Exception]:
        """An outcome for each sealed message, or what makes it unanswerable; the others are answered all the same."""
        # (1) open each seal; the machine's own key proves what is inside
        opened = [self._open(issuer, sealed) for issuer, sealed in asked]
        proven = [one for one in opened if not isinstance(one, Exception)]
        # (2)–(4) decide, write down and certify, as one; (5) sign and seal
        answers = iter(self.answer_proven(proven, carried=carried, actor=actor))
        return [one if isinstance(one, Exception) else next(answers) for one in opened]

    def answer_proven(
        self, proven: Sequence[Signed], *, carried: bool = False, actor: str | None = None
    ) -> list[Outcome | ReceiptOutcome | Exception]:
        """The same for messages that are open and proven already: a carried proof, a request by telephone.  ``actor``:
        who the ledger says it was, where somebody sent them for their machines."""
        now = self._clock()
        try:
            verdicts, checkpoint = self._judge(proven, now, actor or (CARRIED if carried else ONLINE), carried=carried)
        except Exception as exc:
            if len(proven) <= 1 or isinstance(exc, StoreError):  # a database that is gone is gone for each of them
                return [exc for _ in proven]
            # One of them spoils the transaction of all: each gets one of its own.
            return [outcome for one in proven for outcome in self.answer_proven([one], carried=carried, actor=actor)]
        return [
            self._answer(signed, verdict, checkpoint, now) for signed, verdict in zip(proven, verdicts, strict=True)
        ]

    def _open(self, issuer: str, sealed: bytes) -> Signed | Exception:
        if issuer != self.issuer:
            return IssuerUnknownError(issuer=issuer[:64])
        try:
            return read_message(self._keys.sealing.open_request(sealed).decode("latin-1"))
        except (TrustError, InputError) as exc:
            return exc
        except Exception as exc:
            _log.exception("a message could not be read, for no reason that it should have")
            return exc

    def _judge(
        self, proven: Sequence[Signed], now: int, actor: str, *, carried: bool
    ) -> tuple[list[Verdict], Checkpoint | None]:
        if not proven:
            return [], None
        messages = self._find_keys(proven)
        bench = Bench(
            self._root,
            self.issuer,
            self._keys.issuing,
            self._definition,
            now,
            actor,
            carried,
            self._vouching,
        )
        with self._store.change() as change:
            verdicts = bench.judge(change, messages)
            checkpoint = change.checkpoint()
        return verdicts, checkpoint

    def _find_keys(self, proven: Sequence[Signed]) -> list[Message]:
        keys = [_key_in(signed) for signed in proven]
        found = self._finder.find(key for key in keys if key is not None)
        messages = []
        for signed, key in zip(proven, keys, strict=True):
            named = signed.value.key_id if _is_proof(signed) else None  # type: ignore[union-attr]
            messages.append(Message(signed, key, named or (found.get(key) if key else None)))
        return messages

    def _answer(
        self, signed: Signed, verdict: Verdict, checkpoint: Checkpoint | None, now: int
    ) -> Outcome | ReceiptOutcome | Exception:
        try:
            if isinstance(signed, ProvenRequest):
                return self._answer_request(signed, verdict, checkpoint, now)
            return self._answer_statement(signed.value, signed.machine, verdict, checkpoint, now)
        except Exception as exc:
            _log.exception("an answer could not be signed")
            return exc

    def _answer_request(
        self, proven: ProvenRequest, verdict: Verdict, checkpoint: Checkpoint | None, now: int
    ) -> Outcome:
        request, machine = proven.request, proven.machine
        if isinstance(verdict, Refusal):
            signed = SignedRefusal(self.issuer, request.nonce, now, verdict)
            return Outcome(_seal(request, self._keys.issuer.refusal(signed)), request, machine, refusal=verdict)
        if isinstance(verdict, BoundForest):
            made = verdict.object
            sealed = _seal(request, self._keys.issuer.activation_object(made))
            return Outcome(sealed, request, machine, verdict.kind, made.expires_at, made.organisation)
        assert isinstance(verdict, CertifiedHost | PlacedMachine)
        licence = self._licence(proven, verdict, checkpoint, now)
        sealed = _seal(request, self._keys.issuer.licence(licence))
        return Outcome(sealed, request, machine, verdict.kind, licence.expires_at, licence.organisation)

    def _licence(
        self, proven: ProvenRequest, verdict: CertifiedHost | PlacedMachine, checkpoint: Checkpoint | None, now: int
    ) -> Licence:
        """Perpetual for a machine; a host's lasts as long as its certificate, and brings that along."""
        request, key = proven.request, verdict.key
        certificate = verdict.certificate if isinstance(verdict, CertifiedHost) else None
        chain = (certificate, *self._keys.chain_above(certificate)) if certificate else ()
        return Licence(
            issuer=self.issuer,
            machine=proven.machine,
            product=request.product,
            edition=request.edition,
            group=key.group,
            channel=key.channel,
            key_id=key.key_id,
            nonce=request.nonce,
            issued_at=now,
            expires_at=ends_at(certificate) if certificate else None,
            fingerprint=request.fingerprint,
            organisation=key.organisation,
            certificates=tuple(map(_text, chain)),
            status=self.status(now) if certificate else "",
            ledger=checkpoint,
            counter=verdict.counter if isinstance(verdict, PlacedMachine) else None,
        )

    def _answer_statement(
        self,
        value: ReturnProof | Inquiry,
        machine: bytes,
        verdict: Verdict,
        checkpoint: Checkpoint | None,
        now: int,
    ) -> ReceiptOutcome:
        if isinstance(verdict, Refusal):
            token = self._keys.issuer.refusal(SignedRefusal(self.issuer, value.nonce, now, verdict))
            return ReceiptOutcome(_seal_for(value, token), machine, refusal=verdict)
        assert isinstance(verdict, KeyState)
        key = verdict.key
        blocked = key.blocked_at is not None
        receipt = Receipt(
            self.issuer,
            value.nonce,
            now,
            key.key_id,
            key.activations,
            key.used,
            blocked,
            verdict.credited,
            checkpoint,
        )
        return ReceiptOutcome(_seal_for(value, returns.sign_receipt(receipt, self._keys.issuer)), machine, receipt)

    def _make_status(self, epoch: int, issued_at: int, revoked: tuple[tuple[str, int], ...]) -> str:
        return self._keys.revocation.status(RevocationStatus(epoch, issued_at, dict(revoked)))

    def _definition(self, change: Change, product: str, version: int) -> ProductDefinition:
        """Versions never change: each is read and verified once in a worker."""
        if (product, version) not in self._definitions:
            token = change.version(product, version).token
            self._definitions[product, version] = verify_definition(token, self._root).definition
        return self._definitions[product, version]


def read_message(token: str) -> Signed:
    """A request, a return proof or an inquiry, each proven by its machine's own key."""
    kind = returns.kind_of(token)
    if kind == REQUEST:
        return verify_request(token)
    return returns.verify_return(token) if kind == returns.RETURN else returns.verify_inquiry(token)


def _key_in(signed: Signed) -> ProductKey | None:
    if isinstance(signed, ProvenRequest):
        text = signed.request.key
    elif isinstance(signed.value, Inquiry):
        text = signed.value.key
    else:
        return None
    return _read_key(text)


@lru_cache(maxsize=MOST_KEYS_READ)
def _read_key(text: str) -> ProductKey | None:
    try:
        return ProductKey.strict(text)
    except InputError:
        return None


def _is_proof(signed: Signed) -> bool:
    return not isinstance(signed, ProvenRequest) and isinstance(signed.value, ReturnProof)


def _seal(request: ActivationRequest, token: str) -> bytes:
    return seal_answer(request.response_key, request.nonce, token.encode())


def _seal_for(value: ReturnProof | Inquiry, token: str) -> bytes:
    """Nobody waits for the answer to a proof that was carried."""
    return seal_answer(value.response_key, value.nonce, token.encode()) if value.response_key else b""


def _text(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificates.der(certificate)).decode()
