# SPDX-License-Identifier: Apache-2.0
"""Requests that may be sent again: the answer that a key was given is given again, and the act is done once.

The answer is written in the transaction of the act.  So there is no moment at which one exists without the other, a
process that is killed leaves both or neither, and two requests with one key that come at once wait for each other at
the database's write lock: the second finds the answer of the first.  An error is no answer: it undid the transaction,
nothing was done, and the same request may be tried again.

Answers can hold secrets that are shown once (product keys, tokens).  They lie in the table sealed with AES-256-GCM
under a key that the database has not, for a day; bound to the token, the key and the request, which is itself kept only
as an HMAC.  Header: draft-ietf-httpapi-idempotency-key-header-07.  Spec: docs/guide/publisher-api.md §Sending again.
"""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
)

from volact.core.errors import InputError

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"  # with an answer that was given before
MOST_KEY = 200
KEPT_SECONDS = 86400  # how long a request may be repeated
NONCE_BYTES = 12
PARAMETER: Mapping[str, Any] = {  # as OpenAPI has it
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": f"A new one for each act, such as a UUID. The same request with the same key within "
    f"{KEPT_SECONDS // 3600} hours gets the same answer, and is done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MOST_KEY, "pattern": "^[!-~]+$"},
}


class IdempotencyKeyUnfitError(InputError):
    code = "idempotency-key-unfit"
    fmt = "the idempotency key is not 1 to {most} visible ASCII characters"
    remedy = "send a UUID, a new one for each act"


class IdempotencyKeyReusedError(InputError):
    code = "idempotency-key-reused"
    fmt = "this idempotency key was used for another request"
    remedy = "take a new key for each act; the same one only to send the very same request again"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with a key: whose, and what it asks (method, path and body, as one HMAC)."""

    token: str
    key: str
    request: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: ``body`` is JSON as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def check_key(text: str) -> str:
    """A key, with or without the quotes that the draft asks for."""
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not 0 < len(key) <= MOST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise IdempotencyKeyUnfitError(most=MOST_KEY)
    return key


def idempotency_table(metadata: MetaData) -> Table:
    """The table, declared in a room's own schema; the room's migrations create it."""
    return Table(
        "api_answer",
        metadata,
        Column("token", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("request", LargeBinary, nullable=False),
        Column("at", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
        Column("sealed", LargeBinary, nullable=False),
        Index("api_answer_by_time", "at"),
        sqlite_strict=True,
    )


class Answers:
    """The answers that were given, in one such table.  ``secret`` is known to the service and not to the database."""

    def __init__(self, table: Table, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._table, self._random = table, random
        self._cipher = AESGCM(_derive(secret, b"answers"))
        self._requests = _derive(secret, b"requests")

    def asked(self, token: str, header: str, method: str, path: str, body: bytes) -> Asked:
        """Raises :class:`IdempotencyKeyUnfitError`."""
        said = b"".join(len(part).to_bytes(8, "big") + part for part in (method.encode(), path.encode(), body))
        return Asked(token, check_key(header), hmac.digest(self._requests, said, "sha256"))

    def find(self, conn: Connection, asked: Asked, now: int) -> Answer | None:
        """The answer that this very request got; raises :class:`IdempotencyKeyReusedError` for another request."""
        row = self._table.c
        statement = select(row.request, row.at, row.sealed).where(row.token == asked.token, row.key == asked.key)
        found = conn.execute(statement).one_or_none()
        if found is None or found.at <= now - KEPT_SECONDS:
            return None
        if not hmac.compare_digest(bytes(found.request), asked.request):
            raise IdempotencyKeyReusedError()
        return self._open(asked, bytes(found.sealed))

    def keep(self, conn: Connection, asked: Asked, answer: Answer, now: int) -> None:
        """In the transaction of the act, whose writers are alone.  What is older than a day goes at this occasion."""
        row = self._table.c
        conn.execute(delete(self._table).where(row.at <= now - KEPT_SECONDS))
        sealed = self._seal(asked, answer)
        values = {"token": asked.token, "key": asked.key, "request": asked.request, "at": now, "sealed": sealed}
        conn.execute(insert(self._table).values(**values))

    def _seal(self, asked: Asked, answer: Answer) -> bytes:
        told = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body.decode()}
        nonce = self._random(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, json.dumps(told).encode(), _bound(asked))

    def _open(self, asked: Asked, sealed: bytes) -> Answer | None:
        """``None`` for one that was sealed under an earlier key of the folder: its request is a new one then."""
        try:
            data = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(asked))
        except (InvalidTag, ValueError):
            return None
        told: dict[str, Any] = json.loads(data)
        return Answer(told["status"], told["headers"], told["body"].encode())


def _bound(asked: Asked) -> bytes:
    return b"\0".join((asked.token.encode(), asked.key.encode(), asked.request))


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"volact idempotency v1 " + purpose).derive(secret)
