# SPDX-License-Identifier: Apache-2.0
"""One change of the publisher's store: what can be read and written in one write transaction, its ledger rows included.

Spec: docs/spec/ledger.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from volact.core.binding import MACHINE_ID_SIZE
from volact.core.licence import Checkpoint
from volact.core.phone_site import SiteInstallationId, SiteSubject, name_of_host, whole_name
from volact.core.refusal import Refusal
from volact.publisher.rows import ledger, queries
from volact.publisher.rows.activations import Activations
from volact.publisher.rows.ledger import Act, Row
from volact.publisher.rows.records import (
    Agreement,
    AgreementMissingError,
    AgreementOrganisationError,
    AgreementTakenError,
    Intent,
    OrganisationBlockedError,
    OrganisationMissingError,
    Signed,
)
from volact.publisher.rules.catalogue import GenericKeys, VersionNotNewerError
from volact.publisher.rules.issuing import HostAct, HostUse, IssuedKey, Kind
from volact.publisher.rules.pools import Activation, Credit
from volact.publisher.schema import (
    AGREEMENT,
    AGREEMENT_QUANTITY,
    API_TOKEN,
    DEFINITION,
    GENERIC_KEY,
    HOST_ACTIVATION,
    LEDGER,
    ORGANISATION,
    PRODUCT_KEY,
    REVOCATION,
    REVOCATION_EPOCH,
)
from volact.sealing import certificates

# Refusals are written down too, but nobody may fill the disk with them: a key (or all unknown ones together) has so
# many rows in an hour; what comes beyond is answered and not written.
REFUSALS_PER_HOUR = 60
HOUR = 3600
TELEPHONE = "telephone"  # the name of a host that is known from there alone
_KIND_ACTS = {
    Kind.ACTIVATED: Act.HOST_ACTIVATED,
    Kind.REACTIVATED: Act.HOST_REACTIVATED,
    Kind.RENEWED: Act.HOST_RENEWED,
}
_MACHINE_ACTS = {Kind.ACTIVATED: Act.MACHINE_ACTIVATED, Kind.REACTIVATED: Act.MACHINE_REACTIVATED}


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
            self._head = queries.last_row(self.conn)
        return self._head

    def start_epoch(self, epoch: int, at: int) -> None:
        self.conn.execute(insert(REVOCATION_EPOCH).values(epoch=epoch, at=at))

    def newest(self, product: str) -> Signed | None:
        return queries.newest(self.conn, product)

    def newest_of_all(self) -> list[Signed]:
        return queries.newest_of_all(self.conn)

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
        found = queries.signed_version(self.conn, product, version)
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
            owner = self.agreement(agreement).organisation
            if owner != organisation:
                raise AgreementOrganisationError(name=agreement, organisation=owner)

    def add_agreement(self, agreement: Agreement, actor: str) -> None:
        self.check_owner(agreement.organisation, None)
        if any(one.name == agreement.name for one in queries.agreements(self.conn)):
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
        self.agreement(name)
        self.conn.execute(update(AGREEMENT).where(AGREEMENT.c.name == name).values(ends_at=ends_at))
        self.append(at, Act.AGREEMENT_CHANGED, actor, None, {"agreement": name, "ends_at": ends_at})

    def agreement(self, name: str) -> Agreement:
        found = next((one for one in queries.agreements(self.conn) if one.name == name), None)
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
        found = [
            queries.issued(row) for row in self.conn.execute(queries.KEYS.where(PRODUCT_KEY.c.key_id.in_(key_ids)))
        ]
        return {key.key_id: key for key in found}

    def raise_key(self, key_id: str, activations: int, hosts: int, at: int, actor: str) -> None:
        values = {"activations": activations, "hosts": hosts}
        self.conn.execute(update(PRODUCT_KEY).where(PRODUCT_KEY.c.key_id == key_id).values(**values))
        self.append(at, Act.KEY_RAISED, actor, key_id, values)

    def supersede_key(self, old: IssuedKey, new: IssuedKey, actor: str) -> None:
        mine = PRODUCT_KEY.c.key_id == old.key_id
        self.conn.execute(update(PRODUCT_KEY).where(mine).values(superseded_by=new.key_id))
        self.append(new.issued_at, Act.KEY_SUPERSEDED, actor, old.key_id, {"partial": old.partial, "by": new.key_id})
        if old.blocked_at is None:
            self.set_blocked(old, f"superseded by {new.partial}", new.issued_at, actor, blocked=True)

    def revoke_issuers(self, signers: Mapping[str, int], why: Mapping[str, Any], at: int, actor: str) -> int:
        """A revocation is never taken back, and never moved to a later second."""
        known = {signer: since for signer, since in self.conn.execute(queries.REVOCATIONS)}  # noqa: C416
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
        for row in self.conn.execute(queries.KEYS.where(PRODUCT_KEY.c.organisation == name)).all():
            key = queries.issued(row)
            if key.blocked_at is None:
                self.set_blocked(key, reason, at, actor, blocked=True)
        own = (API_TOKEN.c.organisation == name, API_TOKEN.c.revoked_at.is_(None))
        self.conn.execute(update(API_TOKEN).where(*own).values(revoked_at=at))
        self.append(at, Act.ORGANISATION_REVOKED, actor, None, {"organisation": name, "reason": reason})
        return self.revoke_issuers(signers, {"organisation": name, "reason": reason}, at, actor)

    def revoked_since(self, signer: str) -> int | None:
        """From when a key is revoked, if it is."""
        statement = select(REVOCATION.c.revoked_at).where(REVOCATION.c.signer == signer)
        return self.conn.execute(statement).scalar_one_or_none()

    def activations_beginning(self, key_id: str, machine: bytes) -> list[Activation]:
        return queries.activations_beginning(self.conn, key_id, machine)

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

    def record_return(self, activation: Activation, at: int, actor: str, credited: Credit, proof_at: int) -> None:
        self.activations.give_back(activation, at, credited, proof_at)
        data = {
            "activation": activation.id,
            "units": -activation.used if credited else 0,
            "machine": activation.machine.hex(),
            "product": activation.product,
        }
        if credited is Credit.COUNTER:
            data["by"] = "tpm-counter"
        self.append(at, Act.MACHINE_RETURNED, actor, activation.key_id, data)

    def set_blocked(self, key: IssuedKey, reason: str, at: int, actor: str, *, blocked: bool) -> None:
        values = {"blocked_at": at if blocked else None, "blocked_reason": reason if blocked else ""}
        self.conn.execute(update(PRODUCT_KEY).where(PRODUCT_KEY.c.key_id == key.key_id).values(**values))
        act = Act.KEY_BLOCKED if blocked else Act.KEY_UNBLOCKED
        self.append(at, act, actor, key.key_id, {"partial": key.partial, "reason": reason})

    def host_use(self, key_id: str, machine: bytes) -> HostUse:
        """Of a host by its machine ID; as much of it as a telephone carries tells two hosts apart."""
        acts, name = HOST_ACTIVATION.c, name_of_host(machine)
        rest = MACHINE_ID_SIZE - len(name)
        own = acts.machine_id.between(name + bytes(rest), name + b"\xff" * rest)
        known = func.substr(acts.machine_id, 1, len(name))
        others = self.conn.execute(select(func.count(known.distinct())).where(acts.key_id == key_id, ~own)).scalar_one()
        rows = self.conn.execute(
            select(acts.kind, acts.nonce, acts.at, acts.ends_at, acts.certificate)
            .where(acts.key_id == key_id, own)
            .order_by(acts.id)
        )
        return HostUse(
            others,
            [HostAct(Kind(kind), bytes(nonce), at, ends, bytes(der)) for kind, nonce, at, ends, der in rows],
        )

    def is_revoked(self, use: HostUse) -> bool:
        """Whether what a host was confirmed by telephone is revoked, or the key of a certificate that it got."""
        return any(self.revoked_since(_signer_of(act)) is not None for act in use.own)

    def record_confirmed_host(
        self, kind: Kind, subject: SiteSubject, installation: SiteInstallationId, serial: int, at: int, actor: str
    ) -> None:
        """A host that makes its certificate itself.  Its row's nonce is the installation ID, which is longer than any
        that comes online."""
        machine, said = whole_name(installation.name), installation.to_bytes()
        told = _confirmed_host(subject, installation, serial)
        self.conn.execute(
            insert(HOST_ACTIVATION).values(
                key_id=subject.key_id,
                machine_id=machine,
                nonce=said,
                kind=str(kind),
                at=at,
                name=TELEPHONE,
                product=subject.product,
                fingerprint=ledger.canonical({}),
                serial=told["serial"],
                ends_at=installation.ends_at,
                certificate=said,
            )
        )
        self.append(at, _KIND_ACTS[kind], actor, subject.key_id, told)

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

    def wrong_callers(self, code: str, key_id: str, actor: str, at: int) -> tuple[int, int]:
        """Refusals of this code in the hour before: for a key, and written down by one actor."""
        row = LEDGER.c
        recent = (row.act == str(Act.REQUEST_REFUSED), row.at > at - HOUR, row.data.contains(f'"code":"{code}"'))
        statement = select(func.count())
        of_key = self.conn.execute(statement.where(*recent, row.key_id == key_id)).scalar_one()
        return int(of_key), int(self.conn.execute(statement.where(*recent, row.actor == actor)).scalar_one())

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


def _signer_of(act: HostAct) -> str:
    """Under which name a status revokes what a host was given: its certificate's key, or the confirmation."""
    if act.by_telephone:
        return SiteInstallationId.from_bytes(act.nonce).revocation_id
    return certificates.key_thumbprint(certificates.public_key_of(certificates.load_der(act.certificate))).hex()


def _confirmed_host(subject: SiteSubject, installation: SiteInstallationId, serial: int) -> dict[str, Any]:
    """What the ledger says of a host that was read out."""
    return {
        "machine": whole_name(installation.name).hex(),
        "name": TELEPHONE,
        "product": subject.product,
        "groups": sorted(subject.groups),
        "serial": f"{serial:x}",
        "ends_at": installation.ends_at,
        "revocation_id": installation.revocation_id,
    }
