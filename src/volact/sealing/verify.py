# SPDX-License-Identifier: Apache-2.0
"""The one verifier: which role may sign what, under which root.  Spec: docs/spec/verification.md.

Everything signed under a publisher's root is accepted here or nowhere.  :func:`verify` goes through numbered steps;
what it cannot know is left to its caller and named in each function's docstring: whether an answer fits the request,
and whether its count is enough (:mod:`volact.core.evaluation`).

* A chain is validated at the token's own ``iat``, so that perpetual licences outlive certificates; a key that was
  compromised is revoked from a date on, by a status whose epoch never goes back.
* Roots come with the product: :class:`Trust` is made from a fingerprint the caller already has.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from volact.core.definition import ProductDefinition
from volact.core.encoding import Fields
from volact.core.errors import MalformedError, TrustError
from volact.core.issuer import RevocationStatus
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.sealing import certificates, jws
from volact.sealing.certificates import Grant, Role

LICENCE = "volact-licence+jwt"
REFUSAL = "volact-refusal+jwt"
DESCRIPTOR = "volact-issuer+jwt"
DEFINITION = "volact-product+jwt"
STATUS = "volact-status+jwt"
RECEIPT = "volact-receipt+jwt"  # see sealing.returns
OBJECT = "volact-activation-object+jwt"
READING = "volact-reading+jwt"
MARKER = "volact-oem-marker+jwt"  # see sealing.markers
SIGHTING = "volact-sighting+jwt"

# Which role may sign which type, and licences of which channels.  Each absence here has a vector that must fail.
MAY_SIGN: dict[Role, frozenset[str]] = {
    Role.PUBLISHER: frozenset({LICENCE, REFUSAL, DESCRIPTOR, OBJECT, RECEIPT}),
    Role.KMS_HOST: frozenset({LICENCE, REFUSAL, DESCRIPTOR}),
    Role.VM_HOST: frozenset({LICENCE, REFUSAL, DESCRIPTOR}),
    Role.OEM: frozenset({MARKER}),
    Role.DEFINITION: frozenset({DEFINITION}),
    Role.REVOCATION: frozenset({STATUS}),
}
MAY_LICENSE: dict[Role, frozenset[Channel]] = {
    Role.PUBLISHER: frozenset({Channel.RETAIL, Channel.MAK, Channel.KMS_HOST, Channel.VM_HOST}),
    Role.KMS_HOST: frozenset({Channel.VOLUME}),
    Role.VM_HOST: frozenset({Channel.VM}),
    Role.OEM: frozenset(),
    Role.DEFINITION: frozenset(),
    Role.REVOCATION: frozenset(),
}


# What is stored and perpetual: evaluation gives it the policy's grace once its issuer is revoked.
_JUDGED_LATER = (LICENCE, MARKER)


class UntrustedRootError(TrustError):
    code = "issuer-untrusted"
    fmt = "{what} does not chain to the publisher root that this product trusts ({root})"
    remedy = (
        "this is another publisher's, or an impostor's: check which host answered, and whose definition is installed"
    )


class ChainError(TrustError):
    code = "certificate-invalid"
    fmt = "the certificate chain of {what} is not valid at {at}: {why}"
    remedy = "on a KMS host, renew its certificate: `volact host activate`; otherwise get the file again"


class RoleError(TrustError):
    code = "role-not-allowed"
    fmt = "a certificate of role {role} may not sign {what}"
    remedy = "whoever signed this oversteps the role its publisher gave it: report it to the publisher"


class GroupGrantError(TrustError):
    code = "group-not-certified"
    fmt = "the issuer's certificate does not grant product group {group}"
    remedy = "the host speaks for a group it has no key for: report it to its administrator"


class RevokedError(TrustError):
    code = "issuer-key-revoked"
    fmt = "the publisher has revoked the key that signed {what}"
    remedy = "use another host; on this one, install and activate a new host key"


class StatusOldError(TrustError):
    code = "status-outdated"
    fmt = "the publisher's revocation status is of epoch {epoch}, this machine has seen epoch {seen}"
    remedy = "bring the host a current status: `volact host activate` renews it"


class DefinitionOldError(TrustError):
    code = "definition-too-old"
    fmt = "the definition of {product} is version {version}, the product demands {least} or newer"
    remedy = "install the definition that came with the product: `volact client add-product FILE`"


class OtherProductError(TrustError):
    code = "definition-other-product"
    fmt = "the definition is of {got}, not of {product}"
    remedy = "install the definition that came with {product}: `volact client add-product FILE`"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe for one publisher: the root, and what its revocations say so far."""

    root: x509.Certificate
    status: RevocationStatus | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", certificates.fingerprint(self.root))

    def with_status(self, status: RevocationStatus) -> "Trust":
        return Trust(self.root, status)

    @property
    def epoch(self) -> int:
        return self.status.epoch if self.status else 0


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that its signer's role allows: claims to read, and who signed."""

    claims: Fields
    role: Role
    grant: Grant
    signer: bytes
    issued_at: int
    chain_ends_at: int
    authorities: tuple[x509.Certificate, ...] = ()

    def revoked_at(self, status: RevocationStatus | None) -> int | None:
        """From when the signer's key is revoked, or that of a CA above it, which takes everybody below along."""
        if status is None or not status.revoked:
            return None
        above = (certificates.key_thumbprint(certificates.public_key_of(one)) for one in self.authorities)
        found = [status.revoked_at(key.hex()) for key in (self.signer, *above)]
        return min((at for at in found if at is not None), default=None)

    def speaks_for(self, group: int) -> bool:
        """The publisher's own issuer names no groups, which means all; a host that names none has none."""
        own = self.role is Role.PUBLISHER and not self.grant.groups
        return own or group in self.grant.groups


