# SPDX-License-Identifier: Apache-2.0
"""The publisher's store: every act is one transaction that changes its table and appends its row to the ledger.

It decides nothing: which request is granted is said by ``issuing``, what a file may say by ``catalogue``.  Several
processes share it; :meth:`PublisherStore.change` is alone while it lasts, so that what it reads is still true when it
writes.  Times come from the caller.  Spec: docs/spec/ledger.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, func, insert, select, update

from volact.core.errors import ConfigError
from volact.core.issuer import RevocationStatus
from volact.core.product_key import Channel, ProductKey
from volact.core.refusal import Refusal
from volact.publisher import ledger
from volact.publisher.catalogue import GenericKeys, VersionNotNewerError
from volact.publisher.issuing import HostAct, HostUse, IssuedKey, Kind
from volact.publisher.ledger import Act, Row
from volact.publisher.schema import (
    DEFINITION,
    GENERIC_KEY,
    HOST_ACTIVATION,
    LEDGER,
    ORGANISATION,
    PRODUCT_KEY,
    REVOCATION,
    REVOCATION_EPOCH,
)
from volact.sql.engine import open_engine
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


class OrganisationTakenError(ConfigError):
    code = "organisation-taken"
    fmt = "organisation {name} was added before"
    remedy = "use it as it is, or add the other one under a name that tells them apart"


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
    def open(cls, path: Path) -> Self:
        """Opens the database, and brings its tables to this version."""
        engine = open_engine(path)
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
            yield Change(conn)

    # ---- acts of the administrator

    def note_initialised(self, name: str, root: str, at: int, actor: str) -> None:
        with self.change() as change:
            change.start_epoch(1, at)
            change.append(at, Act.PUBLISHER_INITIALISED, actor, None, {"name": name, "root": root})

    def add_definition(self, signed: Signed, keys: GenericKeys, actor: str) -> None:
        with self.change() as change:
            change.add_definition(signed, keys, actor)

    def add_organisation(self, name: str, at: int, actor: str) -> None:
        with self.change() as change:
            if change.has_organisation(name):
                raise OrganisationTakenError(name=name)
            change.conn.execute(insert(ORGANISATION).values(name=name, added_at=at))
            change.append(at, Act.ORGANISATION_ADDED, actor, None, {"organisation": name})

    def issue_key(self, key: IssuedKey, actor: str) -> None:
        with self.change() as change:
            if not change.has_organisation(key.organisation):
                raise OrganisationMissingError(name=key.organisation)
            change.issue_key(key, actor)

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
            select(ORGANISATION.c.name, ORGANISATION.c.added_at, func.count(PRODUCT_KEY.c.key_id))
            .outerjoin(PRODUCT_KEY, PRODUCT_KEY.c.organisation == ORGANISATION.c.name)
            .group_by(ORGANISATION.c.name, ORGANISATION.c.added_at)
            .order_by(ORGANISATION.c.name)
        )
        with read(self._engine) as conn:
            return [Organisation(*row) for row in conn.execute(statement)]

    def keys(self) -> list[IssuedKey]:
        with read(self._engine) as conn:
            rows = conn.execute(select(*_KEY).order_by(PRODUCT_KEY.c.issued_at, PRODUCT_KEY.c.key_id))
            return [_issued(row) for row in rows]

    def find_key(self, key_id: str, partial: str, shown: str) -> IssuedKey:
        """A key by its ID, or by its last symbols where only one key ends so; ``shown`` is what errors call it."""
        with read(self._engine) as conn:
            statement = select(*_KEY).where((PRODUCT_KEY.c.key_id == key_id) | (PRODUCT_KEY.c.partial == partial))
            found = [_issued(row) for row in conn.execute(statement)]
        if not found:
            raise KeyMissingError(key=shown)
        if len(found) > 1:
            raise KeyAmbiguousError(number=len(found), key=shown)
        return found[0]

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

    def revocations(self, issued_at: int) -> RevocationStatus:
        """What the revocation status says, to be signed; it is not issued before its epoch began."""
        epochs = select(REVOCATION_EPOCH.c.epoch, REVOCATION_EPOCH.c.at).order_by(REVOCATION_EPOCH.c.epoch.desc())
        with read(self._engine) as conn:
            epoch, began = conn.execute(epochs.limit(1)).one()
            rows = conn.execute(select(REVOCATION.c.signer, REVOCATION.c.revoked_at)).all()
        return RevocationStatus(epoch, max(issued_at, began), {signer: at for signer, at in rows})  # noqa: C416

    def ledger(self) -> list[Row]:
        with read(self._engine) as conn:
            return _ledger(conn)

    def check_ledger(self) -> list[Row]:
        """Raises ``LedgerBrokenError`` where the chain or the table of activations beside it was changed."""
        with read(self._engine) as conn:
            rows = _ledger(conn)
            serials = list(conn.execute(select(HOST_ACTIVATION.c.serial)).scalars())
        ledger.check(rows)
        ledger.check_activations(rows, serials)
        return rows


class Change:
    """What can be read and written in one write transaction."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    def append(self, at: int, act: Act, actor: str, key_id: str | None, data: Mapping[str, Any]) -> None:
        """A row of the ledger; the chain has one end, since the transaction is alone."""
        last = self.conn.execute(select(*_LEDGER).order_by(LEDGER.c.seq.desc()).limit(1)).one_or_none()
        row = ledger.chain(Row(*last) if last else None, at, act, actor, key_id, data)
        values = {name: getattr(row, name) for name in Row.__slots__}
        self.conn.execute(insert(LEDGER).values(**values))

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

    def has_organisation(self, name: str) -> bool:
        statement = select(ORGANISATION.c.name).where(ORGANISATION.c.name == name)
        return self.conn.execute(statement).one_or_none() is not None

    def issue_key(self, key: IssuedKey, actor: str) -> None:
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
        self.conn.execute(insert(PRODUCT_KEY).values(**values, blocked_reason=""))
        told = {name: value for name, value in values.items() if name not in ("key_id", "issued_at")}
        self.append(key.issued_at, Act.KEY_ISSUED, actor, key.key_id, told)

    def key(self, key_id: str) -> IssuedKey | None:
        row = self.conn.execute(select(*_KEY).where(PRODUCT_KEY.c.key_id == key_id)).one_or_none()
        return _issued(row) if row is not None else None

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
        return HostUse(others, [HostAct(Kind(kind), *rest) for kind, *rest in rows])

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
        return True

    def _refusals_since(self, key_id: str | None, at: int) -> int:
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
)
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


def _ledger(conn: Connection) -> list[Row]:
    return [Row(*row) for row in conn.execute(select(*_LEDGER).order_by(LEDGER.c.seq))]


def _issued(row: Sequence[Any]) -> IssuedKey:
    key_id, partial, channel, *rest = row
    return IssuedKey(key_id, partial, Channel(channel), *rest)


def _host_activation(row: Sequence[Any]) -> HostActivation:
    key_id, partial, organisation, machine, name, product, kind, *rest = row
    return HostActivation(key_id, partial, organisation, machine, name, product, Kind(kind), *rest)
