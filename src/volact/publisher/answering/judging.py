# SPDX-License-Identifier: Apache-2.0
"""What becomes of each message of a batch, inside the one transaction that serves all of them.

The rules are in ``issuing`` and ``pools``; here they meet the rows.  Whatever is decided, its rows, its ledger row and
a host's certificate are of this transaction: what nobody wrote down does not exist, and what was written down can be
answered again after a lost answer.  Spec: docs/spec/exchange.md, docs/spec/returns.md, docs/spec/ledger.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from cryptography import x509

from volact.core.activation_object import ActivationObject, id_of
from volact.core.counter import Counter
from volact.core.definition import ProductDefinition
from volact.core.errors import ConfigError
from volact.core.fingerprint import Fingerprint
from volact.core.forest import Forest
from volact.core.phone import name_of
from volact.core.policy import Policy
from volact.core.product_key import Channel, ProductKey
from volact.core.refusal import (
    ActivationReturnedError,
    ActivationUnknownError,
    ChannelNotServedError,
    HostRevokedError,
    KeyUnknownError,
    Refusal,
    WrongIssuerError,
)
from volact.core.request import ActivationRequest
from volact.core.returning import Inquiry, ReturnProof
from volact.publisher.answering.vouching import Vouching
from volact.publisher.rows import forests
from volact.publisher.rows.activations import Ask
from volact.publisher.rows.change import Change
from volact.publisher.rows.ledger import Act
from volact.publisher.rows.records import Intent
from volact.publisher.rules import forests as forest_rules
from volact.publisher.rules import issuing, pools
from volact.publisher.rules.forests import BoundForest
from volact.publisher.rules.issuing import IssuedKey, Kind
from volact.sealing import certificates
from volact.sealing.certificates import Certified, Grant
from volact.sealing.proof import ProvenRequest
from volact.sealing.returns import Proven


class AuthorityEndedError(ConfigError):
    code = "publisher-certificate-ended"
    fmt = "the publisher's issuing certificate has ended"
    remedy = "make a new one with `volact publisher rotate issuing`; until then hosts cannot be activated"


@dataclass(frozen=True, slots=True)
class CertifiedHost:
    """A granted host with its certificate, new or repeated."""

    kind: Kind
    key: IssuedKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class PlacedMachine:
    """A machine with its place in a key's pool."""

    kind: Kind
    key: IssuedKey
    counter: Counter | None = None


@dataclass(frozen=True, slots=True)
class KeyState:
    """What a receipt says of a key; ``credited`` after a return."""

    key: IssuedKey
    credited: bool | None = None


