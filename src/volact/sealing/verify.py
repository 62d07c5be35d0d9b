# SPDX-License-Identifier: Apache-2.0
"""The one verifier: which role may sign what, under which root.  Spec: docs/spec/verification.md.

Everything signed under a publisher's root is accepted here or nowhere.  :func:`verify` goes through numbered steps;
what it cannot know is left to its caller and named in each function's docstring: whether an answer fits the request,
and whether its count is enough (:mod:`volact.core.evaluation`).

* A chain is validated at the token's own ``iat``, so that perpetual licences outlive certificates; a key that was
  compromised is revoked from a date on, by a status whose epoch never goes back.
* Roots come with the product: :class:`Trust` is made from a fingerprint the caller already has.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from volact.core.definition import ProductDefinition, links_in, roots_in
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


_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")

_SHORTEST = 2  # an end certificate and its CA, which most chains are: what is above them costs only those that have it

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
    """Whom to believe for one publisher: its root, and what its revocations say so far.

    ``others``: its roots before and after this one, as a definition's cross certificates prove them.  ``identity``: the
    fingerprint that names the publisher whichever root signs, its first root's; ``fingerprint`` gives it.
    ``phone_key``: of its confirmation IDs, from a verified definition; it makes hosts and forests that called.
    """

    root: x509.Certificate
    status: RevocationStatus | None = None
    others: tuple[x509.Certificate, ...] = ()
    identity: str = ""
    phone_key: bytes | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", self.identity or certificates.fingerprint(self.root))

    def with_status(self, status: RevocationStatus | None) -> "Trust":
        return Trust(self.root, status, self.others, self.identity, self.phone_key)

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return (self.root, *self.others)

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
    confirmation: str = ""
    crossings: "tuple[_Crossing, ...]" = ()

    def revoked_at(self, status: RevocationStatus | None) -> int | None:
        """From when the signer's key is revoked, or that of a CA or root above it, which takes everybody below along;
        or the ``confirmation`` by telephone that stands in their place; or the key of a root that certified another one
        once it was revoked."""
        if status is None or not status.revoked:
            return None
        above = map(_name_of_key, self.authorities)
        found = [status.revoked_at(name) for name in (self.signer.hex(), *above, self.confirmation) if name]
        found += [one.revoked_at(status) for one in self.crossings]
        return min((at for at in found if at is not None), default=None)

    def speaks_for(self, group: int) -> bool:
        """The publisher's own issuer names no groups, which means all; a host that names none has none."""
        own = self.role is Role.PUBLISHER and not self.grant.groups
        return own or group in self.grant.groups


def verify(token: str, trust: Trust, *typs: str) -> Verified:
    """Accept a token of one of ``typs`` under ``trust``, or raise :class:`TrustError` / ``MalformedError``.

    Left to the caller: whether the contents fit what was asked for.
    """
    return _accept(_read(token, *typs), trust)


@dataclass(frozen=True, slots=True)
class _Read:
    """A token whose signature fits its own first certificate; nobody has vouched for that yet."""

    typ: str
    chain: list[x509.Certificate]
    claims: Fields
    issued_at: int


def _read(token: str, *typs: str) -> _Read:
    # (1) take it apart; only the types the caller is ready for
    parsed = jws.parse(token, *typs)
    # (2) the signature fits the leaf's key; unread claims are not believed before
    chain = _chain(parsed)
    parsed.verify(certificates.public_key_of(chain[0]))
    claims = parsed.claims()
    return _Read(parsed.typ, chain, claims, claims.integer("iat"))


def _accept(read: _Read, trust: Trust) -> Verified:
    leaf = read.chain[0]
    # (3) the chain leads to a trusted root and was valid when the token was made
    path = _path(read, trust)
    # (4) the role may sign this type
    role = certificates.role_of(leaf)
    if read.typ not in MAY_SIGN[role]:
        raise RoleError(role=str(role), what=read.typ)
    # (5) the publisher had not revoked the key by then
    signer = certificates.key_thumbprint(certificates.public_key_of(leaf))
    grant = certificates.grant_of(leaf)
    verified = Verified(
        read.claims, role, grant, signer, read.issued_at, path.ends_at, path.authorities, path.confirmation,
        path.crossings,
    )  # fmt: skip
    revoked_at = verified.revoked_at(trust.status)
    if revoked_at is not None and read.issued_at >= revoked_at and read.typ not in _JUDGED_LATER:
        raise RevokedError(what=read.typ)
    return verified


