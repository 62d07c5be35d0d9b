# SPDX-License-Identifier: Apache-2.0
"""The publisher's service as the fleet tool needs it: what is left of a key, and an answer to a request of a machine.

Both are the contract's own calls, so any publisher's service answers them and no account there is needed: who holds a
key may know what is left of it, and a machine's request speaks for itself.  Requests and answers pass through unread.
A request is answered again for nothing, so a lost answer is asked for again.  Spec: docs/spec/proxy.md §3.
"""

import os
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, insert, select, update

from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.errors import ConfigError, MalformedError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.refusal import SignedRefusal
from volact.core.returning import Inquiry, Receipt
from volact.fleet.schema import DEFINITIONS
from volact.fleet.store import note
from volact.sealing import answers, envelope, returns, verify
from volact.sealing.keys import LocalKey
from volact.sealing.verify import TrustedDefinition
from volact.wire.client import Server

POOLED = (Channel.MAK, Channel.RETAIL)
SUITES = (envelope.X25519, envelope.HYBRID)
ANY_AGE = 1 << 40  # whoever asks takes the newest status there is; clients judge its age


class DefinitionNeededError(ConfigError):
    code = "fleet-definition-missing"
    fmt = "no product definition of the publisher of the key ending in {partial} has been added to the fleet"
    remedy = "run `volact fleet keys add-product FILE --root sha256:…` with the definition that came with the product"


class NoServiceError(ConfigError):
    code = "fleet-no-publisher"
    fmt = "the definition of {product} names no service of its publisher"
    remedy = "name it: --publisher URL"


class OlderFleetDefinitionError(ConfigError):
    code = "fleet-definition-older"
    fmt = "version {got} of the definition of {product} is older than version {known}, which the fleet has"
    remedy = "keep the newer one; nothing was changed"


class NoPoolError(ConfigError):
    code = "fleet-key-no-pool"
    fmt = "the {channel} key ending in {partial} has no activations to ask for: machines do not use them up"
    remedy = "only MAK and retail keys are refreshed"


class Service(Protocol):
    """:class:`volact.wire.client.Server`, or a test's publisher."""

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str: ...

    def activate(self, issuer: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class KnownDefinition:
    root: str
    product: str
    version: int
    url: str | None
    token: str

    def verified(self) -> TrustedDefinition:
        """Held against its root at each use: what lies in a database proves nothing."""
        return verify.verify_definition(self.token, self.root, product=self.product)


def add_definition(conn: Connection, token: str, root: str, now: int, who: str) -> TrustedDefinition:
    """A definition under the root that came with the product, on another way than the file."""
    trusted = verify.verify_definition(token, root)
    made = trusted.definition
    row = DEFINITIONS.c
    known = conn.execute(select(row.version).where(row.root == root, row.product == made.product)).scalar()
    if known is not None and known > made.version:
        raise OlderFleetDefinitionError(product=made.product, got=made.version, known=known)
    values = {"version": made.version, "token": token, "url": made.url, "added_at": now, "added_by": who}
    if known is None:
        conn.execute(insert(DEFINITIONS).values(root=root, product=made.product, **values))
    else:
        conn.execute(update(DEFINITIONS).where(row.root == root, row.product == made.product).values(**values))
    note(conn, now, who, "definition-added", made.product, {"root": root, "version": made.version})
    return trusted


def definitions(conn: Connection) -> list[KnownDefinition]:
    row = DEFINITIONS.c
    rows = conn.execute(select(row.root, row.product, row.version, row.url, row.token).order_by(row.product, row.root))
    return [KnownDefinition(*one) for one in rows]


def definition_of(conn: Connection, key: ProductKey) -> KnownDefinition:
    """The definition that has the key's product group, of the publisher whose mark it bears."""
    for known in definitions(conn):
        if publisher_tag(known.root) == key.publisher_tag and known.verified().definition.group(key.group) is not None:
            return known
    raise DefinitionNeededError(partial=key.partial)


def service_of(known: KnownDefinition, given: str | None = None) -> Server:
    url = given or known.url
    if url is None:
        raise NoServiceError(product=known.product)
    return Server.from_url(url)


def ask_remaining(key: ProductKey, trusted: TrustedDefinition, service: Service, now: int) -> Receipt:
    """What is left of a key's pool, signed by the publisher.  Raises its refusal, or what kept it from an answer."""
    if key.channel not in POOLED:
        raise NoPoolError(channel=str(key.channel), partial=key.partial)
    nonce = os.urandom(NONCE_SIZE)
    token = service.get_issuer(trusted.trust.fingerprint, trusted.definition.product, key.group, nonce)
    issuer = answers.verify_descriptor(
        token, trusted.trust, key.channel, now=now, nonce=nonce, suites=SUITES, status_max_age=ANY_AGE
    )
    inquiry = Inquiry(issuer.descriptor.id, str(key), os.urandom(NONCE_SIZE), os.urandom(RESPONSE_KEY_SIZE), now)
    signed = returns.sign_inquiry(inquiry, LocalKey.generate())
    descriptor = issuer.descriptor
    sealed = envelope.seal_request(descriptor.suite, descriptor.public_key, signed.encode())
    opened = envelope.open_answer(inquiry.response_key, inquiry.nonce, service.activate(descriptor.id, sealed))
    try:
        answer = returns.verify_receipt(opened.decode("ascii"), issuer.trust, inquiry.nonce)
    except UnicodeDecodeError:
        raise MalformedError(what="answer", why="not a signed token") from None
    if isinstance(answer, SignedRefusal):
        raise answer.refusal.error()
    return answer


def confirm(request: RequestFile, service: Service) -> AnswerFile:
    """The publisher's sealed answer: a licence or a refusal, only the machine can tell."""
    return AnswerFile(request.issuer, service.activate(request.issuer, request.sealed))
