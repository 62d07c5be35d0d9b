# SPDX-License-Identifier: Apache-2.0
"""What the service remembers between its rounds: what it said, and on which machine.  Nothing is licensed by it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from volact.client.folder.files import PUBLIC, write_whole
from volact.client.folder.store import ClientStore
from volact.core.encoding import Fields, b64decode, b64encode, dump_object, parse_object
from volact.core.errors import MalformedError

FILE = "service.json"


class Seen(NamedTuple):
    """What was last said of a product, so that it is said once: to compare with, never to believe."""

    state: str = ""
    key: str = ""
    reminded_at: int = 0


@dataclass(slots=True)
class Memory:
    """``service.json``: what the service said, and a salted fingerprint that recognises a copied folder."""

    products: dict[str, Seen] = field(default_factory=dict)
    salt: bytes = b""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    copied_at: int = 0  # when it was seen that the folder comes from another machine; 0: it does not


def load_memory(store: ClientStore) -> Memory:
    """Empty where it is damaged: then things are said once more."""
    try:
        return _parse((store.folder / FILE).read_bytes())
    except (OSError, MalformedError):
        return Memory()


def save_memory(store: ClientStore, memory: Memory) -> None:
    claim = {
        "v": 1,
        "salt": b64encode(memory.salt),
        "fingerprint": dict(memory.fingerprint),
        "copied_at": memory.copied_at,
        "products": {name: seen._asdict() for name, seen in memory.products.items()},
    }
    with store.lock():
        write_whole(store.folder / FILE, dump_object(claim) + b"\n", PUBLIC)


def _parse(data: bytes) -> Memory:
    claim = Fields(parse_object(data, FILE), FILE)
    claim.integer("v", least=1, most=1)
    products = {
        name: _seen(Fields(value, f"{FILE}: {name}"))
        for name, value in claim.mapping("products").items()
        if isinstance(value, dict)
    }
    return Memory(
        products,
        b64decode(claim.text("salt", least=0, most=64), FILE),
        claim.mapping("fingerprint"),
        claim.integer("copied_at"),
    )


def _seen(claim: Fields) -> Seen:
    return Seen(
        state=claim.text("state", least=0, most=40),
        key=claim.text("key", least=0, most=120),
        reminded_at=claim.integer("reminded_at"),
    )
