# SPDX-License-Identifier: Apache-2.0
"""A publisher's folder and its keys, opened.  A service that lasts opens them by ``renewal``."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from volact.core.encoding import Fields, parse_object
from volact.core.errors import ConfigError, InputError
from volact.core.product_key import ProductKey
from volact.publisher.folder import generations, hardware, phone_key
from volact.publisher.folder.files import (
    DATABASE,
    FORMAT,
    MAX_NAME,
    MAX_URL,
    ROLES,
    FolderDamagedError,
    key_path,
    read_certificate,
    read_certificates,
    rotation_links,
    signing_path,
)
from volact.publisher.folder.hardware import KeyState
from volact.publisher.store import PublisherStore
from volact.sealing import certificates, keys
from volact.sealing.certificates import Certified, Role
from volact.sealing.confirmation import PhoneKey
from volact.sealing.envelope import OpeningKey
from volact.sealing.jws import SigningKey
from volact.sealing.sign import Issuer
from volact.sealing.verify import Trust


class NoPublisherError(ConfigError):
    code = "publisher-missing"
    fmt = "there is no publisher in {path}"
    remedy = "make one with `volact publisher init --name NAME`, or say where it is with --dir"


@dataclass(frozen=True, slots=True)
class PublisherKeys:
    """The keys of a running publisher, opened.  The root's is not among them.

    ``lookup``: under which product keys are indexed; derived from the sealing key, so that it has no file of its own.
    ``phone`` opens the key of confirmation IDs, which takes a tenth of a second; ``None`` where there is none.
    ``earlier``: the issuing CAs before this one.  ``roots`` and ``links``: the publisher's roots in order, and their
    cross certificates.
    """

    issuer: Issuer
    definition: Issuer
    revocation: Issuer
    issuing: Certified
    sealing: OpeningKey
    lookup: bytes = field(repr=False)
    phone: Callable[[], PhoneKey | None] = field(default=lambda: None, repr=False)
    earlier: tuple[x509.Certificate, ...] = ()
    roots: tuple[x509.Certificate, ...] = ()
    links: tuple[x509.Certificate, ...] = ()

    def chain_above(self, certificate: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """What a host's certificate is answered with: its CA, and how an older root certifies that one's root."""
        authority = self.authority_of(certificate)
        return (authority, *rotation_links(authority, self.roots, self.links))

    def authority_of(self, certificate: x509.Certificate) -> x509.Certificate:
        """The issuing CA that signed a host's certificate: that of now, or one before it."""
        for authority in self.earlier:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return authority
        return self.issuing.certificate

    def index(self, key: ProductKey) -> bytes:
        """What stands for a key in the index by which the service finds it (docs/spec/product-key.md)."""
        return hmac.digest(self.lookup, str(key).encode("ascii"), "sha256")


@dataclass(frozen=True, slots=True)
class PublisherFolder:
    path: Path
    name: str
    url: str | None
    suite: str
    root: x509.Certificate
    address: str | None = None
    roots: tuple[x509.Certificate, ...] = ()
    links: tuple[x509.Certificate, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder without its keys; raises :class:`NoPublisherError`, :class:`FolderDamagedError`."""
        if not (path / "publisher.json").is_file():
            raise NoPublisherError(path=str(path))
        generations.finish(path)
        try:
            claim = Fields(parse_object(keys.read_file(path / "publisher.json"), "publisher.json"), "publisher.json")
            claim.integer("v", least=FORMAT, most=FORMAT)
            root = read_certificate(path, "root")
            url = claim.optional_text("url", most=MAX_URL)
            address = claim.optional_text("database", most=MAX_URL)
            name, suite = claim.text("name", most=MAX_NAME), claim.text("suite", most=40)
            roots, links = read_certificates(path, "roots") or (root,), read_certificates(path, "links")
            return cls(path, name, url, suite, root, address, roots, links)
        except InputError as exc:
            raise FolderDamagedError(path=str(path), why=str(exc)) from None

    @property
    def fingerprint(self) -> str:
        """What names the publisher, whichever root signs: its first one's.  Products embed it, or a later one's."""
        return certificates.fingerprint(self.roots[0] if self.roots else self.root)

    @property
    def newest_fingerprint(self) -> str:
        """What new products embed."""
        return certificates.fingerprint(self.root)

    def trust(self) -> Trust:
        others = tuple(root for root in self.roots if root != self.root)
        return Trust(self.root, others=others, identity=self.fingerprint)

    @property
    def root_key(self) -> Path:
        """Its file, or the reference to it where it is in a token."""
        return hardware.key_file(self.path / "root" / "root.key")

    def signing_keys(self) -> list[tuple[KeyState, x509.Certificate]]:
        """Where each signing key is, with its certificate."""
        paths = {name: signing_path(self.path, name) for name in hardware.SIGNING_KEYS}
        return [(KeyState.of(name, path), read_certificate(self.path, name)) for name, path in paths.items()]

    @property
    def database(self) -> Path | str:
        """A SQLite file, or a PostgreSQL database's address."""
        return self.address or self.path / DATABASE

    def store(self) -> PublisherStore:
        return PublisherStore.open(self.database)

    def open_keys(self, passphrase: bytes) -> PublisherKeys:
        """Everything that signs and opens: ``KeyFileError``, ``PassphraseError``, ``Token…Error``,
        :class:`FolderDamagedError`."""
        try:
            certificate = read_certificate(self.path, "issuing")
            issuing = Certified(certificate, hardware.ca_key(self._key("issuing", certificate, passphrase)))
            issuers = {role: self._issuer(role, issuing.certificate, passphrase) for role in ROLES}
        except InputError as exc:
            raise FolderDamagedError(path=str(self.path), why=str(exc)) from None
        file = key_path(self.path, "sealing")
        sealing = OpeningKey.from_pem(keys.read_file(file), passphrase, file)
        return PublisherKeys(
            issuers[Role.PUBLISHER],
            issuers[Role.DEFINITION],
            issuers[Role.REVOCATION],
            issuing,
            sealing,
            _lookup_key(sealing),
            lambda: phone_key.load(self.path, passphrase),
            tuple(generations.earlier_authorities(self.path)),
            self.roots,
            self.links,
        )

    def _key(self, name: str, certificate: x509.Certificate, passphrase: bytes) -> SigningKey:
        key = hardware.load(key_path(self.path, name), passphrase)
        hardware.check_same(name, key, certificate)
        return key

    def _issuer(self, role: Role, issuing: x509.Certificate, passphrase: bytes) -> Issuer:
        certificate = read_certificate(self.path, role)
        above = (issuing, *rotation_links(issuing, self.roots, self.links))
        return Issuer(self._key(role, certificate, passphrase), (certificate, *above), self.root)


def _lookup_key(sealing: OpeningKey) -> bytes:
    """HKDF (RFC 5869) of the sealing key, which a running service has and a copy of the database has not."""
    secret = b"".join(part.private_bytes_raw() for part in sealing.parts)
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"volact product key lookup v1").derive(secret)
