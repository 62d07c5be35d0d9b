# SPDX-License-Identifier: Apache-2.0
"""A publisher's folder is made, whole or not at all: its keys, certificates and database."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from volact.core.encoding import dump_object
from volact.core.errors import ConfigError, InputError
from volact.publisher.folder import hardware, phone_key
from volact.publisher.folder.files import (
    DATABASE,
    FORMAT,
    MAX_NAME,
    MAX_URL,
    ROLES,
    key_path,
    signing_path,
    write_certificate,
)
from volact.publisher.folder.hardware import KeyMaker
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.store import PublisherStore
from volact.sealing import certificates, keys
from volact.sealing.certificates import Certified, Grant, Role
from volact.sealing.envelope import OpeningKey
from volact.sealing.pkcs11 import TokenPlace

MAX_PASSPHRASE = 1000  # OpenSSL takes 1023 bytes
ROLE_YEARS = 10  # clipped to the issuing CA, which is made at the same time
_MODE = 0o700


class FolderTakenError(ConfigError):
    code = "publisher-folder-taken"
    fmt = "{path} exists and is not empty"
    remedy = "choose another folder with --dir; an existing publisher is never overwritten"


class FolderUnwritableError(ConfigError):
    code = "publisher-folder-unwritable"
    fmt = "cannot make the publisher's folder {path}: {why}"
    remedy = "choose another folder with --dir, or run the command as a user who may write there"


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


def _make_authorities(folder: Path, name: str, maker: KeyMaker, now: int) -> tuple[Certified, Certified]:
    root = make_root(folder, name, maker, now)
    write_certificate(folder, "root", root.certificate)
    return root, make_issuing(folder, name, root, maker, now)


def make_root(folder: Path, name: str, maker: KeyMaker, now: int) -> Certified:
    """A root's key in its place, and its certificate, which is not written yet."""
    key = hardware.ca_key(maker.make("root", signing_path(folder, "root"), name))
    return Certified(certificates.make_root(key, name, now, _serial()), key)


def make_issuing(folder: Path, name: str, root: Certified, maker: KeyMaker, now: int) -> Certified:
    key = maker.make("issuing", key_path(folder, "issuing"), name)
    certificate = certificates.make_issuing(root, key.public_key, name, now, _serial())
    write_certificate(folder, "issuing", certificate)
    return Certified(certificate, hardware.ca_key(key))


def make_role(folder: Path, role: Role, name: str, issuing: Certified, maker: KeyMaker, now: int) -> None:
    key = maker.make(role, key_path(folder, role), name)
    grant = Grant(name, frozenset(), certificates.key_thumbprint(key.public_key))
    lifetime = ROLE_YEARS * certificates.YEAR
    certificate = certificates.make_end(
        issuing, key.public_key, role, grant, f"{name} {role}", now, _serial(), lifetime
    )
    write_certificate(folder, role, certificate)


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
