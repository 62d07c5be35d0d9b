# SPDX-License-Identifier: Apache-2.0
"""Tokens of an HTTP API: how they are made, kept, found and ended.  What a token may do is its API's own table.

A token is ``vlt_`` and 256 random bits; kept is its SHA-256, so that a copy of the database opens nothing, and nobody
can guess it, so that no slow hash is needed.  It belongs to an organisation and has scopes, or to an operator and has a
role.  The table lies in the room's own database (:func:`token_table`), so that making and revoking a token is of one
transaction with what the room writes down about it.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    insert,
    or_,
    select,
    update,
)

from volact.core.errors import ConfigError, InputError, TrustError

PREFIX = "vlt_"
SECRET_BYTES, ID_BYTES = 32, 8
TOKEN_LENGTH = len(PREFIX) + 43  # 32 bytes in base64url
LAST_USE_SECONDS = 60  # how exact the time of the last use is: it is written at most so often
MOST_LABEL = 100
DAY = 86400
LIFETIME = 365 * DAY  # where nothing else is said
MOST_LIFETIME = 10 * LIFETIME


class TokenNeededError(TrustError):
    code = "token-needed"
    fmt = "this needs a token"
    remedy = "send the header `Authorization: Bearer vlt_…`; `token make` of the tool that serves this makes one"


class TokenUnknownError(TrustError):
    code = "token-unknown"
    fmt = "the token is none that was made here"
    remedy = "compare it with the one that was handed over, or ask for a new one"


class TokenEndedError(TrustError):
    code = "token-ended"
    fmt = "the token {id} has ended"
    remedy = "ask for a new one"


class TokenRevokedError(TrustError):
    code = "token-revoked"
    fmt = "the token {id} was revoked"
    remedy = "ask whoever made it for a new one"


class ScopeMissingError(ConfigError):
    code = "token-scope-missing"
    fmt = "the token lacks the scope {scope}"
    remedy = "ask for a token with this scope"


class RoleMissingError(ConfigError):
    code = "token-role-missing"
    fmt = "this is for {roles}"
    remedy = "ask for a token with one of these roles"


class TokenMissingError(ConfigError):
    code = "token-missing"
    fmt = "there is no token {id}"
    remedy = "list the tokens to find its ID"


class TokenLabelError(InputError):
    code = "token-label-unfit"
    fmt = "what a token is for is not a text of 1 to {most} printable characters"
    remedy = "say in a few words who uses it, and for what"


class TokenEndError(InputError):
    code = "token-end-unfit"
    fmt = "a token ends after now, and within {days} days"
    remedy = "choose an end within that time; make a new token before"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept.  ``organisation`` with ``scopes``, or ``role``; ``label``: who uses it, and for what."""

    id: str
    label: str
    organisation: str | None
    role: str | None
    scopes: tuple[str, ...]
    made_at: int
    made_by: str
    expires_at: int
    last_used_at: int | None = None
    revoked_at: int | None = None

    @property
    def actor(self) -> str:
        """How a ledger or an audit calls whoever uses it."""
        return f"token {self.id} ({self.label})"

    def check(self, now: int) -> None:
        """Raises :class:`TokenRevokedError`, :class:`TokenEndedError`."""
        if self.revoked_at is not None:
            raise TokenRevokedError(id=self.id)
        if now >= self.expires_at:
            raise TokenEndedError(id=self.id)


def new_secret(random: Callable[[int], bytes]) -> str:
    """The token itself: shown once, never kept."""
    return PREFIX + base64.urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=").decode()


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def read_header(value: str | None) -> bytes:
    """The digest of the token in an ``Authorization`` header; :class:`TokenNeededError`, :class:`TokenUnknownError`."""
    if value is None:
        raise TokenNeededError()
    scheme, _, secret = value.partition(" ")
    if scheme.lower() != "bearer":
        raise TokenNeededError()
    secret = secret.strip()
    if len(secret) != TOKEN_LENGTH or not secret.isascii() or not secret.startswith(PREFIX):
        raise TokenUnknownError()
    return digest(secret)


def check_label(label: str) -> None:
    if not 0 < len(label) <= MOST_LABEL or not label.isprintable() or label != label.strip():
        raise TokenLabelError(most=MOST_LABEL)


def check_end(expires_at: int, now: int) -> None:
    if not now < expires_at <= now + MOST_LIFETIME:
        raise TokenEndError(days=MOST_LIFETIME // DAY)


def token_table(metadata: MetaData) -> Table:
    """The table, declared in a room's own schema; the room's migrations create it."""
    long = BigInteger().with_variant(Integer, "sqlite")
    return Table(
        "api_token",
        metadata,
        Column("id", Text, primary_key=True),
        Column("digest", LargeBinary, nullable=False),
        Column("label", Text, nullable=False),
        Column("organisation", Text),
        Column("role", Text),
        Column("scopes", Text, nullable=False),
        Column("made_at", long, nullable=False),
        Column("made_by", Text, nullable=False),
        Column("expires_at", long, nullable=False),
        Column("last_used_at", long),
        Column("revoked_at", long),
        UniqueConstraint("digest"),
        sqlite_strict=True,
    )


class Tokens:
    """The statements over one such table; transactions are the room's."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = tuple(table.c[name] for name in _NAMES)

    def add(self, conn: Connection, token: Token, digest: bytes) -> None:
        values = {name: getattr(token, name) for name in _NAMES} | {"scopes": " ".join(token.scopes)}
        conn.execute(insert(self._table).values(**values, digest=digest))

    def find(self, conn: Connection, digest: bytes) -> Token:
        """Raises :class:`TokenUnknownError`; whether it has ended, ``Token.check`` says."""
        row = conn.execute(select(*self._columns).where(self._table.c.digest == digest)).one_or_none()
        if row is None:
            raise TokenUnknownError()
        return _token(row)

    def get(self, conn: Connection, id: str, organisation: str | None = None) -> Token:
        """By its ID, among an organisation's where one is given; raises :class:`TokenMissingError`."""
        statement = select(*self._columns).where(self._table.c.id == id)
        if organisation is not None:
            statement = statement.where(self._table.c.organisation == organisation)
        row = conn.execute(statement).one_or_none()
        if row is None:
            raise TokenMissingError(id=id)
        return _token(row)

    def listed(
        self,
        conn: Connection,
        *,
        organisation: str | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = None,
    ) -> list[Token]:
        """In the order in which they were made; ``after``: time and ID of the one before."""
        row = self._table.c
        statement = select(*self._columns).order_by(row.made_at, row.id)
        if organisation is not None:
            statement = statement.where(row.organisation == organisation)
        if after is not None:
            at, id = after
            statement = statement.where(or_(row.made_at > at, (row.made_at == at) & (row.id > id)))
        return [_token(one) for one in conn.execute(statement if limit is None else statement.limit(limit))]

    def revoke(self, conn: Connection, id: str, at: int) -> None:
        conn.execute(update(self._table).where(self._table.c.id == id).values(revoked_at=at))

    def touch(self, conn: Connection, used: Iterable[tuple[str, int]]) -> None:
        """Last uses: ID and time."""
        for id, at in used:
            conn.execute(update(self._table).where(self._table.c.id == id).values(last_used_at=at))


_NAMES = (
    "id", "label", "organisation", "role", "scopes", "made_at", "made_by", "expires_at", "last_used_at", "revoked_at",
)  # fmt: skip


def _token(row: Any) -> Token:
    values = dict(zip(_NAMES, row, strict=True))
    return Token(**{**values, "scopes": tuple(values["scopes"].split())})
