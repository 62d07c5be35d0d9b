# SPDX-License-Identifier: Apache-2.0
"""What the client's files hold: typed records, and their formats, read strictly.  Spec: docs/spec/states.md §4.

Bytes in, records out: each reader raises ``MalformedError`` or another named error.  Where a file lies, how it is
written and what stands in for a damaged one is ``store``'s.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from volact.core.binding import machine_id
from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import MalformedError
from volact.core.product_key import Channel, ProductKey
from volact.sealing import jws

if TYPE_CHECKING:  # only some commands need it, and it costs start-up time
    from volact.client.folder.settings import Settings

FORMAT = 1

T = TypeVar("T")


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


def default_settings() -> ClientSettings:
    from volact.client.folder.settings import Settings

    return ClientSettings(Settings())


def dump(**members: Any) -> bytes:
    return dump_object({"v": FORMAT, **members}) + b"\n"


def token(verify: Callable[[str], T]) -> Callable[[bytes], T]:
    return lambda data: verify(_text(data))


def parse_machine_id(data: bytes) -> bytes:
    return machine_id(_fields(data, "machine.json").text("id", most=64))


def parse_settings(data: bytes) -> ClientSettings:
    from volact.client.folder.settings import Settings

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


def parse_latest_time(data: bytes) -> int:
    return _fields(data, "clock.json").integer("latest")


def parse_returned(data: bytes) -> tuple[Returned, ...]:
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


def parse_anchor(data: bytes) -> Anchor:
    claim = _fields(data, "trust.json")
    return Anchor(claim.text("root", most=80), claim.integer("min_version"), claim.integer("added_at"))


def parse_installation(data: bytes) -> Installation:
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


def parse_product_key(data: bytes) -> ProductKey:
    return ProductKey.strict(data.decode("ascii", "replace").strip())


def parse_attempt(data: bytes) -> Attempt:
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


def parse_issuer(data: bytes) -> KnownIssuer:
    claim = _fields(data, "issuer.json")
    return KnownIssuer(
        address=claim.text("address", most=400),
        source=claim.text("source", least=0),
        descriptor=claim.text("descriptor", least=0, most=jws.MAX_TOKEN),
    )


def _tried(claim: Fields) -> Tried:
    return Tried(
        host=claim.text("host", most=400),
        source=claim.text("source", least=0),
        code=claim.text("code", least=0),
        message=claim.text("message", least=0, most=4000),
    )


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