def verify_definition(
    token: str, root: str, *, product: str | None = None, min_version: int = 0
) -> "TrustedDefinition":
    """A product definition under the root fingerprint that the *product* embeds.

    The file brings its root certificate along; it is believed because its fingerprint is ``root``, or because a root
    with that fingerprint has certified its key.  Its roots on both sides of that are trusted from here on.
    Left to the caller, who may know of revocations: :meth:`TrustedDefinition.check_status`.
    """
    read = _read(token, DEFINITION)
    trust, crossings = _trust_of(read, root)
    accepted = _accept(read, trust)
    verified = replace(accepted, crossings=(*accepted.crossings, *crossings)) if crossings else accepted
    definition = ProductDefinition.from_claim(verified.claims, verified.issued_at)
    if definition.root not in map(certificates.fingerprint, trust.roots):
        raise UntrustedRootError(what="the product definition", root=root)
    if product is not None and definition.product != product:
        raise OtherProductError(product=product, got=definition.product)
    if definition.version < min_version:
        raise DefinitionOldError(product=definition.product, version=definition.version, least=min_version)
    trust = Trust(trust.root, None, trust.others, definition.root, definition.phone_key)
    return TrustedDefinition(definition, trust, token, verified)


@dataclass(frozen=True, slots=True)
class TrustedDefinition:
    """A definition that was verified, with the trust it anchors and the token it came as."""

    definition: ProductDefinition
    trust: Trust
    token: str
    verified: Verified

    def check_status(self, status: RevocationStatus | None) -> None:
        """Raises :class:`RevokedError` where the key that signed it, or a CA above, was revoked by then."""
        revoked_at = self.verified.revoked_at(status)
        if revoked_at is not None and self.definition.issued_at >= revoked_at:
            raise RevokedError(what="the product definition")


def newest_trusts(definitions: Iterable[TrustedDefinition]) -> dict[str, Trust]:
    """Whom several definitions make known, by the publisher; each as its newest definition says."""
    in_order = sorted(definitions, key=lambda trusted: trusted.definition.issued_at)
    return {trusted.trust.fingerprint: trusted.trust for trusted in in_order}


def root_of_definition(token: str) -> str:
    """The fingerprint by which a definition *claims* to name its publisher: to show to an administrator, not to
    believe."""
    claims = jws.parse(token, DEFINITION).claims()
    text = claims.text("root", most=80)
    return text if _FINGERPRINT.match(text) else claims.fail("root", "sha256: and 64 hexadecimal digits")


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


@dataclass(frozen=True, slots=True)
class _Crossing:
    """A root that certified another one by ``link``.  As everything that it signed, that stays good if the root is
    revoked from a later second on; else whoever has a revoked root's key would begin anew with a root of his own."""

    by: x509.Certificate
    link: x509.Certificate

    def revoked_at(self, status: RevocationStatus) -> int | None:
        made_at = int(self.link.not_valid_before_utc.timestamp()) + certificates.BACKDATE
        found = status.revoked_at(_name_of_key(self.by))
        return found if found is not None and found <= made_at else None


@dataclass(frozen=True, slots=True)
class _Path:
    """What stands behind a signature: until when, and who above the signer can be revoked."""

    ends_at: int
    authorities: tuple[x509.Certificate, ...] = ()
    confirmation: str = ""
    crossings: tuple[_Crossing, ...] = ()


def _path(read: _Read, trust: Trust) -> _Path:
    chain, at, what = read.chain, read.issued_at, read.typ
    if len(chain) == 1:
        from volact.sealing import phone_certificates  # what it needs is an extra, and most machines never call

        if phone_certificates.is_confirmed(chain[0]):
            return _Path(*phone_certificates.check(chain[0], trust.fingerprint, trust.phone_key, at, what))
    below, anchor, crossings = _anchor(chain, trust, at, what)
    return _Path(_validate(below, anchor, at, what), (*chain[1:], anchor), "", crossings)


