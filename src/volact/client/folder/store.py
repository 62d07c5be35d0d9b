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
are verified at each load by ``products``.  How a file is written, locked and read where it is damaged is ``files``'s;
the machine's key is ``identity``'s.
"""

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from volact.client.folder import records
from volact.client.folder.files import SECRET, exists, folder_error
from volact.client.folder.identity import MachineIdentity
from volact.client.folder.records import (
    Anchor,
    Attempt,
    ClientSettings,
    Installation,
    KnownIssuer,
    Returned,
    default_settings,
)
from volact.core.errors import StoreError
from volact.core.product_key import ProductKey

LATEST = "latest"
PHONE_REQUEST, PHONE_LICENCE = "request", "licence"  # the two files of an activation by telephone
CARRIED_REQUEST = "carried.json"

_PRODUCT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

T = TypeVar("T")


class ProductUnknownHereError(StoreError):
    code = "product-not-added"
    fmt = "{product} has not been added to this machine"
    remedy = "run `volact client add-product FILE --root sha256:…` with the definition that came with the product"


class ClientStore(MachineIdentity):
    """One folder: what the whole of it holds, and what each product does."""

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
            raise folder_error(self.folder, exc) from None
        names = filter(is_product_name, found)
        return sorted(name for name in names if exists(self._file(name, "trust.json")))

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
        return exists(self._phone_file(product, PHONE_LICENCE))

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
                raise folder_error(self.product_folder(product), exc) from None

    # ---- what was read in directory, firmware and TPM

    def has_reading(self, product: str) -> bool:
        return exists(self.reading_file(product))

    def load_reading(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of what was read in the directory (``products.readings``)."""
        return self._load(self.reading_file(product), records.token(verify))

    def save_reading(self, product: str, token: str) -> None:
        self._save(self.reading_file(product), token.encode())

    def remove_reading(self, product: str) -> None:
        self._remove(self.reading_file(product))

    def reading_file(self, product: str) -> Path:
        return self._file(product, "answers") / "directory.volreading"

    def has_sighting(self, product: str) -> bool:
        return exists(self.sighting_file(product))

    def load_sighting(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the last look into the firmware (``products.sightings``)."""
        return self._load(self.sighting_file(product), records.token(verify))

    def save_sighting(self, product: str, token: str) -> None:
        self._save(self.sighting_file(product), token.encode())

    def load_counter(self, product: str, verify: Callable[[str], T]) -> T | None:
        """What ``verify`` makes of the last reading of the TPM's counter (``products.counters``)."""
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


def is_product_name(text: str) -> bool:
    return _PRODUCT_NAME.fullmatch(text) is not None


# ---- the two ways in which this room changes files; each leaves the old or the new state, nothing between
