# SPDX-License-Identifier: Apache-2.0
"""Passwords, authenticators, recovery codes, random tokens: how each is made, kept and compared.

Passwords are kept as Argon2id with the parameters of RFC 9106 §4 (second choice: 64 MiB, 3 passes).  Authenticators are
TOTP (RFC 6238) with 30-second steps and SHA-1, which is what all of them speak; their secret is encrypted under the
site's own key (AES-256-GCM, the account's name as associated data).  What is random and long (sessions, links,
recovery codes) is kept as its SHA-256.
"""

import functools
import hashlib
import os
import secrets
import threading
from base64 import b32encode
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from volact.web.errors import PasswordUnfitError, SecretFileError

LEAST_PASSWORD = 12
MOST_PASSWORD = 256
STEP_SECONDS = 30
STEPS_AROUND = 1  # a phone's clock may be one step off
RECOVERY_CODES = 10
SECRET_BYTES = 32
_NONCE_BYTES = 12

_hasher: Final = PasswordHasher()
_hashing: Final = threading.Semaphore(2)  # each takes 64 MiB and a core for some 50 ms
# Of the lists of leaked passwords, those of at least 12 characters that stand first.
_COMMON: Final = frozenset({"password1234", "123456789012", "qwertyuiop12", "administrator", "unknownunknown"})


def check_password(name: str, password: str) -> None:
    """Length matters, not classes of characters (NIST SP 800-63B §5.1.1): :class:`PasswordUnfitError`."""
    lower = password.lower()
    fits = LEAST_PASSWORD <= len(password) <= MOST_PASSWORD and lower not in _COMMON and len(set(lower)) > 4
    if not fits or (len(name) > 3 and name.lower() in lower):  # a short one is in any sentence
        raise PasswordUnfitError(least=LEAST_PASSWORD, most=MOST_PASSWORD)


def hash_password(password: str) -> str:
    with _hashing:
        return _hasher.hash(password)


def password_fits(stored: str | None, password: str) -> bool:
    """As slow for an account that is not there."""
    if len(password) > MOST_PASSWORD:
        return False
    with _hashing:
        try:
            return _hasher.verify(stored or _nobody(), password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


@functools.cache
def _nobody() -> str:
    """Compared with where there is no account, so that both take as long."""
    return _hasher.hash(secrets.token_urlsafe())


def needs_rehash(stored: str) -> bool:
    return _hasher.check_needs_rehash(stored)


def new_token() -> str:
    """256 random bits, for a URL or a cookie."""
    return secrets.token_urlsafe(SECRET_BYTES)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


# ---- authenticators


def new_totp() -> str:
    """A secret as authenticators take it: 32 symbols of base32, 160 bits."""
    return pyotp.random_base32()


def totp_uri(secret: str, account: str, site: str) -> str:
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=site)


def totp_step(secret: str, code: str, now: int) -> int | None:
    """The time step whose code this is, of those around now; ``None`` for a wrong code."""
    digits = code.replace(" ", "")
    if len(digits) != 6 or not digits.isascii() or not digits.isdigit():
        return None
    totp = pyotp.TOTP(secret)
    step = now // STEP_SECONDS
    for candidate in range(step - STEPS_AROUND, step + STEPS_AROUND + 1):
        if secrets.compare_digest(totp.at(candidate * STEP_SECONDS), digits):
            return candidate
    return None


def new_recovery_codes() -> list[str]:
    """Each of 60 bits, in groups to be written down."""
    return ["-".join(_four_symbols() for _ in range(3)) for _ in range(RECOVERY_CODES)]


def recovery_hash(code: str) -> str:
    return token_hash("".join(char for char in code.lower() if char.isalnum()))


def _four_symbols() -> str:
    return b32encode(secrets.token_bytes(5)).decode("ascii").lower()[:4]


# ---- the site's own key


def read_secret(path: Path) -> bytes:
    """The key in a file of its own, made where there is none; readable by its owner only."""
    if not path.exists():
        _make_secret(path)
    return _stored_secret(path)


def _make_secret(path: Path) -> None:
    """Whole or not at all, and the first of two that start at once wins."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES).hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _stored_secret(path: Path) -> bytes:
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise SecretFileError(path=str(path))
    return secret


def encrypt(key: bytes, account: str, secret: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, secret.encode("ascii"), account.encode("utf-8"))


def decrypt(key: bytes, account: str, stored: bytes) -> str | None:
    """``None`` where it was encrypted under another key, or for another account."""
    try:
        return (
            AESGCM(key).decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], account.encode("utf-8")).decode("ascii")
        )
    except (InvalidTag, ValueError):
        return None