def verify(token: str, trust: Trust, *typs: str) -> Verified:
    """Accept a token of one of ``typs`` under ``trust``, or raise :class:`TrustError` / ``MalformedError``.

    Left to the caller: whether the contents fit what was asked for.
    """
    # (1) take it apart; only the types the caller is ready for
    parsed = jws.parse(token, *typs)
    # (2) the signature fits the leaf's key; unread claims are not believed before
    chain = _chain(parsed)
    leaf = chain[0]
    parsed.verify(certificates.public_key_of(leaf))
    claims = parsed.claims()
    issued_at = claims.integer("iat")
    # (3) the chain leads to the trusted root and was valid when the token was made
    ends = _validate(chain, trust, issued_at, parsed.typ)
    # (4) the role may sign this type
    role = certificates.role_of(leaf)
    if parsed.typ not in MAY_SIGN[role]:
        raise RoleError(role=str(role), what=parsed.typ)
    # (5) the publisher had not revoked the key by then
    signer = certificates.key_thumbprint(certificates.public_key_of(leaf))
    verified = Verified(claims, role, certificates.grant_of(leaf), signer, issued_at, ends, tuple(chain[1:]))
    revoked_at = verified.revoked_at(trust.status)
    if revoked_at is not None and issued_at >= revoked_at and parsed.typ not in _JUDGED_LATER:
        raise RevokedError(what=parsed.typ)
    return verified


def verify_definition(
    token: str, root: str, *, product: str | None = None, min_version: int = 0
) -> "TrustedDefinition":
    """A product definition under the root fingerprint that the *product* embeds.

    The file brings its root certificate along; it is believed because its fingerprint is ``root``.
    """
    parsed = jws.parse(token, DEFINITION)
    brought = _chain(parsed)[-1]
    if certificates.fingerprint(brought) != root:
        raise UntrustedRootError(what="the product definition", root=root)
    trust = Trust(brought)
    verified = verify(token, trust, DEFINITION)
    definition = ProductDefinition.from_claim(verified.claims, verified.issued_at)
    if definition.root != root:
        raise UntrustedRootError(what="the product definition", root=root)
    if product is not None and definition.product != product:
        raise OtherProductError(product=product, got=definition.product)
    if definition.version < min_version:
        raise DefinitionOldError(product=definition.product, version=definition.version, least=min_version)
    return TrustedDefinition(definition, trust, token)


@dataclass(frozen=True, slots=True)
class TrustedDefinition:
    """A definition that was verified, with the trust it anchors and the token it came as."""

    definition: ProductDefinition
    trust: Trust
    token: str


