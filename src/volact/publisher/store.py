# SPDX-License-Identifier: Apache-2.0
"""The publisher's store: every act is one transaction that changes its table and appends its row to the ledger.

It decides nothing: which request is granted is said by ``issuing`` and ``pools``, what a file may say by ``catalogue``.
Several processes share it; :meth:`PublisherStore.change` is alone while it lasts, so that what it reads is still true
when it writes.  SQLite and PostgreSQL alike.  Times come from the caller.  Spec: docs/spec/ledger.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, case, func, insert, or_, select, text, update

from volact.core.binding import MACHINE_ID_SIZE
from volact.core.errors import ConfigError
from volact.core.issuer import RevocationStatus
from volact.core.licence import Checkpoint
from volact.core.product_key import Channel, ProductKey
from volact.core.refusal import Refusal
from volact.publisher import ledger
from volact.publisher.activations import COLUMNS, Activations, read_activation
from volact.publisher.catalogue import GenericKeys, VersionNotNewerError
from volact.publisher.issuing import HostAct, HostUse, IssuedKey, Kind
from volact.publisher.ledger import Act, Row
from volact.publisher.pools import Activation
from volact.publisher.schema import (
    ACTIVATION,
    AGREEMENT,
    AGREEMENT_QUANTITY,
    DEFINITION,
    FOREST_ACTIVATION,
    GENERIC_KEY,
    HOST_ACTIVATION,
    LEDGER,
    ORGANISATION,
    PRODUCT_KEY,
    REVOCATION,
    REVOCATION_EPOCH,
)
from volact.sql.engine import database_name, open_engine
from volact.sql.migrate import upgrade
from volact.sql.transaction import read, write

MIGRATIONS = "volact.publisher.migrations"

# Refusals are written down too, but nobody may fill the disk with them: a key (or all unknown ones together) has so
# many rows in an hour; what comes beyond is answered and not written.
REFUSALS_PER_HOUR = 60
HOUR = 3600

_KIND_ACTS = {
    Kind.ACTIVATED: Act.HOST_ACTIVATED,
    Kind.REACTIVATED: Act.HOST_REACTIVATED,
    Kind.RENEWED: Act.HOST_RENEWED,
}
_MACHINE_ACTS = {Kind.ACTIVATED: Act.MACHINE_ACTIVATED, Kind.REACTIVATED: Act.MACHINE_REACTIVATED}


class DatabaseTakenError(ConfigError):
    code = "publisher-database-taken"
    fmt = "there is a publisher in database {database} already"
    remedy = "make the new one in an empty database; to move a publisher, copy its folder and restore its database"


class OrganisationTakenError(ConfigError):
    code = "organisation-taken"
    fmt = "organisation {name} was added before"
    remedy = "use it as it is, or add the other one under a name that tells them apart"


class OrganisationBlockedError(ConfigError):
    code = "organisation-blocked"
    fmt = "organisation {name} is blocked"
    remedy = "its keys and hosts were revoked; add the organisation under another name if it was a mistake"


class AgreementTakenError(ConfigError):
    code = "agreement-taken"
    fmt = "agreement {name} was added before"
    remedy = "use it as it is, change its end with `volact publisher agreement change`, or take another name"


class AgreementMissingError(ConfigError):
    code = "agreement-missing"
    fmt = "there is no agreement {name}"
    remedy = "add it with `volact publisher agreement add NAME`; `volact publisher agreement list` shows all"


class AgreementOrganisationError(ConfigError):
    code = "agreement-other-organisation"
    fmt = "agreement {name} is with {organisation}"
    remedy = "issue the key to that organisation, or under another agreement"


class OrganisationMissingError(ConfigError):
    code = "organisation-missing"
    fmt = "there is no organisation {name}"
    remedy = "add it with `volact publisher organisation add NAME`; `volact publisher organisation list` shows all"


class ProductNotPublishedError(ConfigError):
    code = "product-not-published"
    fmt = "this publisher has no product {product}"
    remedy = "add it with `volact publisher product add FILE.toml`; `volact publisher product list` shows all"


class VersionMissingError(ConfigError):
    code = "product-version-missing"
    fmt = "product {product} has no version {version}"
    remedy = "`volact publisher product show {product}` tells the newest one"


class KeyMissingError(ConfigError):
    code = "key-not-issued"
    fmt = "no key {key} was issued here"
    remedy = "give the whole key, its last five symbols or its key ID; `volact publisher key list` shows all"


class KeyAmbiguousError(ConfigError):
    code = "key-ambiguous"
    fmt = "{number} keys end in {key}"
    remedy = "give the whole key, or its key ID from `volact publisher key list --json`"


@dataclass(frozen=True, slots=True)
class Signed:
    """A product definition as it was signed."""

    product: str
    version: int
    issued_at: int
    token: str


@dataclass(frozen=True, slots=True)
class Organisation:
    name: str
    added_at: int
    keys: int
    blocked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """``quantities``: licences that were bought, by product group."""

    name: str
    organisation: str
    starts_at: int
    ends_at: int | None
    added_at: int
    quantities: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """How the service finds the key in a request: by its ``lookup``, or else by what can be read from the key, which
    leaves few to compare by their slow ID."""

    key_id: str
    lookup: bytes | None
    partial: str
    channel: Channel
    group: int


@dataclass(frozen=True, slots=True)
class HostActivation:
    """A certificate that was made for a host, as lists show it."""

    key_id: str
    partial: str
    organisation: str
    machine: bytes
    name: str
    product: str
    kind: Kind
    at: int
    ends_at: int
    serial: str


@dataclass(frozen=True, slots=True)
class Intent:
    """An act on a host that was decided and is to be certified, with everything that is written of it."""

    kind: Kind
    key: IssuedKey
    machine: bytes
    nonce: bytes
    name: str
    product: str
    groups: frozenset[int]
    fingerprint: Mapping[str, str]
    serial: int
    at: int
    ends_at: int


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
    def change(self) -> Iterator["Change"]:
        """One durable change, alone; nothing of it stays where the block raises."""
        with write(self._engine) as conn:
            if conn.dialect.name == "postgresql":
                conn.execute(text(_ALONE))
            change = Change(conn)
            yield change
            change.flush()

    @contextmanager
    def _look(self) -> Iterator[Connection]:
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

    def change_agreement(self, name: str, ends_at: int | None, at: int, actor: str) -> None:
        with self.change() as change:
            change.change_agreement(name, ends_at, at, actor)

    def raise_key(self, key_id: str, activations: int, hosts: int, at: int, actor: str) -> None:
        with self.change() as change:
            change.raise_key(key_id, activations, hosts, at, actor)

    def supersede_key(self, old: str, new: IssuedKey, lookup: bytes | None, actor: str) -> None:
        """Issue ``new`` and block ``old``, as one act."""
        with self.change() as change:
            change.check_owner(new.organisation, new.agreement)
            change.issue_key(new, actor, lookup)
            change.supersede_key(old, new, actor)

    def revoke_issuers(self, signers: Mapping[str, int], why: Mapping[str, Any], at: int, actor: str) -> int:
        """Revoke keys (thumbprint to the second from which), and begin a new epoch; returns it."""
        with self.change() as change:
            return change.revoke_issuers(signers, why, at, actor)

    def revoke_organisation(self, name: str, signers: Mapping[str, int], reason: str, at: int, actor: str) -> int:
        with self.change() as change:
            return change.revoke_organisation(name, signers, reason, at, actor)

    def set_blocked(self, key_id: str, reason: str, at: int, actor: str, *, blocked: bool) -> bool:
        """Blocks or unblocks a key; false where it was so before, and then nothing is written."""
        with self.change() as change:
            key = change.key(key_id)
            if key is None:
                raise KeyMissingError(key=key_id)
            if (key.blocked_at is not None) == blocked:
                return False
            change.set_blocked(key, reason, at, actor, blocked=blocked)
            return True

    # ---- questions

    def newest(self, product: str) -> Signed | None:
        with read(self._engine) as conn:
            return _newest(conn, product)

    def newest_of_all(self) -> list[Signed]:
        with read(self._engine) as conn:
            return _newest_of_all(conn)

    def version(self, product: str, version: int | None) -> Signed:
        """A version of a definition, the newest for ``None``."""
        with read(self._engine) as conn:
            newest = _newest(conn, product)
            if newest is None:
                raise ProductNotPublishedError(product=product)
            found = newest if version is None else _version(conn, product, version)
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
            rows = conn.execute(_KEYS.order_by(PRODUCT_KEY.c.issued_at, PRODUCT_KEY.c.key_id))
            return [_issued(row) for row in rows]

    def find_key(self, key_id: str, partial: str, shown: str) -> IssuedKey:
        """A key by its ID, or by its last symbols where only one key ends so; ``shown`` is what errors call it."""
        with read(self._engine) as conn:
            statement = _KEYS.where((PRODUCT_KEY.c.key_id == key_id) | (PRODUCT_KEY.c.partial == partial))
            found = [_issued(row) for row in conn.execute(statement)]
        if not found:
            raise KeyMissingError(key=shown)
        if len(found) > 1:
            raise KeyAmbiguousError(number=len(found), key=shown)
        return found[0]

    def keys_beginning(self, prefix: str) -> list[IssuedKey]:
        """Keys whose ID begins so: more of it does not go into an installation ID of the telephone."""
        row = PRODUCT_KEY.c.key_id
        with read(self._engine) as conn:
            found = [_issued(one) for one in conn.execute(_KEYS.where(row.between(prefix, f"{prefix}g")))]
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
            return [_host_activation(row) for row in conn.execute(statement)]

    def agreements(self) -> list[Agreement]:
        with self._look() as conn:
            return _agreements(conn)

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
            return _activations_beginning(conn, key_id, machine)

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
        with self._look() as conn:
            epoch, began = conn.execute(epochs.limit(1)).one()
            rows = conn.execute(select(REVOCATION.c.signer, REVOCATION.c.revoked_at)).all()
        return RevocationStatus(epoch, max(issued_at, began), {signer: at for signer, at in rows})  # noqa: C416

    def ledger(self) -> list[Row]:
        with read(self._engine) as conn:
            return _ledger(conn)

    def check_ledger(self) -> list[Row]:
        """Raises ``LedgerBrokenError`` where the chain or the tables of activations beside it were changed."""
        row = ACTIVATION.c
        held = select(row.id, row.machine_id).where(row.returned_at.is_(None))
        with self._look() as conn:
            rows = _ledger(conn)
            serials = list(conn.execute(select(HOST_ACTIVATION.c.serial)).scalars())
            used = {key: n for key, n in conn.execute(select(PRODUCT_KEY.c.key_id, PRODUCT_KEY.c.used)) if n}
            machines = {one: bytes(machine).hex() for one, machine in conn.execute(held)}
            bound = list(conn.execute(select(FOREST_ACTIVATION.c.object_id)).scalars())
        ledger.check(rows)
        ledger.check_activations(rows, serials)
        ledger.check_pools(rows, used, machines)
        ledger.check_forests(rows, bound)
        return rows


class Change:
    """What can be read and written in one write transaction.  Rows of the ledger, and what ``activations`` changed, are
    written at its end."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.activations = Activations(conn)
        self._rows: list[Row] = []
        self._head: Row | None = None
        self._refusals: dict[str | None, int] = {}

    def append(self, at: int, act: Act, actor: str, key_id: str | None, data: Mapping[str, Any]) -> None:
        """A row of the ledger; the chain has one end, since the transaction is alone."""
        row = ledger.chain(self._last(), at, act, actor, key_id, data)
        self._rows.append(row)
        self._head = row

    def flush(self) -> None:
        self.activations.flush()
        if self._rows:
            self.conn.execute(insert(LEDGER), [{name: getattr(r, name) for name in Row.__slots__} for r in self._rows])

    def is_used(self) -> bool:
        """Whether there is a publisher in the database already."""
        return self._last() is not None

    def checkpoint(self) -> Checkpoint:
        """The ledger as it is when this transaction has ended."""
        last = self._last()
        assert last is not None, "a publisher's first act is its own making"
        return Checkpoint(last.seq, last.hash)

    def _last(self) -> Row | None:
        if self._head is None:
            last = self.conn.execute(select(*_LEDGER).order_by(LEDGER.c.seq.desc()).limit(1)).one_or_none()
            self._head = Row(*last) if last else None
        return self._head

    def start_epoch(self, epoch: int, at: int) -> None:
        self.conn.execute(insert(REVOCATION_EPOCH).values(epoch=epoch, at=at))

    def newest(self, product: str) -> Signed | None:
        return _newest(self.conn, product)

    def newest_of_all(self) -> list[Signed]:
        return _newest_of_all(self.conn)

    def add_definition(self, signed: Signed, keys: GenericKeys, actor: str) -> None:
        last = self.newest(signed.product)
        if last is not None and last.version >= signed.version:
            raise VersionNotNewerError(
                product=signed.product, version=signed.version, last=last.version, next=last.version + 1
            )
        self._keep_generic_keys(signed.product, keys)
        self.conn.execute(
            insert(DEFINITION).values(
                product=signed.product, version=signed.version, issued_at=signed.issued_at, token=signed.token
            )
        )
        data = {"product": signed.product, "version": signed.version}
        self.append(signed.issued_at, Act.PRODUCT_ADDED, actor, None, data)

    def newest_versions(self, products: Sequence[str]) -> dict[str, int]:
        row = DEFINITION.c
        statement = select(row.product, func.max(row.version)).where(row.product.in_(products)).group_by(row.product)
        return {product: version for product, version in self.conn.execute(statement)}  # noqa: C416

    def version(self, product: str, version: int) -> Signed:
        found = _version(self.conn, product, version)
        assert found is not None, "versions are never removed"
        return found

    def has_organisation(self, name: str) -> bool:
        statement = select(ORGANISATION.c.name).where(ORGANISATION.c.name == name)
        return self.conn.execute(statement).one_or_none() is not None

    def check_owner(self, organisation: str, agreement: str | None) -> None:
        """Whether a key may be issued to an organisation, and under its agreement."""
        statement = select(ORGANISATION.c.blocked_at).where(ORGANISATION.c.name == organisation)
        found = self.conn.execute(statement).one_or_none()
        if found is None:
            raise OrganisationMissingError(name=organisation)
        if found.blocked_at is not None:
            raise OrganisationBlockedError(name=organisation)
        if agreement is not None:
            owner = self._agreement(agreement).organisation
            if owner != organisation:
                raise AgreementOrganisationError(name=agreement, organisation=owner)

    def add_agreement(self, agreement: Agreement, actor: str) -> None:
        self.check_owner(agreement.organisation, None)
        if any(one.name == agreement.name for one in _agreements(self.conn)):
            raise AgreementTakenError(name=agreement.name)
        values = {
            "name": agreement.name,
            "organisation": agreement.organisation,
            "starts_at": agreement.starts_at,
            "ends_at": agreement.ends_at,
        }
        self.conn.execute(insert(AGREEMENT).values(**values, added_at=agreement.added_at))
        rows = [
            {"agreement": agreement.name, "product_group": group, "quantity": quantity}
            for group, quantity in sorted(agreement.quantities.items())
        ]
        if rows:
            self.conn.execute(insert(AGREEMENT_QUANTITY), rows)
        quantities = {str(group): quantity for group, quantity in agreement.quantities.items()}
        told = {**values, "agreement": values["name"], "quantities": quantities}
        del told["name"]
        self.append(agreement.added_at, Act.AGREEMENT_ADDED, actor, None, told)

    def change_agreement(self, name: str, ends_at: int | None, at: int, actor: str) -> None:
        self._agreement(name)
        self.conn.execute(update(AGREEMENT).where(AGREEMENT.c.name == name).values(ends_at=ends_at))
        self.append(at, Act.AGREEMENT_CHANGED, actor, None, {"agreement": name, "ends_at": ends_at})

    def _agreement(self, name: str) -> Agreement:
        found = next((one for one in _agreements(self.conn) if one.name == name), None)
        if found is None:
            raise AgreementMissingError(name=name)
        return found

    def issue_key(self, key: IssuedKey, actor: str, lookup: bytes | None = None) -> None:
        values = {
            "key_id": key.key_id,
            "partial": key.partial,
            "channel": str(key.channel),
            "product": key.product,
            "product_group": key.group,
            "organisation": key.organisation,
            "hosts": key.hosts,
            "activations": key.activations,
            "issued_at": key.issued_at,
        }
        more = {"agreement": key.agreement} if key.agreement else {}
        self.conn.execute(insert(PRODUCT_KEY).values(**values, **more, blocked_reason="", used=0, lookup=lookup))
        told = {name: value for name, value in values.items() if name not in ("key_id", "issued_at")} | more
        self.append(key.issued_at, Act.KEY_ISSUED, actor, key.key_id, told)

    def key(self, key_id: str) -> IssuedKey | None:
        return self.keys([key_id]).get(key_id)

    def keys(self, key_ids: Sequence[str]) -> dict[str, IssuedKey]:
        found = [_issued(row) for row in self.conn.execute(_KEYS.where(PRODUCT_KEY.c.key_id.in_(key_ids)))]
        return {key.key_id: key for key in found}

    def raise_key(self, key_id: str, activations: int, hosts: int, at: int, actor: str) -> None:
        values = {"activations": activations, "hosts": hosts}
        self.conn.execute(update(PRODUCT_KEY).where(PRODUCT_KEY.c.key_id == key_id).values(**values))
        self.append(at, Act.KEY_RAISED, actor, key_id, values)

    def supersede_key(self, old: str, new: IssuedKey, actor: str) -> None:
        key = self.key(old)
        if key is None:
            raise KeyMissingError(key=old)
        self.conn.execute(update(PRODUCT_KEY).where(PRODUCT_KEY.c.key_id == old).values(superseded_by=new.key_id))
        self.append(new.issued_at, Act.KEY_SUPERSEDED, actor, old, {"partial": key.partial, "by": new.key_id})
        if key.blocked_at is None:
            self.set_blocked(key, f"superseded by {new.partial}", new.issued_at, actor, blocked=True)

    def revoke_issuers(self, signers: Mapping[str, int], why: Mapping[str, Any], at: int, actor: str) -> int:
        """A revocation is never taken back, and never moved to a later second."""
        known = {signer: since for signer, since in self.conn.execute(_REVOCATIONS)}  # noqa: C416
        for signer, since in signers.items():
            if signer not in known:
                self.conn.execute(insert(REVOCATION).values(signer=signer, revoked_at=since))
            elif since < known[signer]:
                self.conn.execute(update(REVOCATION).where(REVOCATION.c.signer == signer).values(revoked_at=since))
        epoch = int(self.conn.execute(select(func.max(REVOCATION_EPOCH.c.epoch))).scalar_one()) + 1
        self.start_epoch(epoch, at)
        self.append(at, Act.ISSUER_REVOKED, actor, None, {**why, "signers": dict(signers), "epoch": epoch})
        return epoch

    def revoke_organisation(self, name: str, signers: Mapping[str, int], reason: str, at: int, actor: str) -> int:
        self.check_owner(name, None)
        self.conn.execute(update(ORGANISATION).where(ORGANISATION.c.name == name).values(blocked_at=at))
        for row in self.conn.execute(_KEYS.where(PRODUCT_KEY.c.organisation == name)).all():
            key = _issued(row)
            if key.blocked_at is None:
                self.set_blocked(key, reason, at, actor, blocked=True)
        self.append(at, Act.ORGANISATION_REVOKED, actor, None, {"organisation": name, "reason": reason})
        return self.revoke_issuers(signers, {"organisation": name, "reason": reason}, at, actor)

    def revoked_since(self, signer: str) -> int | None:
        """From when a key is revoked, if it is."""
        statement = select(REVOCATION.c.revoked_at).where(REVOCATION.c.signer == signer)
        return self.conn.execute(statement).scalar_one_or_none()

    def activations_beginning(self, key_id: str, machine: bytes) -> list[Activation]:
        return _activations_beginning(self.conn, key_id, machine)

    def record_machine(self, kind: Kind, made: Activation, units: int, at: int, actor: str) -> None:
        """The ledger's row of a machine's activation."""
        data = {
            "activation": made.id,
            "units": units,
            "machine": made.machine.hex(),
            "name": made.name,
            "product": made.product,
            "edition": made.edition,
        }
        self.append(at, _MACHINE_ACTS[kind], actor, made.key_id, data)

    def record_return(self, activation: Activation, at: int, actor: str, *, credited: bool) -> None:
        self.activations.give_back(activation, at, credited=credited)
        data = {
            "activation": activation.id,
            "units": -activation.used if credited else 0,
            "machine": activation.machine.hex(),
            "product": activation.product,
        }
        self.append(at, Act.MACHINE_RETURNED, actor, activation.key_id, data)

    def set_blocked(self, key: IssuedKey, reason: str, at: int, actor: str, *, blocked: bool) -> None:
        values = {"blocked_at": at if blocked else None, "blocked_reason": reason if blocked else ""}
        self.conn.execute(update(PRODUCT_KEY).where(PRODUCT_KEY.c.key_id == key.key_id).values(**values))
        act = Act.KEY_BLOCKED if blocked else Act.KEY_UNBLOCKED
        self.append(at, act, actor, key.key_id, {"partial": key.partial, "reason": reason})

    def host_use(self, key_id: str, machine: bytes) -> HostUse:
        acts = HOST_ACTIVATION.c
        others = self.conn.execute(
            select(func.count(acts.machine_id.distinct())).where(acts.key_id == key_id, acts.machine_id != machine)
        ).scalar_one()
        rows = self.conn.execute(
            select(acts.kind, acts.nonce, acts.at, acts.ends_at, acts.certificate)
            .where(acts.key_id == key_id, acts.machine_id == machine)
            .order_by(acts.id)
        )
        return HostUse(
            others,
            [HostAct(Kind(kind), bytes(nonce), at, ends, bytes(der)) for kind, nonce, at, ends, der in rows],
        )

    def record_host_activation(self, intent: Intent, certificate: bytes, actor: str) -> None:
        serial = f"{intent.serial:x}"
        self.conn.execute(
            insert(HOST_ACTIVATION).values(
                key_id=intent.key.key_id,
                machine_id=intent.machine,
                nonce=intent.nonce,
                kind=str(intent.kind),
                at=intent.at,
                name=intent.name,
                product=intent.product,
                fingerprint=ledger.canonical(intent.fingerprint),
                serial=serial,
                ends_at=intent.ends_at,
                certificate=certificate,
            )
        )
        data = {
            "machine": intent.machine.hex(),
            "name": intent.name,
            "product": intent.product,
            "groups": sorted(intent.groups),
            "serial": serial,
            "ends_at": intent.ends_at,
        }
        self.append(intent.at, _KIND_ACTS[intent.kind], actor, intent.key.key_id, data)

    def record_refusal(
        self, refusal: Refusal, key_id: str | None, machine: bytes, name: str, at: int, actor: str
    ) -> bool:
        """False where the hour's rows are used up, and nothing was written."""
        if self._refusals_since(key_id, at - HOUR) >= REFUSALS_PER_HOUR:
            return False
        data = {"code": refusal.code, "fields": dict(refusal.fields), "machine": machine.hex(), "name": name}
        self.append(at, Act.REQUEST_REFUSED, actor, key_id, data)
        self._refusals[key_id] += 1
        return True

    def _refusals_since(self, key_id: str | None, at: int) -> int:
        """Counted once for a key and a transaction, and from there on here."""
        if key_id not in self._refusals:
            self._refusals[key_id] = self._count_refusals(key_id, at)
        return self._refusals[key_id]

    def _count_refusals(self, key_id: str | None, at: int) -> int:
        row = LEDGER.c
        statement = select(func.count()).where(row.act == str(Act.REQUEST_REFUSED), row.key_id.is_(key_id), row.at > at)
        if key_id is not None:
            statement = select(func.count()).where(
                row.act == str(Act.REQUEST_REFUSED), row.key_id == key_id, row.at > at
            )
        return int(self.conn.execute(statement).scalar_one())

    def _keep_generic_keys(self, product: str, keys: GenericKeys) -> None:
        columns = (GENERIC_KEY.c.edition, GENERIC_KEY.c.channel)
        kept = set(map(tuple, self.conn.execute(select(*columns).where(GENERIC_KEY.c.product == product)).all()))
        rows = [
            {"product": product, "edition": edition, "channel": str(channel), "product_key": str(key)}
            for (edition, channel), key in keys.items()
            if (edition, str(channel)) not in kept
        ]
        if rows:
            self.conn.execute(insert(GENERIC_KEY), rows)


