# SPDX-License-Identifier: Apache-2.0
"""What every act of a publisher's administrator needs: the folder and database, opened, and the products in them."""

from pathlib import Path
from types import TracebackType
from typing import Self

from volact.core.definition import ProductDefinition
from volact.publisher.administration.errors import LimitUnfitError, NoSuchGroupError, ReasonUnfitError
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.rows.records import Signed
from volact.publisher.store import PublisherStore
from volact.sealing.verify import verify_definition

MAX_REASON = 400
MOST_LIMIT = 1_000_000


class Opened:
    """A publisher's folder and database, opened, and what every act asks of them."""

    def __init__(self, folder: PublisherFolder, store: PublisherStore) -> None:
        self.folder = folder
        self.store = store

    @classmethod
    def open(cls, path: Path) -> Self:
        folder = PublisherFolder.open(path)
        return cls(folder, folder.store())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def definition(self, signed: Signed) -> ProductDefinition:
        return verify_definition(signed.token, self.folder.fingerprint).definition

    def newest(self, product: str) -> ProductDefinition:
        return self.definition(self.store.version(product, None))

    def find_group(self, text: str) -> int:
        """The number of a product group, by number or by its name in any of the products."""
        for signed in self.store.newest_of_all():
            definition = self.definition(signed)
            for group in definition.groups:
                if text in (str(group.number), group.name):
                    return group.number
        raise NoSuchGroupError(group=text)

    def group_names(self) -> dict[int, str]:
        """Of all products: numbers are unique to a publisher."""
        products = map(self.definition, self.store.newest_of_all())
        return {group.number: group.name for product in products for group in product.groups}


def check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise ReasonUnfitError(most=MAX_REASON)


def checked_limit(what: str, given: int | None, default: int) -> int:
    value = default if given is None else given
    if not 1 <= value <= MOST_LIMIT:
        raise LimitUnfitError(what=what, most=MOST_LIMIT, value=value)
    return value
