# SPDX-License-Identifier: Apache-2.0
"""Issuers in memory: a publisher with its CA and KMS hosts, real keys and the production rules, no network, no disk.

Each simulator has the two calls of a server (``get_issuer``, ``activate``), so the client's production code talks to
it unchanged, and knobs for what goes wrong: ``host.down``, ``host.clock``, ``publisher.revoke(host)``.
"""

import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from volact.core.count import count, day_of
from volact.core.definition import (
    GENERIC,
    Edition,
    EditionKind,
    ProductDefinition,
    ProductGroup,
    default_policy,
)
from volact.core.issuer import IssuerDescriptor, RevocationStatus
from volact.core.product_key import ProductKey, publisher_tag
from volact.core.refusal import Refusal, SignedRefusal
from volact.host.issuing import Accepted, Intervals, decide, licence_for
from volact.sealing import certificates, envelope, proof, sign, verify
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.keys import LocalKey
from volact.testing.clock import FakeClock
from volact.wire.client import UnreachableError

CLIENT_GROUP, SERVER_GROUP = 101, 102
DESCRIPTOR_SECONDS = 86400


class PublisherSimulator:
    """A publisher: root, issuing CA, definition and revocation keys.  ``epoch`` grows with each revocation."""

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        self.name, self.clock = name, clock
        root_key, issuing_key = LocalKey.generate(), LocalKey.generate()
        now = clock()
        self.root = certificates.make_root(root_key.private, name, now, _serial())
        root = Certified(self.root, root_key.private)
        self.issuing = certificates.make_issuing(root, issuing_key.public_key, name, now, _serial())
        self._ca = Certified(self.issuing, issuing_key.private)
        self.fingerprint = certificates.fingerprint(self.root)
        self.trust = verify.Trust(self.root)
        long = certificates.ISSUING_YEARS * certificates.YEAR
        self._definitions = self.issuer(LocalKey.generate(), Role.DEFINITION, name, (), long)
        self._revocations = self.issuer(LocalKey.generate(), Role.REVOCATION, name, (), long)
        self._own = self.issuer(LocalKey.generate(), Role.PUBLISHER, name, (), long)
        self._opening = envelope.OpeningKey.generate()
        self.status = RevocationStatus(1, now)

    def issuer(
        self, key: LocalKey, role: Role, organisation: str, groups: Iterable[int], lifetime: int = certificates.YEAR
    ) -> sign.Issuer:
        """Certify ``key`` for ``role``."""
        grant = Grant(organisation, frozenset(groups), certificates.key_thumbprint(key.public_key))
        certificate = certificates.make_end(
            self._ca, key.public_key, role, grant, organisation, self.clock(), _serial(), lifetime
        )
        return sign.Issuer(key, [certificate, self.issuing], self.root)

    def revoke(self, issuer: sign.Issuer, since: int | None = None) -> None:
        """Revoke an issuer's key from ``since`` (now) on; hosts staple it from their next descriptor."""
        revoked = {**self.status.revoked, issuer.thumbprint.hex(): self.clock() if since is None else since}
        self.status = RevocationStatus(self.status.epoch + 1, self.clock(), revoked)

    def status_token(self) -> str:
        return self._revocations.status(replace(self.status, issued_at=self.clock()))

    def descriptor_token(self) -> str:
        now = self.clock()
        key = self._opening
        return self._own.descriptor(
            IssuerDescriptor(
                key.id, self.name, key.suite, key.public, now, self._own.ends_at, status=self.status_token()
            )
        )

    def definition(self, product: str = "acme-cad", version: int = 1, **policy: Any) -> ProductDefinition:
        """A definition with a client and a server edition; ``policy`` changes figures of both."""
        editions = []
        for kind, group in ((EditionKind.CLIENT, CLIENT_GROUP), (EditionKind.SERVER, SERVER_GROUP)):
            secret = bytes([group % 256]) * 7
            tag = publisher_tag(self.fingerprint)
            keys = {channel: ProductKey.new(channel, tag, group, secret) for channel in GENERIC}
            changed = default_policy(kind).with_changes(policy)
            editions.append(Edition(str(kind), f"{product} {kind}", group, kind, changed, keys))
        groups = (
            ProductGroup(CLIENT_GROUP, "clients", SERVER_GROUP),
            ProductGroup(SERVER_GROUP, "servers"),
        )
        return ProductDefinition(
            product=product,
            name=product.title(),
            version=version,
            publisher=self.name,
            root=self.fingerprint,
            url=None,
            issuer=self.descriptor_token(),
            groups=groups,
            editions=tuple(editions),
            issued_at=self.clock(),
        )

    def sign_definition(self, definition: ProductDefinition) -> str:
        return self._definitions.definition(definition)


