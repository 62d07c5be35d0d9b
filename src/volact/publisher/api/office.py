# SPDX-License-Identifier: Apache-2.0
"""What every request of the API needs: the opened publisher, its keys, the tokens, and who is calling.

Made once in a worker.  Nothing here knows of HTTP but the text of one header.
"""

import logging
import secrets
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import anyio

from volact.core.definition import ProductDefinition
from volact.core.errors import StoreError
from volact.publisher.administration.publisher import Publisher
from volact.publisher.administration.tokens import TOKENS
from volact.publisher.answering.keyfinder import KeyFinder
from volact.publisher.answering.phone import PhoneDesk
from volact.publisher.answering.service import PublisherService
from volact.publisher.api.access import Caller
from volact.publisher.folder.opening import PublisherKeys
from volact.publisher.rows import listing
from volact.publisher.rows.records import KeyAmbiguousError, KeyMissingError, Signed
from volact.publisher.rules.issuing import IssuedKey
from volact.publisher.schema import API_ANSWER, API_LIMIT
from volact.sealing.confirmation import PhoneKey
from volact.web.api import tokens
from volact.web.api.idempotency import Answer, Answers, Asked
from volact.web.api.limits import Decision, Limit, Limiter, SharedLimiter
from volact.web.api.tokens import LAST_USE_SECONDS, Token, TokenUnknownError

MOST_DEFINITIONS = 256  # verified and remembered; versions never change

# Requests at work: each has a connection, and one that writes another to read by; a pool has 15.
THREADS = 6

_TOKEN, _ADDRESS = Limit("token", 600, 60), Limit("address", 120, 60)

_log = logging.getLogger("volact.publisher.api")


@dataclass(frozen=True, slots=True)
class Limits:
    """``token``: requests of one token; ``address``: requests without one, and with one that is none.  Each process
    counts its own, and wrong tokens of an address are counted by all together."""

    token: Limit = _TOKEN
    address: Limit = _ADDRESS


@dataclass
class Office:
    """``clock`` gives Unix seconds, ``steady`` seconds that only go forward."""

    publisher: Publisher
    keys: PublisherKeys
    clock: Callable[[], int]
    steady: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    limiter: Limiter = field(default_factory=Limiter)

    def __post_init__(self) -> None:
        self.service = PublisherService(self.publisher.folder, self.keys, self.publisher.store, self.clock)
        self.answers = Answers(API_ANSWER, self.keys.lookup, secrets.token_bytes)
        self.shared = SharedLimiter(API_LIMIT)
        self.places = anyio.Semaphore(THREADS)
        self.finder = KeyFinder(self.publisher.store, self.keys.index)
        self._verify = lru_cache(maxsize=MOST_DEFINITIONS)(self.publisher.definition)

    def anew(self, publisher: Publisher, keys: PublisherKeys) -> "Office":
        """The same with other keys, after a rotation; what callers have spent is remembered."""
        return Office(publisher, keys, self.clock, self.steady, self.limits, self.limiter)

    @cached_property
    def phone_key(self) -> PhoneKey | None:
        return self.keys.phone()

    @property
    def desk(self) -> PhoneDesk:
        return PhoneDesk.open(self.publisher, self.phone_key)

    def definition(self, signed: Signed) -> ProductDefinition:
        return self._verify(signed)

    def admit(self, authorization: str | None, address: Hashable) -> tuple[Caller, Decision]:
        """Who calls, and whether they have called too often.  Raises what is wrong with a token."""
        if authorization is None:
            return Caller(None), self.limiter.spend(address, self.steady(), self.limits.address)
        try:
            token = self._find(tokens.read_header(authorization))
        except (tokens.TokenNeededError, TokenUnknownError):
            decision = self._count_wrong(address)
            if not decision.allowed:
                return Caller(None), decision
            raise
        return Caller(token), self.limiter.spend(token.id, self.steady(), self.limits.token)

    def earlier(self, asked: Asked) -> Answer | None:
        """The answer that this request was given before."""
        with self.publisher.store.look() as conn:
            return self.answers.find(conn, asked, self.clock())

    def find_key(self, name: str, caller: Caller) -> IssuedKey:
        """By ID or last five symbols, among those that the caller sees."""
        with self.publisher.store.look() as conn:
            found = listing.key_by_name(conn, name, caller.organisation)
        if not found:
            raise KeyMissingError(key=name)
        if len(found) > 1:
            raise KeyAmbiguousError(number=len(found), key=name)
        return found[0]

    def _find(self, digest: bytes) -> Token:
        now = self.clock()
        with self.publisher.store.look() as conn:
            token = TOKENS.find(conn, digest)
        token.check(now)
        if token.last_used_at is None or now - token.last_used_at >= LAST_USE_SECONDS:
            self._note_use(token, now)
        return token

    def _count_wrong(self, address: Hashable) -> Decision:
        """Here first, so that nobody writes into the database as often as they like; then in all processes together."""
        decision = self.limiter.spend(address, self.steady(), self.limits.address)
        if not decision.allowed:
            return decision
        try:
            with self.publisher.store.touch() as conn:
                return self.shared.spend(conn, str(address), self.clock(), self.limits.address)
        except StoreError as exc:
            _log.warning("a wrong token from %s was counted in this process only: %s", address, exc)
            return decision

    def _note_use(self, token: Token, now: int) -> None:
        """A database that cannot be written can still be read."""
        try:
            with self.publisher.store.touch() as conn:
                TOKENS.touch(conn, [(token.id, now)])
        except StoreError as exc:
            _log.warning("the last use of token %s was not written down: %s", token.id, exc)