_KEY = (
    PRODUCT_KEY.c.key_id,
    PRODUCT_KEY.c.partial,
    PRODUCT_KEY.c.channel,
    PRODUCT_KEY.c.product,
    PRODUCT_KEY.c.product_group,
    PRODUCT_KEY.c.organisation,
    PRODUCT_KEY.c.hosts,
    PRODUCT_KEY.c.activations,
    PRODUCT_KEY.c.issued_at,
    PRODUCT_KEY.c.blocked_at,
    PRODUCT_KEY.c.blocked_reason,
    PRODUCT_KEY.c.agreement,
    PRODUCT_KEY.c.used,
    PRODUCT_KEY.c.superseded_by,
    AGREEMENT.c.starts_at,
    AGREEMENT.c.ends_at,
)
_KEYS = select(*_KEY).select_from(PRODUCT_KEY.outerjoin(AGREEMENT, AGREEMENT.c.name == PRODUCT_KEY.c.agreement))
_REVOCATIONS = select(REVOCATION.c.signer, REVOCATION.c.revoked_at)
# PostgreSQL's writers wait for each other here, as SQLite's do for the one write lock: the ledger has one end.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('volact publisher'))"
_LEDGER = tuple(LEDGER.c[name] for name in ("seq", "at", "act", "actor", "key_id", "data", "previous", "hash"))
_SIGNED = (DEFINITION.c.product, DEFINITION.c.version, DEFINITION.c.issued_at, DEFINITION.c.token)


