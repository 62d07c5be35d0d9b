# SPDX-License-Identifier: Apache-2.0
"""How a KMS host or a VM host itself is activated by the publisher: online, or by a file carried over an air gap.

The same request and licence as every machine's; the licence brings the host's certificate for a year.  Renewal is the
same exchange.  Steps are numbered in :func:`finish`; nothing is stored before all of them have passed.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509

from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.encoding import Fields, b64decode, b64encode, parse_object
from volact.core.errors import ConfigError, MalformedError, TrustError, VolactError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.fingerprint import Fingerprint
from volact.core.issuer import IssuerDescriptor
from volact.core.licence import Licence
from volact.core.refusal import IssuerBusyError, Refusal, SignedRefusal
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.issuer.folder import HostKey, IssuerFolder, ProductMissingError
from volact.sealing import answers, certificates, envelope, keys, sign, verify
from volact.sealing.certificates import Role
from volact.sealing.verify import Trust, TrustedDefinition
from volact.wire.client import Server

SUITES = (envelope.X25519, envelope.HYBRID)
HOST_CLOCK_TOLERANCE = 4 * 3600
CARRIED_TOLERANCE = 90 * 86400  # an answer that was carried by hand is older than one from the network
RENEW_DAYS = 60  # before the certificate's end; the publisher counts no renewal in the last 90 days
ANY_AGE = 1 << 40  # the host takes any status that is not older than its last; its clients judge the age

_PROBE = Refusal.of(IssuerBusyError)


class NoPendingRequestError(ConfigError):
    code = "no-pending-request"
    fmt = "the key ending in {partial} waits for no answer"
    remedy = "make a request first: `{command} activate --request FILE`"


class NoPublisherError(ConfigError):
    code = "publisher-unknown"
    fmt = "the product definition of the key ending in {partial} names no publisher service"
    remedy = "give its address: --publisher URL, or carry a request file: `{command} activate --request FILE`"


class OtherAnswerError(TrustError):
    code = "answer-to-another-request"
    fmt = "the answer does not fit the last request made with the key ending in {partial}, or was changed on its way"
    remedy = "bring the answer to the newest request file, or make a new request"


class HostCertificateError(TrustError):
    code = "host-certificate-wrong"
    fmt = "the publisher's answer has no good certificate for this host: {why}"
    remedy = "report it to the publisher; the host goes on with the certificate it has"


class Publisher(Protocol):
    """The publisher's service: :class:`volact.wire.client.Server`, or a simulator."""

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str: ...

    def activate(self, issuer: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host says of its computer to the publisher.  ``virtual``: whether that is a virtual machine itself."""

    name: str
    fingerprint: Fingerprint
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Activated:
    """What an activation brought: until when the host may answer, and for which groups."""

    host_key: HostKey
    certificate_ends_at: int
    groups: frozenset[int]
    organisation: str


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that waits for its answer; kept in the key's folder while it is carried."""

    request: ActivationRequest
    machine: bytes


def activate_online(
    folder: IssuerFolder, host_key: HostKey, publisher: Publisher, me: HostFacts, *, now: int
) -> Activated:
    """Activate or renew a host key with the publisher's service."""
    trusted = definition_of(folder, host_key)
    known = known_trust(host_key, trusted)
    nonce = os.urandom(NONCE_SIZE)
    token = publisher.get_issuer(host_key.root, host_key.product, host_key.key.group, nonce)
    descriptor = answers.verify_descriptor(
        token, known, folder.kind.key_channel, now=now, nonce=nonce, suites=SUITES, status_max_age=ANY_AGE
    )
    pending, sealed = _request(folder, host_key, trusted, descriptor.descriptor, me, now)
    answer = publisher.activate(descriptor.descriptor.id, sealed)
    return finish(folder, host_key, descriptor.trust, pending, answer, HOST_CLOCK_TOLERANCE)


def write_request(
    folder: IssuerFolder, host_key: HostKey, me: HostFacts, write: Callable[[bytes], None], *, now: int
) -> RequestFile:
    """A request to carry to the publisher, sealed to the key that the product definition brings along.  It waits for
    its answer once ``write`` has it in the file; until then an earlier one does."""
    trusted = definition_of(folder, host_key)
    descriptor = answers.verify_descriptor(
        trusted.definition.issuer,
        trusted.trust,  # its stapled status is as old as the definition, and may be older than one seen since
        folder.kind.key_channel,
        now=now,
        nonce=b"",
        suites=SUITES,
        status_max_age=ANY_AGE,
    )
    pending, sealed = _request(folder, host_key, trusted, descriptor.descriptor, me, now)
    request = RequestFile(host_key.root, host_key.product, descriptor.descriptor.id, sealed)
    write(request.to_bytes())
    _write_pending(host_key, pending)
    return request


def apply_answer(folder: IssuerFolder, host_key: HostKey, answer: AnswerFile) -> Activated:
    """Apply the answer that was carried back; it can be applied once."""
    pending = _read_pending(folder, host_key)
    if answer.issuer != pending.request.issuer:
        raise OtherAnswerError(partial=host_key.key.partial)
    trusted = definition_of(folder, host_key)
    try:
        activated = finish(folder, host_key, known_trust(host_key, trusted), pending, answer.sealed, CARRIED_TOLERANCE)
    except envelope.SealError:
        raise OtherAnswerError(partial=host_key.key.partial) from None
    _pending_path(host_key).unlink()
    return activated


def finish(
    folder: IssuerFolder,
    host_key: HostKey,
    trust: Trust,
    pending: _Pending,
    sealed: bytes,
    tolerance: int,
) -> Activated:
    """Verify an answer and keep what it brings."""
    request = pending.request
    # (1) open it: only who had our request could have sealed it
    token = envelope.open_answer(request.response_key, request.nonce, sealed).decode("ascii", "replace")
    # (2) the publisher's, to this request
    answer = answers.verify_answer(
        token,
        trust,
        request,
        pending.machine,
        group=host_key.key.group,
        tolerance=tolerance,
        longest_lease=None,
    )
    if isinstance(answer, SignedRefusal):
        raise answer.refusal.error()
    # (3) the certificate is for our key, for the role, under the same root
    licence = answer.licence
    chain = _chain(licence, trust, host_key.signing_key(folder.passphrase()), folder.kind.role)
    # (4) the revocation status is the publisher's, and not older than one seen before
    verify.verify_status(licence.status, trust)
    # (5) keep it
    host_key.store_activation(chain, token, licence.status)
    folder.touch()
    grant = certificates.grant_of(chain[0])
    return Activated(host_key, int(chain[0].not_valid_after_utc.timestamp()), grant.groups, grant.organisation)


def service_url(folder: IssuerFolder, host_key: HostKey, given: Mapping[str, str]) -> str:
    """Where a key is activated: at the service that was ``given`` for its publisher's root, else at the one that its
    product names."""
    named = {(t.definition.root, t.definition.product): t.definition.url for t in folder.products()}
    url = given.get(host_key.root) or named.get((host_key.root, host_key.product))
    if url is None:
        raise NoPublisherError(partial=host_key.key.partial, command=folder.kind.command)
    return url


def renew_due(
    folder: IssuerFolder, given: Mapping[str, str], facts: Callable[[str], HostFacts], now: int
) -> Iterator[tuple[HostKey, Activated | VolactError]]:
    """Renew each certificate that ends soon, with its publisher's service; ``facts`` by the publisher's root."""
    for host_key in folder.host_keys():
        if certificate_due(host_key, now):
            try:
                server = Server.from_url(service_url(folder, host_key, given))
                yield host_key, activate_online(folder, host_key, server, facts(host_key.root), now=now)
            except VolactError as exc:
                yield host_key, exc


def certificate_due(host_key: HostKey, now: int) -> bool:
    """Whether it is time to renew the host's certificate with the publisher."""
    if not host_key.activated:
        return False
    return host_key.certificates()[0].not_valid_after_utc.timestamp() - now < RENEW_DAYS * 86400


def definition_of(folder: IssuerFolder, host_key: HostKey) -> TrustedDefinition:
    """The definition of the product that a key was installed for."""
    for trusted in folder.products():
        if trusted.trust.fingerprint == host_key.root and trusted.definition.product == host_key.product:
            return trusted
    what = f"the name {host_key.product}, of the key ending in {host_key.key.partial}"
    raise ProductMissingError(command=folder.kind.command, what=what)


def known_trust(host_key: HostKey, trusted: TrustedDefinition) -> Trust:
    """The root, with what this host has last heard of the publisher's revocations."""
    if not host_key.activated:
        return trusted.trust
    return trusted.trust.with_status(verify.verify_status(host_key.status_token(), trusted.trust))


def _request(
    folder: IssuerFolder,
    host_key: HostKey,
    trusted: TrustedDefinition,
    issuer: IssuerDescriptor,
    me: HostFacts,
    now: int,
) -> tuple[_Pending, bytes]:
    signer = sign.MachineSigner(host_key.signing_key(folder.passphrase()))
    request = ActivationRequest(
        issuer=issuer.id,
        product=host_key.product,
        version=trusted.definition.version,
        edition="",
        channel=folder.kind.key_channel,
        nonce=os.urandom(NONCE_SIZE),
        response_key=os.urandom(RESPONSE_KEY_SIZE),
        at=now,
        state=State.LICENSED if host_key.activated else State.UNLICENSED,
        fingerprint=me.fingerprint,
        name=me.name,
        key=str(host_key.key),
        virtual=me.virtual,
    )
    sealed = envelope.seal_request(issuer.suite, issuer.public_key, signer.request(request).encode())
    return _Pending(request, signer.machine), sealed


def _chain(licence: Licence, trust: Trust, key: keys.LocalKey, role: Role) -> list[x509.Certificate]:
    if not licence.certificates:
        raise HostCertificateError(why="it brings none")
    try:
        chain = [certificates.load_der(_standard_base64(text)) for text in licence.certificates]
    except MalformedError as exc:
        raise HostCertificateError(why=str(exc)) from None
    leaf = chain[0]
    if certificates.key_thumbprint(certificates.public_key_of(leaf)) != certificates.key_thumbprint(key.public_key):
        raise HostCertificateError(why="it is for another key")
    if certificates.role_of(leaf) is not role:
        raise HostCertificateError(why=f"its role is {certificates.role_of(leaf)}")
    # A trial signature goes through the one verifier, so that the host never serves what its clients would refuse.
    trial = sign.Issuer(key, chain, trust.root)
    probe = SignedRefusal("", bytes(NONCE_SIZE), licence.issued_at, _PROBE)
    verify.verify(trial.refusal(probe), trust, verify.REFUSAL)
    return chain


def _standard_base64(text: str) -> bytes:
    return b64decode(text.rstrip("=").replace("+", "-").replace("/", "_"), "certificate")


def _pending_path(host_key: HostKey) -> Path:
    return host_key.folder / "pending.json"


def _write_pending(host_key: HostKey, pending: _Pending) -> None:
    """The one-time response key is in it: mode 0600, and gone once the answer is applied."""
    data = {"request": pending.request.to_claim(), "machine": b64encode(pending.machine)}
    keys.write_file(_pending_path(host_key), json.dumps(data).encode())


def _read_pending(folder: IssuerFolder, host_key: HostKey) -> _Pending:
    path = _pending_path(host_key)
    if not path.exists():
        raise NoPendingRequestError(partial=host_key.key.partial, command=folder.kind.command)
    claim = Fields(parse_object(keys.read_file(path), "pending request"), "pending request")
    return _Pending(ActivationRequest.from_claim(claim.fields("request")), claim.octets("machine", size=32))
