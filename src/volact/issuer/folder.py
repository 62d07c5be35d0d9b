# SPDX-License-Identifier: Apache-2.0
"""The folder of a KMS host or a VM host: what lies where, and reading and writing it whole.

host.db, vm.db        what the host's own room keeps (``host.store``, ``vm.store``)
passphrase            opens the keys; move it to a credential store and name it with --passphrase-file
products/ROOT/P.volproduct    definitions, by the first 16 digits of their root
keys/KEY-ID/          one installed host key each: key.json, signing.pem, sealing.pem and, once it is
                      activated, certificates.pem, licence.jws and status.jws; telephone.json is
                      an installation ID that waits for its confirmation ID
stamp                 touched by each change, so that a running host reads anew
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from cryptography import x509

from volact.core.encoding import Fields, parse_object
from volact.core.errors import ConfigError
from volact.core.product_key import ProductKey, publisher_tag
from volact.issuer.kind import Kind
from volact.sealing import certificates, keys, verify
from volact.sealing.envelope import OpeningKey
from volact.sealing.keys import LocalKey
from volact.sealing.verify import TrustedDefinition

SYSTEM = Path("/var/lib/volact")  # every role's folder is in it, and everybody reads the client's, whatever the umask


class NoHostError(ConfigError):
    code = "host-folder-missing"
    fmt = "there is no {noun} in {path}"
    remedy = "make one: `{command} init`, or name its folder with --dir"


class DatabaseLostError(ConfigError):
    code = "host-database-missing"
    fmt = "the {noun} in {path} has lost its database: {why}"
    remedy = "restore a backup with `{command} restore`; without one, make a new folder with `{command} init`"


class HostExistsError(ConfigError):
    code = "host-folder-exists"
    fmt = "there is a {noun} in {path} already"
    remedy = "use it as it is, or choose another folder with --dir"


class RootUnconfirmedError(ConfigError):
    code = "root-unconfirmed"
    fmt = "the definition of {product} names the publisher root {root}, which this host does not know yet"
    remedy = "compare it with what the publisher tells you, then give it: --root {root}"


class ProductMissingError(ConfigError):
    code = "host-product-missing"
    fmt = "no product of this host has {what}"
    remedy = "add the product's definition first: `{command} add-product FILE`"


class NotHostKeyError(ConfigError):
    code = "key-not-for-hosts"
    fmt = "a key of the {channel} channel cannot be installed on a {noun}"
    remedy = "install a {wanted} key here; other keys go to the machines: `volact client install-key`"


class NoSuchKeyError(ConfigError):
    code = "host-key-missing"
    fmt = "no host key{which} is installed"
    remedy = "see `{command} status` for the keys that are, or install one: `{command} install-key -`"


class KeyAmbiguousError(ConfigError):
    code = "host-key-ambiguous"
    fmt = "{number} host keys are installed: {partials}"
    remedy = "say which one is meant by its last five symbols: --key LAST5"


class FolderUnusableError(ConfigError):
    code = "host-folder-unusable"
    fmt = "cannot make a {noun} in {path}: {why}"
    remedy = "choose another folder with --dir, or run the command as a user who may write there"


class AlreadyServedError(ConfigError):
    code = "host-already-served"
    fmt = "another `{command} serve` runs from {path} already"
    remedy = "stop that one first; a second host on this computer needs a folder and keys of its own"


@dataclass(frozen=True, slots=True)
class HostKey:
    """An installed host key; ``product`` is one whose definition has the key's group."""

    key: ProductKey
    root: str
    product: str
    folder: Path

    @property
    def activated(self) -> bool:
        return (self.folder / "certificates.pem").exists()

    def certificates(self) -> list[x509.Certificate]:
        """Leaf and issuing CA, once activated."""
        path = self.folder / "certificates.pem"
        try:
            return x509.load_pem_x509_certificates(keys.read_file(path))
        except ValueError:
            raise keys.KeyFileError(path=str(path), why="it is not certificates in PEM, or it is damaged") from None

    def signing_key(self, passphrase: bytes) -> LocalKey:
        return keys.load_signing_key(self.folder / "signing.pem", passphrase)

    def opening_key(self, passphrase: bytes) -> OpeningKey:
        path = self.folder / "sealing.pem"
        return OpeningKey.from_pem(keys.read_file(path), passphrase, path)

    def status_token(self) -> str:
        return keys.read_file(self.folder / "status.jws").decode("ascii", "replace").strip()

    def store_activation(self, chain: list[x509.Certificate], licence: str, status: str) -> None:
        """The certificate last: its file is what makes the key activated.  By telephone no licence comes along."""
        keys.write_file(self.folder / "status.jws", status.encode() + b"\n")
        if licence:
            keys.write_file(self.folder / "licence.jws", licence.encode() + b"\n")
        else:
            (self.folder / "licence.jws").unlink(missing_ok=True)
        keys.write_file(self.folder / "certificates.pem", certificates.pem(*chain))