def _newest(conn: Connection, product: str) -> Signed | None:
    statement = select(*_SIGNED).where(DEFINITION.c.product == product).order_by(DEFINITION.c.version.desc()).limit(1)
    row = conn.execute(statement).one_or_none()
    return Signed(*row) if row is not None else None


def _newest_of_all(conn: Connection) -> list[Signed]:
    rows = conn.execute(select(*_SIGNED).order_by(DEFINITION.c.product, DEFINITION.c.version))
    return list({row.product: Signed(*row) for row in rows}.values())


def _version(conn: Connection, product: str, version: int) -> Signed | None:
    statement = select(*_SIGNED).where(DEFINITION.c.product == product, DEFINITION.c.version == version)
    row = conn.execute(statement).one_or_none()
    return Signed(*row) if row is not None else None


def _activations_beginning(conn: Connection, key_id: str, machine: bytes) -> list[Activation]:
    row, rest = ACTIVATION.c, MACHINE_ID_SIZE - len(machine)
    named = row.machine_id.between(machine + bytes(rest), machine + b"\xff" * rest)
    statement = select(*COLUMNS).where(row.key_id == key_id, named).order_by(row.id)
    found = [read_activation(one) for one in conn.execute(statement)]
    return sorted(found, key=lambda one: one.returned_at is not None)


