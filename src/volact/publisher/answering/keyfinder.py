# SPDX-License-Identifier: Apache-2.0
"""Which issued keys are in the requests of a batch: one question to the database, and the slow hash hardly ever.

A key is found by the HMAC that was kept of it, and remembered.  A key that was issued without one is looked for among
those that end alike, and compared by its slow ID; so a stranger's made-up key costs the service nothing dear.
Spec: docs/spec/product-key.md §What is shown of a key.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache

from volact.core.product_key import ProductKey
from volact.publisher.rows.records import Found
from volact.publisher.store import PublisherStore

MOST_REMEMBERED = 65_536  # 100 bytes each


class KeyFinder:
    """``index`` gives a key's HMAC.  Keys are never removed, so what was found once is found for good."""

    def __init__(self, store: PublisherStore, index: Callable[[ProductKey], bytes]) -> None:
        self._store, self._index = store, lru_cache(maxsize=4096)(index)
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def find(self, keys: Iterable[ProductKey]) -> dict[ProductKey, str]:
        """The IDs of those that were issued."""
        lookups = {key: self._index(key) for key in keys}
        asked = {key: lookup for key, lookup in lookups.items() if lookup not in self._known}
        if asked:
            self._ask(asked)
        found = {}
        for key, lookup in lookups.items():
            if lookup in self._known:
                self._known.move_to_end(lookup)
                found[key] = self._known[lookup]
        return found

    def _ask(self, asked: dict[ProductKey, bytes]) -> None:
        candidates = self._store.candidates(list(asked.values()), [key.partial for key in asked])
        by_lookup = {one.lookup: one.key_id for one in candidates if one.lookup is not None}
        for key, lookup in asked.items():
            key_id = by_lookup.get(lookup) or _compare(key, candidates)
            if key_id is not None:
                self._remember(lookup, key_id)

    def _remember(self, lookup: bytes, key_id: str) -> None:
        self._known[lookup] = key_id
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)


def _compare(key: ProductKey, candidates: Iterable[Found]) -> str | None:
    alike = {c.key_id for c in candidates if (c.partial, c.channel, c.group) == (key.partial, key.channel, key.group)}
    return key.key_id if alike and key.key_id in alike else None
