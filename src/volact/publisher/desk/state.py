# SPDX-License-Identifier: Apache-2.0
"""What the desk's pages need: the opened publisher, its keys, and names for numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from volact.core.definition import ProductDefinition
from volact.publisher.administration.publisher import Publisher
from volact.publisher.answering.phone import PhoneDesk
from volact.publisher.folder.opening import PublisherKeys
from volact.publisher.rows.records import Signed
from volact.sealing.confirmation import PhoneKey
from volact.web.access.roles import ADMINISTER, OPERATE, VIEW, Roles
from volact.web.pages.visit import Visit

PHONE = "phone"
# What kinds of keys are called.
KIND_NAMES = {"mak": "MAK", "retail": "retail", "kms-host": "KMS host", "vm-host": "VM host"}
# As at the HTTP API (``rules.roles.Role``).  ``phone``: the phone desk and looking a caller's key up, and nothing else.
ROLES = Roles(
    {
        "viewer": frozenset({VIEW}),
        "phone": frozenset({PHONE}),
        "operator": frozenset({VIEW, PHONE, OPERATE}),
        "administrator": frozenset({VIEW, PHONE, OPERATE, ADMINISTER}),
    }
)
MOST_DEFINITIONS = 256  # verified and remembered; versions never change


def to_choose(choices: Sequence[Any], chosen: object) -> list[Any]:
    """Choices of a field; where there are several and none is chosen, none is: the first is no better than others."""
    return [*choices] if chosen or len(choices) < 2 else [("", "choose …"), *choices]


@dataclass
class Desk:
    publisher: Publisher
    keys: PublisherKeys = field(repr=False)
    clock: Callable[[], int]

    def __post_init__(self) -> None:
        self.definition = lru_cache(maxsize=MOST_DEFINITIONS)(self.publisher.definition)

    @cached_property
    def phone_key(self) -> PhoneKey | None:
        return self.keys.phone()

    @property
    def phone(self) -> PhoneDesk:
        return PhoneDesk.open(self.publisher, self.phone_key)

    def newest(self) -> list[tuple[Signed, ProductDefinition]]:
        return [(signed, self.definition(signed)) for signed in self.publisher.store.newest_of_all()]

    def group_names(self) -> dict[int, str]:
        """Of all products: numbers are unique to a publisher."""
        return {group.number: group.name for _, definition in self.newest() for group in definition.groups}

    def product_names(self) -> dict[str, str]:
        return {definition.product: definition.name for _, definition in self.newest()}


def desk_of(visit: Visit) -> Desk:
    """As it is now: a page asks once, so that all that it does is by the same keys."""
    found = visit.state.current
    assert isinstance(found, Desk)
    return found
