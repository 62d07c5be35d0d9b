# SPDX-License-Identifier: Apache-2.0
"""The publisher as an issuer: answers sealed requests, online and by file, by the same steps.

The rules are in ``issuing``; here they are put in order.  Whatever is decided, its rows, its ledger row and the
certificate are one transaction: a certificate that nobody wrote down does not exist, and one that was written down can
be answered again after a lost answer.  Spec: docs/spec/exchange.md, docs/spec/ledger.md.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from volact.core.definition import ProductDefinition
from volact.core.errors import ConfigError, InputError, MalformedError
from volact.core.exchange import AnswerFile, RequestFile
from volact.core.issuer import RevocationStatus
from volact.core.licence import Licence, SignedRefusal
from volact.core.product_key import ProductKey
from volact.core.refusal import Refusal
from volact.core.request import NONCE_SIZE, ActivationRequest
from volact.publisher import issuing
from volact.publisher.administration import describe
from volact.publisher.folder import PublisherFolder, PublisherKeys
from volact.publisher.issuing import Granted, Kind
from volact.publisher.store import Change, Intent, PublisherStore, Signed
from volact.sealing import certificates
from volact.sealing.certificates import Grant
from volact.sealing.envelope import seal_answer
from volact.sealing.proof import ProvenRequest, verify_request
from volact.sealing.verify import verify_definition
from volact.wire.server import IssuerUnknownError

DESCRIPTOR_SECONDS = 86400  # an online descriptor is proven fresh by its nonce; this ends one that was kept
STATUS_SECONDS = 86400  # the revocation status is signed anew daily, so that the one that hosts staple stays young
ONLINE, CARRIED = "service", "answer-file"  # the ledger's actors


class AuthorityEndedError(ConfigError):
    code = "publisher-certificate-ended"
    fmt = "the publisher's issuing certificate has ended"
    remedy = "restore or renew the publisher's certificates before hosts can be activated again"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.  ``kind`` and ``ends_at`` of a licence, or ``refusal``; ``sealed`` is the answer."""

    sealed: bytes
    request: ActivationRequest
    machine: bytes
    kind: Kind | None = None
    ends_at: int | None = None
    organisation: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _Certified:
    """A granted request with its certificate, new or repeated."""

    kind: Kind
    key: issuing.IssuedKey
    certificate: x509.Certificate


