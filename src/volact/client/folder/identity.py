# SPDX-License-Identifier: Apache-2.0
"""The machine's own key, and its ID: made at first use, in a file or in the TPM.  Spec: docs/spec/states.md §4."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from volact.client.folder import records
from volact.client.folder.files import SECRET, ClientFiles, ClientFolderError, exists, read_file
from volact.core.errors import StoreError
from volact.sealing import jws

if TYPE_CHECKING:  # `volact client status` has 0.15 s, cold: what only some commands need is imported by them
    from volact.sealing.keys import LocalKey

TPM_KEY = "machine.tpm"  # the machine's key as its TPM wrapped it, instead of machine.pem


class MachineKeyExistsError(StoreError):
    code = "machine-key-exists"
    fmt = "the machine in {folder} has a key already"
    remedy = "begin a new machine first: `volact client generalize`; licences are then asked for anew"


class MachineKeyDamagedError(StoreError):
    code = "machine-key-damaged"
    fmt = "the key of this machine, {path}, is damaged, and so is its copy"
    remedy = (
        "what is licensed stays so; once nothing is, the next activation makes a new key; "
        "`volact client generalize --force` begins a new machine now"
    )


class MachineIdentity(ClientFiles):
    """What makes a folder one machine's: its key, and the ID that is the key's hash."""

    def machine_key(self) -> "jws.SigningKey":
        """The machine's own key, made at first use; where it was bound to the TPM, the one in there."""
        from volact.sealing import keys

        with self.lock():
            if exists(self.folder / TPM_KEY):
                return self._tpm_key()
            path = self.folder / "machine.pem"
            key = self._load(path, _private_key(path))
            if key is None:
                if exists(path):
                    raise MachineKeyDamagedError(path=str(path))
                key = keys.LocalKey.generate()
                self._save(path, keys.private_pem(key.private, None), SECRET)
            self._save_machine_id(jws.thumbprint(jws.jwk_of(key.public_key)))
            return key

    def bind_tpm(self, tcti: str) -> bytes:
        """Make the machine's key in the TPM at ``tcti``; returns the machine ID.  Only where there is no key yet."""
        from volact.sealing.tpm import TpmKey

        with self.lock():
            if self.machine_id() is not None or exists(self.folder / "machine.pem") or exists(self.folder / TPM_KEY):
                raise MachineKeyExistsError(folder=str(self.folder))
            key = TpmKey.generate(tcti)
            machine = jws.thumbprint(jws.jwk_of(key.public_key))
            self._save(self.folder / TPM_KEY, key.to_bytes(), SECRET)
            self._save_machine_id(machine)
        return machine

    def is_bound_to_tpm(self) -> bool:
        return exists(self.folder / TPM_KEY)

    def _tpm_key(self) -> "jws.SigningKey":
        from volact.sealing.tpm import TpmKey

        path = self.folder / TPM_KEY
        key = self._load(path, TpmKey.from_bytes)
        if key is None:
            raise ClientFolderError(path=str(path), why="it is damaged")
        self._save_machine_id(jws.thumbprint(jws.jwk_of(key.public_key)))
        return key

    def machine_key_file(self) -> tuple[str, bytes]:
        """The machine's key as it lies here, for a backup: ``tpm`` as its TPM wrapped it, else ``pem``."""
        with self.lock():
            self.machine_key()
            wrapped = read_file(self.folder / TPM_KEY)
            if wrapped is not None:
                return "tpm", wrapped
            data = self._load(self.folder / "machine.pem", bytes)
        if data is None:
            raise ClientFolderError(path=str(self.folder / "machine.pem"), why="it is damaged")
        return "pem", data

    def restore_machine_key(self, form: str, data: bytes, machine: bytes) -> None:
        """Put a key back, in the place of what is there; ``machine`` is its ID."""
        with self.lock():
            name, other = (TPM_KEY, "machine.pem") if form == "tpm" else ("machine.pem", TPM_KEY)
            self._save(self.folder / name, data, SECRET)
            self._remove(self.folder / other)
            self._save_machine_id(machine)

    def discard_machine_key(self) -> None:
        """A key that cannot be read any more: the next is another machine's."""
        with self.lock():
            self._remove(self.folder / "machine.pem")
            self._remove(self.folder / "machine.json")

    def restore_machine_id(self) -> None:
        """Where the ID was lost and the key was not."""
        if self.machine_id() is None and (exists(self.folder / "machine.pem") or self.is_bound_to_tpm()):
            self.machine_key()

    def machine_id(self) -> bytes | None:
        """The ID of the machine's key; ``None`` before its first activation."""
        return self._load(self.folder / "machine.json", records.parse_machine_id)

    def _save_machine_id(self, machine: bytes) -> None:
        if self.machine_id() != machine:
            self._save(self.folder / "machine.json", records.dump(id=machine.hex()))


def _private_key(path: Path) -> Callable[[bytes], "LocalKey"]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from volact.sealing import keys

    def parse(data: bytes) -> "LocalKey":
        key = keys.load_private(data, None, path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise keys.KeyFileError(path=str(path), why="it is not a P-256 key")
        return keys.LocalKey(key)

    return parse
