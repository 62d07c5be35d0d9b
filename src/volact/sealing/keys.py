# SPDX-License-Identifier: Apache-2.0
"""Keys and their files.  P-256 keys sign; X25519 and ML-KEM-768+X25519 keys open seals (see ``envelope``).

A key file is PKCS#8 in PEM, encrypted under a passphrase (PBES2, as every OpenSSL reads it), mode 0600, written whole
or not at all.  A machine key has no passphrase: the machine must start unattended, and a copy of it is caught by the
fingerprint.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.errors import ConfigError
from volact.sealing import jws

PASSPHRASE_BYTES = 24
OTHER_PASSPHRASES = 8  # all of them pass for the right one once in 10 ** 17


class KeyFileError(ConfigError):
    code = "key-file"
    fmt = "cannot use the key file {path}: {why}"
    remedy = "check the file's path and permissions, or restore it from your backup; a key cannot be made again"


class PassphraseError(ConfigError):
    code = "passphrase-wrong"
    fmt = "the passphrase does not open {path}"
    remedy = "give the passphrase that the key was made with, by --passphrase-file or at the prompt"


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A :class:`~volact.sealing.jws.SigningKey` held in this process."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.private.public_key()

    def sign(self, data: bytes) -> bytes:
        return jws.raw_signature(self.private, data)

    @classmethod
    def generate(cls) -> "LocalKey":
        return cls(ec.generate_private_key(ec.SECP256R1()))


def private_pem(key: Any, passphrase: bytes | None) -> bytes:
    """A private key of any kind that PKCS#8 knows, encrypted unless ``passphrase`` is ``None``."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem


def load_private(data: bytes, passphrase: bytes | None, path: object = "key") -> Any:
    """Read a private key; a wrong passphrase and a damaged file are told apart."""
    try:
        return serialization.load_pem_private_key(data, passphrase)
    except TypeError:
        why = "it is encrypted and no passphrase was given" if passphrase is None else "it is not encrypted"
        raise KeyFileError(path=str(path), why=why) from None
    except (ValueError, UnsupportedAlgorithm) as exc:
        if passphrase is not None and b"ENCRYPTED" in data and (_is_refusal(exc) or _is_sealed(data)):
            raise PassphraseError(path=str(path)) from None
        raise KeyFileError(path=str(path), why="it is not a private key in PEM, or it is damaged") from None


def _is_sealed(data: bytes) -> bool:
    """Whether the file itself is whole, so that only what was decrypted is no key.

    One wrong passphrase in 150 passes for the right one, as far as the padding of PKCS#8's cipher goes; of several
    others, one is refused as a passphrase, unless the file is damaged.
    """
    for number in range(OTHER_PASSPHRASES):
        try:
            serialization.load_pem_private_key(data, b"another %d" % number)
        except (ValueError, UnsupportedAlgorithm) as exc:
            if _is_refusal(exc):
                return True
    return False


def _is_refusal(exc: Exception) -> bool:
    return "password" in str(exc).lower()


def load_signing_key(path: Path, passphrase: bytes | None) -> LocalKey:
    key = load_private(read_file(path), passphrase, path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError(path=str(path), why="it is not a P-256 key")
    return LocalKey(key)


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise KeyFileError(path=str(path), why=exc.strerror or str(exc)) from None


def read_passphrase(path: Path) -> bytes:
    """The first line of a passphrase file, without its line end."""
    line = read_file(path).split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise KeyFileError(path=str(path), why="its first line, the passphrase, is empty")
    return line


def new_passphrase() -> bytes:
    return secrets.token_urlsafe(PASSPHRASE_BYTES).encode()


def write_file(path: Path, data: bytes, mode: int = 0o600, protect: Callable[[Path], None] | None = None) -> None:
    """Write a file whole or not at all, and durably: temporary file, fsync, rename, fsync of the folder.

    ``protect``: done to the file while it is empty, where a mode does not say who may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.name == "posix":
                os.fchmod(descriptor, mode)  # whatever the umask: who may read a file is not left to the caller's shell
            if protect is not None:
                protect(temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as exc:
        temporary.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            exc.filename = str(path)  # a full disk names no file, and nobody knows the temporary one
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