def _anchor(
    chain: list[x509.Certificate], trust: Trust, at: int, what: str
) -> tuple[list[x509.Certificate], x509.Certificate, tuple[_Crossing, ...]]:
    """The chain below the highest certificate that is trusted, and that one: a root, or a cross certificate of one.

    A cross certificate is settled here, at the end of a chain: pyca counts it as a step of the path, which by RFC 5280
    a self-issued certificate is not."""
    below = list(chain)
    # whatever brings a root's own key along, the root itself or a cross certificate, adds nothing
    while len(below) > _SHORTEST and _with_key_of(below[-1], trust.roots) is not None:
        below.pop()
    anchor = _signer_among(trust.roots, below[-1])
    if anchor is None and len(below) < len(chain):
        raise ChainError(what=what, at=show_time(at), why="it does not lead to the root that it brings along")
    if anchor is None:
        raise UntrustedRootError(what=what, root=trust.fingerprint)
    crossings: tuple[_Crossing, ...] = ()
    while len(below) > _SHORTEST and certificates.is_cross(below[-1]):
        cross = below.pop()
        if not _is_valid(cross, at):
            raise ChainError(what=what, at=show_time(at), why="a cross certificate of the roots is over, or to come")
        if not _is_issued_by(below[-1], cross):
            raise ChainError(what=what, at=show_time(at), why="its cross certificate is for another root")
        crossings += (_Crossing(anchor, cross),)
        anchor = cross
    return below, anchor, crossings


def _trust_of(read: _Read, root: str) -> tuple[Trust, tuple[_Crossing, ...]]:
    """The roots that a definition proves to be of the publisher whose root has this fingerprint, and by what."""
    brought = read.chain[-1]
    listed = [certificates.load_der(der) for der in roots_in(read.claims)]
    links = [certificates.load_der(der) for der in links_in(read.claims)]
    candidates = (brought, *listed)
    embedded = next((one for one in candidates if certificates.fingerprint(one) == root), None)
    reached, crossings = ([], []) if embedded is None else _reach(embedded, candidates, links, read.issued_at)
    if brought not in reached:
        raise UntrustedRootError(what="the product definition", root=root)
    return Trust(brought, others=tuple(one for one in reached if one != brought)), tuple(crossings)


def _reach(
    embedded: x509.Certificate,
    candidates: tuple[x509.Certificate, ...],
    links: list[x509.Certificate],
    at: int,
) -> tuple[list[x509.Certificate], list[_Crossing]]:
    """From one root to those that it certifies, and on from them.  What is certified is a root's key: the rest of its
    certificate, its end for instance, is the word of that key and of nobody else."""
    reached, crossings = [embedded], list[_Crossing]()
    for root in reached:  # grows meanwhile
        for link in links:
            other = _with_key_of(link, candidates)
            if other is None or other in reached or not certificates.is_cross(link) or not _is_valid(link, at):
                continue
            if _is_issued_by(link, root) and _is_issued_by(other, other):
                reached.append(other)
                crossings.append(_Crossing(root, link))
    return reached, crossings


def _name_of_key(one: x509.Certificate) -> str:
    """By which a status revokes it."""
    return certificates.key_thumbprint(certificates.public_key_of(one)).hex()


def _with_key_of(one: x509.Certificate, among: tuple[x509.Certificate, ...]) -> x509.Certificate | None:
    key = certificates.public_key_of(one)
    return next((other for other in among if certificates.public_key_of(other) == key), None)


def _signer_among(roots: tuple[x509.Certificate, ...], certificate: x509.Certificate) -> x509.Certificate | None:
    """Tells "another root" from "invalid"; the root that is named is tried first, and mostly the only one."""
    if len(roots) > 1:
        named = certificates.authority_key_id(certificate)
        roots = tuple(sorted(roots, key=lambda root: certificates.subject_key_id(root) != named))
    return next((root for root in roots if _is_issued_by(certificate, root)), None)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # pyca raises ValueError, TypeError or InvalidSignature here: all mean "not by this one"
        return False
    return True


def _is_valid(certificate: x509.Certificate, at: int) -> bool:
    return certificate.not_valid_before_utc.timestamp() <= at <= certificate.not_valid_after_utc.timestamp()


def _validate(chain: list[x509.Certificate], anchor: x509.Certificate, at: int, what: str) -> int:
    """RFC 5280 path validation at second ``at`` by pyca; returns when the first of the chain's certificates ends."""
    try:
        moment = datetime.fromtimestamp(at, UTC)
        builder = PolicyBuilder().store(Store([anchor])).time(moment).max_chain_depth(1)
        verifier = builder.extension_policies(ca_policy=_CA, ee_policy=_END).build_client_verifier()
        path = verifier.verify(chain[0], chain[1:]).chain
    except VerificationError as exc:
        raise ChainError(what=what, at=show_time(at), why=_why(chain, at, exc)) from None
    except (ValueError, OverflowError, OSError):
        raise MalformedError(what=what, why="its time is out of range") from None
    return int(min(certificate.not_valid_after_utc for certificate in path[:-1]).timestamp())


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
