# SPDX-License-Identifier: Apache-2.0
"""Certificates: publisher root → issuing CA → end certificates with one role each.  Spec: docs/spec/certificates.md.
A cross certificate joins two roots of one publisher.

X.509 v3 on P-256 (RFC 5280).  An end certificate has exactly one extended key usage, its role, and a non-critical
extension (:class:`Grant`) that says for which organisation and product groups it may speak and which key may sign its
descriptors.  Making and reading live here; *accepting* lives in :mod:`volact.sealing.verify`.

A CA's key may be in this process or in a token.  pyca signs certificates with its own keys only, so for a token's the
certificate is built by pyca with a key of the moment and its signature is replaced, see :func:`_sign`.
"""

import datetime
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from volact.core.errors import ConfigError, MalformedError
from volact.sealing.jws import SigningKey

YEAR = 365 * 86400
ROOT_YEARS, ISSUING_YEARS, DEFINITION_YEARS, END_YEARS = 25, 10, 10, 1
MOST_GROUPS = 200  # as many as a product definition has
BACKDATE = 3600  # a certificate made now is good for a verifier whose clock is an hour behind

# Arcs under 2.25 are UUIDs (ITU-T X.667): unique without a registration.
GRANT_OID = x509.ObjectIdentifier("2.25.239498954501018633009309461544856444572")


class SignedWronglyError(ConfigError):
    code = "certificate-signature"
    fmt = "the key of the certificate authority made a signature that its certificate does not confirm"
    remedy = "this key is not the one of the certificate: check which token and key the publisher's folder names"


class Role(StrEnum):
    PUBLISHER = "publisher-issuer"
    KMS_HOST = "kms-host"
    VM_HOST = "vm-host"
    OEM = "oem"
    DEFINITION = "definition"
    REVOCATION = "revocation"


ROLE_OIDS = {
    Role.PUBLISHER: x509.ObjectIdentifier("2.25.190303087804067672443823118541660611768"),
    Role.KMS_HOST: x509.ObjectIdentifier("2.25.65012826709404806575685309085944254281"),
    Role.VM_HOST: x509.ObjectIdentifier("2.25.219758891233307246859221993225592104806"),
    Role.OEM: x509.ObjectIdentifier("2.25.165168669997952584613810141961938402373"),
    Role.DEFINITION: x509.ObjectIdentifier("2.25.139574580755463457495138279489263633132"),
    Role.REVOCATION: x509.ObjectIdentifier("2.25.150184654669293724501806133732105100751"),
}
_ROLES = {oid: role for role, oid in ROLE_OIDS.items()}


@asn1.sequence
class _GrantDer:
    version: int
    organisation: str
    groups: list[int]
    descriptor_signer: bytes


@dataclass(frozen=True, slots=True)
class Grant:
    """What an end certificate may speak for.  ``groups`` is empty for the publisher's own roles: all of them.
    ``descriptor_signer``: SHA-256 of the SubjectPublicKeyInfo whose signature makes a sealing key this issuer's."""

    organisation: str
    groups: frozenset[int]
    descriptor_signer: bytes

    def to_der(self) -> bytes:
        groups, signer = sorted(self.groups), self.descriptor_signer
        return asn1.encode_der(
            _GrantDer(version=1, organisation=self.organisation, groups=groups, descriptor_signer=signer)
        )

    @classmethod
    def from_der(cls, data: bytes) -> "Grant":
        try:
            value = asn1.decode_der(_GrantDer, data)
        except ValueError:
            raise MalformedError(what="certificate grant", why="not the DER of a grant") from None
        if value.version != 1:
            raise MalformedError(what="certificate grant", why=f"version {value.version} is not known")
        _check_grant(value)
        return cls(value.organisation, frozenset(value.groups), value.descriptor_signer)


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate with its key's holder: what a CA signs with."""

    certificate: x509.Certificate
    key: "CaKey"


CaKey = ec.EllipticCurvePrivateKey | SigningKey  # in this process, or wherever a SigningKey lives


