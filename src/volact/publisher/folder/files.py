# SPDX-License-Identifier: Apache-2.0
"""Where what is in a publisher's folder, and its certificates, read and written."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from volact.core.errors import ConfigError
from volact.publisher.folder import hardware
from volact.sealing import certificates, keys
from volact.sealing.certificates import Role

FORMAT = 1
MAX_NAME = 200
MAX_URL = 400
ROLES = (Role.PUBLISHER, Role.DEFINITION, Role.REVOCATION)
DATABASE = "publisher.db"
MOST_LINKS_CARRIED = 2  # a token has four certificates at most: end, CA, and these


class FolderDamagedError(ConfigError):
    code = "publisher-folder-damaged"
    fmt = "the publisher's folder {path} cannot be used: {why}"
    remedy = "restore the folder from your backup"


def key_path(folder: Path, name: str) -> Path:
    return folder / "keys" / f"{name}.key"


def signing_path(folder: Path, name: str) -> Path:
    """The root's key has a folder of its own, to be taken away with it."""
    return folder / "root" / "root.key" if name == hardware.ROOT else key_path(folder, name)


def write_certificate(folder: Path, name: str, certificate: x509.Certificate) -> None:
    keys.write_file(_certificate_path(folder, name), certificates.pem(certificate), 0o644)


def write_certificates(folder: Path, name: str, chain: Iterable[x509.Certificate]) -> None:
    keys.write_file(_certificate_path(folder, name), certificates.pem(*chain), 0o644)


def read_certificate(folder: Path, name: str) -> x509.Certificate:
    path = _certificate_path(folder, name)
    try:
        certificate = x509.load_pem_x509_certificate(keys.read_file(path))
    except ValueError:
        raise FolderDamagedError(path=str(folder), why=f"{path.name} is not a certificate in PEM") from None
    return certificates.load_der(certificates.der(certificate))


def read_certificates(folder: Path, name: str) -> tuple[x509.Certificate, ...]:
    """Those in a file that is not there as long as there is one root."""
    path = _certificate_path(folder, name)
    if not path.exists():
        return ()
    try:
        found = x509.load_pem_x509_certificates(keys.read_file(path))
    except ValueError:
        raise FolderDamagedError(path=str(folder), why=f"{path.name} is not certificates in PEM") from None
    return tuple(certificates.load_der(certificates.der(one)) for one in found)


def rotation_links(
    authority: x509.Certificate, roots: Sequence[x509.Certificate], links: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The cross certificates from an issuing CA's root back to the publisher's first, as far as a token carries them:
    for products that know an older root and no newer definition."""
    signer = next((n for n, root in enumerate(roots) if _is_issued_by(authority, root)), 0)
    found = []
    for newer, older in zip(reversed(roots[1 : signer + 1]), reversed(roots[:signer]), strict=True):
        key = certificates.public_key_of(newer)
        found += [one for one in links if certificates.public_key_of(one) == key and _is_issued_by(one, older)]
    return tuple(found[:MOST_LINKS_CARRIED])


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _certificate_path(folder: Path, name: str) -> Path:
    return folder / "certificates" / f"{name}.pem"