def _agreements(conn: Connection) -> list[Agreement]:
    quantities: dict[str, dict[int, int]] = {}
    row = AGREEMENT_QUANTITY.c
    for agreement, group, quantity in conn.execute(select(row.agreement, row.product_group, row.quantity)):
        quantities.setdefault(agreement, {})[group] = quantity
    columns = tuple(AGREEMENT.c[name] for name in ("name", "organisation", "starts_at", "ends_at", "added_at"))
    rows = conn.execute(select(*columns).order_by(AGREEMENT.c.added_at, AGREEMENT.c.name))
    return [
        Agreement(name, organisation, starts_at, ends_at, added_at, quantities.get(name, {}))
        for name, organisation, starts_at, ends_at, added_at in rows
    ]


def _ledger(conn: Connection) -> list[Row]:
    return [Row(*row) for row in conn.execute(select(*_LEDGER).order_by(LEDGER.c.seq))]


def _issued(row: Sequence[Any]) -> IssuedKey:
    key_id, partial, channel, *rest = row
    return IssuedKey(key_id, partial, Channel(channel), *rest)


def _host_activation(row: Sequence[Any]) -> HostActivation:
    key_id, partial, organisation, machine, name, product, kind, *rest = row
    return HostActivation(key_id, partial, organisation, machine, name, product, Kind(kind), *rest)