class PublisherService:
    """Implements :class:`volact.wire.server.IssuerService`.  ``clock`` gives Unix seconds."""

    def __init__(
        self, folder: PublisherFolder, keys: PublisherKeys, store: PublisherStore, clock: Callable[[], int]
    ) -> None:
        self._folder, self._keys, self._store, self._clock = folder, keys, store, clock
        self._root = folder.fingerprint
        self._definition = lru_cache(maxsize=1024)(self._read_definition)
        self._sign_status = lru_cache(maxsize=4)(self._make_status)

    @property
    def issuer(self) -> str:
        """The ID of the key that requests are sealed to."""
        return self._keys.sealing.id

    async def descriptor(self, root: str, product: str, group: int, nonce: bytes) -> str:  # noqa: ARG002
        """The publisher has one descriptor for all of its products; whether it knows one, its answers say."""
        return await asyncio.to_thread(self.describe, root, nonce)

    async def activate(self, issuer: str, sealed: bytes) -> bytes:
        outcome = await asyncio.to_thread(self.answer, issuer, sealed)
        return outcome.sealed

    def describe(self, root: str, nonce: bytes) -> str:
        if root != self._root:
            raise IssuerUnknownError(issuer=root[:80])
        if len(nonce) not in (0, NONCE_SIZE):
            raise MalformedError(what="issuer request", why=f"its nonce is not {NONCE_SIZE} bytes")
        now = self._clock()
        described = describe(self._folder, self._keys, self._status(now), now, nonce=nonce, lifetime=DESCRIPTOR_SECONDS)
        return self._keys.issuer.descriptor(described)

    def answer_file(self, request: RequestFile) -> tuple[AnswerFile, Outcome]:
        """Answers a request that was carried here on removable media."""
        if request.root != self._root:
            raise IssuerUnknownError(issuer=request.root)
        outcome = self.answer(request.issuer, request.sealed, carried=True)
        return AnswerFile(request.issuer, outcome.sealed), outcome

    def answer(self, issuer: str, sealed: bytes, *, carried: bool = False) -> Outcome:
        """Answers a request, or raises what makes it unanswerable: sealed for another key, malformed, unproven."""
        # (1) open the seal; the machine's own key proves the request
        if issuer != self.issuer:
            raise IssuerUnknownError(issuer=issuer[:64])
        proven = verify_request(self._keys.sealing.open_request(sealed).decode("latin-1"))
        now = self._clock()
        key, key_id = _read_key(proven.request.key)
        # (2)–(6) decide, write down and certify, as one
        with self._store.change() as change:
            verdict = self._judge(change, proven, key, key_id, now, carried=carried)
        # (7) answer under the request's own key
        if isinstance(verdict, Refusal):
            return self._refuse(proven, verdict, now)
        return self._license(proven, verdict, now)

    def _judge(
        self, change: Change, proven: ProvenRequest, key: ProductKey | None, key_id: str, now: int, *, carried: bool
    ) -> "_Certified | Refusal":
        request, actor = proven.request, CARRIED if carried else ONLINE
        issued = change.key(key_id) if key_id else None
        # (2) what is asked, and by which key
        signed = change.newest(request.product)
        definition = self._definition(signed) if signed else None
        refusal = issuing.check_request(request, self.issuer, definition, now, carried=carried)
        if refusal is None and definition is not None:
            refusal = issuing.check_key(key, issued, request, definition)
        decision: Granted | Refusal | None = refusal
        # (3) the limits, by the rows
        if decision is None and issued is not None:
            use = change.host_use(issued.key_id, proven.machine)
            decision = issuing.decide_host_activation(issued, use, request.nonce, now)
        assert decision is not None, "a request without a refusal has an issued key"
        if isinstance(decision, Refusal):
            known = issued.key_id if issued else None
            change.record_refusal(decision, known, proven.machine, request.name, now, actor)
            return decision
        assert issued is not None
        if decision.repeated is not None:
            return _Certified(decision.kind, issued, certificates.load_der(decision.repeated.certificate))
        # (4) the intent, (5) one signature, (6) kept with the act
        intent = self._intend(change, proven, issued, decision.kind, now)
        certificate = self._certify(proven, intent)
        change.record_host_activation(intent, certificates.der(certificate), actor)
        return _Certified(decision.kind, issued, certificate)

    def _intend(self, change: Change, proven: ProvenRequest, key: issuing.IssuedKey, kind: Kind, now: int) -> Intent:
        newest = [self._definition(signed) for signed in change.newest_of_all()]
        authority_ends = int(self._keys.issuing.certificate.not_valid_after_utc.timestamp())
        if authority_ends <= now:
            raise AuthorityEndedError()
        return Intent(
            kind=kind,
            key=key,
            machine=proven.machine,
            nonce=proven.request.nonce,
            name=proven.request.name,
            product=proven.request.product,
            groups=issuing.granted_groups(key.group, newest),
            fingerprint=proven.request.fingerprint.to_claim(),
            serial=x509.random_serial_number(),
            at=now,
            ends_at=min(now + certificates.END_YEARS * certificates.YEAR, authority_ends),
        )

    def _certify(self, proven: ProvenRequest, intent: Intent) -> x509.Certificate:
        grant = Grant(intent.key.organisation, intent.groups, certificates.key_thumbprint(proven.key))
        name, role = intent.name or "host", issuing.HOST_ROLES[intent.key.channel]
        certificate = certificates.make_end(self._keys.issuing, proven.key, role, grant, name, intent.at, intent.serial)
        if (
            certificates.role_of(certificate) is not role
            or certificates.grant_of(certificate) != grant
            or certificates.key_thumbprint(certificates.public_key_of(certificate)) != grant.descriptor_signer
            or certificate.serial_number != intent.serial
            or _ends_at(certificate) != intent.ends_at
        ):
            raise RuntimeError("the certificate that was made is not the one that was decided on")
        return certificate

    def _license(self, proven: ProvenRequest, certified: "_Certified", now: int) -> Outcome:
        request, key = proven.request, certified.key
        ends_at = _ends_at(certified.certificate)
        licence = Licence(
            issuer=self.issuer,
            machine=proven.machine,
            product=request.product,
            edition=request.edition,
            group=key.group,
            channel=key.channel,
            key_id=key.key_id,
            nonce=request.nonce,
            issued_at=now,
            expires_at=ends_at,
            fingerprint=request.fingerprint,
            organisation=key.organisation,
            certificates=tuple(map(_text, (certified.certificate, self._keys.issuing.certificate))),
            status=self._status(now),
        )
        sealed = _seal(request, self._keys.issuer.licence(licence))
        return Outcome(sealed, request, proven.machine, certified.kind, ends_at, key.organisation)

    def _refuse(self, proven: ProvenRequest, refusal: Refusal, now: int) -> Outcome:
        request = proven.request
        signed = SignedRefusal(self.issuer, request.nonce, now, refusal)
        sealed = _seal(request, self._keys.issuer.refusal(signed))
        return Outcome(sealed, request, proven.machine, refusal=refusal)

    def _status(self, now: int) -> str:
        """The signed revocation status: made anew for each epoch and each day."""
        today = now - now % STATUS_SECONDS
        status = self._store.revocations(today)
        return self._sign_status(status.epoch, status.issued_at, tuple(sorted(status.revoked.items())))

    def _make_status(self, epoch: int, issued_at: int, revoked: tuple[tuple[str, int], ...]) -> str:
        return self._keys.revocation.status(RevocationStatus(epoch, issued_at, dict(revoked)))

    def _read_definition(self, signed: Signed) -> ProductDefinition:
        return verify_definition(signed.token, self._root).definition


def _read_key(text: str) -> tuple[ProductKey | None, str]:
    """The key in a request and its ID, which takes 5 ms: computed before the transaction."""
    try:
        key = ProductKey.strict(text)
    except InputError:
        return None, ""
    return key, key.key_id


def _seal(request: ActivationRequest, token: str) -> bytes:
    return seal_answer(request.response_key, request.nonce, token.encode())


def _ends_at(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())


def _text(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificates.der(certificate)).decode()