def make_root(key: CaKey, publisher: str, now: int, serial: int) -> x509.Certificate:
    name = name_of(f"{publisher} Volact root", publisher)
    public_key = _public_key(key)
    builder = _builder(name, name, public_key, now, ROOT_YEARS, serial)
    return _sign_ca(builder, key, public_key, public_key, path_length=1)


def make_cross(by: Certified, other: x509.Certificate, now: int, serial: int) -> x509.Certificate:
    """The key of one root certified by another root of the same publisher (RFC 4210 §4.4).

    Both roots have one name, so that it is self-issued and no step of a path's length (RFC 5280 §6.1.4 l)."""
    if by.certificate.subject != other.subject:
        raise RuntimeError("the roots of one publisher have one name")
    public_key = public_key_of(other)
    ends = min(by.certificate.not_valid_after_utc, other.not_valid_after_utc)
    builder = _builder(other.subject, by.certificate.subject, public_key, now, ROOT_YEARS, serial, ends)
    return _sign_ca(builder, by.key, public_key, by.certificate.public_key(), path_length=1)


def is_cross(certificate: x509.Certificate) -> bool:
    """Whether it may join two roots: self-issued, of a CA that may have one CA below it.  An issuing CA may not."""
    if certificate.subject != certificate.issuer:
        return False
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return constraints.critical and constraints.value.ca and constraints.value.path_length == 1 and usage.key_cert_sign


def make_issuing(
    root: Certified, public_key: ec.EllipticCurvePublicKey, publisher: str, now: int, serial: int
) -> x509.Certificate:
    name = name_of(f"{publisher} Volact issuing CA", publisher)
    builder = _builder(name, root.certificate.subject, public_key, now, ISSUING_YEARS, serial)
    return _sign_ca(builder, root.key, public_key, root.certificate.public_key(), path_length=0)


def make_end(
    issuing: Certified,
    public_key: ec.EllipticCurvePublicKey,
    role: Role,
    grant: Grant,
    common_name: str,
    now: int,
    serial: int,
    lifetime: int = END_YEARS * YEAR,
) -> x509.Certificate:
    """An end certificate of ``role``; never outlives the CA that signs it."""
    name = name_of(common_name, grant.organisation)
    ends = min(_at(now + lifetime), issuing.certificate.not_valid_after_utc)
    subject = issuing.certificate.subject
    builder = end_builder(name, subject, public_key, role, grant, serial, _at(now - BACKDATE), ends)
    return _sign(builder.add_extension(_authority(issuing.certificate.public_key()), critical=False), issuing.key)


def end_builder(
    name: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    role: Role,
    grant: Grant,
    serial: int,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    """An end certificate before it is signed, without the identifier of whoever signs."""
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ROLE_OIDS[role]]), critical=True)
        .add_extension(x509.UnrecognizedExtension(GRANT_OID, grant.to_der()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def is_end(certificate: x509.Certificate) -> bool:
    """Whether its key may sign, and is no CA's; both said critically, as the role is."""
    wanted = (x509.BasicConstraints(ca=False, path_length=None), _usage(sign=True))
    for value in wanted:
        try:
            found = certificate.extensions.get_extension_for_class(type(value))
        except (x509.ExtensionNotFound, ValueError):
            return False
        if not found.critical or found.value != value:
            return False
    return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).critical


def role_of(certificate: x509.Certificate) -> Role:
    """The one role of an end certificate."""
    try:
        usages = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        usages = []
    role = _ROLES.get(usages[0]) if len(usages) == 1 else None
    if role is None:
        raise MalformedError(what="certificate", why="it has not exactly one extended key usage of ours")
    return role


def grant_of(certificate: x509.Certificate) -> Grant:
    try:
        extension = certificate.extensions.get_extension_for_oid(GRANT_OID).value
    except (x509.ExtensionNotFound, ValueError):
        raise MalformedError(what="certificate", why="it has no grant") from None
    assert isinstance(extension, x509.UnrecognizedExtension)
    return Grant.from_der(extension.value)


def subject_key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return None


def authority_key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return None


def load_der(data: bytes) -> x509.Certificate:
    """Read a certificate and everything of it that is used later, so that nothing fails to parse afterwards."""
    try:
        certificate = x509.load_der_x509_certificate(data)
        # Parsed lazily otherwise.
        _ = certificate.extensions, certificate.not_valid_before_utc, certificate.not_valid_after_utc
        key = certificate.public_key()
    except Exception:  # pyca raises several types here, none of them documented as the only one
        raise MalformedError(what="certificate", why="not the DER of an X.509 certificate") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError(what="certificate", why="its key is not on P-256")
    return certificate


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey), "load_der and make_* only let P-256 through"
    return key


