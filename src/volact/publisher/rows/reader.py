# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a publisher's tables and ledger, outside a change.  Spec: docs/spec/ledger.md."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, case, func, or_, select

from volact.core.issuer import RevocationStatus
from volact.core.product_key import Channel, ProductKey
from volact.publisher.rows import ledger, queries
from volact.publisher.rows.activations import COLUMNS, read_activation
from volact.publisher.rows.ledger import Act, Row
from volact.publisher.rows.records import (
    Agreement,
    AgreementMissingError,
    Found,
    HostActivation,
    KeyAmbiguousError,
    KeyMissingError,
    Organisation,
    ProductNotPublishedError,
    Signed,
    VersionMissingError,
)
from volact.publisher.rows.verifying import Tally
from volact.publisher.rules.catalogue import GenericKeys
from volact.publisher.rules.issuing import IssuedKey
from volact.publisher.rules.pools import Activation
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
from volact.sql.transaction import read

LEDGER_PAGE = 2000  # rows that an export reads at once


class Reader:
    """What can be asked of the tables; each question is about one moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """One moment, whatever is committed meanwhile."""
        with read(self._engine) as conn:
            if conn.dialect.name == "postgresql":
                conn.execution_options(isolation_level="REPEATABLE READ")
            yield conn

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
