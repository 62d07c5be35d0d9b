# SPDX-License-Identifier: Apache-2.0
"""Makers of computers: what the publisher certifies, and what a maker does with it in its own folder.

The maker makes its key and a certificate request (PKCS#10); the publisher certifies it for product groups; from then
on the maker signs markers by itself, and puts each into a table of its firmware.  The publisher sees none of them.

    oem.json      the maker's name
    oem.key       its signing key, encrypted
    oem.pem       its certificate, the issuing CA's and the root's, once the publisher has certified it

Spec: docs/spec/oem-marker.md.  Guide: docs/guide/oem.md.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, MalformedError
from volact.core.marker import MOST_MARKER, OemMarker
from volact.publisher.administration.publisher import Publisher
from volact.publisher.administration.revocation import Revoked
from volact.publisher.folder.making import check_name
from volact.publisher.folder.opening import PublisherKeys
from volact.publisher.rows.ledger import Act
from volact.sealing import certificates, keys, markers
from volact.sealing.certificates import Grant, Role
from volact.sealing.keys import LocalKey
from volact.sealing.sign import Issuer
from volact.sealing.verify import Trust

FORMAT = 1
MAX_REQUEST = 16 * 1024
SIGNATURE, PREFIX = b"VLCT", "volact:"  # as volact.client.platform.firmware reads them
OEM_ID_BYTES, OEM_TABLE_BYTES = 6, 8
CREATOR = b"VLCT"
_HEADER = struct.Struct("<4sIBB6s8sI4sI")  # ACPI 6.5, 5.2.6
_CHECKSUM = 9  # its place in the header


class MakerFolderError(ConfigError):
    code = "oem-folder"
    fmt = "the maker's folder {path} cannot be used: {why}"
    remedy = "make one with `volact publisher oem request MAKER`, or say where it is with --dir"


class OemRequestError(InputError):
    code = "oem-request-unfit"
    fmt = "the certificate request cannot be taken: {why}"
    remedy = "let the maker send what `volact publisher oem request` wrote"


class OemCertificateError(InputError):
    code = "oem-certificate-unfit"
    fmt = "the certificate cannot be taken: {why}"
    remedy = "take what the publisher wrote for this folder's own request: `volact publisher oem certify`"


class MakerMissingError(ConfigError):
    code = "oem-unknown"
    fmt = "no maker {maker} was certified by this publisher"
    remedy = "`volact publisher oem list` shows those that were"


class MarkerGroupError(InputError):
    code = "marker-group"
    fmt = "{maker} is certified for product groups {granted}, and not for {group}"
    remedy = "name one of these, or have the publisher certify more: `volact publisher oem certify`"


class MarkerTooLongError(InputError):
    code = "marker-too-long"
    fmt = "the marker has {length} characters, {most} fit into a table"
    remedy = "name fewer product groups or editions"


class OemTableIdError(InputError):
    code = "oem-table-id"
    fmt = "the {what} of an ACPI table is 1 to {most} printable ASCII characters"
    remedy = "give the ones that the firmware's other tables have"


@dataclass(frozen=True, slots=True)
class Maker:
    """A certificate of a maker, as the ledger tells of it."""

    name: str
    groups: tuple[int, ...]
    signer: str
    certified_at: int
    ends_at: int
    revoked_at: int | None = None


# ---- the publisher


def certify(
    publisher: Publisher, signing: PublisherKeys, request: bytes, maker: str, groups: Iterable[int], now: int,
    actor: str, days: int = 365,
) -> bytes:  # fmt: skip
    """Certificate, issuing CA and root in PEM for a maker.  Raises :class:`OemRequestError`."""
    check_name("the maker's name", maker)
    public_key = read_request(request)
    chosen = frozenset(groups)
    grant = Grant(maker, chosen, certificates.key_thumbprint(public_key))
    serial = x509.random_serial_number()
    certificate = certificates.make_end(signing.issuing, public_key, Role.OEM, grant, maker, now, serial, days * 86400)
    told = {
        "maker": maker,
        "groups": sorted(chosen),
        "signer": grant.descriptor_signer.hex(),
        "serial": f"{serial:x}",
        "ends_at": int(certificate.not_valid_after_utc.timestamp()),
    }
    with publisher.store.change() as change:
        change.append(now, Act.OEM_CERTIFIED, actor, None, told)
    return certificates.pem(certificate, *signing.chain_above(certificate), publisher.folder.root)


def makers(publisher: Publisher) -> list[Maker]:
    revoked = publisher.store.revocations(0).revoked
    rows = publisher.store.ledger_acts(Act.OEM_CERTIFIED)
    return [
        Maker(
            told["maker"], tuple(told["groups"]), told["signer"], row.at, told["ends_at"],
            revoked.get(told["signer"]),
        )
        for row, told in ((row, json.loads(row.data)) for row in rows)
    ]  # fmt: skip


def revoke(publisher: Publisher, maker: str, since: int, reason: str, now: int, actor: str) -> Revoked:
    """Every key of a maker: what it signs from ``since`` on is void."""
    signers = {one.signer for one in makers(publisher) if one.name == maker}
    if not signers:
        raise MakerMissingError(maker=maker)
    why = {"maker": maker, "reason": reason}
    epoch = publisher.store.revoke_issuers(dict.fromkeys(sorted(signers), since), why, now, actor)
    return Revoked(tuple(sorted(signers)), since, epoch)


def read_request(data: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a PKCS#10 request, whose holder signed it.  Its other contents are not taken over."""
    if len(data) > MAX_REQUEST:
        raise OemRequestError(why=f"it is larger than {MAX_REQUEST} bytes")
    try:
        request = x509.load_pem_x509_csr(data)
        public_key, valid = request.public_key(), request.is_signature_valid
    except Exception:  # pyca raises several types for what it cannot read
        raise OemRequestError(why="it is not a PKCS#10 request in PEM") from None
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise OemRequestError(why="its key is not on P-256")
    if not valid:
        raise OemRequestError(why="it is not signed by its own key")
    return public_key


