# SPDX-License-Identifier: Apache-2.0
"""The key vault: an organisation's product keys, encrypted at rest, and what machines seal to it.

One random data key encrypts every product key (AES-256-GCM, bound to the key's ID, so that two rows cannot be
exchanged).  The data key and the private half of the vault's recipient key are themselves encrypted under a passphrase
(scrypt, RFC 7914).  All of it is in the database, so that colleagues share it and a backup holds it; the passphrase is
not.  Whoever has the database alone learns the last five symbols of each key, and no more.
Nothing here is logged, and no exception carries a key.  Spec: docs/spec/proxy.md §5.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlalchemy import Connection, insert, select, update

from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, MalformedError, StoreError
from volact.core.product_key import ProductKey
from volact.fleet.folder import FleetFolder
from volact.fleet.schema import VAULT
from volact.fleet.store import note
from volact.sealing import keys
from volact.sealing.recipient import RecipientKey

FORMAT = 1
PASSPHRASE_FILE = "vault.passphrase"  # noqa: S105 - a file's name
# What OWASP's cheat sheet asks of scrypt: 128 MiB and a quarter of a second for each guess.  A random passphrase of our
# own needs none of it, one that somebody thought of does.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 17, 8, 1
MOST_N = 1 << 20  # what a changed database can make us spend: 1 GiB
MOST_SALTS = 4
SALT_BYTES, KEY_BYTES, NONCE_BYTES, RAW_BYTES = 16, 32, 12, 32

_WRAP = b"volact fleet vault v1"
_KEY = b"volact fleet key v1\0"
_CARRIED = b"volact bundle secrets v1"


class VaultMissingError(ConfigError):
    code = "vault-missing"
    fmt = "this fleet has no key vault yet"
    remedy = "it is made when the first key is added: `volact fleet keys add`"


class VaultExistsError(ConfigError):
    code = "vault-exists"
    fmt = "this fleet has a key vault already"
    remedy = "use it; `volact fleet keys passphrase` changes what opens it"


class VaultPassphraseError(ConfigError):
    code = "vault-passphrase-wrong"
    fmt = "the passphrase does not open {what}"
    remedy = "give the passphrase that it was made with: --passphrase-file FILE, or at the prompt"


class VaultPassphraseMissingError(ConfigError):
    code = "vault-passphrase-missing"
    fmt = "the key vault needs its passphrase, and there is no terminal to ask at"
    remedy = "put it into a file that only you can read, and give --passphrase-file FILE or set {variable}"


class VaultDamagedError(StoreError):
    code = "vault-damaged"
    fmt = "{what} in the key vault is damaged, or was exchanged for another"
    remedy = "restore the database from a backup, or add the key again as its publisher gave it"


@dataclass(frozen=True, slots=True)
class Vault:
    """An opened vault.  Its representation shows no key."""

    _data: bytes = field(repr=False)
    recipient: RecipientKey = field(repr=False)

    @classmethod
    def throwaway(cls) -> Self:
        """One that is kept nowhere, for what is taken back anyway."""
        return cls(os.urandom(KEY_BYTES), RecipientKey.generate())

    def seal(self, key: ProductKey) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self._data).encrypt(nonce, str(key).encode(), _KEY + key.key_id.encode())

    def open(self, key_id: str, sealed: bytes) -> ProductKey:
        try:
            text = AESGCM(self._data).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _KEY + key_id.encode())
            return ProductKey.strict(text.decode())
        except (InvalidTag, ValueError, InputError):
            raise VaultDamagedError(what=f"key {key_id[:8]}…") from None

    def open_backup(self, sealed: bytes, purpose: str) -> bytes:
        """What a machine sealed to this vault."""
        return self.recipient.open(sealed, purpose)


def create(conn: Connection, passphrase: bytes, now: int, who: str) -> Vault:
    """A new vault; raises :class:`VaultExistsError`."""
    if exists(conn):
        raise VaultExistsError()
    vault = Vault.throwaway()
    sealed = _wrap(vault, passphrase)
    conn.execute(insert(VAULT).values(id=1, sealed=sealed, recipient=vault.recipient.text, made_at=now, made_by=who))
    note(conn, now, who, "vault-made", vault.recipient.text)
    return vault


def open_vault(conn: Connection, passphrase: bytes) -> Vault:
    """Raises :class:`VaultMissingError`, :class:`VaultPassphraseError`, :class:`VaultDamagedError`."""
    row = conn.execute(select(VAULT.c.sealed, VAULT.c.recipient)).first()
    if row is None:
        raise VaultMissingError()
    vault = _unwrap(row.sealed, passphrase)
    if vault.recipient.text != row.recipient:
        raise VaultDamagedError(what="the recipient")
    return vault


def exists(conn: Connection) -> bool:
    return conn.execute(select(VAULT.c.id)).first() is not None


def recipient(conn: Connection) -> str:
    """To whom machines seal their backups; needs no passphrase."""
    text = conn.execute(select(VAULT.c.recipient)).scalar()
    if text is None:
        raise VaultMissingError()
    return str(text)


def change_passphrase(conn: Connection, old: bytes, new: bytes, now: int, who: str) -> None:
    """The keys stay as they are: only what opens the data key changes.  Old backups open by the old passphrase."""
    vault = open_vault(conn, old)
    conn.execute(update(VAULT).values(sealed=_wrap(vault, new)))
    note(conn, now, who, "vault-passphrase-changed")


def passphrase_file(folder: FleetFolder) -> Path:
    """Where a passphrase of our own making lies, so that schedules run unattended; 0600, in no database backup."""
    return folder.keys / PASSPHRASE_FILE


def new_passphrase(folder: FleetFolder) -> bytes:
    """Make a random passphrase and keep it in the folder."""
    path, made = passphrase_file(folder), keys.new_passphrase()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    keys.write_file(path, made + b"\n")
    return made


def kept_passphrase(folder: FleetFolder) -> bytes | None:
    path = passphrase_file(folder)
    return keys.read_passphrase(path) if path.exists() else None


class Carrier:
    """Secrets that leave in a bundle, under a passphrase of that bundle: its key is derived once for many rows."""

    def __init__(self, passphrase: bytes) -> None:
        self._passphrase = passphrase
        self._salt = os.urandom(SALT_BYTES)
        self._derived: dict[bytes, bytes] = {}

    def encrypt(self, data: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return self._salt + nonce + AESGCM(self._key(self._salt)).encrypt(nonce, data, _CARRIED)

    def decrypt(self, data: bytes) -> bytes:
        """Raises :class:`VaultPassphraseError`, ``MalformedError``."""
        salt, nonce, rest = data[:SALT_BYTES], data[SALT_BYTES:][:NONCE_BYTES], data[SALT_BYTES + NONCE_BYTES :]
        if len(nonce) != NONCE_BYTES:
            raise MalformedError(what="bundle's secrets", why="too short")
        if salt not in self._derived and len(self._derived) >= MOST_SALTS:  # we write one; each costs a quarter second
            raise MalformedError(what="bundle's secrets", why=f"more than {MOST_SALTS} salts")
        try:
            return AESGCM(self._key(salt)).decrypt(nonce, rest, _CARRIED)
        except InvalidTag:
            raise VaultPassphraseError(what="the keys in the bundle") from None

    def _key(self, salt: bytes) -> bytes:
        if salt not in self._derived:
            self._derived[salt] = _derive(self._passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
        return self._derived[salt]


def _wrap(vault: Vault, passphrase: bytes) -> str:
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    derived = _derive(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    sealed = nonce + AESGCM(derived).encrypt(nonce, vault._data + vault.recipient.raw, _WRAP)
    claim = {"v": FORMAT, "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": b64encode(salt)}
    return dump_object({**claim, "sealed": b64encode(sealed)}).decode()


def _unwrap(text: str, passphrase: bytes) -> Vault:
    try:
        claim = Fields(parse_object(text.encode(), "vault"), "vault")
        claim.integer("v", least=FORMAT, most=FORMAT)
        n, r, p = claim.integer("n", least=2, most=MOST_N), claim.integer("r", most=8), claim.integer("p", most=4)
        sealed = claim.octets("sealed", size=NONCE_BYTES + KEY_BYTES + RAW_BYTES + 16)
        derived = _derive(passphrase, claim.octets("salt", size=SALT_BYTES), n, r, p)
    except (MalformedError, ValueError):  # ValueError: figures that scrypt does not take
        raise VaultDamagedError(what="the vault's own key") from None
    try:
        opened = AESGCM(derived).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _WRAP)
    except InvalidTag:
        raise VaultPassphraseError(what="the key vault") from None
    return Vault(opened[:KEY_BYTES], RecipientKey.from_raw(opened[KEY_BYTES:]))


def _derive(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=r, p=p).derive(passphrase)
