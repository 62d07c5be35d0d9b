# SPDX-License-Identifier: Apache-2.0
"""The publisher's folder: where its keys, certificates and database are, how it is made, how it is opened.

    publisher.json                  name, address, suite, and the database's address where it is PostgreSQL
    publisher.db                    the database where it is SQLite, see ``schema``
    root/root.key                   signs the issuing CA, once: to be taken offline; nothing else needs it
    certificates/NAME.pem           root, issuing, publisher-issuer, definition, revocation
    certificates/roots.pem, links.pem   every root in order and their cross certificates, once the root was rotated
    keys/NAME.key                   the same without root, and sealing: the keys of a running service
    old/SERIAL/                     both folders as they were before the issuing CA was rotated
    keys/phone.json                 the key of confirmation IDs, an EIP-2335 keystore
    root/root.token, keys/NAME.token    in the place of a .key: where in a PKCS#11 token it is, see ``hardware``
    stamp                           changed with the keys, so that a running service reads them anew, see ``renewal``

Key files are encrypted under one passphrase.  The folder comes into being whole or not at all.
Spec: docs/guide/publisher.md.
"""

import hmac
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, InputError
from volact.core.product_key import ProductKey
from volact.publisher import generations, hardware, phone_key
from volact.publisher.hardware import KeyMaker, KeyState
from volact.publisher.store import PublisherStore
from volact.sealing import certificates, keys
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.confirmation import PhoneKey
from volact.sealing.envelope import OpeningKey
from volact.sealing.jws import SigningKey
from volact.sealing.pkcs11 import TokenPlace
from volact.sealing.sign import Issuer
from volact.sealing.verify import Trust

FORMAT = 1
MAX_NAME = 200
MAX_URL = 400
MAX_PASSPHRASE = 1000  # OpenSSL takes 1023 bytes
ROLES = (Role.PUBLISHER, Role.DEFINITION, Role.REVOCATION)
MOST_LINKS_CARRIED = 2  # a token has four certificates at most: end, CA, and these
ROLE_YEARS = 10  # clipped to the issuing CA, which is made at the same time

DATABASE = "publisher.db"
_MODE = 0o700


class FolderTakenError(ConfigError):
    code = "publisher-folder-taken"
    fmt = "{path} exists and is not empty"
    remedy = "choose another folder with --dir; an existing publisher is never overwritten"


class FolderUnwritableError(ConfigError):
    code = "publisher-folder-unwritable"
    fmt = "cannot make the publisher's folder {path}: {why}"
    remedy = "choose another folder with --dir, or run the command as a user who may write there"


class NoPublisherError(ConfigError):
    code = "publisher-missing"
    fmt = "there is no publisher in {path}"
    remedy = "make one with `volact publisher init --name NAME`, or say where it is with --dir"


class FolderDamagedError(ConfigError):
    code = "publisher-folder-damaged"
    fmt = "the publisher's folder {path} cannot be used: {why}"
    remedy = "restore the folder from your backup"


class RootKeyAwayError(ConfigError):
    code = "root-key-away"
    fmt = "the root's key is not in the publisher's folder: {path}"
    remedy = (
        "it was taken offline: bring it here and name it, `--root-key FILE`, or `--root-key root.token` where it is in "
        "a token"
    )


class NameUnfitError(InputError):
    code = "name-unfit"
    fmt = "{what} is not a text of 1 to {most} printable characters"
    remedy = "give it without control characters and without spaces at its ends"


class DatabaseAddressError(ConfigError):
    code = "database-address-unfit"
    fmt = "{url} is not the address of a PostgreSQL database, or holds a password"
    remedy = "give postgresql://USER@HOST/DATABASE; the password goes into PostgreSQL's own password file (~/.pgpass)"


class PassphraseUnfitError(ConfigError):
    code = "passphrase-unfit"
    fmt = "the passphrase has {length} bytes, it must have 1 to {most}"
    remedy = "choose another passphrase"


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
        paths = {name: _signing_path(self.path, name) for name in hardware.SIGNING_KEYS}
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


def init(
    path: Path,
    name: str,
    url: str | None,
    suite: str,
    passphrase: bytes,
    now: int,
    actor: str,
    database: str | None = None,
    tokens: Mapping[str, TokenPlace] | None = None,
) -> PublisherFolder:
    """Make a publisher.  Refuses a folder or a database that holds anything; leaves nothing behind where it fails.

    ``tokens``: which of its signing keys (``hardware.SIGNING_KEYS``) are made in which token; the others are files.
    """
    check_name("the publisher's name", name)
    if database is not None:
        check_database(database)
    if not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise PassphraseUnfitError(length=len(passphrase), most=MAX_PASSPHRASE)
    maker = KeyMaker(passphrase, tokens or {})
    try:
        _fill(path, maker, name, url, suite, now, actor, database)
    except BaseException:
        maker.undo()
        raise
    return PublisherFolder.open(path)


