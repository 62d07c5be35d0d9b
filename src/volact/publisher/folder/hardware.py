# SPDX-License-Identifier: Apache-2.0
"""Where a publisher's signing keys are: in encrypted files, or in PKCS#11 tokens, each key by itself.

A key in a token has ``NAME.token``, a reference, in the place of ``NAME.key``.  The sealing key and the key of
confirmation IDs are always files: PKCS#11 knows neither HPKE nor BLS signatures.  Guide: docs/guide/hardware-keys.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509

from volact.core.errors import InputError, TrustError
from volact.sealing import jws, keys, pkcs11
from volact.sealing.certificates import CaKey, Role
from volact.sealing.jws import SigningKey
from volact.sealing.keys import LocalKey
from volact.sealing.pkcs11 import KeyReference, TokenKey, TokenPlace

ROOT, ISSUING = "root", "issuing"
SIGNING_KEYS = (ROOT, ISSUING, str(Role.PUBLISHER), str(Role.DEFINITION), str(Role.REVOCATION))
REFERENCE = ".token"
MOST_LABEL = 200
PROBE = b"volact publisher hardware show"


class KeyNameError(InputError):
    code = "signing-key-unknown"
    fmt = "a publisher has no signing key {name!r}"
    remedy = "name some of {known}"


class KeyChangedError(TrustError):
    code = "signing-key-changed"
    fmt = "the key of {name} is not the one that its certificate is for"
    remedy = "put the publisher's own key, or its own token, back in place"


@dataclass(slots=True)
class KeyMaker:
    """Makes signing keys where they shall be: those named in ``tokens`` there, the others in files.

    ``made``: what is in tokens by now, so that a command that fails leaves nothing behind.
    """

    passphrase: bytes = field(repr=False)
    tokens: Mapping[str, TokenPlace] = field(default_factory=dict)
    made: list[KeyReference] = field(default_factory=list)

    def make(self, name: str, path: Path, publisher: str) -> SigningKey:
        """A new key, and ``path`` (``….key``) or its reference beside it."""
        place = self.tokens.get(name)
        if place is None:
            local = LocalKey.generate()
            keys.write_file(path, keys.private_pem(local.private, self.passphrase))
            return local
        made = pkcs11.generate(place, f"{publisher} {name}"[:MOST_LABEL])
        self.made.append(made.reference)
        keys.write_file(path.with_suffix(REFERENCE), made.reference.to_bytes())
        return made

    def undo(self) -> None:
        while self.made:
            pkcs11.destroy(self.made.pop())


@dataclass(frozen=True, slots=True)
class KeyState:
    """One signing key as it is found: ``reference`` where it is in a token, neither that nor a file where it is kept
    elsewhere, as the root's should be."""

    name: str
    path: Path
    reference: KeyReference | None

    @classmethod
    def of(cls, name: str, path: Path) -> Self:
        found = key_file(path)
        return cls(name, found, read_reference(found) if found.suffix == REFERENCE else None)

    @property
    def place(self) -> str:
        """``token``, ``file`` or ``elsewhere``."""
        if self.reference is not None:
            return "token"
        return "file" if self.path.exists() else "elsewhere"

    def probe(self, certificate: x509.Certificate) -> None:
        """Let a key in a token sign; raises what is wrong with it."""
        if self.reference is None:
            return
        key = TokenKey(self.reference)
        check_same(self.name, key, certificate)
        signature = key.sign(PROBE)
        jws.verify_raw(key.public_key, signature, PROBE, f"the key of {self.name}")


def tokens_of(names: Iterable[str], place: TokenPlace) -> dict[str, TokenPlace]:
    """Which keys go into a token; raises :class:`KeyNameError`."""
    chosen = list(names)
    for name in chosen:
        if name not in SIGNING_KEYS:
            raise KeyNameError(name=name, known=", ".join(SIGNING_KEYS))
    return dict.fromkeys(chosen, place)


def key_file(path: Path) -> Path:
    """The reference, where there is one in the place of the key's own file."""
    reference = path.with_suffix(REFERENCE)
    return reference if reference.exists() else path


def read_reference(path: Path) -> KeyReference:
    return KeyReference.from_bytes(keys.read_file(path))


def load(path: Path, passphrase: bytes) -> SigningKey:
    """A signing key from its file or from its token."""
    found = key_file(path)
    if found.suffix == REFERENCE:
        return TokenKey(read_reference(found))
    return keys.load_signing_key(found, passphrase)


def check_same(name: str, key: SigningKey, certificate: x509.Certificate) -> None:
    if key.public_key != certificate.public_key():
        raise KeyChangedError(name=name)


def ca_key(key: SigningKey) -> CaKey:
    """The key as a certificate authority signs with it: pyca's own where it is in this process."""
    return key.private if isinstance(key, LocalKey) else key
