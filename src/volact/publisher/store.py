# SPDX-License-Identifier: Apache-2.0
"""The publisher's store: every act is one transaction that changes its table and appends its row to the ledger.

It decides nothing: which request is granted is said by ``issuing`` and ``pools``, what a file may say by ``catalogue``.
Several processes share it; :meth:`PublisherStore.change` is alone while it lasts, so that what it reads is still true
when it writes.  SQLite and PostgreSQL alike.  Times come from the caller.  Spec: docs/spec/ledger.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, case, func, insert, or_, select, text

from volact.core.issuer import RevocationStatus
from volact.core.product_key import Channel, ProductKey
from volact.publisher import ledger, queries
from volact.publisher.activations import COLUMNS, read_activation
from volact.publisher.catalogue import GenericKeys
from volact.publisher.change import Change
from volact.publisher.issuing import IssuedKey
from volact.publisher.ledger import Act, Row
from volact.publisher.pools import Activation
from volact.publisher.records import (
    Agreement,
    AgreementMissingError,
    DatabaseTakenError,
    Found,
    HostActivation,
    KeyAmbiguousError,
    KeyMissingError,
    Organisation,
    OrganisationTakenError,
    ProductNotPublishedError,
    Signed,
    VersionMissingError,
)
from volact.publisher.schema import (
    ACTIVATION,
    FOREST_ACTIVATION,
    GENERIC_KEY,
    HOST_ACTIVATION,
    ORGANISATION,
    PRODUCT_KEY,
    REVOCATION,
    REVOCATION_EPOCH,
)
from volact.publisher.verifying import Tally
from volact.sql.engine import database_name, open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import read, write

MIGRATIONS = "volact.publisher.migrations"
LEDGER_PAGE = 2000  # rows that an export reads at once


class PublisherStore:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """One moment, whatever is committed meanwhile."""
        with read(self._engine) as conn:
            if conn.dialect.name == "postgresql":
                conn.execution_options(isolation_level="REPEATABLE READ")
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

    # ---- questions

    def newest(self, product: str) -> Signed | None:
        with read(self._engine) as conn:
            return queries.newest(conn, product)

    def newest_of_all(self) -> list[Signed]:
        with read(self._engine) as conn:
            return queries.newest_of_all(conn)

    def every_version(self) -> list[Signed]:
        """Of all products, the newest first."""
        with self.look() as conn:
            return queries.every_version(conn)

    def version(self, product: str, version: int | None) -> Signed:
        """A version of a definition, the newest for ``None``."""
        with read(self._engine) as conn:
            newest = queries.newest(conn, product)
            if newest is None:
                raise ProductNotPublishedError(product=product)
            found = newest if version is None else queries.signed_version(conn, product, version)
        if found is None:
            raise VersionMissingError(product=product, version=version)
        return found

    def generic_keys(self, product: str) -> GenericKeys:
        columns = (GENERIC_KEY.c.edition, GENERIC_KEY.c.channel, GENERIC_KEY.c.product_key)
        with read(self._engine) as conn:
            rows = conn.execute(select(*columns).where(GENERIC_KEY.c.product == product)).all()
        return {(edition, Channel(channel)): ProductKey.strict(key) for edition, channel, key in rows}

    def organisations(self) -> list[Organisation]:
        statement = (
            select(
                ORGANISATION.c.name,
                ORGANISATION.c.added_at,
                func.count(PRODUCT_KEY.c.key_id),
                ORGANISATION.c.blocked_at,
            )
            .outerjoin(PRODUCT_KEY, PRODUCT_KEY.c.organisation == ORGANISATION.c.name)
            .group_by(ORGANISATION.c.name, ORGANISATION.c.added_at, ORGANISATION.c.blocked_at)
            .order_by(ORGANISATION.c.name)
        )
        with read(self._engine) as conn:
            return [Organisation(*row) for row in conn.execute(statement)]

    def keys(self) -> list[IssuedKey]:
        with read(self._engine) as conn:
            rows = conn.execute(queries.KEYS.order_by(PRODUCT_KEY.c.issued_at, PRODUCT_KEY.c.key_id))
            return [queries.issued(row) for row in rows]

    def find_key(self, key_id: str, partial: str, shown: str) -> IssuedKey:
        """A key by its ID, or by its last symbols where only one key ends so; ``shown`` is what errors call it."""
        with read(self._engine) as conn:
            statement = queries.KEYS.where((PRODUCT_KEY.c.key_id == key_id) | (PRODUCT_KEY.c.partial == partial))
            found = [queries.issued(row) for row in conn.execute(statement)]
        if not found:
            raise KeyMissingError(key=shown)
        if len(found) > 1:
            raise KeyAmbiguousError(number=len(found), key=shown)
        return found[0]

    def key_owner(self, key_id: str) -> str:
        with read(self._engine) as conn:
            statement = select(PRODUCT_KEY.c.organisation).where(PRODUCT_KEY.c.key_id == key_id)
            return str(conn.execute(statement).scalar_one())

    def keys_beginning(self, prefix: str) -> list[IssuedKey]:
        """Keys whose ID begins so: more of it does not go into an installation ID of the telephone."""
        row = PRODUCT_KEY.c.key_id
        with read(self._engine) as conn:
            found = [queries.issued(one) for one in conn.execute(queries.KEYS.where(row.between(prefix, f"{prefix}g")))]
        return [key for key in found if key.key_id.startswith(prefix)]

    def host_activations(self, key_id: str | None = None) -> list[HostActivation]:
        """In the order in which they happened."""
        acts, keys = HOST_ACTIVATION.c, PRODUCT_KEY.c
        statement = (
            select(
                acts.key_id, keys.partial, keys.organisation, acts.machine_id, acts.name, acts.product,
                acts.kind, acts.at, acts.ends_at, acts.serial,
            )
            .join(PRODUCT_KEY, keys.key_id == acts.key_id)
            .order_by(acts.id)
        )  # fmt: skip
        if key_id is not None:
            statement = statement.where(acts.key_id == key_id)
        with read(self._engine) as conn:
            return [queries.host_activation(row) for row in conn.execute(statement)]

    def agreements(self) -> list[Agreement]:
        with self.look() as conn:
            return queries.agreements(conn)

    def agreement(self, name: str) -> Agreement:
        found = next((one for one in self.agreements() if one.name == name), None)
        if found is None:
            raise AgreementMissingError(name=name)
        return found

    def candidates(self, lookups: Sequence[bytes], partials: Sequence[str]) -> list[Found]:
        """The keys that requests may hold; one statement for all of them."""
        row = PRODUCT_KEY.c
        statement = select(row.key_id, row.lookup, row.partial, row.channel, row.product_group).where(
            or_(row.lookup.in_(lookups), row.partial.in_(partials))
        )
        with read(self._engine) as conn:
            return [
                Found(key_id, None if lookup is None else bytes(lookup), partial, Channel(channel), group)
                for key_id, lookup, partial, channel, group in conn.execute(statement)
            ]

    def activations(self, key_id: str | None = None) -> list[Activation]:
        """Of machines, in the order in which they began; those given back too."""
        statement = select(*COLUMNS).order_by(ACTIVATION.c.id)
        if key_id is not None:
            statement = statement.where(ACTIVATION.c.key_id == key_id)
        with read(self._engine) as conn:
            return [read_activation(row) for row in conn.execute(statement)]

    def activations_beginning(self, key_id: str, machine: bytes) -> list[Activation]:
        """Of machines whose ID begins so; those not given back first."""
        with read(self._engine) as conn:
            return queries.activations_beginning(conn, key_id, machine)

    def machines_of(self, key_id: str) -> tuple[int, int]:
        """How many activations of a key machines hold, and how many were given back."""
        row = ACTIVATION.c
        returned = func.coalesce(func.sum(case((row.returned_at.is_not(None), 1), else_=0)), 0)
        with read(self._engine) as conn:
            total, back = conn.execute(select(func.count(), returned).where(row.key_id == key_id)).one()
        return total - back, back

    def certificates_of(self, *, machine: str = "", name: str = "", organisation: str = "") -> list[tuple[bytes, str]]:
        """Certificates (and names) of hosts, by the beginning of their machine ID, their name or their organisation."""
        acts = HOST_ACTIVATION.c
        statement = select(acts.certificate, acts.machine_id, acts.name).join(
            PRODUCT_KEY, PRODUCT_KEY.c.key_id == acts.key_id
        )
        if organisation:
            statement = statement.where(PRODUCT_KEY.c.organisation == organisation)
        elif name:
            statement = statement.where(acts.name == name)
        with read(self._engine) as conn:
            rows = conn.execute(statement.order_by(acts.id)).all()
        return [(bytes(cert), known) for cert, one, known in rows if bytes(one).hex().startswith(machine)]

    def revocations(self, issued_at: int) -> RevocationStatus:
        """What the revocation status says, to be signed; it is not issued before its epoch began."""
        epochs = select(REVOCATION_EPOCH.c.epoch, REVOCATION_EPOCH.c.at).order_by(REVOCATION_EPOCH.c.epoch.desc())
        with self.look() as conn:
            epoch, began = conn.execute(epochs.limit(1)).one()
            rows = conn.execute(select(REVOCATION.c.signer, REVOCATION.c.revoked_at)).all()
        return RevocationStatus(epoch, max(issued_at, began), {signer: at for signer, at in rows})  # noqa: C416

    def ledger(self) -> list[Row]:
        with read(self._engine) as conn:
            return list(queries.ledger_rows(conn))

    def ledger_acts(self, act: Act) -> list[Row]:
        with read(self._engine) as conn:
            return queries.ledger_acts(conn, act)

    def last_row(self) -> Row | None:
        with read(self._engine) as conn:
            return queries.last_row(conn)

    def ledger_rows(self, first: int = 1, last: int | None = None) -> Iterator[Row]:
        """Those rows, a page at a time, for readers that may be slow; raises ``LedgerBrokenError`` at the first that
        does not follow the one before it."""
        before = self._row(first - 1)
        while last is None or first <= last:
            page = self._page(first, last)
            yield from ledger.whole(page, before)
            if len(page) < LEDGER_PAGE:
                return
            before = page[-1]
            first += LEDGER_PAGE

    def check_ledger(self, see: Callable[[Row], None] = lambda _: None) -> Row | None:
        """The ledger's last row; ``see`` is shown each in its turn.  Raises ``LedgerBrokenError`` where the chain or
        the tables of activations beside it were changed.  Takes the same memory for any number of rows."""
        last: Row | None = None
        with self.look() as conn, Tally.open() as tally:
            for last in ledger.whole(queries.ledger_rows(conn)):
                tally.tell(last)
                see(last)
            _compare(conn, tally)
        return last

    def _row(self, seq: int) -> Row | None:
        return next(iter(self._page(seq, seq)), None) if seq > 0 else None

    def _page(self, first: int, last: int | None) -> list[Row]:
        end = first + LEDGER_PAGE - 1
        with read(self._engine) as conn:
            return list(queries.ledger_rows(conn, first, end if last is None else min(end, last)))


def _compare(conn: Connection, tally: Tally) -> None:
    """Each table beside the ledger, one after the other and a few rows at a time."""
    host, key, row, forest = HOST_ACTIVATION.c, PRODUCT_KEY.c, ACTIVATION.c, FOREST_ACTIVATION.c
    some = queries.few_at_a_time
    tally.compare_certificates(serial for _, serial in some(conn, select(host.id, host.serial), host.id))
    used = some(conn, select(key.key_id, key.used).where(key.used != 0), key.key_id)
    tally.compare_pools((key_id, number) for key_id, number in used)
    held = some(conn, select(row.id, row.machine_id).where(row.returned_at.is_(None)), row.id)
    tally.compare_holders((activation, bytes(machine).hex()) for activation, machine in held)
    tally.compare_forests(one for _, one in some(conn, select(forest.id, forest.object_id), forest.id))


def _issued(change: Change, key_id: str) -> IssuedKey:
    found = change.key(key_id)
    if found is None:
        raise KeyMissingError(key=key_id)
    return found


# The change that is open in this thread, and of which store.
_OPEN: ContextVar[tuple[PublisherStore, Change] | None] = ContextVar("open_change", default=None)

# PostgreSQL's writers wait for each other here, as SQLite's do for the one write lock: the ledger has one end.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('volact publisher'))"