def _fill(
    path: Path, maker: KeyMaker, name: str, url: str | None, suite: str, now: int, actor: str, database: str | None
) -> None:
    passphrase = maker.passphrase
    with _new_folder(path) as folder:
        root, issuing = _make_authorities(folder, name, maker, now)
        for role in ROLES:
            make_role(folder, role, name, issuing, maker, now)
        sealing = OpeningKey.generate(suite)
        keys.write_file(key_path(folder, "sealing"), sealing.to_pem(passphrase))
        phone_key.make(folder, passphrase)
        address = ({"url": url} if url else {}) | ({"database": database} if database else {})
        about = {"format": "volact-publisher", "v": FORMAT, "name": name, **address, "suite": suite}
        keys.write_file(folder / "publisher.json", dump_object(about) + b"\n")
        fingerprint = certificates.fingerprint(root.certificate)
        with PublisherStore.open(database or folder / DATABASE) as store:
            store.note_initialised(name, fingerprint, now, actor)


def check_name(what: str, name: str) -> None:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise NameUnfitError(what=what, most=MAX_NAME)


def check_database(url: str) -> None:
    """A PostgreSQL address without a password: the folder is backed up, and secrets have their own files."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "postgresql" and bool(parts.path.strip("/")) and parts.password is None
    except ValueError:
        fits = False
    if not fits or "password=" in url or len(url) > MAX_URL or not url.isprintable():
        raise DatabaseAddressError(url=_without_password(url))


def _without_password(url: str) -> str:
    return re.sub(r":[^:@/]*@|password=[^&]*", "…", url)[:MAX_URL]


def _lookup_key(sealing: OpeningKey) -> bytes:
    """HKDF (RFC 5869) of the sealing key, which a running service has and a copy of the database has not."""
    secret = b"".join(part.private_bytes_raw() for part in sealing.parts)
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"volact product key lookup v1").derive(secret)


def _make_authorities(folder: Path, name: str, maker: KeyMaker, now: int) -> tuple[Certified, Certified]:
    root = make_root(folder, name, maker, now)
    _write_certificate(folder, "root", root.certificate)
    return root, make_issuing(folder, name, root, maker, now)


def make_root(folder: Path, name: str, maker: KeyMaker, now: int) -> Certified:
    """A root's key in its place, and its certificate, which is not written yet."""
    key = hardware.ca_key(maker.make("root", _signing_path(folder, "root"), name))
    return Certified(certificates.make_root(key, name, now, _serial()), key)


def make_issuing(folder: Path, name: str, root: Certified, maker: KeyMaker, now: int) -> Certified:
    key = maker.make("issuing", key_path(folder, "issuing"), name)
    certificate = certificates.make_issuing(root, key.public_key, name, now, _serial())
    _write_certificate(folder, "issuing", certificate)
    return Certified(certificate, hardware.ca_key(key))


def make_role(folder: Path, role: Role, name: str, issuing: Certified, maker: KeyMaker, now: int) -> None:
    key = maker.make(role, key_path(folder, role), name)
    grant = Grant(name, frozenset(), certificates.key_thumbprint(key.public_key))
    lifetime = ROLE_YEARS * certificates.YEAR
    certificate = certificates.make_end(
        issuing, key.public_key, role, grant, f"{name} {role}", now, _serial(), lifetime
    )
    _write_certificate(folder, role, certificate)


def write_certificates(folder: Path, name: str, chain: Iterable[x509.Certificate]) -> None:
    keys.write_file(_certificate_path(folder, name), certificates.pem(*chain), 0o644)


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


def _write_certificate(folder: Path, name: str, certificate: x509.Certificate) -> None:
    keys.write_file(_certificate_path(folder, name), certificates.pem(certificate), 0o644)


def read_certificate(folder: Path, name: str) -> x509.Certificate:
    path = _certificate_path(folder, name)
    try:
        certificate = x509.load_pem_x509_certificate(keys.read_file(path))
    except ValueError:
        raise FolderDamagedError(path=str(folder), why=f"{path.name} is not a certificate in PEM") from None
    return certificates.load_der(certificates.der(certificate))


def key_path(folder: Path, name: str) -> Path:
    return folder / "keys" / f"{name}.key"


def _signing_path(folder: Path, name: str) -> Path:
    """The root's key has a folder of its own, to be taken away with it."""
    return folder / "root" / "root.key" if name == hardware.ROOT else key_path(folder, name)


def _certificate_path(folder: Path, name: str) -> Path:
    return folder / "certificates" / f"{name}.pem"


def _serial() -> int:
    return x509.random_serial_number()


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that takes its place when the block ends well, and is gone when it does not."""
    path = path.absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FolderTakenError(path=str(path))
    missing = [parent for parent in path.parents if not parent.exists()]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        for folder in (temporary, temporary / "root", temporary / "keys", temporary / "certificates"):
            folder.mkdir(mode=_MODE, parents=True)
        yield temporary
        temporary.rename(path)  # takes the place of an empty folder, and of nothing else
    except BaseException as exc:
        _clean_up(temporary, missing)
        if isinstance(exc, OSError):
            raise FolderUnwritableError(path=str(path), why=exc.strerror or str(exc)) from None
        raise
    _sync(path.parent)


def _clean_up(temporary: Path, parents: list[Path]) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    for parent in parents:  # the deepest first; one that is in use by now stays
        try:
            parent.rmdir()
        except OSError:
            return


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
