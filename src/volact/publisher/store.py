# SPDX-License-Identifier: Apache-2.0
"""The publisher's store: every act is one transaction that changes its table and appends its row to the ledger.

It decides nothing: which request is granted is said by ``rules``.  What can be asked of it is in ``rows.reader``.
Several processes share it; :meth:`PublisherStore.change` is alone while it lasts, so that what it reads is still true
when it writes.  SQLite and PostgreSQL alike.  Times come from the caller.  Spec: docs/spec/ledger.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, insert, text

from volact.publisher.rows.change import Change
from volact.publisher.rows.ledger import Act
from volact.publisher.rows.reader import Reader
from volact.publisher.rows.records import (
    Agreement,
    DatabaseTakenError,
    KeyMissingError,
    OrganisationTakenError,
    Signed,
)
from volact.publisher.rules.catalogue import GenericKeys
from volact.publisher.rules.issuing import IssuedKey
from volact.publisher.schema import (
    ORGANISATION,
)
from volact.sql.engine import database_name, open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import write

MIGRATIONS = "volact.publisher.migrations"


class PublisherStore(Reader):
    @classmethod
    def open(cls, database: Path | str) -> Self:
        """Opens the database, a SQLite file or a ``postgresql://`` URL, and brings its tables to this version."""
        engine = open_engine(database)
        upgrade(engine, MIGRATIONS)
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def change(self) -> Iterator[Change]:
        """One durable change, alone; nothing of it stays where the block raises."""
        open_one = _OPEN.get()
        if open_one is not None and open_one[0] is self:
            yield open_one[1]
            return
        with write(self._engine) as conn:
            if conn.dialect.name == "postgresql":
                conn.execute(text(_ALONE))
            change = Change(conn)
            yield change
            change.flush()

    @contextmanager
    def together(self) -> Iterator[Change]:
        """One change of everything that this thread does with the store inside the block.  What is only read there by
        the store's questions is as it was before."""
        with self.change() as change:
            token = _OPEN.set((self, change))
            try:
                yield change
            finally:
                _OPEN.reset(token)

    @contextmanager
    def touch(self) -> Iterator[Connection]:
        """A write beside the ledger: what is no act of anybody, such as when a token was used last."""
        with write(self._engine) as conn:
            yield conn

    # ---- acts of the administrator

    def note_initialised(self, name: str, root: str, at: int, actor: str) -> None:
        with self.change() as change:
            if change.is_used():
                raise DatabaseTakenError(database=database_name(self._engine))
            change.start_epoch(1, at)
            change.append(at, Act.PUBLISHER_INITIALISED, actor, None, {"name": name, "root": root})

    def note_root_rotation(self, before: str, root: str, serial: str, ends_at: int, at: int, actor: str) -> None:
        """A new root, by both fingerprints, and the issuing CA that it certified."""
        data = {"before": before, "root": root, "serial": serial, "ends_at": ends_at}
        with self.change() as change:
            change.append(at, Act.ROOT_ROTATED, actor, None, data)

    def note_rotation(self, serial: str, ends_at: int, at: int, actor: str) -> None:
        with self.change() as change:
            change.append(at, Act.ISSUING_ROTATED, actor, None, {"serial": serial, "ends_at": ends_at})

    def add_definition(self, signed: Signed, keys: GenericKeys, actor: str) -> None:
        with self.change() as change:
            change.add_definition(signed, keys, actor)

    def add_organisation(self, name: str, at: int, actor: str) -> None:
        with self.change() as change:
            if change.has_organisation(name):
                raise OrganisationTakenError(name=name)
            change.conn.execute(insert(ORGANISATION).values(name=name, added_at=at))
            change.append(at, Act.ORGANISATION_ADDED, actor, None, {"organisation": name})

    def issue_key(self, key: IssuedKey, actor: str, lookup: bytes | None = None) -> None:
        self.issue_keys([(key, lookup)], actor)

    def issue_keys(self, keys: Sequence[tuple[IssuedKey, bytes | None]], actor: str) -> None:
        """All of them or none."""
        with self.change() as change:
            for key, lookup in keys:
                change.check_owner(key.organisation, key.agreement)
                change.issue_key(key, actor, lookup)

    def add_agreement(self, agreement: Agreement, actor: str) -> None:
        with self.change() as change:
            change.add_agreement(agreement, actor)

    def change_agreement(
        self, name: str, ends_at: int | None, check: Callable[[Agreement], None], at: int, actor: str
    ) -> Agreement:
        """``check`` is shown the agreement as it is now, and may raise."""
        with self.change() as change:
            before = change.agreement(name)
            check(before)
            change.change_agreement(name, ends_at, at, actor)
            return change.agreement(name)

    def raise_key(self, key_id: str, more: Callable[[IssuedKey], tuple[int, int]], at: int, actor: str) -> IssuedKey:
        """``more`` says the new activations and hosts of the key as it is now, or raises."""
        with self.change() as change:
            activations, hosts = more(_issued(change, key_id))
            change.raise_key(key_id, activations, hosts, at, actor)
            return _issued(change, key_id)

    def supersede_key(
        self, old: str, succeed: Callable[[IssuedKey], IssuedKey], lookup: bytes | None, actor: str
    ) -> IssuedKey:
        """Issue what ``succeed`` makes of the key as it is now, and block that, as one act: no machine takes a place in
        between that the new key hands out again."""
        with self.change() as change:
            before = _issued(change, old)
            new = succeed(before)
            change.check_owner(new.organisation, new.agreement)
            change.issue_key(new, actor, lookup)
            change.supersede_key(before, new, actor)
            return new

    def revoke_issuers(self, signers: Mapping[str, int], why: Mapping[str, Any], at: int, actor: str) -> int:
        """Revoke keys (thumbprint to the second from which), and begin a new epoch; returns it."""
        with self.change() as change:
            return change.revoke_issuers(signers, why, at, actor)

    def revoke_organisation(self, name: str, signers: Mapping[str, int], reason: str, at: int, actor: str) -> int:
        with self.change() as change:
            return change.revoke_organisation(name, signers, reason, at, actor)

    def set_blocked(
        self,
        key_id: str,
        reason: str,
        at: int,
        actor: str,
        *,
        blocked: bool,
        check: Callable[[IssuedKey], None] = lambda _: None,
    ) -> bool:
        """Blocks or unblocks a key; false where it was so before, and then nothing is written.  ``check`` is shown the
        key as it is now, and may raise."""
        with self.change() as change:
            key = _issued(change, key_id)
            check(key)
            if (key.blocked_at is not None) == blocked:
                return False
            change.set_blocked(key, reason, at, actor, blocked=blocked)
            return True


def _issued(change: Change, key_id: str) -> IssuedKey:
    found = change.key(key_id)
    if found is None:
        raise KeyMissingError(key=key_id)
    return found


# The change that is open in this thread, and of which store.
_OPEN: ContextVar[tuple[PublisherStore, Change] | None] = ContextVar("open_change", default=None)

# PostgreSQL's writers wait for each other here, as SQLite's do for the one write lock: the ledger has one end.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('volact publisher'))"
