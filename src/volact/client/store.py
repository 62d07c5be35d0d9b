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

Nothing here is believed because it is stored: definitions, statuses and answers are verified at each load by
``products``.  Every file is written whole or not at all, and what cannot be made anew twice: where it is damaged or
lost it is read from its copy, and that is noted.  Who reads, decides and writes holds the folder's lock; readers need
none.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from volact.client import platform
from volact.core.binding import machine_id
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import MalformedError, StoreError, VolactError
from volact.core.product_key import Channel, ProductKey
from volact.sealing import jws

if TYPE_CHECKING:  # `volact client status` has 0.15 s, cold: what only some commands need is imported by them
    from volact.client.discovery import Settings
    from volact.sealing.keys import LocalKey

FORMAT = 1
SYSTEM_FOLDER = platform.here().SYSTEM_FOLDER
LOCK_SECONDS = 10.0  # what is done under the lock takes milliseconds: whoever holds it longer hangs
LATEST = "latest"
TPM_KEY = "machine.tpm"  # the machine's key as its TPM wrapped it, instead of machine.pem
PHONE_REQUEST, PHONE_LICENCE = "request", "licence"  # the two files of an activation by telephone
CARRIED_REQUEST = "carried.json"
SECRET, PUBLIC, FOLDER = 0o600, 0o644, 0o755  # products run as any user: they read all but the two keys

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


class ProductUnknownHereError(StoreError):
    code = "product-not-added"
    fmt = "{product} has not been added to this machine"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


# Named tuples, where other rooms have dataclasses: a class costs a tenth of the time to make, and every cold start of
# `volact client` and of `volact.check` makes these.
class ClientSettings(NamedTuple):
    """Where to look for hosts, and the publisher's address where it is not the definition's."""

    discovery: "Settings"
    publisher: str | None = None


class Anchor(NamedTuple):
    """Whom the administrator (or the product's installer) trusts for one product."""

    root: str
    min_version: int
    added_at: int


class Installation(NamedTuple):
    """A product's installation here.  ``edition``, ``channel`` and ``partial`` are of the installed key."""

    installed_at: int
    edition: str | None = None
    channel: Channel | None = None
    partial: str = ""
    hardware_changed_at: int | None = None
    revocation_seen_at: int | None = None


class Tried(NamedTuple):
    """One issuer that was asked, and what became of it; ``code`` is empty where it answered with a licence."""

    host: str
    source: str
    code: str = ""
    message: str = ""


class Attempt(NamedTuple):
    """The last attempt to activate: its time, the cause it ended with, whom it asked, and when the next is due."""

    at: int
    code: str
    message: str
    next_due: int
    tried: tuple[Tried, ...] = ()
    activation_minutes: int | None = None
    renewal_minutes: int | None = None


class KnownIssuer(NamedTuple):
    """The last issuer that answered well, and its descriptor."""

    address: str
    source: str
    descriptor: str


