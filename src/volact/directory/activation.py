# SPDX-License-Identifier: Apache-2.0
"""Asking the publisher for an activation object: online, or by a file carried over an air gap.

The same sealed request and answer as every machine's, with a KMS host key; what comes back is bound to the forest
instead of a machine.  Nothing is stored before :func:`finish`'s steps have passed, and the entry in the directory is
written last.  Spec: docs/spec/activation-object.md §1.
"""

import os
from dataclasses import dataclass
from typing import Protocol

from volact.core.activation_object import id_of
from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.errors import ConfigError, MalformedError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.forest import Forest
from volact.core.issuer import IssuerDescriptor
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.refusal import SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.directory.folder import DefinitionUnknownError, DirectoryFolder, NothingPendingError, Pending
from volact.sealing import answers, envelope, objects
from volact.sealing.objects import TrustedObject
from volact.sealing.verify import Trust, TrustedDefinition

SUITES = (envelope.X25519, envelope.HYBRID)
CLOCK_TOLERANCE = 4 * 3600
CARRIED_TOLERANCE = 90 * 86400  # an answer that was carried by hand is older than one from the network
ANY_AGE = 1 << 40  # whoever activates takes the newest status there is; clients judge its age


class NotHostKeyError(ConfigError):
    code = "directory-key-channel"
    fmt = "a key of the {channel} channel does not activate a forest"
    remedy = "give the organisation's KMS host key; other keys go to the machines: `volact client install-key`"


class Publisher(Protocol):
    """The publisher's service: :class:`volact.wire.client.Server`, or a simulator."""

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str: ...

    def activate(self, issuer: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, and which computer asks."""

    forest: Forest
    name: str
    key: ProductKey
    computer: str
    fingerprint: Fingerprint


def definition_for(folder: DirectoryFolder, key: ProductKey) -> TrustedDefinition:
    """A definition of the key's publisher that has its product group.  Raises where none was given yet."""
    if key.channel is not Channel.KMS_HOST:
        raise NotHostKeyError(channel=str(key.channel))
    for trusted in folder.definitions():
        if publisher_tag(trusted.trust.fingerprint) == key.publisher_tag and trusted.definition.group(key.group):
            return trusted
    raise DefinitionUnknownError()


def activate_online(folder: DirectoryFolder, wanted: Wanted, publisher: Publisher, now: int) -> TrustedObject:
    """An activation object from the publisher's service."""
    trusted = definition_for(folder, wanted.key)
    nonce = os.urandom(NONCE_SIZE)
    token = publisher.get_issuer(trusted.trust.fingerprint, trusted.definition.product, wanted.key.group, nonce)
    descriptor = answers.verify_descriptor(
        token, trusted.trust, Channel.KMS_HOST, now=now, nonce=nonce, suites=SUITES, status_max_age=ANY_AGE
    )
    trusted.check_status(descriptor.trust.status)
    request, sealed = _request(folder, wanted, trusted, descriptor.descriptor, now)
    answer = publisher.activate(descriptor.descriptor.id, sealed)
    return finish(descriptor.trust, request, answer, CLOCK_TOLERANCE)


def write_request(folder: DirectoryFolder, wanted: Wanted, now: int) -> RequestFile:
    """A request to carry to the publisher, sealed to the key that the product definition brings along."""
    trusted = definition_for(folder, wanted.key)
    descriptor = answers.verify_descriptor(
        trusted.definition.issuer,
        trusted.trust,
        Channel.KMS_HOST,
        now=now,
        nonce=b"",
        suites=SUITES,
        status_max_age=ANY_AGE,
    ).descriptor
    request, sealed = _request(folder, wanted, trusted, descriptor, now, carried=True)
    root = trusted.trust.fingerprint
    folder.save_pending(id_of(request.nonce), Pending(root, request))
    return RequestFile(root, request.product, descriptor.id, sealed)


def read_answer(folder: DirectoryFolder, answer: AnswerFile) -> TrustedObject:
    """The object in an answer that was carried back, for whichever request it fits.  The request stays until
    :meth:`DirectoryFolder.remove_pending`, when the object is stored."""
    for pending in folder.pendings().values():
        trust = folder.trusts().get(pending.root)
        if answer.issuer != pending.request.issuer or trust is None:
            continue
        try:
            return finish(trust, pending.request, answer.sealed, CARRIED_TOLERANCE)
        except envelope.SealError:  # made for another request
            continue
    raise NothingPendingError()


def finish(trust: Trust, request: ActivationRequest, sealed: bytes, tolerance: int) -> TrustedObject:
    """Open an answer and verify what is in it.  Raises a refusal as its error."""
    # (1) only who had our request could have sealed it
    opened = envelope.open_answer(request.response_key, request.nonce, sealed)
    try:
        token = opened.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError(what="answer", why="not a signed token") from None
    # (2) the publisher's, for exactly this forest
    answer = objects.verify_object_answer(token, trust, request, tolerance=tolerance)
    if isinstance(answer, SignedRefusal):
        raise answer.refusal.error()
    return answer


def _request(
    folder: DirectoryFolder,
    wanted: Wanted,
    trusted: TrustedDefinition,
    issuer: IssuerDescriptor,
    now: int,
    *,
    carried: bool = False,
) -> tuple[ActivationRequest, bytes]:
    request = ActivationRequest(
        issuer=issuer.id,
        product=trusted.definition.product,
        version=trusted.definition.version,
        edition="",
        channel=Channel.KMS_HOST,
        nonce=os.urandom(NONCE_SIZE),
        response_key=os.urandom(RESPONSE_KEY_SIZE),
        at=now,
        state=State.UNLICENSED,
        fingerprint=wanted.fingerprint,
        name=wanted.computer,
        key=str(wanted.key),
        forest=wanted.forest,
        object_name=wanted.name,
        carried=carried,
    )
    signed = folder.signer().request(request)
    return request, envelope.seal_request(issuer.suite, issuer.public_key, signed.encode())