class IssuerFolder:
    """``passphrase_file`` overrides the folder's own; ``kind`` is set by each kind's own class."""

    kind: ClassVar[Kind]

    def __init__(self, path: Path, passphrase_file: Path | None = None) -> None:
        self.path = path
        self._passphrase_file = passphrase_file or path / "passphrase"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Two hosts on one folder would both publish themselves, at two ports; the lock goes with its process.
        Raises :class:`AlreadyServedError`."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the folder itself is locked
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyServedError(command=self.kind.command, path=str(self.path)) from None
        try:
            yield
        finally:
            os.close(descriptor)

    @classmethod
    def create(
        cls, path: Path, passphrase_file: Path | None = None, fill: Callable[[Self], None] = lambda _folder: None
    ) -> Self:
        """Make a new host's folder; nothing is left behind where it fails.  ``fill`` makes its database."""
        if (path / "keys").exists():
            raise HostExistsError(noun=cls.kind.noun, path=str(path))
        made: list[Path] = []
        kept = set(path.iterdir()) if path.is_dir() else set()
        try:
            _make_folder(path, made)
            if passphrase_file is None and not (path / "passphrase").exists():
                made.append(path / "passphrase")
                keys.write_file(path / "passphrase", keys.new_passphrase() + b"\n")
            cls(path, passphrase_file).passphrase()
            _make_folder(path / "products", made)
            _make_folder(path / "keys", made)
            fill(cls(path, passphrase_file))
        except BaseException as exc:
            _undo([*made, *_files(path, kept)])
            if isinstance(exc, OSError):
                raise FolderUnusableError(noun=cls.kind.noun, path=str(path), why=exc.strerror or str(exc)) from None
            raise
        return cls(path, passphrase_file)

    def check(self) -> Self:
        if not (self.path / "keys").is_dir():
            raise NoHostError(noun=self.kind.noun, command=self.kind.command, path=str(self.path))
        # A new one in its place would have forgotten the count, the settings and every event, without a word.
        why = _lost(self.database)
        if why:
            raise DatabaseLostError(noun=self.kind.noun, command=self.kind.command, path=str(self.path), why=why)
        return self

    @property
    def database(self) -> Path:
        return self.path / self.kind.database

    @property
    def stamp(self) -> Path:
        return self.path / "stamp"

    def make_whole(self) -> None:
        """The folders that are there always: empty ones do not travel in a backup."""
        for name in ("products", "keys"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)

    @property
    def has_passphrase(self) -> bool:
        return self._passphrase_file.exists()

    def passphrase(self) -> bytes:
        return keys.read_passphrase(self._passphrase_file)

    def touch(self) -> None:
        """Tell a running host to read its folder anew."""
        keys.write_file(self.stamp, os.urandom(8).hex().encode())

    # ---- products

    def products(self) -> list[TrustedDefinition]:
        """Every definition, verified under the root that its folder was confirmed for."""
        return list(self._products())

    def add_product(self, token: str, root: str | None) -> TrustedDefinition:
        """Keep a definition.  Its root must be given by the administrator, or be known from before."""
        claimed = verify.root_of_definition(token)
        confirmed = self._anchor(claimed)
        known = {trusted.trust.fingerprint for trusted in self._products()}
        if root is None and claimed not in known:
            product = verify.verify_definition(token, claimed).definition.product
            raise RootUnconfirmedError(product=product, root=claimed)
        trusted = verify.verify_definition(token, root or confirmed or claimed)
        definition = trusted.definition
        anchor = self._anchor(definition.root) or root or claimed
        verify.verify_definition(token, anchor)  # as it is read from here on
        self._check_revocation(trusted)
        folder = self.path / "products" / _short(definition.root)
        before = self._read_product(folder / f"{definition.product}.volproduct", anchor)
        if before is not None and before.definition.version > definition.version:
            least = before.definition.version
            raise verify.DefinitionOldError(product=definition.product, version=definition.version, least=least)
        folder.mkdir(exist_ok=True, mode=0o700)
        keys.write_file(folder / "root", anchor.encode())
        keys.write_file(folder / f"{definition.product}.volproduct", token.strip().encode() + b"\n")
        self.touch()
        return trusted

    def _check_revocation(self, trusted: TrustedDefinition) -> None:
        """Raises ``RevokedError`` where what this host has heard of revocations is about the definition's key."""
        for key in self.host_keys():
            if key.activated and key.root == trusted.trust.fingerprint:
                trusted.check_status(verify.verify_status(key.status_token(), trusted.trust))

    def _anchor(self, root: str) -> str | None:
        """The root that an administrator confirmed for the publisher of this name."""
        path = self.path / "products" / _short(root) / "root"
        return keys.read_file(path).decode("ascii", "replace").strip() if path.exists() else None

    # ---- host keys

    def host_keys(self) -> list[HostKey]:
        """In the order of their IDs."""
        found = []
        for folder in sorted((self.path / "keys").iterdir()):
            # One with a dot is half made, or half removed, by a command that was interrupted.
            if not folder.name.startswith(".") and (folder / "key.json").exists():
                found.append(_read_key(folder))
        return found

    def host_key(self, partial: str | None) -> HostKey:
        """The key that ends so; without an argument the only one."""
        installed = self.host_keys()
        found = [k for k in installed if partial is None or k.key.partial == partial.upper() or str(k.key) == partial]
        if not found:
            raise NoSuchKeyError(command=self.kind.command, which=f" ending in {partial[-5:]}" if partial else "")
        if len(found) > 1:
            raise KeyAmbiguousError(number=len(found), partials=", ".join(k.key.partial for k in found))
        return found[0]

    def install_key(self, text: str, suite: str) -> HostKey:
        """Keep a host key with a signing key and a sealing key of its own; installing it again changes nothing."""
        key = ProductKey.parse(text)
        kind = self.kind
        if key.channel is not kind.key_channel:
            raise NotHostKeyError(channel=str(key.channel), noun=kind.noun, wanted=str(kind.key_channel))
        definition = self._definition_of(key)
        final = self.path / "keys" / key.key_id
        if not final.exists():
            self._make_key(final, key, definition, suite)
            self.touch()
        return _read_key(final)

    def remove_key(self, host_key: HostKey) -> None:
        """Forget a host key with its signing and sealing keys."""
        gone = host_key.folder.with_name(f".{host_key.folder.name}.removed")
        host_key.folder.rename(gone)
        shutil.rmtree(gone)
        self.touch()

    def _make_key(self, final: Path, key: ProductKey, definition: TrustedDefinition, suite: str) -> None:
        passphrase = self.passphrase()
        folder = final.with_name(f".{final.name}.new")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        signing, opening = LocalKey.generate(), OpeningKey.generate(suite)
        keys.write_file(folder / "signing.pem", keys.private_pem(signing.private, passphrase))
        keys.write_file(folder / "sealing.pem", opening.to_pem(passphrase))
        about = {"key": str(key), "root": definition.definition.root, "product": definition.definition.product}
        keys.write_file(folder / "key.json", json.dumps(about).encode())
        folder.rename(final)

    def _definition_of(self, key: ProductKey) -> TrustedDefinition:
        for trusted in self._products():
            tag = publisher_tag(trusted.trust.fingerprint)
            if tag == key.publisher_tag and trusted.definition.group(key.group):
                return trusted
        what = f"product group {key.group} of the publisher that issued this key"
        raise ProductMissingError(command=self.kind.command, what=what)

    def _products(self) -> Iterator[TrustedDefinition]:
        for folder in sorted((self.path / "products").iterdir()):
            if (folder / "root").exists():
                root = keys.read_file(folder / "root").decode("ascii", "replace").strip()
                for path in sorted(folder.glob("*.volproduct")):
                    trusted = self._read_product(path, root)
                    if trusted is not None:
                        yield trusted

    @staticmethod
    def _read_product(path: Path, root: str) -> TrustedDefinition | None:
        if not path.exists():
            return None
        return verify.verify_definition(keys.read_file(path).decode("ascii", "replace").strip(), root)


def _make_folder(path: Path, made: list[Path]) -> None:
    """With its parents, which may be others' too; what is made is noted, for :func:`_undo`."""
    for folder in reversed([one for one in (path, *path.parents) if not one.is_dir()]):
        made.append(folder)
        folder.mkdir(mode=0o700 if folder == path else 0o755)
        if folder == SYSTEM:
            folder.chmod(0o755)


def _files(folder: Path, kept: set[Path]) -> list[Path]:
    """What came into the folder meanwhile and is no folder: a database with the files beside it."""
    with contextlib.suppress(OSError):
        return [path for path in folder.iterdir() if path not in kept and path.is_file()]
    return []


def _undo(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def _short(root: str) -> str:
    return root.removeprefix("sha256:")[:16]


def _read_key(folder: Path) -> HostKey:
    about = Fields(parse_object(keys.read_file(folder / "key.json"), "key.json"), "key.json")
    key = ProductKey.strict(about.text("key"))
    return HostKey(key, about.text("root"), about.text("product"), folder)


def _lost(database: Path) -> str:
    try:
        return "" if database.stat().st_size else f"{database.name} is empty"
    except FileNotFoundError:
        return f"{database.name} is not there"
    except OSError as exc:
        return exc.strerror or str(exc)