Verdict: TypeAlias = CertifiedHost | PlacedMachine | BoundForest | KeyState | Refusal
Signed: TypeAlias = ProvenRequest | Proven[ReturnProof] | Proven[Inquiry]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that its machine's key has proven.  ``key`` is the product key in it, where it is one; ``key_id`` its
    ID, where it was issued."""

    signed: Signed
    key: ProductKey | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Bench:
    """Who judges: the publisher's root and sealing key, its CA, its definitions; when, and for the ledger, by which
    way the messages came; ``vouching``: what a TPM's word is worth."""

    root: str
    issuer: str
    authority: Certified
    definition: Callable[[Change, str, int], ProductDefinition]
    now: int
    actor: str
    carried: bool
    vouching: Vouching

    def judge(self, change: Change, messages: Sequence[Message]) -> list[Verdict]:
        """One verdict for each message, in order; each sees what those before it did."""
        keys = change.keys(sorted({m.key_id for m in messages if m.key_id}))
        definitions = self._definitions(change, messages)
        # (1) what can be said before anything else is read
        refusals = [self._refuse(message, keys, definitions) for message in messages]
        # (2) every activation that may matter
        asks = [None if refusal else _ask(message) for message, refusal in zip(messages, refusals, strict=True)]
        change.activations.load([ask for ask in asks if ask])
        # (3) one after the other, by the rows
        return [
            self._decide(change, message, refusal, ask, keys, definitions)
            for message, refusal, ask in zip(messages, refusals, asks, strict=True)
        ]

    def _definitions(self, change: Change, messages: Sequence[Message]) -> dict[str, ProductDefinition]:
        products = {m.signed.request.product for m in messages if isinstance(m.signed, ProvenRequest)}
        products |= {m.signed.value.product for m in messages if _is_return(m)}  # type: ignore[union-attr]
        versions = change.newest_versions(sorted(products)) if products else {}
        return {product: self.definition(change, product, version) for product, version in versions.items()}

    def _refuse(
        self, message: Message, keys: dict[str, IssuedKey], definitions: dict[str, ProductDefinition]
    ) -> Refusal | None:
        signed, issued = message.signed, keys.get(message.key_id or "")
        if not isinstance(signed, ProvenRequest):
            return self._refuse_statement(signed.value, issued)
        request = signed.request
        definition = definitions.get(request.product)
        carried = self.carried or request.carried
        refusal = issuing.check_request(request, self.issuer, definition, self.now, carried=carried)
        if refusal is not None or definition is None:
            return refusal
        if request.forest is not None and request.channel is not Channel.KMS_HOST:
            return Refusal.of(ChannelNotServedError, channel=str(request.channel))
        refusal = issuing.check_key(message.key, issued, request, definition, self.now)
        if refusal is not None or issued is None or issued.channel not in issuing.POOLED:
            return refusal
        return pools.check_edition(issued, request, definition)

    def _refuse_statement(self, value: ReturnProof | Inquiry, issued: IssuedKey | None) -> Refusal | None:
        addressed = value.root == self.root if isinstance(value, ReturnProof) else value.issuer == self.issuer
        if not addressed:
            return Refusal.of(WrongIssuerError)
        return Refusal.of(KeyUnknownError) if issued is None else None

    def _decide(
        self,
        change: Change,
        message: Message,
        refusal: Refusal | None,
        ask: Ask | None,
        keys: dict[str, IssuedKey],
        definitions: dict[str, ProductDefinition],
    ) -> Verdict:
        issued = keys.get(message.key_id or "")
        verdict: Verdict = refusal if refusal is not None else self._grant(change, message, ask, issued, definitions)
        if isinstance(verdict, Refusal):
            machine, name = _who(message.signed)
            known = issued.key_id if issued else None
            change.record_refusal(verdict, known, machine, name, self.now, self.actor)
        return verdict

    def _grant(
        self,
        change: Change,
        message: Message,
        ask: Ask | None,
        issued: IssuedKey | None,
        definitions: dict[str, ProductDefinition],
    ) -> Verdict:
        assert issued is not None, "what is not refused has an issued key"
        signed = message.signed
        if not isinstance(signed, ProvenRequest):
            if isinstance(signed.value, Inquiry):
                return KeyState(self._now(change, issued))
            assert ask is not None
            return self._take_back(change, signed, ask, issued, definitions)
        if issued.channel in issuing.POOLED:
            assert ask is not None
            return self._place(change, signed, ask, issued, definitions[signed.request.product])
        if signed.request.forest is not None:
            return self._bind_forest(change, signed, signed.request.forest, issued, definitions[signed.request.product])
        return self._certify_host(change, signed, issued)

    # ---- forests

    def _bind_forest(
        self,
        change: Change,
        proven: ProvenRequest,
        forest: Forest,
        issued: IssuedKey,
        definition: ProductDefinition,
    ) -> BoundForest | Refusal:
        request = proven.request
        earlier = forests.earlier_object(change.conn, issued.key_id, request.nonce)
        if earlier is not None:
            return BoundForest(Kind.REPEATED, issued, earlier)
        known = forests.known_forests(change.conn, issued.key_id)
        kind = forest_rules.decide_forest(issued, known, forest, forest_rules.forest_limit(issued.group, definition))
        if isinstance(kind, Refusal):
            return kind
        made = self._make_object(change, request, forest, issued)
        forests.keep(change.conn, made, proven.machine)
        act = Act.FOREST_RENEWED if kind is Kind.RENEWED else Act.FOREST_ACTIVATED
        change.append(self.now, act, self.actor, issued.key_id, forest_rules.told(made, proven.machine, request.name))
        return BoundForest(kind, issued, made)

    def _make_object(
        self, change: Change, request: ActivationRequest, forest: Forest, issued: IssuedKey
    ) -> ActivationObject:
        """Good for the groups of the newest definitions."""
        newest = [self.definition(change, signed.product, signed.version) for signed in change.newest_of_all()]
        return ActivationObject(
            issuer=self.issuer,
            id=id_of(request.nonce),
            issued_at=self.now,
            expires_at=forest_rules.lifetime_end(self.now),
            root=self.root,
            groups=issuing.granted_groups(issued.group, newest),
            forest=forest,
            key_id=issued.key_id,
            partial=issued.partial,
            name=request.object_name,
            organisation=issued.organisation,
            product=request.product,
        )

    # ---- machines

    def _place(
        self, change: Change, proven: ProvenRequest, ask: Ask, issued: IssuedKey, definition: ProductDefinition
    ) -> PlacedMachine | Refusal:
        request, known = proven.request, change.activations
        earlier = known.earlier(ask)
        if earlier is not None:
            # The same request again: its answer was lost, or somebody replays it after the activation was given back.
            if earlier.returned_at is not None:
                return Refusal.of(ActivationReturnedError)
            if pools.asks_the_same(earlier, request, proven.machine):
                bound = self.vouching.bind(proven, self.now)
                if earlier.counter is not None and (bound is None or bound.identity != earlier.counter):
                    known.unbind(earlier)
                return PlacedMachine(Kind.REPEATED, issued, bound.counter if bound else None)
        policy, own = _policy(definition, request.edition), known.known(ask)
        if pools.was_given_up(own, request, proven.machine, policy.tolerance):
            return Refusal.of(ActivationReturnedError)
        place = pools.decide_activation(self._now(change, issued), own, request, proven.machine, policy)
        if isinstance(place, Refusal):
            return place
        bound = self.vouching.bind(proven, self.now)
        made = known.place(ask, request, place, self.now, bound.identity if bound else None)
        change.record_machine(place.kind, made, place.units, self.now, self.actor)
        return PlacedMachine(place.kind, issued, bound.counter if bound else None)

    def _take_back(
        self,
        change: Change,
        proven: Proven[ReturnProof],
        ask: Ask,
        issued: IssuedKey,
        definitions: dict[str, ProductDefinition],
    ) -> KeyState | Refusal:
        """Once, from the machine that holds the activation, for what it was granted last."""
        proof, machine = proven.value, proven.machine
        held = change.activations.earlier(ask)
        if held is not None and held.returned_at is not None:
            return Refusal.of(ActivationReturnedError)
        if held is None or held.machine not in (machine, name_of(machine)) or held.nonce != proof.activation:
            return Refusal.of(ActivationUnknownError)
        definition = definitions.get(held.product)
        policy = _policy(definition, held.edition) if definition else Policy()
        before = change.activations.credited_since(issued.key_id, self.now - pools.RETURN_PERIOD)
        credit = pools.credit_for(before, policy, vouched=self.vouching.vouches(proven, held.counter))
        change.record_return(held, self.now, self.actor, credit, proof.at)
        return KeyState(self._now(change, issued), bool(credit))

    def _now(self, change: Change, issued: IssuedKey) -> IssuedKey:
        """The key with what this batch has taken from its pool."""
        return replace(issued, used=issued.used + change.activations.taken(issued.key_id))

    # ---- hosts

    def _certify_host(self, change: Change, proven: ProvenRequest, issued: IssuedKey) -> CertifiedHost | Refusal:
        if change.revoked_since(certificates.key_thumbprint(proven.key).hex()) is not None:
            return Refusal.of(HostRevokedError)
        use = change.host_use(issued.key_id, proven.machine)
        if change.is_revoked(use):
            return Refusal.of(HostRevokedError)
        decision = issuing.decide_host_activation(issued, use, proven.request.nonce, self.now)
        if isinstance(decision, Refusal):
            return decision
        if decision.repeated is not None:
            return CertifiedHost(decision.kind, issued, certificates.load_der(decision.repeated.certificate))
        # the intent, one signature, kept with the act
        intent = self._intend(change, proven, issued, decision.kind)
        certificate = self._certify(proven, intent)
        change.record_host_activation(intent, certificates.der(certificate), self.actor)
        return CertifiedHost(decision.kind, issued, certificate)

    def _intend(self, change: Change, proven: ProvenRequest, key: IssuedKey, kind: Kind) -> Intent:
        newest = [self.definition(change, signed.product, signed.version) for signed in change.newest_of_all()]
        authority_ends = int(self.authority.certificate.not_valid_after_utc.timestamp())
        if authority_ends <= self.now:
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
            at=self.now,
            ends_at=min(self.now + certificates.END_YEARS * certificates.YEAR, authority_ends),
        )

    def _certify(self, proven: ProvenRequest, intent: Intent) -> x509.Certificate:
        grant = Grant(intent.key.organisation, intent.groups, certificates.key_thumbprint(proven.key))
        name, role = intent.name or "host", issuing.HOST_ROLES[intent.key.channel]
        certificate = certificates.make_end(self.authority, proven.key, role, grant, name, intent.at, intent.serial)
        if (
            certificates.role_of(certificate) is not role
            or certificates.grant_of(certificate) != grant
            or certificates.key_thumbprint(certificates.public_key_of(certificate)) != grant.descriptor_signer
            or certificate.serial_number != intent.serial
            or ends_at(certificate) != intent.ends_at
        ):
            raise RuntimeError("the certificate that was made is not the one that was decided on")
        return certificate


def ends_at(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())


def _ask(message: Message) -> Ask | None:
    """What has to be known of activations; nothing for hosts and inquiries."""
    signed = message.signed
    if message.key_id is None:
        return None
    if isinstance(signed, ProvenRequest):
        if signed.request.channel not in issuing.POOLED:
            return None
        return Ask(message.key_id, signed.machine, signed.request.nonce, signed.request.fingerprint)
    if isinstance(signed.value, ReturnProof):
        return Ask(message.key_id, signed.machine, signed.value.activation, Fingerprint({}))
    return None


def _is_return(message: Message) -> bool:
    return isinstance(message.signed, Proven) and isinstance(message.signed.value, ReturnProof)


def _who(signed: Signed) -> tuple[bytes, str]:
    return signed.machine, signed.request.name if isinstance(signed, ProvenRequest) else ""


def _policy(definition: ProductDefinition, edition_id: str) -> Policy:
    edition = definition.edition(edition_id)
    return edition.policy if edition else Policy()