# ---- the maker


@dataclass(frozen=True, slots=True)
class MakerFolder:
    """A maker's own folder; of the publisher it holds certificates only."""

    path: Path
    name: str

    @classmethod
    def create(cls, path: Path, name: str, passphrase: bytes) -> Self:
        check_name("the maker's name", name)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise MakerFolderError(path=str(path), why="it exists and is not empty")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            keys.write_file(path / "oem.key", keys.private_pem(LocalKey.generate().private, passphrase))
            keys.write_file(path / "oem.json", dump_object({"v": FORMAT, "name": name}) + b"\n")
        except OSError as exc:
            raise MakerFolderError(path=str(path), why=exc.strerror or str(exc)) from None
        return cls(path, name)

    @classmethod
    def open(cls, path: Path) -> Self:
        if not (path / "oem.json").is_file():
            raise MakerFolderError(path=str(path), why="there is none")
        try:
            claim = Fields(parse_object(keys.read_file(path / "oem.json"), "oem.json"), "oem.json")
            claim.integer("v", least=FORMAT, most=FORMAT)
            return cls(path, claim.text("name"))
        except MalformedError as exc:
            raise MakerFolderError(path=str(path), why=str(exc)) from None

    def request(self, passphrase: bytes) -> bytes:
        """The certificate request, in PEM: the same key each time."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name.encode()[:64].decode(errors="ignore"))])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        request = builder.sign(self._key(passphrase).private, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM)

    def install(self, pem: bytes, passphrase: bytes, root: str | None = None) -> Issuer:
        """Keep what the publisher wrote.  Raises :class:`OemCertificateError`."""
        issuer = _issuer(pem, self._key(passphrase))
        if root is not None and certificates.fingerprint(issuer.root) != root:
            raise OemCertificateError(why=f"its root is {certificates.fingerprint(issuer.root)}")
        keys.write_file(self.path / "oem.pem", pem, 0o644)
        return issuer

    def issuer(self, passphrase: bytes) -> Issuer:
        if not (self.path / "oem.pem").is_file():
            raise MakerFolderError(path=str(self.path), why="its key is not certified yet")
        return _issuer(keys.read_file(self.path / "oem.pem"), self._key(passphrase))

    def sign(self, marker: OemMarker, passphrase: bytes) -> str:
        """A marker, looked at as a client will.  Raises what verifying raises, and the errors of markers above."""
        issuer = self.issuer(passphrase)
        outside = marker.groups - issuer.grant.groups
        if outside:
            granted = ", ".join(map(str, sorted(issuer.grant.groups)))
            raise MarkerGroupError(maker=issuer.grant.organisation, granted=granted, group=min(outside))
        token = markers.sign_marker(issuer, marker)
        markers.verify_marker(token, Trust(issuer.root))
        if len(token) > MOST_MARKER:
            raise MarkerTooLongError(length=len(token), most=MOST_MARKER)
        return token

    def _key(self, passphrase: bytes) -> LocalKey:
        return keys.load_signing_key(self.path / "oem.key", passphrase)


def acpi_table(token: str, oem_id: str, oem_table_id: str, revision: int = 1) -> bytes:
    """The whole table, header and checksum included, as firmware hands it to the system."""
    body = token.encode("ascii")
    ids = (_padded("OEM ID", oem_id, OEM_ID_BYTES), _padded("OEM table ID", oem_table_id, OEM_TABLE_BYTES))
    header = _HEADER.pack(SIGNATURE, _HEADER.size + len(body), 1, 0, *ids, revision, CREATOR, 1)
    table = bytearray(header + body)
    table[_CHECKSUM] = -sum(table) % 256
    return bytes(table)


def smbios_string(token: str) -> str:
    """The string for an SMBIOS structure of type 11."""
    return PREFIX + token


def _issuer(pem: bytes, key: LocalKey) -> Issuer:
    try:
        read = x509.load_pem_x509_certificates(pem)
        leaf, issuing, *crosses, root = (certificates.load_der(certificates.der(one)) for one in read)
        issuer = Issuer(key, (leaf, issuing, *crosses), root)  # a root that was rolled over brings cross certificates
    except ValueError:
        raise OemCertificateError(why="it is not three certificates or more in PEM") from None
    except MalformedError as exc:
        raise OemCertificateError(why=str(exc)) from None
    if issuer.role is not Role.OEM:
        raise OemCertificateError(why=f"its role is {issuer.role}")
    if certificates.public_key_of(leaf) != key.public_key:
        raise OemCertificateError(why="it is for another key")
    return issuer


def _padded(what: str, text: str, size: int) -> bytes:
    data = text.encode("ascii", "replace")
    if not 0 < len(data) <= size or not text.isprintable() or not text.isascii():
        raise OemTableIdError(what=what, most=size)
    return data.ljust(size)
