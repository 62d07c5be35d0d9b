# SPDX-License-Identifier: Apache-2.0
"""The client's folder: typed load and save of everything one installation keeps.  Spec: docs/spec/states.md §4.

    machine.pem  machine.json            the machine's key, for its owner only; its ID, for products of every user
    settings.json  clock.json            what the administrator set; the latest time ever seen
    status/<root>.volstatus              the newest revocation status of each publisher
    products/<product>/                  definition.volproduct  trust.json  product.json  key  attempt.json  issuer.json
    products/<product>/answers/          <channel>.vollicence (the last good one)  latest.vollicence (the newest)
    products/<product>/phone.json  answers/phone.json    the open installation ID; the phone licence
    products/<product>/carried.json      a request that is carried to the publisher, with its one-time answer key
    products/<product>/returned.json     activations that were given back, with their proofs
    products/<product>/answers/directory.volreading      what was read in the forest's directory
    products/<product>/answers/firmware.volsighting      what the last look into the firmware showed
    products/<product>/answers/tpm.volcounter            where the TPM's counter stood when it was read last

What the files say is read by ``records``.  Nothing is believed because it is stored: definitions, statuses and answers
are verified at each load by ``products``.  Every file is written whole or not at all, and what cannot be made anew
twice: where it is damaged or lost it is read from its copy, and that is noted.  Who reads, decides and writes holds the
folder's lock; readers need none.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from volact.client import platform, records
from volact.client.records import (
    Anchor,
    Attempt,
    ClientSettings,
    Installation,
    KnownIssuer,
    Returned,
    default_settings,
)
from volact.core.errors import StoreError, VolactError
from volact.core.product_key import ProductKey
from volact.sealing import jws

if TYPE_CHECKING:  # `volact client status` has 0.15 s, cold: what only some commands need is imported by them
    from volact.sealing.keys import LocalKey

SYSTEM_FOLDER = platform.here().SYSTEM_FOLDER
LOCK_SECONDS = 10.0  # what is done under the lock takes milliseconds: whoever holds it longer hangs
LATEST = "latest"
TPM_KEY = "machine.tpm"  # the machine's key as its TPM wrapped it, instead of machine.pem
PHONE_REQUEST, PHONE_LICENCE = "request", "licence"  # the two files of an activation by telephone
CARRIED_REQUEST = "carried.json"
SECRET, PUBLIC, FOLDER = 0o600, 0o644, 0o755  # products run as any user: they read all but the two keys
PRIVATE_FOLDER = 0o700

_PRODUCT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

T = TypeVar("T")


class ClientFolderError(StoreError):
    code = "client-folder"
    fmt = "cannot use {path}: {why}"
    remedy = "run the command as the user that owns the folder, check the disk, or choose another folder with --dir"


class ClientBusyError(StoreError):
    code = "client-folder-busy"
    fmt = "another command has been changing {path} for {seconds} seconds"
    remedy = "wait for the other `volact client` command to end, or end it"


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


class ProductUnknownHereError(StoreError):
    code = "product-not-added"
    fmt = "{product} has not been added to this machine"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


class ClientStore:
    """One folder.  ``notes`` collects what was repaired or left aside while reading, a sentence each."""

    def __init__(self, folder: Path, lock_seconds: float = LOCK_SECONDS) -> None:
        self.folder = folder
        self._lock_seconds = lock_seconds
        self.notes: list[str] = []
        self._locked = 0

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands out while something is read, decided and written; may be nested."""
        if self._locked:
            self._locked += 1
            try:
                yield
            finally:
                self._locked -= 1
            return
        self._make_folder(self.folder)
        descriptor = _lock_file(self.folder / "lock", self._lock_seconds)
        self._locked = 1
        try:
            yield
        finally:
            self._locked = 0
            os.close(descriptor)

    # ---- the machine

    def machine_key(self) -> "jws.SigningKey":
        """The machine's own key, made at first use; where it was bound to the TPM, the one in there."""
        from volact.sealing import keys

        with self.lock():
            if _exists(self.folder / TPM_KEY):
                return self._tpm_key()
            path = self.folder / "machine.pem"
            key = self._load(path, _private_key(path))
            if key is None:
                if _exists(path):
                    raise MachineKeyDamagedError(path=str(path))
                key = keys.LocalKey.generate()
                self._save(path, keys.private_pem(key.private, None), SECRET)
            self._save_machine_id(jws.thumbprint(jws.jwk_of(key.public_key)))
            return key

    def bind_tpm(self, tcti: str) -> bytes:
        """Make the machine's key in the TPM at ``tcti``; returns the machine ID.  Only where there is no key yet."""
        from volact.sealing.tpm import TpmKey

        with self.lock():
            if self.machine_id() is not None or _exists(self.folder / "machine.pem") or _exists(self.folder / TPM_KEY):
                raise MachineKeyExistsError(folder=str(self.folder))
            key = TpmKey.generate(tcti)
            machine = jws.thumbprint(jws.jwk_of(key.public_key))
            self._save(self.folder / TPM_KEY, key.to_bytes(), SECRET)
            self._save_machine_id(machine)
        return machine

    def is_bound_to_tpm(self) -> bool:
        return _exists(self.folder / TPM_KEY)

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
            wrapped = _read(self.folder / TPM_KEY)
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
        if self.machine_id() is None and (_exists(self.folder / "machine.pem") or self.is_bound_to_tpm()):
            self.machine_key()

    def machine_id(self) -> bytes | None:
        """The ID of the machine's key; ``None`` before its first activation."""
        return self._load(self.folder / "machine.json", records.parse_machine_id)

    def _save_machine_id(self, machine: bytes) -> None:
        if self.machine_id() != machine:
            self._save(self.folder / "machine.json", records.dump(id=machine.hex()))

    # ---- the folder as a whole

    def settings(self) -> ClientSettings:
        return self._load(self.folder / "settings.json", records.parse_settings) or default_settings()

    def save_settings(self, settings: ClientSettings) -> None:
        values = asdict(settings.discovery) | {"publisher": settings.publisher}
        data = records.dump(**{name: value for name, value in values.items() if value is not None})
        self._save(self.folder / "settings.json", data)

    def latest_time(self) -> int:
        """The high-water mark of this machine's clock."""
        return self._load(self.folder / "clock.json", records.parse_latest_time) or 0

    def save_latest_time(self, latest: int) -> None:
        """Set the mark, back as well: only a verified answer may do that."""
        if latest != self.latest_time():
            self._save(self.folder / "clock.json", records.dump(latest=latest))

    def raise_latest_time(self, now: int) -> None:
        with self.lock():
            if now > self.latest_time():
                self.save_latest_time(now)

    def status_file(self, root: str) -> Path:
        return self.folder / "status" / f"{root.removeprefix('sha256:')}.volstatus"

    def load_status(self, root: str, verify: Callable[[str], T]) -> T | None:
        """The publisher's newest status; ``verify`` must raise for one that is not its publisher's."""
        return self._load(self.status_file(root), records.token(verify))

    def save_status(self, root: str, token: str) -> None:
        self._save(self.status_file(root), token.encode())

    # ---- products

    def products(self) -> list[str]:
        try:
            found = [entry.name for entry in (self.folder / "products").iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise _folder_error(self.folder, exc) from None
        names = filter(is_product_name, found)
        return sorted(name for name in names if _exists(self._file(name, "trust.json")))

    def product_folder(self, product: str) -> Path:
        if not is_product_name(product):  # a name that is typed never leads out of the folder
            raise ProductUnknownHereError(product=product)
        return self.folder / "products" / product

    def anchor(self, product: str) -> Anchor:
        """Raises :class:`ProductUnknownHereError` for a product that was not added."""
        found = self._load(self._file(product, "trust.json"), records.parse_anchor)
        if found is None:
            raise ProductUnknownHereError(product=product)
        return found

    def save_anchor(self, product: str, anchor: Anchor) -> None:
        self._save(self._file(product, "trust.json"), records.dump(**anchor._asdict()))

    def load_definition(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the stored definition; its error where no copy satisfies it."""
        return self._load(self._file(product, "definition.volproduct"), records.token(verify), raises=True)

    def save_definition(self, product: str, token: str) -> None:
        self._save(self._file(product, "definition.volproduct"), token.encode())

    def installation(self, product: str) -> Installation:
        found = self._load(self._file(product, "product.json"), records.parse_installation)
        # Without its record a product's grace begins with its oldest trace, not anew.
        return found or Installation(installed_at=self.anchor(product).added_at)

    def save_installation(self, product: str, installation: Installation) -> None:
        values = {name: value for name, value in installation._asdict().items() if value is not None}
        self._save(self._file(product, "product.json"), records.dump(**values))

    def key(self, product: str) -> ProductKey | None:
        return self._load(self._file(product, "key"), records.parse_product_key)

    def save_key(self, product: str, key: ProductKey) -> None:
        self._save(self._file(product, "key"), f"{key}\n".encode(), SECRET)

    def remove_key(self, product: str) -> None:
        self._remove(self._file(product, "key"))

    def answer_file(self, product: str, name: str) -> Path:
        return self._file(product, "answers") / f"{name}.vollicence"

    def answer_names(self, product: str) -> list[str]:
        try:
            found = sorted(entry.name for entry in self._file(product, "answers").iterdir())
        except OSError:  # none yet; one that cannot be read cannot license either
            return []
        names = (name.removesuffix(".copy").removesuffix(".vollicence") for name in found if ".vollicence" in name)
        return sorted({name for name in names if not name.startswith(".")})

    def load_answer(self, product: str, name: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the stored answer, or of its copy."""
        return self._load(self.answer_file(product, name), records.token(verify))

    def save_answer(self, product: str, name: str, token: str) -> None:
        self._save(self.answer_file(product, name), token.encode(), copy=name != LATEST)

    def returned(self, product: str) -> tuple[Returned, ...]:
        """What was given back; its licences count no more, whoever puts them back."""
        return self._load(self._file(product, "returned.json"), records.parse_returned) or ()

    def save_returned(self, product: str, returned: tuple[Returned, ...]) -> None:
        self._save(self._file(product, "returned.json"), records.dump(returned=[one._asdict() for one in returned]))

    def remove_answers(self, product: str) -> None:
        """Every stored answer, the copies first, and what came by telephone."""
        with self.lock():
            for what in (PHONE_REQUEST, PHONE_LICENCE):
                self.remove_phone(product, what)
            for name in self.answer_names(product):
                self._remove(self.answer_file(product, name))
            self._remove(self.sighting_file(product))
            self._remove(self._file(product, CARRIED_REQUEST))

    def has_phone_licence(self, product: str) -> bool:
        return _exists(self._phone_file(product, PHONE_LICENCE))

    def load_phone(self, product: str, what: str, parse: Callable[[bytes], T]) -> T | None:
        """The open installation ID or the phone licence, in the formats of ``phone``."""
        return self._load(self._phone_file(product, what), parse)

    def save_phone(self, product: str, what: str, data: bytes) -> None:
        self._save(self._phone_file(product, what), data)

    def remove_phone(self, product: str, what: str) -> None:
        self._remove(self._phone_file(product, what))

    def load_carried(self, product: str, parse: Callable[[bytes], T]) -> T | None:
        """The request that is carried to the publisher, in the format of ``carried``."""
        return self._load(self._file(product, CARRIED_REQUEST), parse)

    def save_carried(self, product: str, data: bytes) -> None:
        self._save(self._file(product, CARRIED_REQUEST), data, SECRET)

    def attempt(self, product: str) -> Attempt | None:
        return self._load(self._file(product, "attempt.json"), records.parse_attempt)

    def save_attempt(self, product: str, attempt: Attempt) -> None:
        values = {name: value for name, value in attempt._asdict().items() if value is not None}
        values["tried"] = [one._asdict() for one in attempt.tried]
        self._save(self._file(product, "attempt.json"), records.dump(**values), copy=False)

    def issuer(self, product: str) -> KnownIssuer | None:
        return self._load(self._file(product, "issuer.json"), records.parse_issuer)

    def save_issuer(self, product: str, issuer: KnownIssuer) -> None:
        self._save(self._file(product, "issuer.json"), records.dump(**issuer._asdict()), copy=False)

    def remove_product(self, product: str) -> None:
        """Forget a product, its licence included.  The anchor goes first: without it nothing else is looked at."""
        import shutil

        with self.lock():
            self.anchor(product)
            self._remove(self._file(product, "trust.json"))  # its copy first, so that it cannot come back
            try:
                shutil.rmtree(self.product_folder(product))
            except OSError as exc:
                raise _folder_error(self.product_folder(product), exc) from None

    # ---- what was read in directory, firmware and TPM

    def has_reading(self, product: str) -> bool:
        return _exists(self.reading_file(product))

    def load_reading(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of what was read in the directory (``client.directory``)."""
        return self._load(self.reading_file(product), records.token(verify))

    def save_reading(self, product: str, token: str) -> None:
        self._save(self.reading_file(product), token.encode())

    def remove_reading(self, product: str) -> None:
        self._remove(self.reading_file(product))

    def reading_file(self, product: str) -> Path:
        return self._file(product, "answers") / "directory.volreading"

    def has_sighting(self, product: str) -> bool:
        return _exists(self.sighting_file(product))

    def load_sighting(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the last look into the firmware (``client.oem``)."""
        return self._load(self.sighting_file(product), records.token(verify))

    def save_sighting(self, product: str, token: str) -> None:
        self._save(self.sighting_file(product), token.encode())

    def load_counter(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the last reading of the TPM's counter (``client.counters``)."""
        return self._load(self.counter_file(product), records.token(verify))

    def save_counter(self, product: str, token: str) -> None:
        self._save(self.counter_file(product), token.encode())

    def remove_counter(self, product: str) -> None:
        self._remove(self.counter_file(product))

    def counter_file(self, product: str) -> Path:
        return self._file(product, "answers") / "tpm.volcounter"

    def sighting_file(self, product: str) -> Path:
        return self._file(product, "answers") / "firmware.volsighting"

    # ---- files

    def _phone_file(self, product: str, what: str) -> Path:
        return self._file(product, "answers" if what == PHONE_LICENCE else ".") / "phone.json"

    def _file(self, product: str, name: str) -> Path:
        return self.product_folder(product) / name

    def _load(self, path: Path, parse: Callable[[bytes], T], *, raises: bool = False) -> T | None:
        """What ``parse`` makes of a file, or of its copy where the file is damaged or lost."""
        first: VolactError | None = None
        for candidate in (path, _copy(path)):
            data = _read(candidate)
            if data is None:
                continue
            try:
                value = parse(data)
            except VolactError as exc:
                first = first or exc
                continue
            if candidate != path:
                self.note(f"{path} was damaged or lost ({first or 'missing'}); its copy is used")
            return value
        if first is not None:
            if raises:
                raise first
            self.note(f"{path} is left aside: {first}")
        return None

    def _save(self, path: Path, data: bytes, mode: int = PUBLIC, *, copy: bool = True) -> None:
        """Write a file, then its copy: at any moment one of them is whole, and is what the other was or will be.

        Without a copy goes what the next attempt makes anew.
        """
        with self.lock():
            self._make_folder(path.parent)
            write_whole(path, data, mode)
            if copy:
                write_whole(_copy(path), data, mode)

    def _make_folder(self, folder: Path) -> None:
        """Open to every user from the client's folder down: an administrator's umask must not take licences away."""
        if self.folder == SYSTEM_FOLDER:
            _open(SYSTEM_FOLDER.parent)
        if folder.is_dir():
            return
        top = SYSTEM_FOLDER.parent if self.folder == SYSTEM_FOLDER else self.folder
        try:
            for one in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
                one.mkdir(exist_ok=True)
                if one.is_relative_to(top):
                    one.chmod(FOLDER)
        except OSError as exc:
            raise _folder_error(folder, exc) from None

    def _remove(self, path: Path) -> None:
        with self.lock():
            remove(_copy(path))
            remove(path)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def is_product_name(text: str) -> bool:
    return _PRODUCT_NAME.fullmatch(text) is not None


def find_folder(variables: Mapping[str, str], given: str | os.PathLike[str] | None = None) -> Path:
    """The client's folder: the one given, else ``VOLACT_CLIENT_DIR``, else the system's, else the user's own.

    The system's is taken by every user once it exists, so that products see what an administrator activated.
    """
    if given:
        return Path(given)
    if variables.get("VOLACT_CLIENT_DIR"):
        return Path(variables["VOLACT_CLIENT_DIR"])
    system = platform.here()
    if system.is_administrator() or platform.has_folder(SYSTEM_FOLDER):
        return SYSTEM_FOLDER
    return system.user_folder(variables)


def _open(folder: Path) -> None:
    """What an earlier version's host made for itself alone is the way to the client's folder, which is everybody's."""
    with suppress(OSError):  # another's, or not there yet, or a service's that may not change it
        if stat.S_IMODE(folder.stat().st_mode) == PRIVATE_FOLDER:
            folder.chmod(FOLDER)


# ---- the two ways in which this room changes files; each leaves the old or the new state, nothing between


def write_whole(path: Path, data: bytes, mode: int) -> None:
    from volact.sealing import keys

    try:
        keys.write_file(path, data, mode, platform.here().protect if mode == SECRET else None)
    except OSError as exc:
        raise _folder_error(path, exc) from None


def remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise _folder_error(path, exc) from None


def _copy(path: Path) -> Path:
    return path.with_name(f"{path.name}.copy")


def _exists(path: Path) -> bool:
    return path.exists() or _copy(path).exists()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _folder_error(path, exc) from None


def _folder_error(path: Path, exc: OSError) -> ClientFolderError:
    return ClientFolderError(path=str(path), why=exc.strerror or str(exc))


def _lock_file(path: Path, seconds: float) -> int:
    """An open descriptor that holds the lock; closing it, or the process's end, gives the lock back."""
    system = platform.here()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), SECRET)
    except OSError as exc:
        raise _folder_error(path, exc) from None
    ends = time.monotonic() + seconds
    while True:
        if system.try_lock(descriptor):
            return descriptor
        if time.monotonic() > ends:
            os.close(descriptor)
            raise ClientBusyError(path=str(path.parent), seconds=int(seconds))
        time.sleep(0.01)


def _private_key(path: Path) -> Callable[[bytes], "LocalKey"]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from volact.sealing import keys

    def parse(data: bytes) -> "LocalKey":
        key = keys.load_private(data, None, path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise keys.KeyFileError(path=str(path), why="it is not a P-256 key")
        return keys.LocalKey(key)

    return parse