def fingerprint(certificate: x509.Certificate) -> str:
    """``sha256:…`` over the DER, as ``openssl x509 -fingerprint -sha256`` prints it without the colons."""
    return "sha256:" + certificate.fingerprint(hashes.SHA256()).hex()


def key_thumbprint(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo: how certificates and revocations name a key."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def _check_grant(value: _GrantDer) -> None:
    groups = value.groups
    if len(groups) > MOST_GROUPS or sorted(set(groups)) != groups or not all(0 < group < 2**16 for group in groups):
        raise MalformedError(what="certificate grant", why="its product groups are not ascending numbers up to 65535")
    if not value.organisation.isprintable() or len(value.organisation) > 200:
        raise MalformedError(what="certificate grant", why="its organisation is not a printable text")
    if len(value.descriptor_signer) != 32:
        raise MalformedError(what="certificate grant", why="its descriptor signer is not a SHA-256")


def name_of(common_name: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _short(organisation) or "-"),
            x509.NameAttribute(NameOID.COMMON_NAME, _short(common_name) or "-"),
        ]
    )


def _short(name: str) -> str:
    """X.520's upper bound, which pyca counts in bytes; the grant keeps the whole name."""
    return name.encode()[:64].decode(errors="ignore")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: int,
    years: int,
    serial: int,
    ends: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(_at(now - BACKDATE))
        .not_valid_after(ends if ends is not None else _at(now + years * YEAR))
    )


def _sign_ca(
    builder: x509.CertificateBuilder,
    signer: CaKey,
    subject_key: ec.EllipticCurvePublicKey,
    issuer_key: object,
    path_length: int,
) -> x509.Certificate:
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
        .add_extension(_authority(issuer_key), critical=False)
    )
    return _sign(builder, signer)


@asn1.sequence
class _SignedDer:
    """RFC 5280 §4.1: a certificate, taken apart no further than its three members."""

    tbs: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


def _sign(builder: x509.CertificateBuilder, key: CaKey) -> x509.Certificate:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return builder.sign(key, hashes.SHA256())
    # What is signed names algorithm, issuer and authority, never the signing key itself: any P-256 key's will do.
    built = builder.sign(_key_of_the_moment(), hashes.SHA256())
    signature = key.sign(built.tbs_certificate_bytes)
    value = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    parts = asn1.decode_der(_SignedDer, der(built))
    signed = _SignedDer(tbs=parts.tbs, algorithm=parts.algorithm, signature=asn1.BitString(value, 0))
    certificate = x509.load_der_x509_certificate(asn1.encode_der(signed))
    _check_signed(certificate, key, built.tbs_certificate_bytes)
    return certificate


@cache
def _key_of_the_moment() -> ec.EllipticCurvePrivateKey:
    """Its signatures are thrown away; made once a process, since making one takes as long as signing."""
    return ec.generate_private_key(ec.SECP256R1())


def _check_signed(certificate: x509.Certificate, key: SigningKey, meant: bytes) -> None:
    """A token is another machine: what it says it signed is looked at before anybody relies on it."""
    try:
        key.public_key.verify(certificate.signature, meant, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignedWronglyError() from None


def _public_key(key: CaKey) -> ec.EllipticCurvePublicKey:
    return key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key.public_key


def _authority(key: object) -> x509.AuthorityKeyIdentifier:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )


def _at(second: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(second, datetime.UTC)