class Returned(NamedTuple):
    """An activation that was given back.  Licences of ``key_id`` that were issued before second ``before``, and the one
    with nonce ``activation``, count no more.  ``proof`` is for the publisher, until it has ``confirmed``."""

    key_id: str
    activation: str
    before: int
    proof: str
    confirmed: bool = False

    def covers(self, key_id: str, nonce: bytes, issued_at: int) -> bool:
        return key_id == self.key_id and (issued_at < self.before or nonce.hex() == self.activation)


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
                if path.exists():
                    raise keys.KeyFileError(path=str(path), why="it is damaged")
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

    def machine_id(self) -> bytes | None:
        """The ID of the machine's key; ``None`` before its first activation."""
        return self._load(self.folder / "machine.json", _machine_id)

    def _save_machine_id(self, machine: bytes) -> None:
        if self.machine_id() != machine:
            self._save(self.folder / "machine.json", _dump(id=machine.hex()))

    # ---- the folder as a whole

    def settings(self) -> ClientSettings:
        return self._load(self.folder / "settings.json", _settings) or default_settings()

    def save_settings(self, settings: ClientSettings) -> None:
        values = asdict(settings.discovery) | {"publisher": settings.publisher}
        data = _dump(**{name: value for name, value in values.items() if value is not None})
        self._save(self.folder / "settings.json", data)

    def latest_time(self) -> int:
        """The high-water mark of this machine's clock."""
        return self._load(self.folder / "clock.json", _latest) or 0

    def save_latest_time(self, latest: int) -> None:
        """Set the mark, back as well: only a verified answer may do that."""
        if latest != self.latest_time():
            self._save(self.folder / "clock.json", _dump(latest=latest))

    def raise_latest_time(self, now: int) -> None:
        with self.lock():
            if now > self.latest_time():
                self.save_latest_time(now)

    def status_file(self, root: str) -> Path:
        return self.folder / "status" / f"{root.removeprefix('sha256:')}.volstatus"

    def load_status(self, root: str, verify: Callable[[str], T]) -> T | None:
        """The publisher's newest status; ``verify`` must raise for one that is not its publisher's."""
        return self._load(self.status_file(root), _token(verify))

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
        found = self._load(self._file(product, "trust.json"), _anchor)
        if found is None:
            raise ProductUnknownHereError(product=product)
        return found

    def save_anchor(self, product: str, anchor: Anchor) -> None:
        self._save(self._file(product, "trust.json"), _dump(**anchor._asdict()))

    def load_definition(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the stored definition; its error where no copy satisfies it."""
        return self._load(self._file(product, "definition.volproduct"), _token(verify), raises=True)

    def save_definition(self, product: str, token: str) -> None:
        self._save(self._file(product, "definition.volproduct"), token.encode())

    def installation(self, product: str) -> Installation:
        found = self._load(self._file(product, "product.json"), _installation)
        # Without its record a product's grace begins with its oldest trace, not anew.
        return found or Installation(installed_at=self.anchor(product).added_at)

    def save_installation(self, product: str, installation: Installation) -> None:
        values = {name: value for name, value in installation._asdict().items() if value is not None}
        self._save(self._file(product, "product.json"), _dump(**values))

    def key(self, product: str) -> ProductKey | None:
        return self._load(self._file(product, "key"), _product_key)

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
        return self._load(self.answer_file(product, name), _token(verify))

    def save_answer(self, product: str, name: str, token: str) -> None:
        self._save(self.answer_file(product, name), token.encode(), copy=name != LATEST)

    def returned(self, product: str) -> tuple[Returned, ...]:
        """What was given back; its licences count no more, whoever puts them back."""
        return self._load(self._file(product, "returned.json"), _returned) or ()

    def save_returned(self, product: str, returned: tuple[Returned, ...]) -> None:
        self._save(self._file(product, "returned.json"), _dump(returned=[one._asdict() for one in returned]))

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
        return self._load(self._file(product, "attempt.json"), _attempt)

    def save_attempt(self, product: str, attempt: Attempt) -> None:
        values = {name: value for name, value in attempt._asdict().items() if value is not None}
        values["tried"] = [one._asdict() for one in attempt.tried]
        self._save(self._file(product, "attempt.json"), _dump(**values), copy=False)

    def issuer(self, product: str) -> KnownIssuer | None:
        return self._load(self._file(product, "issuer.json"), _issuer)

    def save_issuer(self, product: str, issuer: KnownIssuer) -> None:
        self._save(self._file(product, "issuer.json"), _dump(**issuer._asdict()), copy=False)

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

    # ---- files

    def has_reading(self, product: str) -> bool:
        return _exists(self.reading_file(product))

    def load_reading(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of what was read in the directory (``client.directory``)."""
        return self._load(self.reading_file(product), _token(verify))

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
        return self._load(self.sighting_file(product), _token(verify))

    def save_sighting(self, product: str, token: str) -> None:
        self._save(self.sighting_file(product), token.encode())

    def load_counter(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the last reading of the TPM's counter (``client.counters``)."""
        return self._load(self.counter_file(product), _token(verify))

    def save_counter(self, product: str, token: str) -> None:
        self._save(self.counter_file(product), token.encode())

    def remove_counter(self, product: str) -> None:
        self._remove(self.counter_file(product))

    def counter_file(self, product: str) -> Path:
        return self._file(product, "answers") / "tpm.volcounter"

    def sighting_file(self, product: str) -> Path:
        return self._file(product, "answers") / "firmware.volsighting"

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


def default_settings() -> ClientSettings:
    from volact.client.discovery import Settings

    return ClientSettings(Settings())


def find_folder(variables: Mapping[str, str], given: str | os.PathLike[str] | None = None) -> Path:
    """The client's folder: the one given, else ``VOLACT_CLIENT_DIR``, else the system's, else the user's own.

    The system's is taken by every user once it exists, so that products see what an administrator activated.
    """
    if given:
        return Path(given)
    if variables.get("VOLACT_CLIENT_DIR"):
        return Path(variables["VOLACT_CLIENT_DIR"])
    system = platform.here()
    if system.is_administrator() or SYSTEM_FOLDER.is_dir():
        return SYSTEM_FOLDER
    return system.user_folder(variables)


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


# ---- formats: strict, each raises MalformedError or another named error


def _dump(**members: Any) -> bytes:
    return dump_object({"v": FORMAT, **members}) + b"\n"


def _fields(data: bytes, what: str) -> Fields:
    claim = Fields(parse_object(data, what), what)
    claim.integer("v", least=FORMAT, most=FORMAT)
    return claim


def _optional_integer(claim: Fields, name: str) -> int | None:
    return claim.integer(name) if name in claim else None


def _text(data: bytes) -> str:
    """A signed token, taken apart by whoever verifies it."""
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if text.count(".") != 2:
        raise MalformedError(what="stored token", why="not three base64url parts joined by dots")
    return text


def _token(verify: Callable[[str], T]) -> Callable[[bytes], T]:
    return lambda data: verify(_text(data))


def _private_key(path: Path) -> Callable[[bytes], "LocalKey"]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from volact.sealing import keys

    def parse(data: bytes) -> "LocalKey":
        key = keys.load_private(data, None, path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise keys.KeyFileError(path=str(path), why="it is not a P-256 key")
        return keys.LocalKey(key)

    return parse


def _machine_id(data: bytes) -> bytes:
    return machine_id(_fields(data, "machine.json").text("id", most=64))


def _settings(data: bytes) -> ClientSettings:
    from volact.client.discovery import Settings

    claim = _fields(data, "settings.json")
    discovery = Settings(
        host=claim.optional_text("host", most=255),
        port=_optional_integer(claim, "port"),
        domain=claim.optional_text("domain", most=255),
        caching=claim.boolean("caching"),
        resolver_address=claim.optional_text("resolver_address"),
        mdns=claim.boolean("mdns") if "mdns" in claim else None,
    )
    return ClientSettings(discovery, claim.optional_text("publisher", most=400))


def _latest(data: bytes) -> int:
    return _fields(data, "clock.json").integer("latest")


def _returned(data: bytes) -> tuple[Returned, ...]:
    items = (Fields(item, "returned.json: returned") for item in _fields(data, "returned.json").items("returned"))
    return tuple(
        Returned(
            key_id=item.text("key_id", most=64),
            activation=item.text("activation", most=32),
            before=item.integer("before"),
            proof=item.text("proof", most=8192),
            confirmed=item.boolean("confirmed"),
        )
        for item in items
    )


def _anchor(data: bytes) -> Anchor:
    claim = _fields(data, "trust.json")
    return Anchor(claim.text("root", most=80), claim.integer("min_version"), claim.integer("added_at"))


def _installation(data: bytes) -> Installation:
    claim = _fields(data, "product.json")
    channel = claim.optional_text("channel", most=20)
    if channel is not None and channel not in list(Channel):
        claim.fail("channel", "a channel that this version knows")
    return Installation(
        installed_at=claim.integer("installed_at"),
        edition=claim.optional_text("edition", most=63),
        channel=None if channel is None else Channel(channel),
        partial=claim.text("partial", least=0, most=5),
        hardware_changed_at=_optional_integer(claim, "hardware_changed_at"),
        revocation_seen_at=_optional_integer(claim, "revocation_seen_at"),
    )


def _product_key(data: bytes) -> ProductKey:
    return ProductKey.strict(data.decode("ascii", "replace").strip())


def _attempt(data: bytes) -> Attempt:
    claim = _fields(data, "attempt.json")
    return Attempt(
        at=claim.integer("at"),
        code=claim.text("code", least=0, most=64),
        message=claim.text("message", least=0, most=4000),
        next_due=claim.integer("next_due"),
        tried=tuple(_tried(Fields(item, "attempt.json: tried")) for item in claim.items("tried")),
        activation_minutes=_optional_integer(claim, "activation_minutes"),
        renewal_minutes=_optional_integer(claim, "renewal_minutes"),
    )


def _tried(claim: Fields) -> Tried:
    return Tried(
        host=claim.text("host", most=400),
        source=claim.text("source", least=0),
        code=claim.text("code", least=0),
        message=claim.text("message", least=0, most=4000),
    )


def _issuer(data: bytes) -> KnownIssuer:
    claim = _fields(data, "issuer.json")
    return KnownIssuer(
        address=claim.text("address", most=400),
        source=claim.text("source", least=0),
        descriptor=claim.text("descriptor", least=0, most=jws.MAX_TOKEN),
    )
