# SPDX-License-Identifier: Apache-2.0
"""Certificates of hosts that were activated by telephone: made by the host itself, confirmed by the publisher's digits.

The host signs its certificate with its own key; the publisher's confirmation ID (a BLS signature) stands in an
extension.  Everything in the certificate that permits something is either in the message that was confirmed or computed
from it, and :func:`check` compares each of them.  What comes after, which role may sign what, is as for every other
certificate (:mod:`volact.sealing.verify`).  Spec: docs/spec/certificates.md §4.
"""

import datetime
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes

from volact.core.errors import MalformedError
from volact.core.phone import KEY_ID_BYTES, SIGNATURE_BYTES, PhoneFormatError
from volact.core.phone_site import SiteInstallationId, SiteKind, SiteSubject, fits, message, name_of_host
from volact.sealing import certificates, jws
from volact.sealing.certificates import Grant, Role
from volact.sealing.confirmation import verify_confirmation
from volact.sealing.keys import LocalKey
from volact.sealing.verify import ChainError, UntrustedRootError, show_time

CONFIRMATION_OID = x509.ObjectIdentifier("2.25.287718804614922224120698604776128839865")
ROLES = {SiteKind.KMS_HOST: Role.KMS_HOST, SiteKind.VM_HOST: Role.VM_HOST}
_VERSION = 1
_MOST_PRODUCT = 63
_REMEMBERED = 64  # confirmations: a client asks few hosts, and each takes 1.5 ms


@asn1.sequence
class _ConfirmationDer:
    version: int
    product: str
    group: int
    key_id: bytes
    installation: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class HostConfirmation:
    """What was confirmed, and the publisher's signature over it."""

    product: str
    group: int
    key_id: str
    installation: SiteInstallationId
    signature: bytes

    def to_der(self) -> bytes:
        return asn1.encode_der(
            _ConfirmationDer(
                version=_VERSION,
                product=self.product,
                group=self.group,
                key_id=bytes.fromhex(self.key_id),
                installation=self.installation.to_bytes(),
                signature=self.signature,
            )
        )

    @classmethod
    def from_der(cls, data: bytes) -> "HostConfirmation":
        try:
            value = asn1.decode_der(_ConfirmationDer, data)
        except ValueError:
            raise MalformedError(what="confirmation", why="not the DER of a confirmation") from None
        named = value.product.isascii() and 0 < len(value.product) <= _MOST_PRODUCT
        sized = len(value.key_id) == KEY_ID_BYTES and len(value.signature) == SIGNATURE_BYTES
        if value.version != _VERSION or not named or not sized or not 0 < value.group < 2**16:
            raise MalformedError(what="confirmation", why="its version or one of its members is not of format 1")
        try:
            installation = SiteInstallationId.from_bytes(value.installation)
        except PhoneFormatError as exc:
            raise MalformedError(what="confirmation", why=str(exc)) from None
        return cls(value.product, value.group, value.key_id.hex(), installation, value.signature)


def make(
    key: LocalKey, subject: SiteSubject, installation: SiteInstallationId, signature: bytes, name: str
) -> x509.Certificate:
    """The certificate that a host makes of its confirmation.  It names no organisation: nobody has signed one."""
    confirmed = HostConfirmation(subject.product, subject.group, subject.key_id, installation, signature)
    grant = Grant("", subject.groups, certificates.key_thumbprint(key.public_key))
    builder = certificates.end_builder(
        certificates.name_of(name, ""),
        certificates.name_of(name, ""),
        key.public_key,
        ROLES[installation.kind],
        grant,
        serial_of(installation),
        _at(installation.begins_at),
        _at(installation.ends_at),
    )
    extension = x509.UnrecognizedExtension(CONFIRMATION_OID, confirmed.to_der())
    return builder.add_extension(extension, critical=False).sign(key.private, hashes.SHA256())


def serial_of(installation: SiteInstallationId) -> int:
    """So that the publisher, which never sees the certificate, can name it."""
    return int.from_bytes(installation.nonce, "big") | 1


def is_confirmed(certificate: x509.Certificate) -> bool:
    return any(one.oid == CONFIRMATION_OID for one in certificate.extensions)


def revocation_id(certificate: x509.Certificate) -> str:
    """Under which a status names what such a certificate was made of."""
    return _confirmation_of(certificate).installation.revocation_id


def check(
    certificate: x509.Certificate, root: str, phone_key: bytes | None, at: int, what: str
) -> tuple[int, tuple[x509.Certificate, ...], str]:
    """Raises what is wrong with a host's own certificate under the publisher ``root`` at second ``at``; its end, nobody
    above it, and the name under which a status revokes it."""
    # (1) a publisher that confirms by telephone at all
    if phone_key is None:
        raise UntrustedRootError(what=what, root=root)
    confirmed = _confirmation_of(certificate)
    installation, grant = confirmed.installation, certificates.grant_of(certificate)
    subject = SiteSubject(root, confirmed.product, confirmed.group, grant.groups, confirmed.key_id)
    # (2) nothing in it but what was confirmed, or follows from that
    why = _difference(certificate, subject, installation, grant)
    if why:
        raise ChainError(what=what, at=show_time(at), why=why)
    # (3) in its time
    if not installation.begins_at <= at <= installation.ends_at:
        over = f"ended on {show_time(installation.ends_at)}"
        why = f"it {over}" if at > installation.ends_at else f"it begins on {show_time(installation.begins_at)}"
        raise ChainError(what=what, at=show_time(at), why=why)
    # (4) the publisher confirmed exactly that
    _check_signature(phone_key, message(subject, installation), confirmed.signature)
    return installation.ends_at, (), installation.revocation_id


def _difference(
    certificate: x509.Certificate, subject: SiteSubject, installation: SiteInstallationId, grant: Grant
) -> str:
    key = certificates.public_key_of(certificate)
    if ROLES.get(installation.kind) is not certificates.role_of(certificate):
        return f"what was confirmed is a {installation.kind}"
    if installation.name != name_of_host(jws.thumbprint(jws.jwk_of(key))):
        return "it is for another key than was confirmed"
    if not fits(subject, installation):
        return "its key or its product groups are not those of the installation ID"
    if grant.organisation or grant.descriptor_signer != certificates.key_thumbprint(key):
        return "its grant is not one that was confirmed"
    times = (certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())
    if times != (installation.begins_at, installation.ends_at):
        return "its dates are not those that were confirmed"
    if not certificates.is_end(certificate):
        return "its key usage or its basic constraints are not those of a host"
    try:
        certificate.verify_directly_issued_by(certificate)
    except Exception:  # pyca raises several types: all mean that the host did not sign it
        return "it is not signed with its own key"
    return ""


def _confirmation_of(certificate: x509.Certificate) -> HostConfirmation:
    extension = certificate.extensions.get_extension_for_oid(CONFIRMATION_OID).value
    assert isinstance(extension, x509.UnrecognizedExtension)
    return HostConfirmation.from_der(extension.value)


@lru_cache(maxsize=_REMEMBERED)
def _check_signature(public: bytes, data: bytes, signature: bytes) -> None:
    """What is good stays good; what is wrong is raised and looked at again."""
    verify_confirmation(public, data, signature)


def _at(second: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(second, datetime.UTC)