def root_of_definition(token: str) -> str:
    """The fingerprint of the root that a definition *claims*: to show to an administrator, not to believe."""
    return certificates.fingerprint(_chain(jws.parse(token, DEFINITION))[-1])


def verify_status(token: str, trust: Trust) -> RevocationStatus:
    """A revocation status; one older than what ``trust`` has seen is refused, so that revocations cannot be undone."""
    status = RevocationStatus.from_claim(verify(token, trust, STATUS).claims)
    if status.epoch < trust.epoch:
        raise StatusOldError(epoch=status.epoch, seen=trust.epoch)
    return status


@dataclass(frozen=True, slots=True)
class TrustedLicence:
    """A licence that its issuer was allowed to sign; ``revoked_at`` by the newest status in ``trust``."""

    licence: Licence
    role: Role
    grant: Grant
    issuer_ends_at: int
    revoked_at: int | None


def verify_licence(token: str, trust: Trust) -> TrustedLicence:
    """A licence by itself, as it is stored.  Left to the caller: machine, product and count (``evaluation``)."""
    verified = verify(token, trust, LICENCE)
    licence = Licence.from_claim(verified.claims)
    if licence.channel not in MAY_LICENSE[verified.role]:
        raise RoleError(role=str(verified.role), what=f"a licence of the {licence.channel} channel")
    if not verified.speaks_for(licence.group):
        raise GroupGrantError(group=licence.group)
    revoked_at = verified.revoked_at(trust.status)
    return TrustedLicence(licence, verified.role, verified.grant, verified.chain_ends_at, revoked_at)


def _chain(parsed: jws.Parsed) -> list[x509.Certificate]:
    if not parsed.x5c:
        raise MalformedError(what=parsed.typ, why="it does not bring its certificates")
    return [certificates.load_der(data) for data in parsed.x5c]


def _validate(chain: list[x509.Certificate], trust: Trust, at: int, what: str) -> int:
    """RFC 5280 path validation at second ``at`` by pyca; returns when the first of the chain's certificates ends."""
    _check_leads_to_root(chain, trust, what)
    try:
        moment = datetime.fromtimestamp(at, UTC)
        builder = PolicyBuilder().store(Store([trust.root])).time(moment).max_chain_depth(1)
        verifier = builder.extension_policies(ca_policy=_CA, ee_policy=_END).build_client_verifier()
        path = verifier.verify(chain[0], chain[1:]).chain
    except VerificationError as exc:
        raise ChainError(what=what, at=show_time(at), why=_why(chain, at, exc)) from None
    except (ValueError, OverflowError, OSError):
        raise MalformedError(what=what, why="its time is out of range") from None
    return int(min(certificate.not_valid_after_utc for certificate in path[:-1]).timestamp())


def _check_leads_to_root(chain: list[x509.Certificate], trust: Trust, what: str) -> None:
    """Tell "another root" from "invalid": does the last certificate carry the trusted root's signature?"""
    try:
        chain[-1].verify_directly_issued_by(trust.root)
    except Exception:  # pyca raises ValueError, TypeError or InvalidSignature here: all mean "not by this root"
        raise UntrustedRootError(what=what, root=trust.fingerprint) from None


_CA = ExtensionPolicy.webpki_defaults_ca()
_END = (
    ExtensionPolicy.permit_all()
    .require_present(x509.KeyUsage, Criticality.CRITICAL, None)
    .require_present(x509.BasicConstraints, Criticality.CRITICAL, None)
    .require_present(x509.ExtendedKeyUsage, Criticality.CRITICAL, None)
)


def _why(chain: list[x509.Certificate], at: int, exc: VerificationError) -> str:
    for certificate in chain:
        if at > certificate.not_valid_after_utc.timestamp():
            return f"it ended on {show_time(int(certificate.not_valid_after_utc.timestamp()))}"
        if at < certificate.not_valid_before_utc.timestamp():
            return f"it begins on {show_time(int(certificate.not_valid_before_utc.timestamp()))}"
    return str(exc).removeprefix("validation failed: ")[:200]


def show_time(second: int) -> str:
    """UTC for messages of a layer that does not know the reader's zone."""
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"second {second}"