@dataclass
class KmsHostSimulator:
    """A KMS host: production rules over a table in memory.  ``requests`` keeps every sealed request it was sent."""

    publisher: PublisherSimulator
    definition: ProductDefinition
    groups: frozenset[int]
    clock: Callable[[], int]
    suite: str = envelope.X25519
    organisation: str = "Contoso"
    intervals: Intervals = field(default_factory=Intervals)
    down: bool = False
    refuse: Refusal | None = None
    name: str = "kms.example.test"

    def __post_init__(self) -> None:
        self.opening = envelope.OpeningKey.generate(self.suite)
        self.issuer = self.publisher.issuer(LocalKey.generate(), Role.KMS_HOST, self.organisation, self.groups)
        self.last_seen: dict[tuple[int, bytes], int] = {}
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self.status = self.publisher.status_token()

    def renew(self) -> None:
        """A new certificate for a new year, and the publisher's current status."""
        self.issuer = self.publisher.issuer(self._key(), Role.KMS_HOST, self.organisation, self.groups)
        self.status = self.publisher.status_token()

    def count(self, group: int) -> int:
        today = day_of(self.clock())
        histogram: dict[int, int] = {}
        for (of_group, _), at in self.last_seen.items():
            if of_group == group:
                histogram[day_of(at)] = histogram.get(day_of(at), 0) + 1
        return count(histogram, today, self._window(group))

    def fill(self, group: int, machines: int) -> None:
        """Count ``machines`` machines that asked just now."""
        for _ in range(machines):
            self.last_seen[group, os.urandom(32)] = self.clock()

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:  # noqa: ARG002 - one publisher
        self._check_up()
        now = self.clock()
        return self.issuer.descriptor(
            IssuerDescriptor(
                self.opening.id,
                self.name,
                self.suite,
                self.opening.public,
                now,
                now + DESCRIPTOR_SECONDS,
                nonce,
                self.status,
            )
        )

    def activate(self, issuer: str, sealed: bytes) -> bytes:  # noqa: ARG002 - it has one sealing key
        self._check_up()
        self.requests.append(sealed)
        proven = proof.verify_request(self.opening.open_request(sealed).decode())
        request, now = proven.request, self.clock()
        definition = self.definition if request.product == self.definition.product else None
        decision = self.refuse or decide(
            request, issuer=self.opening.id, definition=definition, groups=self.groups, now=now
        )
        if isinstance(decision, Accepted):
            token = self._license(proven, decision, now)
        else:
            token = self.issuer.refusal(SignedRefusal(self.opening.id, request.nonce, now, decision))
        answer = envelope.seal_answer(request.response_key, request.nonce, token.encode())
        self.answers.append(answer)
        return answer

    def _license(self, proven: proof.ProvenRequest, accepted: Accepted, now: int) -> str:
        group = accepted.edition.group
        self.last_seen[group, proven.machine] = now
        licence = licence_for(
            proven.request,
            accepted,
            proven.machine,
            count=self.count(group),
            key_id="0" * 32,
            organisation=self.organisation,
            certificate_ends_at=self.issuer.ends_at,
            intervals=self.intervals,
            now=now,
        )
        return self.issuer.licence(licence)

    def _key(self) -> LocalKey:
        assert isinstance(self.issuer.key, LocalKey)
        return self.issuer.key

    def _window(self, group: int) -> int:
        return next(e.policy.count_window_days for e in self.definition.editions if e.group == group)

    def _check_up(self) -> None:
        if self.down:
            raise UnreachableError(host=self.name, port=1688, why="connection refused")


@dataclass
class Site:
    """A publisher, its product and the organisation's first KMS host, on one clock."""

    clock: FakeClock
    publisher: PublisherSimulator
    definition: ProductDefinition
    token: str

    @classmethod
    def make(cls, now: int = 1_800_000_000, **policy: Any) -> "Site":
        clock = FakeClock(now)
        publisher = PublisherSimulator("Acme Software", clock)
        definition = publisher.definition("acme-cad", 1, **policy)
        return cls(clock, publisher, definition, publisher.sign_definition(definition))

    def kms_host(self, groups: Iterable[int] = (CLIENT_GROUP, SERVER_GROUP), **knobs: object) -> KmsHostSimulator:
        return KmsHostSimulator(
            self.publisher,
            self.definition,
            frozenset(groups),
            self.clock,
            **knobs,  # type: ignore[arg-type]
        )


def _serial() -> int:
    return secrets.randbits(120) + 1
