# SPDX-License-Identifier: Apache-2.0
"""The file of the publisher's key for confirmation IDs: made with the folder, or later for an older one.

BLS keys have no PKCS#8, so it is an EIP-2335 keystore under the passphrase of the other keys.
Spec: docs/spec/phone.md §6.
"""

from pathlib import Path

from volact.core.errors import ConfigError
from volact.publisher.folder import generations
from volact.sealing import keys
from volact.sealing.confirmation import PhoneKey


class PhoneKeyTakenError(ConfigError):
    code = "phone-key-taken"
    fmt = "this publisher has a phone key already"
    remedy = "keep it: licences that it made are verified with it for ever"


def path(folder: Path) -> Path:
    return folder / "keys" / "phone.json"


def make(folder: Path, passphrase: bytes) -> PhoneKey:
    """A new key, and its file."""
    file = path(folder)
    if file.exists():
        raise PhoneKeyTakenError()
    key = PhoneKey.generate()
    keys.write_file(file, key.to_keystore(passphrase))
    return key


def add(folder: Path, passphrase: bytes) -> PhoneKey:
    """For a publisher that has none; a service that runs is told."""
    key = make(folder, passphrase)
    generations.touch(folder)
    return key


def load(folder: Path, passphrase: bytes) -> PhoneKey | None:
    """``None`` where the folder has none; ``PassphraseError``, ``KeyFileError``."""
    file = path(folder)
    if not file.exists():
        return None
    return PhoneKey.from_keystore(keys.read_file(file), passphrase, file)
